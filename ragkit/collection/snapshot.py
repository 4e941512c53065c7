"""Search in one generation of a collection."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ragkit.errors import CorruptCollection
from ragkit.forks import ForkSafeLock
from ragkit.indexes.bm25 import BM25Index, Statistics
from ragkit.indexes.segment import IndexSettings, Segment
from ragkit.losses import report
from ragkit.store import filters
from ragkit.store.reader import StoreReader
from ragkit.types import (
    Chunk,
    ChunkMatch,
    IndexedRows,
    Loss,
    Mask,
    RowHit,
    Rows,
    Scores,
    Vectors,
    Where,
)

if TYPE_CHECKING:
    from ragkit.collection.token_indexes import TokenIndexes
    from ragkit.indexes.token_layout import TokenLayout

_CACHED_FILTERS = 32
_MAX_EXPLAINED = 10  # fields of a filter that finds nothing


class _SegmentMatch(NamedTuple):
    """A chunk with its score and its row in a segment."""

    number: int
    score: float
    segment: int
    row: int


class Snapshot:
    """Segments of the current generation, with their live rows and term statistics.

    Results do not depend on the distribution of rows over segments: scores are exact to 6 decimals,
    and ties are broken by chunk id. Implements `ragkit.types.SearchSnapshot`.

    Args:
        store: Tables of the collection.
        folder: Folder of the segments.
        settings: Vector index of the segments.
        bm25: Parameters k1 and b of BM25.
        token_indexes: Token indexes; None if they are not searched.
    """

    def __init__(
        self,
        store: StoreReader,
        folder: Path,
        settings: IndexSettings,
        bm25: tuple[float, float],
        token_indexes: TokenIndexes | None = None,
    ) -> None:
        state = store.read_state()
        self.generation = state.generation
        self.store = store
        self.segments = [Segment(folder / name, settings) for name in state.segments]
        dead = np.array(state.dead, dtype=np.int64)
        self.live = [_live(segment, dead) for segment in self.segments]
        self.statistics = Statistics(
            [(s.postings, live) for s, live in zip(self.segments, self.live, strict=True)]
        )
        k1, b = bm25
        self._bm25 = [
            BM25Index(segment.postings, statistics=self.statistics, k1=k1, b=b)
            for segment in self.segments
        ]
        self._token_indexes = token_indexes
        self._filters: dict[str, list[Mask]] = {}
        self._filters_lock = ForkSafeLock()

    def __len__(self) -> int:
        return self.statistics.n_rows

    def search_vectors(
        self, vectors: Vectors, k: int, where: Where | None
    ) -> list[list[ChunkMatch]]:
        """Return the k nearest live chunks that pass the filter, by inner product."""
        self._report_mismatch(where)
        results = []
        for segment, allowed in zip(self.segments, self.allowed(where), strict=True):
            if segment.vectors.shape[1] != vectors.shape[1]:
                raise CorruptCollection(
                    f"segment {segment.folder.name} has vectors of {segment.vectors.shape[1]} "
                    f"dimensions, but the embedder has {vectors.shape[1]}; `ragkit index repair` "
                    "rebuilds it"
                )
            with np.errstate(all="ignore"):  # scores of damaged vectors are checked below
                results.append(segment.index.search(vectors, min(k, len(segment)), allowed=allowed))
        runs = self._merge(results, len(vectors), k)
        return [[ChunkMatch(match.number, match.score) for match in run] for run in runs]

    def search_terms(
        self, term_lists: Sequence[Sequence[str]], k: int, where: Where | None
    ) -> list[list[ChunkMatch]]:
        """Return the k best live chunks that pass the filter by BM25, with each term's share."""
        self._report_mismatch(where)
        results = []
        for index, segment, allowed in zip(
            self._bm25, self.segments, self.allowed(where), strict=True
        ):
            results.append(index.search(term_lists, min(k, len(segment)), allowed=allowed))
        runs = self._merge(results, len(term_lists), k)
        return [
            self._with_term_scores(terms, run) for terms, run in zip(term_lists, runs, strict=True)
        ]

    def token_rows(self, layout: TokenLayout, where: Where | None) -> IndexedRows | None:
        """Open the token index over the live rows that pass the filter; None without rows."""
        if self._token_indexes is None:
            raise ValueError("this snapshot was opened without token indexes")
        self._report_mismatch(where)
        return self._token_indexes.view(self.store, self, layout, where)

    def best_chunks(self, rows: IndexedRows, run: Sequence[RowHit], k: int) -> list[ChunkMatch]:
        """Return the k best chunks by their best row; ties by chunk id, then by row."""
        best: dict[int, RowHit] = {}
        for hit in sorted(run, key=lambda hit: (-hit.score, hit.row)):
            best.setdefault(int(rows.chunks[hit.row]), hit)
        values = {number: round(hit.score, 6) for number, hit in best.items()}
        cut = sorted(values.values(), reverse=True)[:k][-1:]
        top = [number for number, score in values.items() if cut and score >= cut[0]]
        ids = self.store.chunk_ids(top)
        order = sorted(top, key=lambda number: (-values[number], ids[number]))[:k]
        starts = rows.starts
        return [
            ChunkMatch(n, values[n],
                       best[n]._replace(score=values[n], start=int(starts[best[n].row])))
            for n in order
        ]  # fmt: skip

    def chunks(self, runs: Sequence[Sequence[ChunkMatch]]) -> dict[int, Chunk]:
        """Fetch the chunks of the matches, by number."""
        return self.store.chunks(sorted({match.number for run in runs for match in run}))

    def allowed(self, where: Where | None) -> Sequence[Mask | None]:
        """Return for each segment a mask of the live rows that pass the filter; None means all."""
        if where is None:
            return self.live
        filters.check(where)
        key = repr(filters.to_sql(where))
        with self._filters_lock:
            masks = self._filters.get(key)
        if masks is None:
            numbers = np.array(  # ascending
                self.store.allowed_chunks(where, self.generation), dtype=np.int64
            )
            masks = [np.isin(segment.chunks, numbers) for segment in self.segments]
            with self._filters_lock:
                while len(self._filters) >= _CACHED_FILTERS:
                    del self._filters[next(iter(self._filters))]
                self._filters[key] = masks
        return masks

    def _report_mismatch(self, where: Where | None) -> None:
        """Report a loss if no chunk passes the filter because a field is missing or of other type.

        A condition on another type matches nothing, which is easily mistaken for an answer.
        """
        if where is None or any(mask is None or mask.any() for mask in self.allowed(where)):
            return
        found: dict[str, dict[str, int]] = {}
        reasons: dict[str, None] = {}
        for field, operator, value in filters.conditions(where):
            if field not in found and len(found) < _MAX_EXPLAINED:
                found[field] = self.store.field_types(field, self.generation)
            if field in found:
                reasons[filters.explain_mismatch(field, operator, value, found[field])] = None
        reasons.pop("", None)
        if reasons and len(self):
            what = json.dumps(where, ensure_ascii=False)[:200]
            report(Loss("search", what, "all documents", "nothing", "; ".join(reasons)))

    def _with_term_scores(
        self, terms: Sequence[str], run: Sequence[_SegmentMatch]
    ) -> list[ChunkMatch]:
        shares: list[dict[str, float]] = [{} for _ in run]
        for i in {match.segment for match in run}:
            positions = [n for n, match in enumerate(run) if match.segment == i]
            rows = np.array([run[n].row for n in positions], dtype=np.int64)
            for n, share in zip(positions, self._bm25[i].explain(terms, rows), strict=True):
                shares[n] = share
        return [
            ChunkMatch(match.number, match.score, share)
            for match, share in zip(run, shares, strict=True)
        ]

    def _merge(
        self, results: Sequence[tuple[Scores, Rows]], n_queries: int, k: int
    ) -> list[list[_SegmentMatch]]:
        """Merge the results of the segments, each scores and rows of shape (queries, k)."""
        pools: list[list[_SegmentMatch]] = [[] for _ in range(n_queries)]
        for i, (segment, (scores, rows)) in enumerate(zip(self.segments, results, strict=True)):
            for pool, query_scores, query_rows in zip(pools, scores, rows, strict=True):
                present = query_rows >= 0
                matched = query_rows[present]
                if not np.isfinite(query_scores[present]).all():
                    raise CorruptCollection(
                        f"scores of segment {segment.folder.name} are not finite: its vectors "
                        "are damaged; `ragkit index repair` rebuilds it"
                    )
                numbers = segment.chunks[matched].tolist()
                values = query_scores[present].astype(np.float64).round(6).tolist()
                pool += map(_SegmentMatch, numbers, values, repeat(i), matched.tolist())
        if len(self.segments) == 1:  # rows of a segment are already sorted by chunk id
            return pools
        top = []
        for pool in pools:
            cut = sorted((match.score for match in pool), reverse=True)[:k][-1:]
            top.append([match for match in pool if not cut or match.score >= cut[0]])
        ids = self.store.chunk_ids(sorted({match.number for pool in top for match in pool}))
        return [
            sorted(pool, key=lambda match: (-match.score, ids[match.number]))[:k] for pool in top
        ]


def _live(segment: Segment, dead: Rows) -> Mask | None:
    if len(dead) == 0:
        return None
    live = np.isin(segment.chunks, dead, invert=True)
    return None if live.all() else live
