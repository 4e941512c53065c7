"""Compaction, garbage collection, verification and repair of a collection."""

from __future__ import annotations

import hashlib
import heapq
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from ragkit.collection.description import restore_description
from ragkit.collection.ingest import (
    BATCH_CHUNKS,
    SEGMENT_CHUNKS,
    OnProgress,
    Parts,
    Progress,
    ensure_embedded,
    indexed_text,
)
from ragkit.collection.snapshot import Snapshot
from ragkit.collection.token_indexes import faulty_token_indexes, remove_unneeded
from ragkit.digests import text_digest
from ragkit.durable import disk_errors, remove_folder
from ragkit.errors import CollectionError, CorruptCollection
from ragkit.indexes import trust
from ragkit.indexes.bm25 import PostingsBuilder
from ragkit.indexes.merge import MergedPostings
from ragkit.indexes.segment import verify_segment, write_segment
from ragkit.store import checks
from ragkit.store.ledger import Ledger
from ragkit.store.rows import Opening
from ragkit.store.store import Store
from ragkit.types import Rows, Vectors

_T = TypeVar("_T")
_SEGMENTS_A_TIER = 8
_SMALLEST_TIER = 64  # rows
_NAMED_ROWS = 1000  # chunk ids of a segment in memory at once
_DEAD_SHARE = 0.5  # a segment with more dead rows is written anew
KEPT_GENERATIONS = 2
_OURS = re.compile("[0-9a-f]{32}|writing-[0-9]+")


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify` read, and what is wrong: one line a fault, none if all is well."""

    documents: int
    chunks: int
    segments: int
    faults: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


def compact(parts: Parts, snapshot: Snapshot, *, full: bool = False) -> bool:
    """Merge segments where a tier holds more than 8, or where most rows are dead.

    A tier's segments are within a factor of 8 in size, so each row is copied about log8(n) times
    over a collection's life.

    Args:
        parts: The collection's parts.
        snapshot: The current generation.
        full: Merge all into one.

    Returns:
        Whether anything was merged.
    """
    group = _group(snapshot, full=full)
    if not group:
        return False
    segments = [snapshot.segments[i] for i in group]
    for segment in segments:  # a fault would get a new digest, and could not be told any more
        faults = verify_segment(parts.segments, segment.folder.name)
        if faults:
            raise CorruptCollection(f"{faults[0]}; `ragkit index repair` rebuilds it")
    live = [
        np.ones(len(segment), dtype=bool) if mask is None else mask
        for segment, mask in ((snapshot.segments[i], snapshot.live[i]) for i in group)
    ]
    of_segment = np.concatenate([np.full(len(s), i) for i, s in enumerate(segments)])
    of_row = np.concatenate([np.arange(len(segment)) for segment in segments])
    is_live = np.concatenate(live)
    kept = np.flatnonzero(is_live)
    numbers: Rows = np.concatenate([segment.chunks for segment in segments])
    dropped = numbers[~is_live].tolist()
    ends = np.cumsum([len(segment) for segment in segments])
    runs = [
        kept[(kept >= end - len(s)) & (kept < end)] for end, s in zip(ends, segments, strict=True)
    ]
    kept = _by_chunk_id(parts.store, numbers, runs)
    old = [segment.folder.name for segment in segments]
    if len(kept) == 0:
        parts.store.replace_segments(old, [], dropped=dropped)
        return True

    def gather(part: slice) -> Vectors:
        picked = kept[part]
        out = np.empty((len(picked), segments[0].vectors.shape[1]), dtype=np.float32)
        for i, segment in enumerate(segments):
            mine = of_segment[picked] == i
            out[mine] = segment.vectors[of_row[picked[mine]]]
        return out

    place = np.full(len(numbers), -1, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    targets = np.split(place, ends[:-1])
    postings = MergedPostings([segment.postings for segment in segments], targets)
    name = write_segment(parts.segments, numbers[kept], gather, postings, parts.index)
    old = [digest for digest in old if digest != name]
    parts.store.replace_segments(old, [(name, len(kept))], dropped=dropped)
    return True


def _by_chunk_id(store: Store, numbers: Rows, runs: Sequence[Rows]) -> Rows:
    """All positions in order of their chunks' ids; those of each run are in that order already."""

    def named(run: Rows) -> Iterator[tuple[str, int]]:
        for positions in _batched(iter(run.tolist()), _NAMED_ROWS):
            ids = store.chunk_ids(numbers[positions].tolist())
            yield from (
                (ids[number], i)
                for i, number in zip(positions, numbers[positions].tolist(), strict=True)
            )

    merged = heapq.merge(*map(named, runs))
    return np.fromiter((position for _, position in merged), dtype=np.int64)


def is_tidy(opening: Opening) -> bool:
    """Whether `compact` has certainly nothing to do; opens no segment."""
    tiers = Counter(_tier(n_rows) for n_rows in opening.n_rows)
    return not opening.dead and max(tiers.values(), default=0) <= _SEGMENTS_A_TIER


def _tier(n_rows: int) -> int:
    return max(int(np.log(max(n_rows, 1) / _SMALLEST_TIER) / np.log(_SEGMENTS_A_TIER)), 0)


def _group(snapshot: Snapshot, *, full: bool) -> list[int]:
    n_live = [
        len(segment) if live is None else int(live.sum())
        for segment, live in zip(snapshot.segments, snapshot.live, strict=True)
    ]
    dead = [i for i, s in enumerate(snapshot.segments) if n_live[i] < (1 - _DEAD_SHARE) * len(s)]
    if full:
        whole = len(n_live) == 1 and n_live[0] == len(snapshot.segments[0])
        return [] if whole else list(range(len(n_live)))
    tiers: dict[int, list[int]] = {}
    for i, n in enumerate(n_live):
        tiers.setdefault(_tier(n), []).append(i)
    for tier in sorted(tiers):
        if len(tiers[tier]) > _SEGMENTS_A_TIER:
            return tiers[tier]
    return dead


def collect_garbage(parts: Parts) -> int:
    """Drop segments and texts that the last two generations do not need; returns how many folders.

    Must run under the writer's lock.
    """
    keep_from = parts.store.generation() - (KEPT_GENERATIONS - 1)
    wanted = set(parts.store.collect_garbage(keep_from))
    n_removed = 0
    for folder in _folders(parts.segments):
        # Only what we have made: a collection from elsewhere may have a link for its folder.
        if folder.name not in wanted and _OURS.fullmatch(folder.name):
            with disk_errors(folder):
                remove_folder(folder)
            n_removed += 1
    remove_unneeded(_tokens(parts), wanted)
    return n_removed


def _tokens(parts: Parts) -> Path:
    return parts.segments.parent / "tokens"


def _folders(parent: Path) -> Sequence[Path]:
    return sorted(parent.iterdir()) if parent.exists() else []


def content_digest(store: Store, snapshot: Snapshot) -> str:
    """A digest of what the collection says: live documents, chunks and vectors, in order of id."""
    generation = snapshot.generation
    total = hashlib.blake2b(digest_size=16)
    for doc_id, text, _ in store.live_documents(generation):
        total.update(f"{doc_id}\0{text}\0".encode())
    places = _Places(snapshot)
    for number, chunk_id, start, end in store.live_chunks(generation):
        total.update(f"{chunk_id}\0{start}\0{end}\0".encode())
        vector = places.vector(number)
        if vector is None:
            raise CorruptCollection(f"the chunk {chunk_id!r} is in no segment; see `index verify`")
        total.update(vector.tobytes())
    return total.hexdigest()


class _Places:
    """Where each live chunk's vector is; 16 bytes a chunk."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._segments = snapshot.segments
        self._ends = np.cumsum([len(segment) for segment in snapshot.segments])
        empty: Rows = np.empty(0, dtype=np.int64)
        numbers = np.concatenate([empty, *(segment.chunks for segment in snapshot.segments)])
        live = [
            np.ones(len(segment), dtype=bool) if mask is None else mask
            for segment, mask in zip(snapshot.segments, snapshot.live, strict=True)
        ]
        at = np.flatnonzero(np.concatenate([np.empty(0, dtype=bool), *live]))
        self._positions = at[np.argsort(numbers[at], kind="stable")]
        self._numbers = numbers[self._positions]

    def __len__(self) -> int:
        return len(self._numbers)

    def vector(self, number: int) -> Vectors | None:
        """float32 (dim,) of a chunk, None if no segment holds it."""
        i = int(np.searchsorted(self._numbers, number))
        if i == len(self._numbers) or self._numbers[i] != number:
            return None
        position = int(self._positions[i])
        segment = int(np.searchsorted(self._ends, position, side="right"))
        # Counted from the segment's end.
        found: Vectors = self._segments[segment].vectors[position - int(self._ends[segment])]
        return found


def verify(store: Store, segments: Path, ledger: Ledger, snapshot: Snapshot | None) -> VerifyReport:
    """Re-read every digest: the store, its texts, the ledger, the segments, and how they fit.

    Args:
        store: The tables.
        segments: The folder of segments.
        ledger: The vectors.
        snapshot: The current generation, None if its segments cannot even be opened.
    """
    faults = checks.integrity_faults(store)
    n_documents = n_chunks = 0
    names: list[str] = []
    try:
        faults += _description_faults(store)
        opening = store.opening()
        generation, names = opening.generation, opening.segments
        for name in names:
            faults += verify_segment(segments, name)
        faults += [f"{fault}; `repair` removes it, and the next search makes it anew"
                   for _, fault in faulty_token_indexes(segments.parent / "tokens")]  # fmt: skip
        faults += checks.state_faults(store)
        texts, rows = checks.text_faults(store, generation)
        faults += texts
        bad = ledger.faults()
        faults += [f"ledger: the vector of text {key.hex()} does not match" for key in bad]
        if not faults and snapshot is not None:
            faults += _fit(store, ledger, snapshot)
        faults += rows
        counted = store.counts(generation)
        n_documents, n_chunks = counted["documents"]["indexed"], counted["chunks"]
    except CollectionError as error:
        faults.append(str(error))
    return VerifyReport(n_documents, n_chunks, len(names), tuple(faults))


def _fit(store: Store, ledger: Ledger, snapshot: Snapshot) -> Iterator[str]:
    """Every live chunk is in one segment, with the ledger's vector."""
    places = _Places(snapshot)
    vectors = ledger.vectors()
    seen = 0
    for batch in _batched(store.live_chunk_texts(snapshot.generation), BATCH_CHUNKS):
        rows = ledger.find([key for *_, key in batch])
        for number, chunk_id, title, text, key in batch:
            seen += 1
            if _key(title, text) != key:
                yield f"store.db: the title or text of {chunk_id!r} is not what was embedded"
            stored = places.vector(number)
            if stored is None:
                yield f"the chunk {chunk_id!r} is in no segment"
            elif key not in rows:
                yield f"ledger: there is no vector of {chunk_id!r}"
            elif not np.array_equal(stored, vectors[rows[key]]):
                yield f"the vector of {chunk_id!r} differs from the ledger's"
    if seen != len(places):
        yield f"the segments hold {len(places)} live rows, the store {seen} live chunks"


def _description_faults(store: Store) -> list[str]:
    """Whether `collection.json` is its copy in the store."""
    copy = store.description()
    if copy is None:
        return []  # from before 0.1: the next write makes one
    try:
        if (store.path.parent / "collection.json").read_text() == copy:
            return []
    except (OSError, ValueError) as error:
        return [f"collection.json cannot be read ({error}); `repair` writes it again"]
    return ["collection.json is not its copy in store.db"]


def sign_indexes(parts: Parts) -> int:
    """Sign the live segments' FAISS files, where a segment matches its digests."""
    signed = 0
    for name in parts.store.opening().segments:
        file = parts.segments / name / "index.faiss"
        if file.exists() and not verify_segment(parts.segments, name):
            trust.sign(file)
            signed += 1
    return signed


def repair(parts: Parts, on_progress: OnProgress | None = None) -> int:
    """Build all segments anew from the store; embeds again only what the ledger has lost.

    Returns:
        How many texts were embedded.
    """
    store = parts.store
    text = store.description()
    if text is not None and _description_faults(store):
        restore_description(store.path.parent, text)
    checks.mend_tables(store)
    parts.ledger.forget(parts.ledger.faults())
    opening = store.opening()
    generation, old = opening.generation, opening.segments
    checks.mend(store, generation)
    checks.seal_missing_files(store)
    n_chunks = store.counts(generation)["chunks"]
    new: list[tuple[str, int]] = []
    n_embedded = 0
    for folder, _ in faulty_token_indexes(_tokens(parts)):
        with disk_errors(folder):
            remove_folder(folder)
    for name in old:  # a damaged folder must not be taken for the new one
        if verify_segment(parts.segments, name):
            with disk_errors(parts.segments):
                remove_folder(parts.segments / name)
    for block in _batched(store.live_chunk_texts(generation), SEGMENT_CHUNKS):
        builder = PostingsBuilder()
        rows: list[int] = []
        for batch in _batched(iter(block), BATCH_CHUNKS):
            # Not the stored keys: a text that could not be mended must not be embedded under one.
            keys = [_key(title, text) for _, _, title, text, _ in batch]
            texts = {
                key: indexed_text(title, text)
                for key, (_, _, title, text, _) in zip(keys, batch, strict=True)
            }
            found, n_new = ensure_embedded(parts, texts)
            n_embedded += n_new
            rows += [found[key] for key in keys]
            for key in keys:
                builder.add(parts.analyzer.terms(texts[key]))
            if on_progress:
                on_progress(Progress("repairing", len(new) * SEGMENT_CHUNKS + len(rows), n_chunks))
        numbers = np.array([number for number, *_ in block], dtype=np.int64)
        at = np.array(rows, dtype=np.int64)
        vectors = parts.ledger.vectors()
        name = write_segment(
            parts.segments, numbers, _rows_of(vectors, at), builder.build(), parts.index
        )
        new.append((name, len(numbers)))
    written = {name for name, _ in new}
    old = [name for name in old if name not in written]
    store.replace_segments(old, new, dropped=opening.dead)
    return n_embedded


def _key(title: str, text: str) -> bytes:
    return bytes.fromhex(text_digest(indexed_text(title, text)))


def _rows_of(vectors: Vectors, rows: Rows) -> Callable[[slice], Vectors]:
    return lambda part: vectors[rows[part]]


def _batched(items: Iterator[_T], size: int) -> Iterator[list[_T]]:
    while batch := list(islice(items, size)):
        yield batch
