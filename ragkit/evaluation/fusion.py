"""Weights of a fusion, fitted by cross-validation, and what each part of it is worth.

Everything here works on runs that are there: no retriever is asked again.
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
    """What `fit_fusion` chose.

    Attributes:
        method: How scores are brought together.
        weights: By system; they sum to 1.
        mean: Of the measure on the fitting queries.
        validated: Of the measure on folds that had no part in choosing: what to expect elsewhere.
        fold_choices: Method and weights that each fold's others chose.
    """

    method: FusionMethod
    weights: Mapping[str, float]
    mean: float
    validated: float
    fold_choices: tuple[tuple[FusionMethod, tuple[float, ...]], ...]


def fuse_runs(
    name: str, runs: Sequence[SystemRun], method: FusionMethod, weights: Sequence[float]
) -> SystemRun:
    """One run of several, as `HybridRetriever` would make it from the same candidates.

    Raises:
        ValueError: There are no runs, or their queries differ.
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
    """The method and weights with the best mean, over all multiples of 1 / steps that sum to 1.

    Ties go to the weights nearest to equal ones, then to "rrf".

    Args:
        runs: Of the systems, over the same queries.
        qrels: Of those queries.
        measure: What is made as large as can be.
        folds: For `validated`.
        steps: How fine the weights are.
        seed: Of the folds.

    Raises:
        ValueError: No runs, two of one name, other queries in one of them, fewer queries than
            folds, or no steps.
    """
    _check(runs)
    names = [run.name for run in runs]
    if len(set(names)) < len(names) or steps < 1:
        raise ValueError(
            f"the runs are {names} and steps is {steps}; expected every name once, and at least 1"
        )
    queries = sorted(set(runs[0].run) & set(qrels))
    if not 2 <= folds <= len(queries):
        raise ValueError(f"folds is {folds} for {len(queries)} queries; expected 2 to that many")
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

    every = np.arange(len(queries))
    parts = np.array_split(np.random.default_rng(seed).permutation(len(queries)), folds)
    choices = [best(np.setdiff1d(every, part)) for part in parts]
    outside = [scores[choice, part] for choice, part in zip(choices, parts, strict=True)]
    chosen = best(every)
    method, weights = settings[chosen]
    return FusionFit(
        method,
        {run.name: weight for run, weight in zip(runs, weights, strict=True)},
        float(scores[chosen].mean()),
        float(np.concatenate(outside).mean()),
        tuple(settings[choice] for choice in choices),
    )


def ablate(
    runs: Sequence[SystemRun], qrels: Qrels, measures: Sequence[Measure], fit: FusionFit
) -> Experiment:
    """The whole fusion against itself without each part, and each part alone.

    The baseline is the whole: a difference below 0 is what a part is worth, and its p says whether
    that is more than chance.
    """
    weights = [fit.weights[run.name] for run in runs]
    systems = [fuse_runs("all", runs, fit.method, weights)]
    for i, run in enumerate(runs):
        rest = [each for j, each in enumerate(runs) if j != i]
        left = [weight for j, weight in enumerate(weights) if j != i]
        if rest and sum(left) > 0:
            systems.append(fuse_runs(f"without {run.name}", rest, fit.method, left))
    return Experiment([*systems, *runs], qrels, measures, baseline="all", name="ablation")


def _simplex(n: int, steps: int) -> Iterator[tuple[float, ...]]:
    """Every way to share 1 among n in so many steps."""

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
            f"the runs {runs[0].name!r} and {different[0]!r} answer different queries; make both "
            "over the same ones"
        )
