"""Whether a trained adapter may replace the model without it: gained where it should, lost nowhere.

Source: "Fine-Tuning or Fine-Failing?" (SYSTEMS B) found fine-tuning to hurt more often than not, so
an adapter is promoted only with a significant gain on held-out questions and without a significant
loss on a general set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ragkit.evaluation.statistics import Interval, bootstrap_interval, paired_permutation_test


@dataclass(frozen=True, slots=True)
class Compared:
    """Two models on the same questions.

    Attributes:
        name: Of the questions.
        n: How many.
        before: Mean score without the adapter, with its 95 % bootstrap interval.
        after: With it.
        p: Two-sided paired permutation test.
    """

    name: str
    n: int
    before: float
    before_interval: Interval
    after: float
    after_interval: Interval
    p: float

    @property
    def gained(self) -> float:
        """After minus before."""
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class GateReport:
    """The gate's decision.

    Attributes:
        task: What the adapter was trained for.
        general: What it must not lose.
        promoted: Whether it passes.
        why: The reason, in a sentence.
    """

    task: Compared
    general: Compared
    promoted: bool
    why: str


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of the same questions, in the same order, without and with the adapter."""

    name: str
    before: Sequence[float]
    after: Sequence[float]


def compare(scores: Scores, *, seed: int = 0) -> Compared:
    """Means, intervals and a paired test.

    Raises:
        ValueError: The lists differ in length, are shorter than two, or hold what is no number.
    """
    before, after = list(scores.before), list(scores.after)
    if len(before) != len(after) or len(before) < 2:
        raise ValueError(
            f"{len(before)} scores before and {len(after)} after; expected as many, at least two"
        )
    if not all(map(math.isfinite, [*before, *after])):
        raise ValueError(f"a score of {scores.name!r} is no number")
    n = len(before)
    return Compared(
        scores.name, n,
        math.fsum(before) / n, bootstrap_interval(before, seed=seed),
        math.fsum(after) / n, bootstrap_interval(after, seed=seed),
        paired_permutation_test(before, after, seed=seed),
    )  # fmt: skip


def judge_adapter(
    task: Scores, general: Scores, *, alpha: float = 0.05, most_lost: float = 0.05
) -> GateReport:
    """Promote an adapter, or say why not.

    Args:
        task: Questions of its task that it was not trained on.
        general: Questions of other kinds.
        alpha: What counts as significant.
        most_lost: On the general set no more than this may be lost, significant or not: a small
            set shows no loss as significant.

    Raises:
        ValueError: See `compare`.
    """
    own, other = compare(task), compare(general)
    if own.gained <= 0 or own.p >= alpha:
        why = f"no significant gain on {own.name}: {own.gained:+.3f}, p = {own.p:.4f}"
    elif other.gained < 0 and other.p < alpha:
        why = f"a significant loss on {other.name}: {other.gained:+.3f}, p = {other.p:.4f}"
    elif other.gained < -most_lost:
        why = f"a loss on {other.name} of more than {most_lost}: {other.gained:+.3f}"
    else:
        why = (
            f"{own.gained:+.3f} on {own.name} (p = {own.p:.4f}), {other.gained:+.3f} on "
            f"{other.name} (p = {other.p:.4f})"
        )
        return GateReport(own, other, True, why)
    return GateReport(own, other, False, why)
