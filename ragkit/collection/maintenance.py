"""Compaction, garbage collection and index signatures of a collection."""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ragkit.collection.context import RETAINED_GENERATIONS, WriterContext, batched
from ragkit.collection.snapshot import Snapshot
from ragkit.collection.token_indexes import remove_unused
from ragkit.durable import disk_errors, remove_folder
from ragkit.errors import CorruptCollection
from ragkit.indexes import trust
from ragkit.indexes.merge import MergedPostings
from ragkit.indexes.segment import verify_segment, write_segment
from ragkit.store.rows import GenerationState
from ragkit.store.store import Store
from ragkit.types import Rows, Vectors

_SEGMENTS_PER_TIER = 8
_SMALLEST_TIER = 64  # rows
_ID_BATCH = 1000  # chunk ids of a segment in memory at once
_DEAD_SHARE = 0.5  # a segment with more dead rows is rewritten
_SEGMENT_NAME = re.compile("[0-9a-f]{32}|writing-[0-9]+")


def compact(context: WriterContext, snapshot: Snapshot, *, full: bool = False) -> bool:
    """Merge the segments of a tier with more than 8, or segments with mostly dead rows.

    The segments of a tier differ in size by a factor of at most 8, so that each row is copied
    about log8(n) times over the lifetime of a collection.

    Args:
        context: Parts of the collection.
        snapshot: Current generation.
        full: Merge all segments into one.

    Returns:
        True if segments were merged.
    """
    group = _segments_to_merge(snapshot, full=full)
    if not group:
        return False
    segments = [snapshot.segments[i] for i in group]
    for segment in segments:  # damaged rows would get a valid digest and become undetectable
        faults = verify_segment(context.segments, segment.folder.name)
        if faults:
            raise CorruptCollection(f"{faults[0]}; `ragkit index repair` rebuilds it")
    live = [
        np.ones(len(segment), dtype=bool) if mask is None else mask
        for segment, mask in ((snapshot.segments[i], snapshot.live[i]) for i in group)
    ]
    of_segment = np.concatenate([np.full(len(s), i) for i, s in enumerate(segments)])
    of_row = np.concatenate([np.arange(len(segment)) for segment in segments])
    is_live = np.concatenate(live)
    live_rows = np.flatnonzero(is_live)
    numbers: Rows = np.concatenate([segment.chunks for segment in segments])
    dropped = numbers[~is_live].tolist()
    ends = np.cumsum([len(segment) for segment in segments])
    runs = [
        live_rows[(live_rows >= end - len(segment)) & (live_rows < end)]
        for end, segment in zip(ends, segments, strict=True)
    ]
    order = _sorted_by_chunk_id(context.store, numbers, runs)
    old = [segment.folder.name for segment in segments]
    if len(order) == 0:
        context.store.replace_segments(old, [], dropped=dropped)
        return True

    def gather(block: slice) -> Vectors:
        rows = order[block]
        out = np.empty((len(rows), segments[0].vectors.shape[1]), dtype=np.float32)
        for i, segment in enumerate(segments):
            from_segment = of_segment[rows] == i
            out[from_segment] = segment.vectors[of_row[rows[from_segment]]]
        return out

    target = np.full(len(numbers), -1, dtype=np.int64)
    target[order] = np.arange(len(order))
    targets = np.split(target, ends[:-1])
    postings = MergedPostings([segment.postings for segment in segments], targets)
    name = write_segment(context.segments, numbers[order], gather, postings, context.index)
    old = [digest for digest in old if digest != name]
    context.store.replace_segments(old, [(name, len(order))], dropped=dropped)
    return True


def _sorted_by_chunk_id(store: Store, numbers: Rows, runs: Sequence[Rows]) -> Rows:
    """Merge runs of positions, each sorted by chunk id, into one in the same order."""

    def with_ids(run: Rows) -> Iterator[tuple[str, int]]:
        for positions in batched(iter(run.tolist()), _ID_BATCH):
            ids = store.chunk_ids(numbers[positions].tolist())
            yield from (
                (ids[number], i)
                for i, number in zip(positions, numbers[positions].tolist(), strict=True)
            )

    merged = heapq.merge(*map(with_ids, runs))
    return np.fromiter((position for _, position in merged), dtype=np.int64)


def is_compact(state: GenerationState) -> bool:
    """Return True if `compact` has nothing to do, without opening segments."""
    tiers = Counter(_tier(n_rows) for n_rows in state.n_rows)
    return not state.dead and max(tiers.values(), default=0) <= _SEGMENTS_PER_TIER


def _tier(n_rows: int) -> int:
    return max(int(np.log(max(n_rows, 1) / _SMALLEST_TIER) / np.log(_SEGMENTS_PER_TIER)), 0)


def _segments_to_merge(snapshot: Snapshot, *, full: bool) -> list[int]:
    n_live = [
        len(segment) if live is None else int(live.sum())
        for segment, live in zip(snapshot.segments, snapshot.live, strict=True)
    ]
    dead = [i for i, s in enumerate(snapshot.segments) if n_live[i] < (1 - _DEAD_SHARE) * len(s)]
    if full:
        is_merged = len(n_live) == 1 and n_live[0] == len(snapshot.segments[0])
        return [] if is_merged else list(range(len(n_live)))
    tiers: dict[int, list[int]] = {}
    for i, n in enumerate(n_live):
        tiers.setdefault(_tier(n), []).append(i)
    for tier in sorted(tiers):
        if len(tiers[tier]) > _SEGMENTS_PER_TIER:
            return tiers[tier]
    return dead


def collect_garbage(context: WriterContext) -> int:
    """Delete segments and texts that the last two generations do not use; return their number.

    The caller must have the write lock.
    """
    oldest = context.store.generation() - (RETAINED_GENERATIONS - 1)
    used = set(context.store.collect_garbage(oldest))
    n_removed = 0
    for folder in _folders(context.segments):
        # Only names that ragkit gives: the folder of a downloaded collection may be a link.
        if folder.name not in used and _SEGMENT_NAME.fullmatch(folder.name):
            with disk_errors(folder):
                remove_folder(folder)
            n_removed += 1
    remove_unused(_tokens(context), used)
    return n_removed


def _tokens(context: WriterContext) -> Path:
    return context.segments.parent / "tokens"


def _folders(parent: Path) -> Sequence[Path]:
    return sorted(parent.iterdir()) if parent.exists() else []


def sign_indexes(context: WriterContext) -> int:
    """Sign the FAISS files of live segments that match their digests; return their number."""
    n_signed = 0
    for name in context.store.read_state().segments:
        file = context.segments / name / "index.faiss"
        if file.exists() and not verify_segment(context.segments, name):
            trust.sign(file)
            n_signed += 1
    return n_signed
