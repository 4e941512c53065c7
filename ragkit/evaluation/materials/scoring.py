"""Scores of the materials agent's runs: a verdict for each run, and summaries by kind.

A refusal of an answerable question counts as wrong, never as missing. The mean absolute error is
over the answers that have a number, and the number of those without one is reported beside it, as
in `ragkit.evaluation.measures.consistency`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ragkit.agents.ledger import Quantity
from ragkit.agents.observations import pages_shown
from ragkit.agents.render import free_numbers, render_answer, show_quantity
from ragkit.agents.steps import Action, Observation, Run, Step
from ragkit.agents.tools import ToolError
from ragkit.agents.units import convert
from ragkit.evaluation.materials.data import reduced_or_none
from ragkit.evaluation.materials.question import KINDS, Fact, MaterialsQuestion, Truth
from ragkit.evaluation.measures.score import Score
from ragkit.evaluation.statistics import Interval, bootstrap_interval

TOLERANCE = 1e-3
"""Largest relative error of a correct value; the ledger's values are not rounded."""

_SAME = {"difference": ("difference", "calculated"), "count": ("n_materials", "n_values")}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Verdict on one run.

    Attributes:
        question: Id of the question.
        kind: Kind of the question.
        correct: True if the answer, or the refusal, is right.
        why: What is wrong; "" if nothing is.
        value_error: Absolute error of the number asked for, in its unit; None if no number was
            asked for or given.
        relative_error: The error divided by the true value; None also if that is 0.
        unit: Unit of `value_error`.
        numeric: True if a number was asked for.
        refused: Reason of a refusal, or "".
        complete: True if the agent ended the run, False if a limit did.
        ungrounded: Count of numbers in the text that are in no row; 0 by construction.
        prompt_tokens: Tokens read by the model, including assistants.
        completion_tokens: Tokens written by the model, including assistants.
        seconds: Wall-clock time.
        steps: Number of actions, including assistants'.
        parse_failures: Number of replies that were not valid actions, including assistants'.
        errors: Number of failed calls, including assistants'.
    """

    question: str
    kind: str
    correct: bool
    why: str = ""
    value_error: float | None = None
    relative_error: float | None = None
    unit: str = ""
    numeric: bool = False
    refused: str = ""
    complete: bool = True
    ungrounded: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    steps: int = 0
    parse_failures: int = 0
    errors: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class KindSummary:
    """Summary of the verdicts of one kind.

    Attributes:
        n: Number of verdicts.
        accuracy: Share of correct ones.
        interval: 95 % interval of the accuracy; None with fewer than two verdicts.
        n_refused: Number of runs that ended with a refusal, right or wrong.
        n_unfinished: Number of runs that a limit ended.
        mae: Mean absolute error by unit, over the answers with a number.
        relative_error: Mean relative error over the answers with a number.
        n_no_number: Number of questions whose answer lacks the number asked for.
    """

    n: int
    accuracy: float
    interval: Interval | None
    n_refused: int
    n_unfinished: int
    mae: dict[str, float]
    relative_error: Score
    n_no_number: int


def judge(question: MaterialsQuestion, run: Run) -> Verdict:
    """Judge the result of a run: value, unit, material, the full set, or the reason to refuse."""
    rows = [row for row in run.final.rows.values() if isinstance(row, Quantity)]
    fault = _fault(question.truth, run, rows)
    error, relative, unit = _error(question.truth, rows)
    steps = list(_all_steps(run.steps))
    observations = [step for step in steps if isinstance(step, Observation)]
    return Verdict(
        question=question.id,
        kind=question.kind,
        correct=not fault,
        why=fault,
        value_error=error,
        relative_error=relative,
        unit=unit,
        numeric=_number_asked(question.truth) is not None,
        refused=run.final.refusal or "",
        complete=run.final.exit_reason in ("answered", "refused"),
        ungrounded=len(ungrounded(run)),
        prompt_tokens=run.usage.prompt_tokens,
        completion_tokens=run.usage.completion_tokens,
        seconds=run.seconds,
        steps=sum(isinstance(step, Action) for step in steps),
        parse_failures=sum(step.error and not step.tool for step in observations),
        errors=sum(step.error and bool(step.tool) for step in observations),
    )


def ungrounded(run: Run) -> list[str]:
    """Return the numbers in an answer's text that are in no ledger row and not in the question.

    The text of the rows, rendered again, is removed first.
    """
    final = run.final
    text = final.text
    pages = pages_shown(run.steps, final.rows, run.ledger)
    for line in render_answer(final.rows, final.also, pages=pages).splitlines():
        text = text.replace(line, " ", 1)
    rows = [row for row in run.ledger.values() if isinstance(row, Quantity)]
    names = {name for row in rows for name in (row.subject, row.subject_id, row.variant)}
    return free_numbers(" ".join(text.split()), run.question, {name for name in names if name})


def summarize(verdicts: Iterable[Verdict], *, seed: int = 0) -> dict[str, KindSummary]:
    """Summarize verdicts by kind, in the order of `KINDS`, and over all kinds as "all"."""
    everything = list(verdicts)
    groups = {kind: [verdict for verdict in everything if verdict.kind == kind] for kind in KINDS}
    by_kind = {kind: _summary(group, seed) for kind, group in groups.items() if group}
    return by_kind | ({"all": _summary(everything, seed)} if everything else {})


def _summary(verdicts: Sequence[Verdict], seed: int) -> KindSummary:
    correct = [float(verdict.correct) for verdict in verdicts]
    errors: dict[str, list[float]] = {}
    for verdict in verdicts:
        if verdict.value_error is not None:
            errors.setdefault(verdict.unit, []).append(verdict.value_error)
    relative = [
        verdict.relative_error for verdict in verdicts if verdict.relative_error is not None
    ]
    return KindSummary(
        n=len(verdicts),
        accuracy=math.fsum(correct) / len(correct),
        interval=bootstrap_interval(correct, seed=seed) if len(correct) > 1 else None,
        n_refused=sum(bool(verdict.refused) and verdict.complete for verdict in verdicts),
        n_unfinished=sum(not verdict.complete for verdict in verdicts),
        mae={unit: math.fsum(values) / len(values) for unit, values in sorted(errors.items())},
        relative_error=Score(math.fsum(relative) / len(relative))
        if relative
        else Score(None, "no answer has a number whose true value is not 0"),
        n_no_number=sum(verdict.numeric and verdict.value_error is None for verdict in verdicts),
    )


def _fault(truth: Truth, run: Run, rows: Sequence[Quantity]) -> str:
    final = run.final
    if final.exit_reason not in ("answered", "refused"):
        return f"not finished: {final.exit_reason}"
    if truth.refusal:
        if final.refusal != truth.refusal:
            return f"expected a refusal ({truth.refusal}), got {final.refusal or 'an answer'}"
        return ""
    if final.refusal:
        return f"refused ({final.refusal}) what has an answer"
    if truth.material_ids:
        return _set_fault(truth.material_ids, rows)
    return _fact_fault(truth, rows)


def _set_fault(expected: frozenset[str], rows: Sequence[Quantity]) -> str:
    named = {row.subject_id for row in rows if row.subject_id}
    missing, extra = sorted(expected - named), sorted(named - expected)
    parts = [f"missing {', '.join(missing)}"] if missing else []
    parts += [f"not among them {', '.join(extra)}"] if extra else []
    return "; ".join(parts)


def _fact_fault(truth: Truth, rows: Sequence[Quantity]) -> str:
    for group in truth.facts:
        if not any(_agrees(row, fact) for row in rows for fact in group):
            return _nearest_fault(group, rows)
    if truth.exact_unit:
        fact = truth.facts[0][0]
        if not any(_is_in(row, fact.unit) for row in rows if _is_about(row, fact)):
            return f"no value in {fact.unit}"
    # Otherwise an answer that lists every row it saw would always be correct.
    for row in rows:
        same = [fact for fact in truth.all_facts if _is_about(row, fact)]
        if same and not any(_agrees(row, fact) for fact in same):
            return f"{show_quantity(row)} is wrong beside it"
    return ""


def _nearest_fault(group: Sequence[Fact], rows: Sequence[Quantity]) -> str:
    """Explain why no row has the fact asked for."""
    fact = group[0]
    about = [row for row in rows if _is_about(row, fact)]
    if not about:
        return f"no {fact.property} among the rows"
    if not any(_same_value(row, fact) for row in about for fact in group):
        return f"{fact.property} is {about[0].value} {about[0].unit}; expected {fact.value}"
    return f"material {about[0].subject_id}; expected {fact.material_id}"


def _is_about(row: Quantity, fact: Fact) -> bool:
    return row.property in _SAME.get(fact.property, (fact.property,))


def _agrees(row: Quantity, fact: Fact) -> bool:
    return _is_about(row, fact) and _same_material(row, fact) and _same_value(row, fact)


def _same_material(row: Quantity, fact: Fact) -> bool:
    if not fact.formula:
        return True
    if fact.material_id is not None or row.subject_id is not None:
        return row.subject_id == fact.material_id
    return reduced_or_none(row.subject) == reduced_or_none(fact.formula)


def _same_value(row: Quantity, fact: Fact) -> bool:
    if isinstance(fact.value, str | bool) or isinstance(row.value, str | bool):
        return type(row.value) is type(fact.value) and row.value == fact.value
    value = _value_in(row, fact.unit)
    if value is None:
        return False
    if fact.property == "difference":
        value = abs(value)
    return math.isclose(value, fact.value, rel_tol=TOLERANCE, abs_tol=0 if fact.value else 1e-9)


def _value_in(row: Quantity, unit: str) -> float | None:
    """Return the row's number converted to a unit; None if that is not possible."""
    if isinstance(row.value, str | bool):
        return None
    if row.unit == unit:
        return float(row.value)
    # "1/cm" and "THz" have different dimensions, but mean the same phonon.
    for context in ("", "spectroscopy"):
        try:
            return convert(float(row.value), row.unit, unit, context=context)
        except ToolError:
            continue
    return None


