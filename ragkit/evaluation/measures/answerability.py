"""Does a system answer when it can and refuse when it cannot, and does its confidence tell?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ragkit.evaluation.measures.score import Score


@dataclass(frozen=True, slots=True)
class Answerability:
    """Precision and recall of the decision to answer."""

    precision: Score
    recall: Score


def answerability(answered: Sequence[bool], answerable: Sequence[bool]) -> Answerability:
    """Precision and recall of answering; negate both lists for those of refusing.

    Args:
        answered: For each question, whether the system gave an answer.
        answerable: For each question, whether there is one in the collection.

    Returns:
        Precision, the share of the answered questions that could be answered, which has no value
        if none was answered; and recall, the share of the answerable ones that were answered, which
        has none if none could be.

    Raises:
        ValueError: The lists differ in length.

    Source: Rajpurkar et al. 2018 (SQuAD 2.0) ask the question; precision and recall as ever.

    >>> answerability([True, True, False], [True, False, False])
    Answerability(precision=Score(value=0.5, cause=''), recall=Score(value=1.0, cause=''))
    """
    _same_length(answered, answerable, "answered", "answerable")
    right = sum(a and b for a, b in zip(answered, answerable, strict=True))
    n_answered, n_answerable = sum(answered), sum(answerable)
    return Answerability(
        Score(right / n_answered) if n_answered else Score(None, "no question was answered"),
        Score(right / n_answerable) if n_answerable else Score(None, "no question is answerable"),
    )


@dataclass(frozen=True, slots=True, eq=False)
class RiskCoverage:
    """The mean loss of the most confident answers against the share of questions they are.

    Attributes:
        coverage: float64 (n,), 1/n, 2/n, … 1.
        risk: float64 (n,), the mean loss of the so many most confident answers.
        aurc: The mean of `risk`: the area under the curve; lower is better.
    """

    coverage: NDArray[np.float64]
    risk: NDArray[np.float64]
    aurc: Score


def risk_coverage(confidences: Sequence[float], losses: Sequence[float]) -> RiskCoverage:
    """The risk-coverage curve of a system that may refuse, and the area under it (AURC).

    Args:
        confidences: One a question, higher is surer; only their order counts. -inf for a refusal.
        losses: One a question, 0 for a right answer, usually 1 minus a score.

    Raises:
        ValueError: The lists differ in length, a confidence is NaN, or a loss is not finite.

    Source: El-Yaniv & Wiener 2010; Geifman, Uziel & El-Yaniv 2019, "Bias-reduced uncertainty
    estimation for deep neural classifiers", section 2. Deviation: questions of equal confidence
    have no order, so each counts with the mean loss of them all, the expectation over all orders.

    >>> risk_coverage([0.9, 0.5, 0.7], [0, 1, 1]).risk.round(3).tolist()
    [0.0, 0.5, 0.667]
    """
    _same_length(confidences, losses, "confidences", "losses")
    confidence = np.asarray(confidences, dtype=np.float64)  # (n,)
    loss = np.asarray(losses, dtype=np.float64)  # (n,)
    if np.isnan(confidence).any() or not np.isfinite(loss).all():
        raise ValueError("a confidence is NaN or a loss is not finite; expected numbers")
    if not len(loss):
        return RiskCoverage(loss, loss, Score(None, "there are no questions"))
    _, group, sizes = np.unique(-confidence, return_inverse=True, return_counts=True)
    expected = np.bincount(group, weights=loss) / sizes  # (groups,), surest first
    count = np.arange(1, len(loss) + 1)  # (n,)
    risk = np.repeat(expected, sizes).cumsum() / count  # (n,)
    return RiskCoverage(count / len(loss), risk, Score(float(risk.mean())))


def _same_length(first: Sequence[object], second: Sequence[object], name: str, other: str) -> None:
    if len(first) != len(second):
        raise ValueError(
            f"{name} has {len(first)} values and {other} {len(second)}; expected one a question"
        )
