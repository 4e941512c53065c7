"""Best chunks by BM25 over stemmed words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ragkit.retrievers.base import ChunkIndex, Composable, check_queries
from ragkit.types import Hit, Part, Source, Where


class LexicalRetriever(Composable):
    """BM25; `Hit.parts[-1].detail["terms"]` says what each term of the query added."""

    def __init__(self, index: ChunkIndex) -> None:
        self._index = index

    @property
    def source(self) -> Source:
        """Where the hits come from."""
        return self._index.source

    @property
    def settings(self) -> dict[str, Any]:
        """The index it searches."""
        return {"index": self._index.identity()}

    def retrieve(
        self, queries: Sequence[str], k: int = 10, *, where: Where | None = None
    ) -> list[list[Hit]]:
        """See `ragkit.types.Retriever`; chunks without a word of the query are no hits."""
        check_queries(queries, k)
        return [
            [
                Hit(chunk, score, (Part("bm25", "bm25", score, rank, detail={"terms": terms}),))
                for rank, (chunk, score, terms) in enumerate(found, start=1)
            ]
            for found in self._index.search_terms(queries, k, where)
        ]
