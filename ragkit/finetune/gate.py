"""Decision whether a trained adapter is used: a gain on its task, and no loss elsewhere.

Source: "Fine-Tuning or Fine-Failing?" (Barnett et al. 2024) found that fine-tuning hurt more often
than not, so an adapter is promoted only with a significant gain on held-out questions and without a
significant loss on a general set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ragkit.evaluation.statistics import Interval, bootstrap_interval, paired_permutation_test


@dataclass(frozen=True, slots=True)
class Comparison:
    """Comparison of two models on the same questions.

    Attributes:
        name: Name of the question set.
        n: Number of questions.
        before: Mean score without the adapter.
        before_interval: Its 95 % bootstrap interval.
        after: Mean score with the adapter.
        after_interval: Its 95 % bootstrap interval.
        p: p-value of a two-sided paired permutation test.
    """

    name: str
    n: int
    before: float
    before_interval: Interval
    after: float
    after_interval: Interval
    p: float

    @property
    def gain(self) -> float:
        """Mean score after minus before."""
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class GateReport:
    """The gate's decision.

    Attributes:
        task: Comparison on the task that the adapter was trained for.
        general: Comparison on the general set.
        promoted: True if the adapter passes.
        why: The reason, in a sentence.
    """

    task: Comparison
    general: Comparison
    promoted: bool
    why: str


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of the same questions in the same order, without and with the adapter."""

    name: str
    before: Sequence[float]
    after: Sequence[float]


def compare_scores(scores: Scores, *, seed: int = 0) -> Comparison:
    """Return means, intervals and a paired test of two lists of scores.

    Raises:
        ValueError: The lists differ in length or have fewer than two scores, or a score is not
            finite.
    """
    before, after = list(scores.before), list(scores.after)
    if len(before) != len(after) or len(before) < 2:
        raise ValueError(
            f"there are {len(before)} scores before and {len(after)} after; expected equal "
            "numbers, and at least two"
        )
    if not all(map(math.isfinite, [*before, *after])):
        raise ValueError(f"a score of {scores.name!r} is not finite; expected finite numbers")
    n = len(before)
    return Comparison(
        scores.name, n,
        math.fsum(before) / n, bootstrap_interval(before, seed=seed),
        math.fsum(after) / n, bootstrap_interval(after, seed=seed),
        paired_permutation_test(before, after, seed=seed),
    )  # fmt: skip


def judge_adapter(
    task: Scores, general: Scores, *, alpha: float = 0.05, max_loss: float = 0.05
) -> GateReport:
    """Decide whether to promote an adapter.

    Args:
        task: Scores on questions of its task that it was not trained on.
        general: Scores on questions of other kinds.
        alpha: Significance level.
        max_loss: Largest loss allowed on the general set, significant or not: on a small set no
            loss is significant.

    Raises:
        ValueError: See `compare_scores`.
    """
    own, other = compare_scores(task), compare_scores(general)
    if own.gain <= 0 or own.p >= alpha:
        why = f"no significant gain on {own.name}: {own.gain:+.3f}, p = {own.p:.4f}"
    elif other.gain < 0 and other.p < alpha:
        why = f"a significant loss on {other.name}: {other.gain:+.3f}, p = {other.p:.4f}"
    elif other.gain < -max_loss:
        why = f"a loss on {other.name} of more than {max_loss}: {other.gain:+.3f}"
    else:
        why = (
            f"{own.gain:+.3f} on {own.name} (p = {own.p:.4f}), {other.gain:+.3f} on "
            f"{other.name} (p = {other.p:.4f})"
        )
        return GateReport(own, other, True, why)
    return GateReport(own, other, False, why)
