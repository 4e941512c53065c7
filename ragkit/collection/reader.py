"""A collection as readers see it: its tables, and the current generation for searching."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ragkit.collection import maintenance
from ragkit.collection.description import Settings
from ragkit.collection.maintenance import VerifyReport
from ragkit.collection.snapshot import Place, Snapshot
from ragkit.collection.token_indexes import ChunkHit, TokenIndexes
from ragkit.errors import CollectionError, CorruptCollection
from ragkit.indexes.segment import IndexSettings
from ragkit.store.ledger import Ledger
from ragkit.store.store import Store
from ragkit.types import Chunk, Where

AnyPlace = TypeVar("AnyPlace", Place, ChunkHit)


class CollectionReader:
    """Reads a collection, whatever writers do meanwhile; what it opened stays open until `close`.

    Args:
        path: The collection's folder, which has a `store.db`.
        settings: What it was built with.
        index: How vectors are indexed.
    """

    def __init__(self, path: Path, settings: Settings, index: IndexSettings) -> None:
        self.store = Store(path / "store.db", read_only=True)
        self.token_indexes = TokenIndexes(path / "tokens")
        self._path = path
        self._bm25 = (settings.k1, settings.b)
        self._index = index
        self._snapshot: Snapshot | None = None

    def snapshot(self) -> Snapshot:
        """The current generation, opened for searching."""
        snapshot, generation = self._snapshot, self.store.generation()
        while snapshot is None or snapshot.generation != generation:
            try:
                snapshot = Snapshot(self.store, self._path / "segments", self._index, self._bm25)
            except CorruptCollection:
                # A writer may have gone two generations further while the files were opened.
                if self.store.generation() == generation:
                    raise
            generation = self.store.generation()
        self._snapshot = snapshot
        return snapshot

    def search(
        self, find: Callable[[Snapshot], list[list[AnyPlace]]], where: Where | None
    ) -> tuple[Snapshot, list[list[AnyPlace]], dict[int, Chunk]]:
        """What is found in one generation, with that generation and the chunks by their numbers."""
        while True:
            snapshot = self.snapshot()
            try:
                found = find(snapshot)
                numbers = sorted({place.chunk for places in found for place in places})
                chunks = self.store.chunks(numbers)
                if where is None and all(chunk.text for chunk in chunks.values()):
                    return snapshot, found, chunks
                if self._still_has(snapshot):
                    return snapshot, found, chunks
            except CorruptCollection:
                if self._still_has(snapshot):
                    raise
            # Writers were so quick that chunks, texts or the fields to filter by may be gone from
            # the store already: search what is there now.

    def _still_has(self, snapshot: Snapshot) -> bool:
        """Whether the store keeps all that the snapshot's generation needs."""
        return self.store.generation() - snapshot.generation < maintenance.KEPT_GENERATIONS

    def verify(self, embedder: Mapping[str, Any]) -> VerifyReport:
        """Re-read every digest on disk and check that store, ledger and segments agree.

        Args:
            embedder: What the description says of it.
        """
        ledger = Ledger(
            self._path / "ledger",
            self.store,
            fingerprint=embedder["fingerprint"],
            dim=embedder["dim"],
        )
        while True:
            try:
                snapshot: Snapshot | None = self.snapshot()
            except CollectionError:
                snapshot = None  # the segments' own digests tell what is wrong
            found = maintenance.verify(self.store, self._path / "segments", ledger, snapshot)
            if found.ok or snapshot is None or self.store.generation() == snapshot.generation:
                return found  # else a writer came between

    def digest(self) -> str:
        """A digest of documents, chunks and vectors, whatever the collection's history."""
        while True:
            snapshot = self.snapshot()
            try:
                found = maintenance.content_digest(self.store, snapshot)
            except CorruptCollection:
                if self.store.generation() == snapshot.generation:
                    raise
                continue
            if self._still_has(snapshot):
                return found  # else writers were so quick that texts may have gone meanwhile

    def close(self) -> None:
        """Let go of the files."""
        self.store.close()
