"""Several retrievers fused into one ranking."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ragkit.retrievers.base import Composable, check_queries
from ragkit.types import Chunk, Hit, Part, Retriever, Source, Where

CANDIDATES = 100
RRF_CONSTANT = 60
FusionMethod = Literal["rrf", "minmax"]


class HybridRetriever(Composable):
    """Fusion by rank, or by weighted and rescaled score.

    "rrf": score(d) = Σ_r w_r / (60 + rank_r(d)), ranks from 1. Source: Cormack, Clarke and Büttcher
    2009; the weights are ours and default to 1.

    "minmax": score(d) = Σ_r w_r (s_r(d) - min_r) / (max_r - min_r), over the candidates of r; 0
    where r did not find d, 1 where all its scores are equal.

    Args:
        retrievers: At least one.
        method: "rrf" or "minmax".
        weights: One a retriever, not negative.
        candidates: Hits taken from each (more, if k is larger).
    """

    def __init__(
        self,
        retrievers: Sequence[Retriever],
        *,
        method: FusionMethod = "rrf",
        weights: Sequence[float] | None = None,
        candidates: int = CANDIDATES,
    ) -> None:
        if not retrievers:
            raise ValueError("retrievers is empty; expected at least one")
        if method not in ("rrf", "minmax"):
            raise ValueError(f"method is {method!r}; expected 'rrf' or 'minmax'")
        weights = [1.0] * len(retrievers) if weights is None else list(weights)
        usable = all(math.isfinite(weight) and weight >= 0 for weight in weights)
        if len(weights) != len(retrievers) or not usable:
            raise ValueError(
                f"weights are {weights}; expected {len(retrievers)} numbers that are not negative"
            )
        if candidates < 1:
            raise ValueError(f"candidates is {candidates}; expected at least 1")
        self._retrievers = list(retrievers)
        self._method = method
        self._weights = weights
        self._candidates = candidates

    @property
    def source(self) -> Source:
        """Where the hits come from: the first retriever that knows."""
        found = (getattr(retriever, "source", None) for retriever in self._retrievers)
        return next((source for source in found if source), Source())

    @property
    def settings(self) -> dict[str, Any]:
        """Fusion, and the settings of what is fused."""
        parts = [
            {"retriever": type(part).__name__, "settings": getattr(part, "settings", {})}
            for part in self._retrievers
        ]
        own = {"method": self._method, "weights": self._weights, "candidates": self._candidates}
        return {**own, "retrievers": parts}

    def retrieve(
        self, queries: Sequence[str], k: int = 10, *, where: Where | None = None
    ) -> list[list[Hit]]:
        """See `ragkit.types.Retriever`; one "hybrid" part each follows the retrievers' own."""
        check_queries(queries, k)
        depth = max(k, self._candidates)
        while True:
            source = self.source
            runs = [found.retrieve(queries, depth, where=where) for found in self._retrievers]
            if self.source == source:  # else a writer came between, and they saw two generations
                break
        return [self._fuse([run[i] for run in runs], k) for i in range(len(queries))]

    def _fuse(self, lists: Sequence[Sequence[Hit]], k: int) -> list[Hit]:
        chunks: dict[str, Chunk] = {}
        earlier: dict[str, list[Part]] = {}
        fused: dict[str, list[Part]] = {}
        for i, hits in enumerate(lists):
            shares = _shares([hit.score for hit in hits], self._method)
            for rank, (hit, share) in enumerate(zip(hits, shares, strict=True), start=1):
                name = hit.parts[-1].stage if hit.parts else f"retriever {i + 1}"
                chunks.setdefault(hit.chunk.id, hit.chunk)
                earlier.setdefault(hit.chunk.id, []).extend(hit.parts)
                part = Part("hybrid", name, share, rank, self._weights[i], {"score": hit.score})
                fused.setdefault(hit.chunk.id, []).append(part)
        scores = {
            chunk_id: round(sum(part.weight * part.score for part in parts), 6)
            for chunk_id, parts in fused.items()
        }
        best = sorted(scores, key=lambda chunk_id: (-scores[chunk_id], chunk_id))[:k]
        return [Hit(chunks[i], scores[i], (*earlier[i], *fused[i])) for i in best]


def fuse_scores(
    runs: Sequence[Mapping[str, float]], method: FusionMethod, weights: Sequence[float]
) -> dict[str, float]:
    """What `HybridRetriever` makes of the scores of several systems for one query.

    Args:
        runs: Id → score, one a system; ties in score rank by id.
        method: See `HybridRetriever`.
        weights: One a system.

    >>> fuse_scores([{"a": 3.0, "b": 1.0}, {"b": 5.0}], "minmax", [1.0, 2.0])
    {'b': 2.0, 'a': 1.0}
    """
    fused: dict[str, float] = {}
    for run, weight in zip(runs, weights, strict=True):
        ordered = sorted(run.items(), key=lambda item: (-item[1], item[0]))
        shares = _shares([score for _, score in ordered], method)
        for (name, _), share in zip(ordered, shares, strict=True):
            fused[name] = fused.get(name, 0.0) + weight * share
    rounded = {name: round(score, 6) for name, score in fused.items()}
    return dict(sorted(rounded.items(), key=lambda item: (-item[1], item[0])))


def _shares(scores: Sequence[float], method: FusionMethod) -> list[float]:
    """What a system gives each of its hits, best first."""
    if method == "rrf":
        return [1.0 / (RRF_CONSTANT + rank) for rank in range(1, len(scores) + 1)]
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    return [(score - low) / (high - low) if high > low else 1.0 for score in scores]
