"""Measures of the decision to answer: precision and recall, and risk against coverage."""

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
    """Return precision and recall of answering; negate both lists for those of refusing.

    Args:
        answered: For each question, True if the system gave an answer.
        answerable: For each question, True if the collection has an answer.

    Returns:
        Precision, the share of answered questions that are answerable, without a value if no
        question was answered; and recall, the share of answerable questions that were answered,
        without a value if none is answerable.

    Raises:
        ValueError: The lists differ in length.

    Source: the task is that of Rajpurkar et al. 2018 (SQuAD 2.0).

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
    """Risk-coverage curve: mean loss of the most confident answers against their share.

    Attributes:
        coverage: float64 (n,): 1/n, 2/n, … 1.
        risk: float64 (n,): mean loss of the 1, 2, … n most confident answers.
        aurc: Mean of `risk`, the area under the curve; lower is better.
    """

    coverage: NDArray[np.float64]
    risk: NDArray[np.float64]
    aurc: Score


def risk_coverage(confidences: Sequence[float], losses: Sequence[float]) -> RiskCoverage:
    """Compute the risk-coverage curve of a system that may refuse, and the area under it (AURC).

    Args:
        confidences: One per question, higher is more confident; only their order matters. -inf for
            a refusal.
        losses: One per question, 0 for a right answer, usually 1 minus a score.

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
    expected = np.bincount(group, weights=loss) / sizes  # (groups,), most confident first
    count = np.arange(1, len(loss) + 1)  # (n,)
    risk = np.repeat(expected, sizes).cumsum() / count  # (n,)
    return RiskCoverage(count / len(loss), risk, Score(float(risk.mean())))


def auroc(scores: Sequence[float], labels: Sequence[bool]) -> Score:
    """Return how often a positive scores above a negative, ties counting half.

    Args:
        scores: One per case; only their order matters.
        labels: One per case, True for a positive.

    Raises:
        ValueError: The lists differ in length, or a score is NaN.

    Source: Hanley & McNeil 1982, "The meaning and use of the area under a ROC curve", section III.

    >>> auroc([0.9, 0.5, 0.5], [True, True, False])
    Score(value=0.75, cause='')
    """
    _same_length(scores, labels, "scores", "labels")
    values, is_positive = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.bool_)
    if np.isnan(values).any():
        raise ValueError("a score is NaN; expected numbers")
    n, n_positive = len(values), int(is_positive.sum())
    if not 0 < n_positive < n:
        return Score(None, "all cases have the same label")
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    rank = (np.cumsum(sizes) - (sizes - 1) / 2)[group]  # (n,), ties at their mean rank
    above = float(rank[is_positive].sum()) - n_positive * (n_positive + 1) / 2
    return Score(above / (n_positive * (n - n_positive)))


def _same_length(first: Sequence[object], second: Sequence[object], name: str, other: str) -> None:
    if len(first) != len(second):
        raise ValueError(
            f"{name} has {len(first)} values and {other} has {len(second)}; expected one value "
            "per question"
        )
