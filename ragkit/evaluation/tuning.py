"""Selection of a setting on half of the queries, confirmed on the other half.

Source: successive halving after Jamieson and Talwalkar 2016, "Non-stochastic best arm
identification and hyperparameter optimization", algorithm 1, with queries as the budget. The
confirmation is ours: one paired test on queries that were not used for the choice, so that trying
many settings on data without a difference wins no more often than the test's level.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from ragkit.collection import Collection
from ragkit.digests import text_digest
from ragkit.evaluation.measures import Measure, Qrels
from ragkit.evaluation.runs import search_documents
from ragkit.evaluation.statistics import paired_permutation_test
from ragkit.retrievers import HybridRetriever
from ragkit.types import Retriever

LEVEL = 0.05
_FIRST_QUERIES = 16  # minimum for the first round


class Trial(Protocol):
    """A setting that can be evaluated on queries."""

    def __call__(self, queries: Sequence[str], /) -> tuple[Sequence[float], float]:
        """Return each query's score, and the median time per query in milliseconds."""


OnRound = Callable[[int, int], None]
"""Called with the number of settings left and the number of queries of the round."""


@dataclass(frozen=True, slots=True)
class TuningResult:
    """Result of tuning.

    Attributes:
        choice: The setting to use.
        winner: Best setting on the tuning queries within the latency limit.
        cheapest: Fastest setting.
        is_better: True if the winner beats the cheapest on the hold-out queries with p < 0.05.
        winner_mean: Mean score of the winner on the hold-out queries.
        cheapest_mean: Mean score of the cheapest on the hold-out queries.
        p: p-value of a two-sided paired permutation test of the two; 1 if they are the same.
        milliseconds: Median time per query, by setting.
        too_slow: Settings over the latency limit.
        rounds: For each round: number of queries, and the settings' mean scores on them.
    """

    choice: str
    winner: str
    cheapest: str
    is_better: bool
    winner_mean: float
    cheapest_mean: float
    p: float
    milliseconds: Mapping[str, float]
    too_slow: tuple[str, ...]
    rounds: tuple[tuple[int, Mapping[str, float]], ...]

    def __str__(self) -> str:
        if self.winner == self.cheapest:
            return f"take {self.choice}: the best on the tuning queries, and the cheapest"
        means = f"{self.winner_mean:.4f} against {self.cheapest_mean:.4f}, p = {self.p:.4f}"
        if self.is_better:
            return f"take {self.choice}: on the hold-out better than {self.cheapest} ({means})"
        return (
            f"no difference, take the cheapest: {self.cheapest} (best was {self.winner}: {means})"
        )


