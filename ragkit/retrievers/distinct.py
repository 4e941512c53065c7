"""Collapse hits with equal texts: copies of a file, or a paragraph that several versions share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from ragkit.losses import once
from ragkit.pipeline import Composable, check_queries, source_of
from ragkit.types import Hit, Retriever, Source, Where

_DEPTH = 50  # hits that are searched for copies


class DistinctRetriever(Composable):
    """Keeps the best hit of each text, and lists the others in its `copies`.

    Texts that differ only in white space are equal. The result is the ranking of the retriever
    without the copies: it is asked for 50 hits, and for more until k texts are found.

    Args:
        retriever: Retriever whose hits are collapsed.
    """

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever

    @property
    def source(self) -> Source:
        """Path, generation and embedder fingerprint of the hits."""
        return source_of(self._retriever)

    @property
    def settings(self) -> dict[str, Any]:
        """The retriever whose hits are collapsed, and its settings."""
        settings = getattr(self._retriever, "settings", {})
        return {"retriever": type(self._retriever).__name__, "settings": settings}

    def retrieve(
        self, queries: Sequence[str], k: int = 10, *, where: Where | None = None
    ) -> list[list[Hit]]:
        """Return at most k hits per query with different texts, and exactly k if so many exist."""
        check_queries(queries, k)
        search = DistinctSearch(queries, k, depth=max(k, _DEPTH))
        with once():
            while search.pending:
                search.add(self._retriever.retrieve(search.pending, search.depth, where=where))
        return search.runs


class DistinctSearch:
    """Search for k different texts per query, with as many hits as that needs.

    Attributes:
        runs: At most k hits per query, each with its copies.
        pending: Queries to retrieve hits for; empty at the end.
        depth: Number of hits to retrieve.

    Args:
        queries: The queries.
        k: Number of texts per query.
        depth: Number of hits to begin with, at least k.
    """

    def __init__(self, queries: Sequence[str], k: int, *, depth: int) -> None:
        self.runs: list[list[Hit]] = [[] for _ in queries]
        self.pending = list(queries)
        self.depth = depth
        self._k = k
        self._rows = list(range(len(queries)))  # of the pending queries

    def add(self, hits: Sequence[Sequence[Hit]]) -> None:
        """Take the hits of the pending queries; those with too few texts stay pending."""
        incomplete = []
        for row, query, run in zip(self._rows, self.pending, hits, strict=True):
            self.runs[row] = _collapse(run)[: self._k]
            if len(self.runs[row]) < self._k and len(run) == self.depth:
                incomplete.append((row, query))
        self._rows = [row for row, _ in incomplete]
        self.pending = [query for _, query in incomplete]
        self.depth *= 4


def text_key(hit: Hit) -> str:
    """Return the text of a hit with single spaces as white space."""
    return " ".join(hit.chunk.text.split())


def _collapse(run: Sequence[Hit]) -> list[Hit]:
    """Return the first hit of each text; its `copies` are the chunk ids of the others, in order."""
    first: dict[str, Hit] = {}
    found: dict[str, dict[str, None]] = {}  # chunk ids in order
    for hit in run:
        key = text_key(hit)
        first.setdefault(key, hit)
        found.setdefault(key, {}).update(dict.fromkeys((hit.chunk.id, *hit.copies)))
    if len(first) == len(run):
        return list(run)
    return [replace(hit, copies=other_ids(hit, found[key])) for key, hit in first.items()]


def other_ids(hit: Hit, chunk_ids: Iterable[str]) -> tuple[str, ...]:
    """Return the chunk ids except that of the hit."""
    return tuple(chunk_id for chunk_id in chunk_ids if chunk_id != hit.chunk.id)
