"""The best of many settings, chosen on half of the queries and confirmed on the other half.

Source: successive halving after Jamieson and Talwalkar 2016, "Non-stochastic best arm
identification and hyperparameter optimization", algorithm 1, with queries as the budget. The
confirmation is ours: one paired test on queries that had no part in the choice, so that trying many
settings on data without a difference wins no more often than the test's level.
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
_FIRST_QUERIES = 16  # at least so many in the first round


class Trial(Protocol):
    """A setting that can be tried on queries."""

    def __call__(self, queries: Sequence[str], /) -> tuple[Sequence[float], float]:
        """Each query's score, and the median milliseconds of a query."""


OnRound = Callable[[int, int], None]
"""Called with the number of settings left and of queries they are tried on."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """What tuning found.

    Attributes:
        choice: The setting to take.
        winner: The best setting on the tuning queries, within the latency limit.
        cheapest: The fastest setting.
        is_better: Whether the winner beat the cheapest on the hold-out, p < 0.05.
        winner_mean: The winner's mean score on the hold-out.
        cheapest_mean: The cheapest's.
        p: Two-sided paired permutation test of the two on the hold-out; 1 if they are the same.
        milliseconds: Median time of a query, by setting.
        too_slow: Settings over the latency limit.
        rounds: For each round: queries, and the settings' mean scores on them.
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
) -> Tuned:
    """Choose among settings.

    Half of the queries (by the digest of their ids) are for tuning: all settings are tried on a few
    of them, the better half goes on with twice as many, until one is left. The other half confirms.

    Args:
        trials: Name → setting.
        queries: Query ids; at least 8.
        latency_ms: Settings whose median query takes longer drop out.
        on_round: Called before each round.

    Raises:
        ValueError: No settings, fewer than 8 queries, or every setting is too slow.
    """
    check_budget(len(trials), queries, latency_ms)
    ordered = sorted(set(queries), key=text_digest)
    tuning, holdout = ordered[::2], ordered[1::2]
    left = list(trials)
    milliseconds: dict[str, float] = {}
    too_slow: list[str] = []
    rounds: list[tuple[int, Mapping[str, float]]] = []
    n_rounds = max(1, math.ceil(math.log2(len(left))))
    n_queries = min(len(tuning), max(_FIRST_QUERIES, len(tuning) >> (n_rounds - 1)))
    while True:
        if on_round:
            on_round(len(left), n_queries)
        means: dict[str, float] = {}
        for name in left:
            scores, taken = trials[name](tuning[:n_queries])
            means[name], milliseconds[name] = float(np.mean(scores)), taken
        rounds.append((n_queries, means))
        if latency_ms is not None:
            too_slow += [name for name in left if milliseconds[name] > latency_ms]
        quick = [name for name in left if name not in too_slow]
        if not quick:  # those that went on were slower on more queries: the best of the others
            known = {name: mean for _, row in rounds for name, mean in row.items()}
            rest = [name for name in known if name not in too_slow]
            left = sorted(rest, key=lambda name: -known[name])[:1]
            if left:
                break
            raise ValueError(
                f"no setting answers within {latency_ms} ms; the fastest takes "
                f"{min(milliseconds.values()):.1f} ms. Raise the limit or add a faster setting"
            )
        # The earlier of equals, as they were given: names do not decide.
        left = sorted(quick, key=lambda name: -means[name])[: max(1, len(quick) // 2)]
        if len(left) == 1:
            break
        n_queries = min(len(tuning), 2 * n_queries)
    allowed = [name for name in milliseconds if name not in too_slow]
    cheapest = min(allowed, key=lambda name: milliseconds[name])
    winner = left[0]
    ours = np.asarray(trials[winner](holdout)[0], dtype=np.float64)
    theirs = np.asarray(trials[cheapest](holdout)[0], dtype=np.float64)
    p = 1.0 if winner == cheapest else float(paired_permutation_test(ours, theirs))
    is_better = p < LEVEL and float(ours.mean()) > float(theirs.mean())
    return Tuned(
        choice=winner if is_better else cheapest,
        winner=winner,
        cheapest=cheapest,
        is_better=is_better,
        winner_mean=float(ours.mean()),
        cheapest_mean=float(theirs.mean()),
        p=p,
        milliseconds=milliseconds,
        too_slow=tuple(too_slow),
        rounds=tuple(rounds),
    )


def check_budget(n_settings: int, queries: Sequence[str], latency_ms: float | None) -> None:
    """Raise ValueError for what cannot be tuned, before any work is done."""
    n_queries = len(set(queries))
    if n_settings < 1 or n_queries < 8:
        raise ValueError(
            f"{n_settings} settings and {n_queries} queries; expected at least 1 and 8"
        )
    if latency_ms is not None and not latency_ms > 0:
        raise ValueError(f"the latency limit is {latency_ms} ms; expected more than 0")


def retrievers_of(collection: Collection) -> dict[str, Retriever]:
    """The settings that tuning tries on a collection: single retrievers, and fusions of the two."""
    dense, lexical = collection.retriever("dense"), collection.retriever("bm25")
    found: dict[str, Retriever] = {"bm25": lexical, "dense": dense}
    methods: tuple[Literal["rrf", "minmax"], ...] = ("rrf", "minmax")
    for method in methods:
        for weights in ((1.0, 1.0), (2.0, 1.0), (1.0, 2.0)):
            share = ":".join(f"{weight:.0f}" for weight in weights)
            found[f"hybrid {method} {share}"] = HybridRetriever(
                [dense, lexical], method=method, weights=weights
            )
    return found


def retrieval_trial(
    retriever: Retriever,
    queries: Mapping[str, str],
    qrels: Qrels,
    measure: Measure,
    *,
    k: int = 100,
) -> Trial:
    """A retriever as a setting: each query's score by a measure, one query at a time.

    Args:
        retriever: The setting.
        queries: Query id → text.
        qrels: Query id → document id → relevance.
        measure: As `nDCG @ 10`.
        k: Documents found a query.
    """
    known: dict[str, tuple[float, float]] = {}

    def score(query: str) -> tuple[float, float]:
        if query not in known:
            start = time.perf_counter()
            found = search_documents(retriever, [queries[query]], k)[0]
            taken = 1000 * (time.perf_counter() - start)
            known[query] = (measure.scores({query: found}, {query: qrels[query]})[query], taken)
        return known[query]

    def trial(names: Sequence[str]) -> tuple[list[float], float]:
        pairs = [score(query) for query in names]
        return [pair[0] for pair in pairs], float(np.median([pair[1] for pair in pairs]))

    return trial