def _is_in(row: Quantity, unit: str) -> bool:
    try:
        return math.isclose(convert(1.0, row.unit, unit), 1.0, rel_tol=1e-9)
    except ToolError:
        return False


def _number_asked(truth: Truth) -> Fact | None:
    """Return the first number asked for, or None."""
    for group in truth.facts:
        if group and not isinstance(group[0].value, str | bool):
            return group[0]
    return None


def _error(truth: Truth, rows: Sequence[Quantity]) -> tuple[float | None, float | None, str]:
    """Return (error, relative error, unit) of the first number asked for, for any material."""
    first = _number_asked(truth)
    if first is None:
        return None, None, ""
    group = next(facts for facts in truth.facts if first in facts)
    errors = [
        (abs(abs(value) - abs(float(fact.value)) if fact.property == "difference"
             else value - float(fact.value)), float(fact.value))
        for row in rows
        for fact in group
        if _is_about(row, fact) and (value := _value_in(row, first.unit)) is not None
    ]  # fmt: skip
    if not errors:
        return None, None, first.unit
    error, truth_value = min(errors)
    if error <= 1e-8 * abs(truth_value):
        error = 0.0  # unit conversion constants have nine or ten digits
    return error, error / abs(truth_value) if truth_value else None, first.unit


def _all_steps(steps: Iterable[Step]) -> Iterable[Step]:
    for step in steps:
        yield step
        if isinstance(step, Observation):
            yield from _all_steps(inner for inner in step.inner if not isinstance(inner, str))
