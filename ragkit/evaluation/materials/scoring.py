"""Whether a run of the materials agent answered a question, and how runs do by kind.

A refusal where there is an answer counts as wrong, never as missing. MAE is over the answers that
have a number, with how many have none beside it, as `ragkit.evaluation.measures.consistency` does.
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
from ragkit.evaluation.materials.question import KINDS, Fact, Question, Truth
from ragkit.evaluation.measures.score import Score
from ragkit.evaluation.statistics import Interval, bootstrap_interval

TOLERANCE = 1e-3
"""How far off a value may be, relative to the true one; the ledger's values are not rounded."""

_SAME = {"difference": ("difference", "calculated"), "count": ("n_materials", "n_values")}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A run judged.

    Attributes:
        question: The question's id.
        kind: Its kind.
        correct: Whether the answer is right, or the refusal.
        why: What is wrong; "" where nothing is.
        value_error: How far the number asked for is off, in its unit; None where none is asked for
            or none was given.
        relative_error: The same as a share of the true value; None also where that is 0.
        unit: Of `value_error`.
        numeric: Whether a number is asked for.
        refused: The reason given, or "".
        complete: Whether the agent ended the run, and not a limit.
        ungrounded: Numbers in the text that stand in no row; 0 by construction.
        prompt_tokens: Read by the model, assistants' too.
        completion_tokens: Written by it.
        seconds: Of the wall clock.
        steps: Actions, assistants' too.
        parse_failures: Replies that were no actions, assistants' too.
        errors: Calls that failed, assistants' too.
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
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class KindSummary:
    """The verdicts of one kind.

    Attributes:
        n: How many.
        accuracy: The share that is correct.
        interval: Of the accuracy, 95 %; None with fewer than two verdicts.
        n_refused: How many ended with a refusal, right or wrong.
        n_unfinished: How many a limit ended.
        mae: By unit, over the answers with a number.
        relative_error: The mean over the answers with a number.
        n_no_number: How many numbers were asked for and not given.
    """

    n: int
    accuracy: float
    interval: Interval | None
    n_refused: int
    n_unfinished: int
    mae: dict[str, float]
    relative_error: Score
    n_no_number: int


def judge(question: Question, run: Run) -> Verdict:
    """Whether the run's end is right: value, unit, material, the whole set, or the reason."""
    rows = [row for row in run.final.rows.values() if isinstance(row, Quantity)]
    why = _fault(question.truth, run, rows)
    error, relative, unit = _error(question.truth, rows)
    every = list(_all_steps(run.steps))
    observed = [step for step in every if isinstance(step, Observation)]
    return Verdict(
        question=question.id,
        kind=question.kind,
        correct=not why,
        why=why,
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
        steps=sum(isinstance(step, Action) for step in every),
        parse_failures=sum(step.error and not step.tool for step in observed),
        errors=sum(step.error and bool(step.tool) for step in observed),
    )


def ungrounded(run: Run) -> list[str]:
    """The numbers in an answer's text that are in no row of the ledger and not in the question.

    What the rows, rendered anew, say is taken out of the text first.
    """
    final = run.final
    left = final.text
    pages = pages_shown(run.steps, final.rows, run.ledger)
    for line in render_answer(final.rows, final.also, pages=pages).splitlines():
        left = left.replace(line, " ", 1)
    rows = [row for row in run.ledger.values() if isinstance(row, Quantity)]
    names = {name for row in rows for name in (row.formula, row.material_id, row.space_group)}
    return free_numbers(" ".join(left.split()), run.question, {name for name in names if name})


def summary(verdicts: Iterable[Verdict], *, seed: int = 0) -> dict[str, KindSummary]:
    """The verdicts by kind, in the order of `KINDS`, and "all" of them."""
    given = list(verdicts)
    groups = {kind: [each for each in given if each.kind == kind] for kind in KINDS}
    found = {kind: _summary(group, seed) for kind, group in groups.items() if group}
    return found | ({"all": _summary(given, seed)} if given else {})


