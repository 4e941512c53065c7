"""One generation of a collection, opened for searching."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ragkit.errors import CorruptCollection
from ragkit.indexes.bm25 import BM25Index, Statistics
from ragkit.indexes.segment import IndexSettings, Segment
from ragkit.store import filters
from ragkit.store.store import Store
from ragkit.types import Mask, Rows, Scores, Vectors, Where

_SearchSegment = Callable[[int, Mask | None], tuple[Scores, Rows]]


class Place(NamedTuple):
    """A chunk that was found: its number, its score, and where it lies."""

    chunk: int
    score: float
    segment: int
    row: int


Found = list[list[Place]]
"""For each query its places, best first."""

_KEPT_FILTERS = 32


class Snapshot:
    """The segments of the current generation, their live rows, and the statistics over them.

    What is found does not depend on how rows are spread over segments: scores are exact to 6
    decimals, and ties are broken by chunk id.

    Args:
        store: The collection's tables.
        folder: The folder of its segments.
        settings: How vectors are indexed.
        bm25: k1 and b.
    """

    def __init__(
        self,
        store: Store,
        folder: Path,
        settings: IndexSettings,
        bm25: tuple[float, float],
    ) -> None:
        opening = store.opening()
        self.generation = opening.generation
        self._store = store
        self.segments = [Segment(folder / name, settings) for name in opening.segments]
        dead = np.array(opening.dead, dtype=np.int64)
        self.live = [_live(segment, dead) for segment in self.segments]
        self.statistics = Statistics(
            [(s.postings, live) for s, live in zip(self.segments, self.live, strict=True)]
        )
        k1, b = bm25
        self._bm25 = [
            BM25Index(segment.postings, statistics=self.statistics, k1=k1, b=b)
            for segment in self.segments
        ]
        self._filters: dict[str, list[Mask]] = {}
        self._filters_lock = threading.Lock()

    def __len__(self) -> int:
        return self.statistics.n_rows

    def search_vectors(self, vectors: Vectors, k: int, where: Where | None) -> Found:
        """The k nearest live chunks that pass the filter, by inner product."""

        def search(i: int, allowed: Mask | None) -> tuple[Scores, Rows]:
            segment = self.segments[i]
            if segment.vectors.shape[1] != vectors.shape[1]:
                raise CorruptCollection(
                    f"segment {segment.folder.name} holds vectors of {segment.vectors.shape[1]} "
                    f"dimensions, the embedder gives {vectors.shape[1]}; `ragkit index repair` "
                    "rebuilds it"
                )
            return segment.index.search(vectors, min(k, len(segment)), allowed=allowed)

        return self._merge(search, len(vectors), k, where)

    def search_terms(
        self, term_lists: Sequence[Sequence[str]], k: int, where: Where | None
    ) -> Found:
        """The k best live chunks that pass the filter, by BM25."""

        def search(i: int, allowed: Mask | None) -> tuple[Scores, Rows]:
            most = min(k, len(self.segments[i]))
            return self._bm25[i].search(term_lists, most, allowed=allowed)

        return self._merge(search, len(term_lists), k, where)

    def explain_terms(
        self, terms: Sequence[str], places: Sequence[Place]
    ) -> list[dict[str, float]]:
        """What each term adds to the BM25 scores of chunks that were found."""
        shares: list[dict[str, float]] = [{} for _ in places]
        for i in {place.segment for place in places}:
            mine = [n for n, place in enumerate(places) if place.segment == i]
            rows = np.array([places[n].row for n in mine], dtype=np.int64)
            for n, share in zip(mine, self._bm25[i].explain(terms, rows), strict=True):
                shares[n] = share
        return shares

    def _merge(self, search: _SearchSegment, n_queries: int, k: int, where: Where | None) -> Found:
        allowed = self.allowed(where)
        pools: Found = [[] for _ in range(n_queries)]
        for i, segment in enumerate(self.segments):
            with np.errstate(all="ignore"):  # damaged vectors: what comes of them is looked at
                scores, rows = search(i, allowed[i])
            for pool, row_scores, row_numbers in zip(pools, scores, rows, strict=True):
                present = row_numbers >= 0
                found = row_numbers[present]
                numbers = segment.chunks[found].tolist()
                if not np.isfinite(row_scores[present]).all():
                    raise CorruptCollection(
                        f"segment {segment.folder.name} gives scores that are no numbers: its "
                        "vectors are damaged; `ragkit index repair` rebuilds it"
                    )
                values = row_scores[present].astype(np.float64).round(6).tolist()
                pool += map(Place, numbers, values, repeat(i), found.tolist())
        if len(self.segments) == 1:  # rows of a segment are already in order of chunk id
            return pools
        return self._ordered(pools, k)

    def _ordered(self, pools: Found, k: int) -> Found:
        kept = []
        for pool in pools:
            cut = sorted((place.score for place in pool), reverse=True)[:k][-1:]
            kept.append([place for place in pool if not cut or place.score >= cut[0]])
        ids = self._store.chunk_ids(sorted({place.chunk for pool in kept for place in pool}))
        return [sorted(pool, key=lambda p: (-p.score, ids[p.chunk]))[:k] for pool in kept]

    def allowed(self, where: Where | None) -> Sequence[Mask | None]:
        """Of each segment, which rows are live and pass the filter; None for all of them."""
        return self.live if where is None else self._allowed(where)

    def order(self, scores: dict[int, float], k: int) -> list[tuple[int, float]]:
        """The k best of some chunks, ties by chunk id: number and score."""
        values = {number: round(score, 6) for number, score in scores.items()}
        cut = sorted(values.values(), reverse=True)[:k][-1:]
        kept = [number for number, score in values.items() if cut and score >= cut[0]]
        ids = self._store.chunk_ids(kept)
        best = sorted(kept, key=lambda number: (-values[number], ids[number]))[:k]
        return [(number, values[number]) for number in best]

    def _allowed(self, where: Where) -> list[Mask]:
        key = repr(filters.to_sql(where))
        with self._filters_lock:
            masks = self._filters.get(key)
        if masks is None:
            found = self._store.allowed_chunks(where, self.generation)  # ascending
            numbers = np.array(found, dtype=np.int64)
            masks = [np.isin(segment.chunks, numbers) for segment in self.segments]
            with self._filters_lock:
                while len(self._filters) >= _KEPT_FILTERS:
                    del self._filters[next(iter(self._filters))]
                self._filters[key] = masks
        return masks


def _live(segment: Segment, dead: Rows) -> Mask | None:
    if len(dead) == 0:
        return None
    live = np.isin(segment.chunks, dead, invert=True)
    return None if live.all() else live
