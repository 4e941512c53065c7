"""When to refuse: risk and coverage by threshold, and a threshold whose risk has a bound.

The risk is the share of wrong answers among those that are given, the coverage the share of
questions that are answered. Source: Geifman and El-Yaniv 2017, "Selective classification for deep
neural networks". The threshold is found by testing in a fixed order, from the highest likelihood
down, as in Angelopoulos et al. 2021, "Learn then test", section 4: the tests stop at the first that
fails, so that the bound holds for the chosen threshold without a correction. Order and steps (one
for each twentieth of the questions) depend on the likelihoods alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ragkit.errors import DatasetError

CONFIDENCE = 0.95
_STEPS = 20


@dataclass(frozen=True, slots=True)
class RiskPoint:
    """What answering from a threshold on means.

    Attributes:
        threshold: Likelihood from which a question is answered.
        coverage: Share of the questions that are answered.
        risk: Share of wrong answers among them.
        n_answered: Number of questions answered.
        n_wrong: Number of wrong answers.
    """

    threshold: float
    coverage: float
    risk: float
    n_answered: int
    n_wrong: int

    def bound(self, confidence: float = CONFIDENCE) -> float:
        """Return the upper bound of the risk, for this threshold alone."""
        return upper_bound(self.n_wrong, self.n_answered, confidence)


def risk_coverage(likelihoods: Sequence[float], right: Sequence[bool]) -> list[RiskPoint]:
    """Return the curve of risk and coverage, from the highest threshold down.

    Args:
        likelihoods: For each question the likelihood of the best answer; 0 if there is none.
        right: For each question whether that answer is right.

    >>> [(p.threshold, p.coverage, p.risk) for p in risk_coverage([0.9, 0.4], [True, False])]
    [(0.9, 0.5, 0.0), (0.4, 1.0, 0.5)]
    """
    if len(likelihoods) != len(right):
        raise ValueError(f"got {len(likelihoods)} likelihoods for {len(right)} answers")
    ranked = sorted(zip(likelihoods, right, strict=True), key=lambda pair: -pair[0])
    points: list[RiskPoint] = []
    n_wrong = 0
    for n, (likelihood, is_right) in enumerate(ranked, start=1):
        n_wrong += not is_right
        if likelihood <= 0 or (n < len(ranked) and ranked[n][0] == likelihood):
            continue
        points.append(RiskPoint(likelihood, n / len(ranked), n_wrong / n, n, n_wrong))
    return points


def fit_threshold(
    likelihoods: Sequence[float],
    right: Sequence[bool],
    risk: float,
    *,
    confidence: float = CONFIDENCE,
) -> RiskPoint:
    """Return the lowest threshold whose risk is at most `risk`, with the confidence.

    Args:
        likelihoods: For each question the likelihood of the best answer; 0 if there is none.
        right: For each question whether that answer is right.
        risk: Largest share of wrong answers, between 0 and 1.
        confidence: Probability that the bound holds.

    Raises:
        DatasetError: The questions are too few for the bound, or the answers too often wrong.
    """
    if not 0 < risk < 1 or not 0 < confidence < 1:
        raise ValueError(f"risk is {risk}, confidence {confidence}; expected between 0 and 1")
    needed = least_answers(risk, confidence)
    points = [point for point in risk_coverage(likelihoods, right) if point.n_answered >= needed]
    if not points:
        n = sum(likelihood > 0 for likelihood in likelihoods)
        raise DatasetError(
            f"{n} of the questions have an answer; a bound of {risk:.0%} at {confidence:.0%} needs "
            f"at least {needed} answers without an error: add questions, or allow a higher risk"
        )
    best: RiskPoint | None = None
    for point in _steps(points, len(right), needed):
        if _at_most(point.n_wrong, point.n_answered, risk) > 1 - confidence:
            break  # so few errors are likely although the risk is higher
        best = point
    if best is None:
        first = points[0]
        raise DatasetError(
            f"of the {first.n_answered} likeliest answers {first.n_wrong} are wrong, so their risk "
            f"may be {first.bound(confidence):.1%}: no threshold keeps it at {risk:.0%}; allow a "
            "higher risk, add questions, or improve the retriever or reader"
        )
    return best


def _steps(points: Sequence[RiskPoint], n: int, needed: int) -> list[RiskPoint]:
    """Return the first point with at least `needed` answers, and then one for each step."""
    chosen: list[RiskPoint] = []
    least = float(needed)
    for point in points:
        if point.n_answered >= least:
            chosen.append(point)
            least = point.n_answered + n / _STEPS
    if points and points[-1].n_answered >= needed and chosen[-1] != points[-1]:
        chosen.append(points[-1])
    return chosen


def least_answers(risk: float, confidence: float = CONFIDENCE) -> int:
    """Return how many answers without an error a bound needs.

    >>> least_answers(0.05), least_answers(0.1)
    (59, 29)
    """
    return math.ceil(math.log(1 - confidence) / math.log(1 - risk))


def upper_bound(n_wrong: int, n: int, confidence: float = CONFIDENCE) -> float:
    """Return the one-sided upper bound of a share, after Clopper and Pearson 1934.

    >>> round(upper_bound(0, 59), 4)
    0.0495
    """
    if n_wrong >= n:
        return 1.0
    low, high = n_wrong / n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _at_most(n_wrong, n, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def _at_most(k: int, n: int, share: float) -> float:
    """Return the probability of at most k successes of n."""
    if share >= 1:
        return float(k >= n)
    if share <= 0:
        return 1.0
    logs = [
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1)
        + i * math.log(share) + (n - i) * math.log1p(-share)
        for i in range(k + 1)
    ]  # fmt: skip
    return math.fsum(map(math.exp, logs))
