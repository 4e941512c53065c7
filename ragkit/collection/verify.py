"""Verification of a collection: checks all digests and compares store, ledger and segments."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ragkit.collection.context import BATCH_CHUNKS, batched, ledger_key
from ragkit.collection.snapshot import Snapshot
from ragkit.collection.token_indexes import faulty_token_indexes
from ragkit.errors import CollectionError, CorruptCollection
from ragkit.indexes.segment import verify_segment
from ragkit.store import checks
from ragkit.store.ledger import VectorLedger
from ragkit.store.store import Store
from ragkit.types import Rows, Vectors


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """Numbers of verified items, and one line for each fault that was found."""

    documents: int
    chunks: int
    segments: int
    faults: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """True if no fault was found."""
        return not self.faults


def content_digest(store: Store, snapshot: Snapshot) -> str:
    """Return a digest of the live documents, chunks and vectors, in order of their ids."""
    generation = snapshot.generation
    digest = hashlib.blake2b(digest_size=16)
    for doc_id, text, _ in store.live_documents(generation):
        digest.update(f"{doc_id}\0{text}\0".encode())
    vector_rows = _VectorRows(snapshot)
    for number, chunk_id, start, end in store.live_chunks(generation):
        digest.update(f"{chunk_id}\0{start}\0{end}\0".encode())
        vector = vector_rows.vector(number)
        if vector is None:
            raise CorruptCollection(
                f"the chunk {chunk_id!r} is in no segment; run `ragkit index verify`"
            )
        digest.update(vector.tobytes())
    return digest.hexdigest()


class _VectorRows:
    """Index from live chunk to the position of its vector; 16 bytes per chunk."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._segments = snapshot.segments
        self._ends = np.cumsum([len(segment) for segment in snapshot.segments])
        empty: Rows = np.empty(0, dtype=np.int64)
        numbers = np.concatenate([empty, *(segment.chunks for segment in snapshot.segments)])
        live = [
            np.ones(len(segment), dtype=bool) if mask is None else mask
            for segment, mask in zip(snapshot.segments, snapshot.live, strict=True)
        ]
        positions = np.flatnonzero(np.concatenate([np.empty(0, dtype=bool), *live]))
        self._positions = positions[np.argsort(numbers[positions], kind="stable")]
        self._numbers = numbers[self._positions]

    def __len__(self) -> int:
        return len(self._numbers)

    def vector(self, number: int) -> Vectors | None:
        """Return the vector of a chunk, float32 (dim,), or None if no segment contains it."""
        i = int(np.searchsorted(self._numbers, number))
        if i == len(self._numbers) or self._numbers[i] != number:
            return None
        position = int(self._positions[i])
        segment = int(np.searchsorted(self._ends, position, side="right"))
        # A negative index, which counts from the end of the segment.
        vector: Vectors = self._segments[segment].vectors[position - int(self._ends[segment])]
        return vector


def verify(
    store: Store, segments: Path, ledger: VectorLedger, snapshot: Snapshot | None
) -> VerifyReport:
    """Check all digests of store, ledger and segments, and that their contents match.

    Args:
        store: Tables of the collection.
        segments: Folder of the segments.
        ledger: Vectors by text digest.
        snapshot: Current generation; None if its segments cannot be opened.
    """
    faults = checks.integrity_faults(store)
    n_documents = n_chunks = 0
    names: list[str] = []
    try:
        faults += description_faults(store)
        state = store.read_state()
        generation, names = state.generation, state.segments
        for name in names:
            faults += verify_segment(segments, name)
        faults += [f"{fault}; `repair` removes it, and the next search rebuilds it"
                   for _, fault in faulty_token_indexes(segments.parent / "tokens")]  # fmt: skip
        faults += checks.state_faults(store)
        text_faults, row_faults = checks.text_faults(store, generation)
        faults += text_faults
        faults += [
            f"ledger: the vector of text {key.hex()} does not match its digest"
            for key in ledger.faults()
        ]
        if not faults and snapshot is not None:
            faults += _consistency_faults(store, ledger, snapshot)
        faults += row_faults
        counts = store.counts(generation)
        n_documents, n_chunks = counts["documents"]["indexed"], counts["chunks"]
    except CollectionError as error:
        faults.append(str(error))
    return VerifyReport(n_documents, n_chunks, len(names), tuple(faults))


def _consistency_faults(store: Store, ledger: VectorLedger, snapshot: Snapshot) -> Iterator[str]:
    """Check that every live chunk is in one segment, with the vector of the ledger."""
    vector_rows = _VectorRows(snapshot)
    vectors = ledger.vectors()
    n_chunks = 0
    for batch in batched(store.live_chunk_texts(snapshot.generation), BATCH_CHUNKS):
        rows = ledger.find([key for *_, key in batch])
        for number, chunk_id, title, text, table, key in batch:
            n_chunks += 1
            if ledger_key(title, text, table) != key:
                yield f"store.db: the title or text of {chunk_id!r} differs from the embedded text"
            stored = vector_rows.vector(number)
            if stored is None:
                yield f"the chunk {chunk_id!r} is in no segment"
            elif key not in rows:
                yield f"ledger: the vector of {chunk_id!r} is missing"
            elif not np.array_equal(stored, vectors[rows[key]]):
                yield f"the vector of {chunk_id!r} differs from the ledger's"
    if n_chunks != len(vector_rows):
        yield (
            f"the segments have {len(vector_rows)} live rows, but the store has {n_chunks} live "
            "chunks"
        )


def description_faults(store: Store) -> list[str]:
    """Check that `collection.json` equals its copy in the store."""
    copy = store.description()
    if copy is None:
        return []  # a collection from before 0.1; the next write creates the copy
    try:
        if (store.path.parent / "collection.json").read_text() == copy:
            return []
    except (OSError, ValueError) as error:
        return [f"collection.json cannot be read ({error}); `repair` restores it"]
    return ["collection.json differs from its copy in store.db"]
