"""Fusion weights fitted by cross-validation, and an ablation of the fused systems.

Everything here works on existing runs; no retriever is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ragkit.evaluation.experiment import Experiment
from ragkit.evaluation.measures import Measure, Qrels
from ragkit.evaluation.runs import SystemRun
from ragkit.retrievers.hybrid import FusionMethod, fuse_scores

METHODS: tuple[FusionMethod, ...] = ("rrf", "minmax")


@dataclass(frozen=True, slots=True)
class FusionFit:
    """Result of `fit_fusion`.

    Attributes:
        method: Fusion method.
        weights: Weight of each system; they sum to 1.
        mean: Mean of the measure on the queries used for fitting.
        validated: Mean over the held-out folds, an estimate of the mean on new queries.
        fold_choices: Method and weights chosen without each fold.
    """

    method: FusionMethod
    weights: Mapping[str, float]
    mean: float
    validated: float
    fold_choices: tuple[tuple[FusionMethod, tuple[float, ...]], ...]


def fuse_runs(
    name: str, runs: Sequence[SystemRun], method: FusionMethod, weights: Sequence[float]
) -> SystemRun:
    """Fuse several runs into one, as `HybridRetriever` would from the same candidates.

    Raises:
        ValueError: There are no runs, or they have different queries.
    """
    _check(runs)
    fused = {
        query: fuse_scores([run.run[query] for run in runs], method, weights)
        for query in runs[0].run
    }
    seconds = {query: sum(run.seconds[query] for run in runs) for query in runs[0].run}
    manifest = {"method": method, "weights": list(weights), "runs": [run.name for run in runs]}
    return SystemRun(name, fused, seconds, manifest)


def fit_fusion(
    runs: Sequence[SystemRun],
    qrels: Qrels,
    measure: Measure,
    *,
    folds: int = 5,
    steps: int = 10,
    seed: int = 0,
) -> FusionFit:
    """Choose the method and weights with the best mean, among all multiples of 1 / steps.

    Weights sum to 1. Ties go to the weights nearest to equal ones, then to "rrf".

    Args:
        runs: Runs of the systems over the same queries.
        qrels: Judgements of these queries.
        measure: Measure to maximise.
        folds: Number of folds for `validated`.
        steps: Number of steps between weights 0 and 1.
        seed: Seed of the folds.

    Raises:
        ValueError: There are no runs, two have the same name, they have different queries, there
            are fewer queries than folds, or steps is below 1.
    """
    _check(runs)
    names = [run.name for run in runs]
    if len(set(names)) < len(names) or steps < 1:
        raise ValueError(
            f"the runs are {names} and steps is {steps}; expected no name twice, and steps at "
            "least 1"
        )
    queries = sorted(set(runs[0].run) & set(qrels))
    if not 2 <= folds <= len(queries):
        raise ValueError(
            f"folds is {folds} for {len(queries)} queries; expected 2 to {len(queries)}"
        )
    settings = [(m, w) for m in METHODS for w in _simplex(len(runs), steps)]
    scores = np.empty((len(settings), len(queries)))
    for i, (method, weights) in enumerate(settings):
        fused = {q: fuse_scores([r.run[q] for r in runs], method, weights) for q in queries}
        values = measure.scores(fused, {query: qrels[query] for query in queries})
        scores[i] = [values[query] for query in queries]
    spread = [float(np.ptp(weights)) for _, weights in settings]

    def best(columns: np.ndarray) -> int:
        means = scores[:, columns].mean(1).round(9)
        return int(np.lexsort((np.arange(len(settings)), np.array(spread), -means))[0])

    all_queries = np.arange(len(queries))
    parts = np.array_split(np.random.default_rng(seed).permutation(len(queries)), folds)
    choices = [best(np.setdiff1d(all_queries, part)) for part in parts]
    held_out = [scores[choice, part] for choice, part in zip(choices, parts, strict=True)]
    chosen = best(all_queries)
    method, weights = settings[chosen]
    return FusionFit(
        method,
        {run.name: weight for run, weight in zip(runs, weights, strict=True)},
        float(scores[chosen].mean()),
        float(np.concatenate(held_out).mean()),
        tuple(settings[choice] for choice in choices),
    )


def ablate(
    runs: Sequence[SystemRun], qrels: Qrels, measures: Sequence[Measure], fit: FusionFit
) -> Experiment:
    """Compare the fusion with itself without each system, and with each system alone.

    The baseline is the full fusion: a difference below 0 is what the removed system contributes,
    and its p says whether that is more than chance.
    """
    weights = [fit.weights[run.name] for run in runs]
    systems = [fuse_runs("all", runs, fit.method, weights)]
    for i, run in enumerate(runs):
        other_runs = [other for j, other in enumerate(runs) if j != i]
        other_weights = [weight for j, weight in enumerate(weights) if j != i]
        if other_runs and sum(other_weights) > 0:
            systems.append(fuse_runs(f"without {run.name}", other_runs, fit.method, other_weights))
    return Experiment([*systems, *runs], qrels, measures, baseline="all", name="ablation")


def _simplex(n: int, steps: int) -> Iterator[tuple[float, ...]]:
    """Yield every tuple of n multiples of 1 / steps that sum to 1."""

    def shares(n: int, left: int) -> Iterator[tuple[int, ...]]:
        if n == 1:
            yield (left,)
            return
        for first in range(left + 1):
            for rest in shares(n - 1, left - first):
                yield (first, *rest)

    for parts in shares(n, steps):
        yield tuple(part / steps for part in parts)


def _check(runs: Sequence[SystemRun]) -> None:
    if not runs:
        raise ValueError("there are no runs; expected at least one")
    different = [run.name for run in runs if set(run.run) != set(runs[0].run)]
    if different:
        raise ValueError(
            f"the runs {runs[0].name!r} and {different[0]!r} have different queries; make both "
            "runs over the same queries"
        )
