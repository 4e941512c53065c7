"""Self-consistency of repeated numeric answers (SCoR), reported together with their error.

Source: Chiang et al. 2024 (LLaMP), "self-consistency of response", as in their notebooks:

    s    = standard deviation of the usable answers (of the population, ddof 0)
    P    = s / sqrt(n_valid)
    CoP  = exp(-P)
    C    = n_valid / n_trials
    SCoR = CoP * C

Deviation: a question without any answer scores 0; the notebooks drop it from the mean.

Two warnings. SCoR rewards repetition, right or wrong, so it is reported with the error. And it
depends on the unit: the same scatter gives almost 1 in eV and almost 0 in GPa, so never compare or
average it across properties, unless `scale` makes it dimensionless.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ragkit.evaluation.measures.score import Score


@dataclass(frozen=True, slots=True)
class Consistency:
    """Repeated answers to one question.

    Attributes:
        scor: Self-consistency of response, 0 to 1.
        mae: Mean absolute error of the usable answers, in the property's unit.
        mape: Mean absolute error divided by the absolute true value: 1 is 100 %.
        deviation: s, the standard deviation of the usable answers, in units of `scale`.
        precision: P; smaller is better.
        coherence: CoP, 0 to 1.
        confidence: C, the share of usable answers.
    """

    scor: float
    mae: Score
    mape: Score
    deviation: Score
    precision: Score
    coherence: Score
    confidence: float


@dataclass(frozen=True, slots=True)
class MeanConsistency:
    """Mean over questions about one property.

    Attributes:
        scor: Mean over all questions; a question without any answer counts as 0.
        mae: Mean over the questions with an answer.
        n_questions: Number of questions.
        n_unanswered: Number of questions without any answer, which `mae` leaves out.
    """

    scor: float
    mae: Score
    n_questions: int
    n_unanswered: int


def scor(trials: Sequence[float | None], truth: float, *, scale: float = 1.0) -> Consistency:
    """Compute SCoR and the mean absolute error of repeated answers to one question.

    Args:
        trials: The answers, at least one; None for a refusal or an answer without a number. A
            single usable answer has no scatter: its coherence is 1.
        truth: The true value, in the same unit.
        scale: Divisor of the deviation: 1 as published, or, for a dimensionless SCoR, a typical
            size of the property in the same unit, such as the absolute true value. Positive.

    Raises:
        ValueError: There are no trials, a number is not finite, or the scale is not positive.

    >>> result = scor([100, 102, 98, None], truth=101)
    >>> round(result.scor, 6), round(result.mae.value, 6)
    (0.292149, 1.666667)
    """
    answers = np.array([trial for trial in trials if trial is not None], dtype=np.float64)
    if not len(trials):
        raise ValueError("trials is empty; expected at least one answer, None for a refusal")
    if not np.isfinite(answers).all() or not math.isfinite(truth):
        raise ValueError(
            f"trials are {list(trials)} and truth is {truth}; expected finite numbers, "
            "and None for a trial without an answer"
        )
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale is {scale}; expected a positive number")
    if not len(answers):
        none = Score(None, "no trial gave a usable answer")
        return Consistency(0.0, none, none, none, none, none, 0.0)
    deviation = float(answers.std()) / scale
    precision = deviation / math.sqrt(len(answers))
    coherence = math.exp(-precision)
    confidence = len(answers) / len(trials)
    mae = float(np.abs(answers - truth).mean())
    return Consistency(
        scor=coherence * confidence,
        mae=Score(mae),
        mape=Score(mae / abs(truth)) if truth else Score(None, "the true value is 0"),
        deviation=Score(deviation),
        precision=Score(precision),
        coherence=Score(coherence),
        confidence=confidence,
    )


def mean_scor(questions: Sequence[Consistency]) -> MeanConsistency:
    """Return mean SCoR and mean absolute error over questions about one property, in one unit.

    Raises:
        ValueError: There are no questions.
    """
    if not questions:
        raise ValueError("questions is empty; expected at least one result of scor")
    errors = [question.mae.value for question in questions if question.mae.value is not None]
    return MeanConsistency(
        scor=math.fsum(question.scor for question in questions) / len(questions),
        mae=Score(math.fsum(errors) / len(errors))
        if errors
        else Score(None, "no question got a usable answer"),
        n_questions=len(questions),
        n_unanswered=len(questions) - len(errors),
    )
