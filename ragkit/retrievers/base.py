"""What retrievers share: the check of their arguments, and `>>`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

from ragkit.indexes.token_layout import RowHit, TokenLayout, TokenSearch
from ragkit.types import Chunk, Embedder, Hit, Source, Vectors, Where


class ChunkIndex(Protocol):
    """What a collection offers to retrievers."""

    @property
    def embedder(self) -> Embedder:
        """The embedder its vectors come from."""

    @property
    def source(self) -> Source:
        """Where its chunks are."""

    def identity(self) -> dict[str, Any]:
        """Settings and a digest of the content: equal ones answer alike."""

    def search_vectors(
        self, vectors: Vectors, k: int, where: Where | None
    ) -> list[list[tuple[Chunk, float]]]:
        """The k nearest chunks of each query vector."""

    def search_terms(
        self, queries: Sequence[str], k: int, where: Where | None
    ) -> list[list[tuple[Chunk, float, dict[str, float]]]]:
        """The k best chunks of each query by BM25, with what each term added."""

    def search_tokens(
        self,
        layout: TokenLayout,
        search: TokenSearch,
        n_queries: int,
        k: int,
        where: Where | None,
    ) -> list[list[tuple[Chunk, RowHit]]]:
        """The k best chunks of each query, each by its best row.

        Args:
            layout: Which index; it is made if it is not there.
            search: Finds rows of the allowed chunks for each query; see `TokenSearch`.
            n_queries: How many those are.
            k: At most so many chunks.
            where: Which chunks are allowed.
        """


class Composable(ABC):
    """A retriever that can be followed by a reranker or a reader: `retriever >> reader`."""

    @property
    def source(self) -> Source:
        """Where the hits come from."""
        return Source()

    @property
    def settings(self) -> dict[str, Any]:
        """What decides its results, for manifests: equal ones answer alike."""
        return {}

    @abstractmethod
    def retrieve(
        self, queries: Sequence[str], k: int = 10, *, where: Where | None = None
    ) -> list[list[Hit]]:
        """At most k hits a query, best first."""

    def __rshift__(self, stage: Any) -> Any:
        # `>>` makes the pipeline's objects, which stand on retrievers: hence the late import.
        from ragkit.pipeline import compose

        return compose(self, stage)


def check_queries(queries: Sequence[str], k: int) -> None:
    """Raise for one string instead of several, an empty query, or k < 1."""
    if isinstance(queries, str):
        raise TypeError(f"queries is one string; expected a sequence: [{queries[:40]!r}]")
    for query in queries:
        if not query.strip():
            raise ValueError("the query is empty; expected some words")
        try:
            query.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"the query is no UTF-8 text: {error.reason}") from error
    if k < 1:
        raise ValueError(f"k is {k}; expected at least 1")
