"""Read access to a collection: its tables, and snapshots for searching."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from ragkit.collection import verify
from ragkit.collection.context import RETAINED_GENERATIONS
from ragkit.collection.description import Settings
from ragkit.collection.snapshot import Snapshot
from ragkit.collection.token_indexes import TokenIndexes
from ragkit.errors import CollectionError, CorruptCollection
from ragkit.indexes.segment import IndexSettings
from ragkit.store.ledger import VectorLedger
from ragkit.store.store import Store


class CollectionReader:
    """Reads a collection while writers change it. Files stay open until `close`.

    Args:
        path: Folder of the collection, with a `store.db`.
        settings: Settings of the collection.
        index: Vector index of the segments.
    """

    def __init__(self, path: Path, settings: Settings, index: IndexSettings) -> None:
        self.store = Store(path / "store.db", read_only=True)
        self._token_indexes = TokenIndexes(path / "tokens")
        self._path = path
        self._bm25 = (settings.k1, settings.b)
        self._index = index
        self._snapshot: Snapshot | None = None

    def snapshot(self) -> Snapshot:
        """Open the current generation for searching; cached until it changes."""
        snapshot, generation = self._snapshot, self.store.generation()
        while snapshot is None or snapshot.generation != generation:
            try:
                snapshot = Snapshot(
                    self.store,
                    self._path / "segments",
                    self._index,
                    self._bm25,
                    self._token_indexes,
                )
            except CorruptCollection:
                # A writer may have committed two generations while the files were opened.
                if self.store.generation() == generation:
                    raise
            generation = self.store.generation()
        self._snapshot = snapshot
        return snapshot

    def attempts(self) -> Iterator[Attempt]:
        """Yield snapshots until a search has succeeded in one; see `ragkit.types.ChunkIndex`."""
        while True:
            attempt = Attempt(self.snapshot())
            yield attempt
            if attempt.succeeded:
                return

    def verify(self, embedder: Mapping[str, Any]) -> verify.VerifyReport:
        """Check all digests on disk, and that store, ledger and segments are consistent.

        Args:
            embedder: Entry of the embedder in the description.
        """
        ledger = VectorLedger(
            self._path / "ledger",
            self.store,
            fingerprint=embedder["fingerprint"],
            dim=embedder["dim"],
        )
        while True:
            try:
                snapshot: Snapshot | None = self.snapshot()
            except CollectionError:
                snapshot = None  # the digests of the segments show the fault
            report = verify.verify(self.store, self._path / "segments", ledger, snapshot)
            if report.ok or snapshot is None or self.store.generation() == snapshot.generation:
                return report  # otherwise a writer has committed meanwhile

    def digest(self) -> str:
        """Return a digest of documents, chunks and vectors, independent of their history."""
        for attempt in self.attempts():
            with attempt as snapshot:
                digest = verify.content_digest(self.store, snapshot)
        return digest

    def close(self) -> None:
        """Close the files."""
        self.store.close()


@dataclass(slots=True)
class Attempt:
    """A search in one generation.

    It fails if writers have committed so many generations meanwhile that chunks, texts or fields of
    this one may be deleted. A `CorruptCollection` is then suppressed, and the caller retries.
    """

    snapshot: Snapshot
    succeeded: bool = False

    def __enter__(self) -> Snapshot:
        return self.snapshot

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if error is not None and not isinstance(error, CorruptCollection):
            return False
        n_later = self.snapshot.store.generation() - self.snapshot.generation
        self.succeeded = n_later < RETAINED_GENERATIONS
        return not self.succeeded
