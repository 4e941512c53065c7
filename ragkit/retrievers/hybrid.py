"""Hybrid retrieval: fuses the rankings of several retrievers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ragkit.losses import once
from ragkit.pipeline import Composable, check_queries
from ragkit.retrievers.distinct import DistinctSearch, other_ids, text_key
from ragkit.types import Hit, Retriever, ScorePart, Source, Where

CANDIDATES = 100
RRF_CONSTANT = 60
FusionMethod = Literal["rrf", "minmax"]


class HybridRetriever(Composable):
    """Fuses retrievers by reciprocal rank, or by weighted min-max normalized scores.

    "rrf": score(d) = Σ_r w_r / (60 + rank_r(d)), ranks from 1. Source: Cormack, Clarke and Büttcher
    2009; the weights are an extension and default to 1.

    "minmax": score(d) = Σ_r w_r (s_r(d) - min_r) / (max_r - min_r), over the candidates of r. A
    retriever contributes 0 if it did not return d, and w_r if all its scores are equal.

    Args:
        retrievers: At least one retriever.
        method: "rrf" or "minmax".
        weights: One non-negative weight per retriever; default 1.
        candidates: Number of hits requested from each retriever (k, if k is larger).
        copies: Whether each of several chunks with the same text is a hit. If not, the candidates
            are the best chunks of different texts, and the scores of a text are added up.
    """

    def __init__(
        self,
        retrievers: Sequence[Retriever],
        *,
        method: FusionMethod = "rrf",
        weights: Sequence[float] | None = None,
        candidates: int = CANDIDATES,
        copies: bool = True,
    ) -> None:
        if not retrievers:
            raise ValueError("retrievers is empty; expected at least one")
        if method not in ("rrf", "minmax"):
            raise ValueError(f"method is {method!r}; expected 'rrf' or 'minmax'")
        weights = [1.0] * len(retrievers) if weights is None else list(weights)
        is_valid = all(math.isfinite(weight) and weight >= 0 for weight in weights)
        if len(weights) != len(retrievers) or not is_valid:
            raise ValueError(
                f"weights are {weights}; expected {len(retrievers)} non-negative numbers"
            )
        if candidates < 1:
            raise ValueError(f"candidates is {candidates}; expected at least 1")
        self._retrievers = list(retrievers)
        self._method = method
        self._weights = weights
        self._candidates = candidates
        self._copies = copies

    @property
    def source(self) -> Source:
        """Source of the hits, from the first retriever that has one."""
        sources = (getattr(retriever, "source", None) for retriever in self._retrievers)
        return next((source for source in sources if source), Source())

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the fusion and of the fused retrievers."""
        retrievers = [
            {"retriever": type(retriever).__name__, "settings": getattr(retriever, "settings", {})}
            for retriever in self._retrievers
        ]
        fusion: dict[str, Any] = {
            "method": self._method,
            "weights": self._weights,
            "candidates": self._candidates,
        }
        if not self._copies:
            fusion["copies"] = False
        return {**fusion, "retrievers": retrievers}

    def retrieve(
        self, queries: Sequence[str], k: int = 10, *, where: Where | None = None
    ) -> list[list[Hit]]:
        """Return at most k fused hits per query.

        `Hit.parts` are those of the retrievers, followed by one "hybrid" part per retriever.
        """
        check_queries(queries, k)
        depth = max(k, self._candidates)
        while True:
            source = self.source
            runs = []
            with once():
                for retriever in self._retrievers:
                    if self._copies:
                        runs.append(retriever.retrieve(queries, depth, where=where))
                        continue
                    search = DistinctSearch(queries, depth, depth=depth)
                    while search.pending:
                        search.add(retriever.retrieve(search.pending, search.depth, where=where))
                    runs.append(search.runs)
            if self.source == source:  # otherwise the retrievers may have used two generations
                break
        return [self._fuse([run[i] for run in runs], k) for i in range(len(queries))]

    def _fuse(self, lists: Sequence[Sequence[Hit]], k: int) -> list[Hit]:
        first: dict[str, Hit] = {}
        found: dict[str, dict[str, None]] = {}  # ids of the chunks
        inherited: dict[str, list[ScorePart]] = {}
        fused: dict[str, list[ScorePart]] = {}
        for i, hits in enumerate(lists):
            shares = _normalize([hit.score for hit in hits], self._method)
            for rank, (hit, share) in enumerate(zip(hits, shares, strict=True), start=1):
                name = hit.parts[-1].stage if hit.parts else f"retriever {i + 1}"
                key = hit.chunk.id if self._copies else text_key(hit)
                first.setdefault(key, hit)
                found.setdefault(key, {}).update(dict.fromkeys((hit.chunk.id, *hit.copies)))
                inherited.setdefault(key, []).extend(hit.parts)
                part = ScorePart(
                    "hybrid", name, share, rank, self._weights[i], {"score": hit.score}
                )
                fused.setdefault(key, []).append(part)
        hits = []
        for key, parts in fused.items():
            score = round(sum(part.weight * part.score for part in parts), 6)
            copies = other_ids(first[key], found[key])
            hits.append(Hit(first[key].chunk, score, (*inherited[key], *parts), copies))
        return sorted(hits, key=lambda hit: (-hit.score, hit.chunk.id))[:k]


def fuse_scores(
    runs: Sequence[Mapping[str, float]], method: FusionMethod, weights: Sequence[float]
) -> dict[str, float]:
    """Fuse the scores of several systems for one query, as `HybridRetriever` does.

    Args:
        runs: Scores by id, for each system; equal scores are ranked by id.
        method: See `HybridRetriever`.
        weights: One weight per system.

    >>> fuse_scores([{"a": 3.0, "b": 1.0}, {"b": 5.0}], "minmax", [1.0, 2.0])
    {'b': 2.0, 'a': 1.0}
    """
    fused: dict[str, float] = {}
    for run, weight in zip(runs, weights, strict=True):
        ordered = sorted(run.items(), key=lambda item: (-item[1], item[0]))
        shares = _normalize([score for _, score in ordered], method)
        for (name, _), share in zip(ordered, shares, strict=True):
            fused[name] = fused.get(name, 0.0) + weight * share
    rounded = {name: round(score, 6) for name, score in fused.items()}
    return dict(sorted(rounded.items(), key=lambda item: (-item[1], item[0])))


def _normalize(scores: Sequence[float], method: FusionMethod) -> list[float]:
    """Convert the scores of one system, best first, into contributions before weighting."""
    if method == "rrf":
        return [1.0 / (RRF_CONSTANT + rank) for rank in range(1, len(scores) + 1)]
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    return [(score - low) / (high - low) if high > low else 1.0 for score in scores]