def _summary(verdicts: Sequence[Verdict], seed: int) -> KindSummary:
    correct = [float(each.correct) for each in verdicts]
    errors: dict[str, list[float]] = {}
    for each in verdicts:
        if each.value_error is not None:
            errors.setdefault(each.unit, []).append(each.value_error)
    relative = [each.relative_error for each in verdicts if each.relative_error is not None]
    return KindSummary(
        n=len(verdicts),
        accuracy=math.fsum(correct) / len(correct),
        interval=bootstrap_interval(correct, seed=seed) if len(correct) > 1 else None,
        n_refused=sum(bool(each.refused) and each.complete for each in verdicts),
        n_unfinished=sum(not each.complete for each in verdicts),
        mae={unit: math.fsum(found) / len(found) for unit, found in sorted(errors.items())},
        relative_error=Score(math.fsum(relative) / len(relative))
        if relative
        else Score(None, "no answer has a number whose true value is not 0"),
        n_no_number=sum(each.numeric and each.value_error is None for each in verdicts),
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


def _set_fault(wanted: frozenset[str], rows: Sequence[Quantity]) -> str:
    named = {row.material_id for row in rows if row.material_id}
    missing, extra = sorted(wanted - named), sorted(named - wanted)
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
    # An answer that names every row it met would always hold the right one.
    for row in rows:
        same = [fact for fact in truth.all_facts if _is_about(row, fact)]
        if same and not any(_agrees(row, fact) for fact in same):
            return f"{show_quantity(row)} is wrong beside it"
    return ""


def _nearest_fault(group: Sequence[Fact], rows: Sequence[Quantity]) -> str:
    """Why no row is the one asked for."""
    fact = group[0]
    about = [row for row in rows if _is_about(row, fact)]
    if not about:
        return f"no {fact.property} among the rows"
    if not any(_same_value(row, fact) for row in about for fact in group):
        return f"{fact.property} is {about[0].value} {about[0].unit}; expected {fact.value}"
    return f"material {about[0].material_id}; expected {fact.material_id}"


def _is_about(row: Quantity, fact: Fact) -> bool:
    return row.property in _SAME.get(fact.property, (fact.property,))


def _agrees(row: Quantity, fact: Fact) -> bool:
    return _is_about(row, fact) and _same_material(row, fact) and _same_value(row, fact)


def _same_material(row: Quantity, fact: Fact) -> bool:
    if not fact.formula:
        return True
    if fact.material_id is not None or row.material_id is not None:
        return row.material_id == fact.material_id
    return reduced_or_none(row.formula) == reduced_or_none(fact.formula)


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
    """The row's number in a unit; None if it has none."""
    if isinstance(row.value, str | bool):
        return None
    if row.unit == unit:
        return float(row.value)
    # "1/cm" and "THz" are of different dimensions, and the same phonon.
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
    """The first number asked for."""
    for group in truth.facts:
        if group and not isinstance(group[0].value, str | bool):
            return group[0]
    return None


def _error(truth: Truth, rows: Sequence[Quantity]) -> tuple[float | None, float | None, str]:
    """(error, relative error, unit) of the first number asked for, whatever the material."""
    first = _number_asked(truth)
    if first is None:
        return None, None, ""
    group = next(each for each in truth.facts if first in each)
    found = [
        (abs(abs(value) - abs(float(fact.value)) if fact.property == "difference"
             else value - float(fact.value)), float(fact.value))
        for row in rows
        for fact in group
        if _is_about(row, fact) and (value := _value_in(row, first.unit)) is not None
    ]  # fmt: skip
    if not found:
        return None, None, first.unit
    error, true = min(found)
    if error <= 1e-8 * abs(true):
        error = 0.0  # the constants of a unit conversion have nine or ten digits
    return error, error / abs(true) if true else None, first.unit


def _all_steps(steps: Iterable[Step]) -> Iterable[Step]:
    for step in steps:
        yield step
        if isinstance(step, Observation):
            yield from _all_steps(each for each in step.inner if not isinstance(each, str))