def tune(
    trials: Mapping[str, Trial],
    queries: Sequence[str],
    *,
    latency_ms: float | None = None,
    on_round: OnRound | None = None,
) -> TuningResult:
    """Choose among settings by successive halving.

    Half of the queries (by the digest of their ids) are for tuning: all settings are evaluated on a
    few of them, and the better half of the settings on twice as many, until one is left. The other
    half of the queries confirms the choice.

    Args:
        trials: Name → setting.
        queries: Query ids; at least 8.
        latency_ms: Settings with a longer median time per query are dropped.
        on_round: Called before each round.

    Raises:
        ValueError: There are no settings or fewer than 8 queries, or every setting is too slow.
    """
    check_budget(len(trials), queries, latency_ms)
    ordered = sorted(set(queries), key=text_digest)
    tuning, holdout = ordered[::2], ordered[1::2]
    remaining = list(trials)
    milliseconds: dict[str, float] = {}
    too_slow: list[str] = []
    rounds: list[tuple[int, Mapping[str, float]]] = []
    n_rounds = max(1, math.ceil(math.log2(len(remaining))))
    n_queries = min(len(tuning), max(_FIRST_QUERIES, len(tuning) >> (n_rounds - 1)))
    while True:
        if on_round:
            on_round(len(remaining), n_queries)
        means: dict[str, float] = {}
        for name in remaining:
            scores, elapsed_ms = trials[name](tuning[:n_queries])
            means[name], milliseconds[name] = float(np.mean(scores)), elapsed_ms
        rounds.append((n_queries, means))
        if latency_ms is not None:
            too_slow += [name for name in remaining if milliseconds[name] > latency_ms]
        fast_enough = [name for name in remaining if name not in too_slow]
        if not fast_enough:  # slower on more queries: fall back to the best of those dropped before
            means_so_far = {name: mean for _, row in rounds for name, mean in row.items()}
            fallback = [name for name in means_so_far if name not in too_slow]
            remaining = sorted(fallback, key=lambda name: -means_so_far[name])[:1]
            if remaining:
                break
            raise ValueError(
                f"no setting is within {latency_ms} ms per query; the fastest takes "
                f"{min(milliseconds.values()):.1f} ms. Raise the limit or add a faster setting"
            )
        # Ties go to the earlier setting, whatever its name.
        remaining = sorted(fast_enough, key=lambda name: -means[name])[
            : max(1, len(fast_enough) // 2)
        ]
        if len(remaining) == 1:
            break
        n_queries = min(len(tuning), 2 * n_queries)
    allowed = [name for name in milliseconds if name not in too_slow]
    cheapest = min(allowed, key=lambda name: milliseconds[name])
    winner = remaining[0]
    winner_scores = np.asarray(trials[winner](holdout)[0], dtype=np.float64)
    cheapest_scores = np.asarray(trials[cheapest](holdout)[0], dtype=np.float64)
    p = (
        1.0
        if winner == cheapest
        else float(paired_permutation_test(winner_scores, cheapest_scores))
    )
    is_better = p < LEVEL and float(winner_scores.mean()) > float(cheapest_scores.mean())
    return TuningResult(
        choice=winner if is_better else cheapest,
        winner=winner,
        cheapest=cheapest,
        is_better=is_better,
        winner_mean=float(winner_scores.mean()),
        cheapest_mean=float(cheapest_scores.mean()),
        p=p,
        milliseconds=milliseconds,
        too_slow=tuple(too_slow),
        rounds=tuple(rounds),
    )


def check_budget(n_settings: int, queries: Sequence[str], latency_ms: float | None) -> None:
    """Raise ValueError if tuning is not possible; called before any search."""
    n_queries = len(set(queries))
    if n_settings < 1 or n_queries < 8:
        raise ValueError(
            f"there are {n_settings} settings and {n_queries} queries; expected at least 1 and 8"
        )
    if latency_ms is not None and not latency_ms > 0:
        raise ValueError(f"the latency limit is {latency_ms} ms; expected a positive number")


def candidate_retrievers(collection: Collection) -> dict[str, Retriever]:
    """Return the settings to tune on a collection: single retrievers and fusions of both."""
    dense = collection.retriever("dense", copies=True)
    lexical = collection.retriever("bm25", copies=True)
    settings: dict[str, Retriever] = {"bm25": lexical, "dense": dense}
    methods: tuple[Literal["rrf", "minmax"], ...] = ("rrf", "minmax")
    for method in methods:
        for weights in ((1.0, 1.0), (2.0, 1.0), (1.0, 2.0)):
            ratio = ":".join(f"{weight:.0f}" for weight in weights)
            settings[f"hybrid {method} {ratio}"] = HybridRetriever(
                [dense, lexical], method=method, weights=weights
            )
    return settings


def retrieval_trial(
    retriever: Retriever,
    queries: Mapping[str, str],
    qrels: Qrels,
    measure: Measure,
    *,
    k: int = 100,
) -> Trial:
    """Make a setting of a retriever; queries are searched one at a time and scored by a measure.

    Args:
        retriever: The retriever.
        queries: Query id → text.
        qrels: Query id → document id → relevance.
        measure: A measure such as `nDCG @ 10`.
        k: Number of documents to retrieve per query.
    """
    cache: dict[str, tuple[float, float]] = {}

    def score(query: str) -> tuple[float, float]:
        if query not in cache:
            start = time.perf_counter()
            documents = search_documents(retriever, [queries[query]], k)[0]
            elapsed_ms = 1000 * (time.perf_counter() - start)
            cache[query] = (
                measure.scores({query: documents}, {query: qrels[query]})[query],
                elapsed_ms,
            )
        return cache[query]

    def trial(names: Sequence[str]) -> tuple[list[float], float]:
        pairs = [score(query) for query in names]
        return [pair[0] for pair in pairs], float(np.median([pair[1] for pair in pairs]))

    return trial
