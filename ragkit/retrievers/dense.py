"""Dense retrieval: nearest chunks by their embedding vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ragkit.pipeline import Composable, check_queries
from ragkit.types import ChunkIndex, Hit, ScorePart, Source, Where


class DenseRetriever(Composable):
    """Retrieves chunks by cosine similarity of query and passage vectors.

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
        """Return at most k hits per query; see `ragkit.types.Retriever`."""
        check_queries(queries, k)
        vectors = self._index.embedder.embed_queries(queries)
        for attempt in self._index.attempts():
            with attempt as snapshot:
                runs = snapshot.search_vectors(vectors, k, where)
                chunks = snapshot.chunks(runs)
        return [
            [
                Hit(chunks[number], score, (ScorePart("dense", "cosine", score, rank),))
                for rank, (number, score, _) in enumerate(run, start=1)
            ]
            for run in runs
        ]
