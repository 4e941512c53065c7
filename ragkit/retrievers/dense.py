"""Nearest chunks by the embedder's vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ragkit.retrievers.base import ChunkIndex, Composable, check_queries
from ragkit.types import Hit, Part, Source, Where


class DenseRetriever(Composable):
    """Cosine similarity of query and passage vectors."""

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
        """See `ragkit.types.Retriever`."""
        check_queries(queries, k)
        vectors = self._index.embedder.embed_queries(queries)
        return [
            [
                Hit(chunk, score, (Part("dense", "cosine", score, rank),))
                for rank, (chunk, score) in enumerate(found, start=1)
            ]
            for found in self._index.search_vectors(vectors, k, where)
        ]
