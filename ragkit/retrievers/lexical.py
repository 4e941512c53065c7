"""Lexical retrieval: best chunks by BM25 over stemmed words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ragkit.pipeline import Composable, check_queries
from ragkit.types import ChunkIndex, Hit, ScorePart, Source, Where


class LexicalRetriever(Composable):
    """Retrieves chunks by BM25.

    `Hit.parts[-1].detail["terms"]` maps each term of the query to its share of the score.

    Args:
        index: Collection to search.
    """

    def __init__(self, index: ChunkIndex) -> None:
        self._index = index

    @property
    def source(self) -> Source:
        """Path, generation and embedder fingerprint of the hits."""
        return self._index.source

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that determine the results: the index."""
        return {"index": self._index.identity()}

    def retrieve(
        self, queries: Sequence[str], k: int = 10, *, where: Where | None = None
    ) -> list[list[Hit]]:
        """Return at most k hits per query, each with at least one term of the query."""
        check_queries(queries, k)
        term_lists = self._index.analyzer.batch(queries)
        for attempt in self._index.attempts():
            with attempt as snapshot:
                runs = snapshot.search_terms(term_lists, k, where)
                chunks = snapshot.chunks(runs)
        return [
            [
                Hit(
                    chunks[number],
                    score,
                    (ScorePart("bm25", "bm25", score, rank, detail={"terms": shares}),),
                )
                for rank, (number, score, shares) in enumerate(run, start=1)
            ]
            for run in runs
        ]
