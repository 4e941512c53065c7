"""Arithmetic over the ledger: the model names rows, this computes, pint checks the units.

Every result is a new row with its unit, the rows it came from and the expression that made it.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from ragkit.agents.expressions import evaluate
from ragkit.agents.ledger import Ledger, Quantity, Scalar
from ragkit.agents.tools import RowId, Tool, ToolError, ToolResult, tool
from ragkit.agents.units import convert, parse_unit, spell

_LARGEST_FREE = 12  # to halve, to average, to count a dozen

RowIds = Annotated[list[RowId], Field(min_length=1, max_length=30)]
"""A parameter that names several rows of the ledger."""


def calculator_tools() -> list[Tool]:
    """The tools of this module: convert_unit, calculate, compare, rank, average."""
    return [tool(each) for each in (convert_unit, calculate, compare, rank, average)]


def convert_unit(
    row: RowId, unit: str, ledger: Ledger, context: Literal["spectroscopy"] | None = None
) -> Quantity:
    """Convert a row's value to another unit.

    Args:
        row: The row.
        unit: The unit wanted, such as GPa, eV/atom, angstrom**3.
        ledger: Passed by the loop.
        context: Only for light or phonons: eV, nm, THz, 1/cm.
    """
    held = _numeric(ledger, row)
    value = convert(_number(held), held.unit, unit, context=context or "")
    written = spell(parse_unit(unit))
    method = f"calculated: {row} converted to {written or 'a plain number'}"
    if {"mol", "atom"} <= set(re.findall(r"[A-Za-z]+", f"{held.unit} {written}")):
        method += " (moles of atoms)"
    if context:
        method += f" ({context})"
    return _derived(ledger, [row], Quantity(value, written, held.property, method=method))


def calculate(expression: str, ledger: Ledger) -> Quantity:
    """Compute with rows, numbers and units, such as (r1 + r2) / 2 or r1 - 0.5 eV.

    Args:
        expression: With + - * / ** sqrt abs min max.
        ledger: Passed by the loop.
    """

    def lookup(row: str) -> tuple[int | float, str]:
        held = _numeric(ledger, row)
        return (held.value if isinstance(held.value, int) else _number(held)), held.unit

    result = evaluate(expression, lookup)
    _check_constants(result.constants, ledger.question)
    method = f"calculated: {' '.join(expression.split())}"
    if result.constants:
        method += f"; constants: {', '.join(result.constants)}"
    computed = Quantity(result.value, result.unit, "calculated", method=method)
    return _derived(ledger, result.rows, computed)


def _check_constants(constants: Sequence[str], question: str) -> None:
    """Refuse numbers that a model brought along: rows and the question are where they come from."""
    asked = set(re.findall(r"\d+(?:\.\d+)?", question.replace(",", "")))
    for number in constants if question else ():
        small = number.isdigit() and int(number) <= _LARGEST_FREE
        if not small and number not in asked:
            raise ToolError(
                f"{number} stands neither in the question nor in a row. Name the row that has it; "
                f"free are only whole numbers up to {_LARGEST_FREE}."
            )


def compare(rows: RowIds, ledger: Ledger) -> ToolResult:
    """Tell which row is larger, and by how much.

    Args:
        rows: Two or more rows of the same property.
        ledger: Passed by the loop.
    """
    rows = _several(rows, ledger)
    if any(isinstance(_held(ledger, row).value, str | bool) for row in rows):
        return _compare_texts(rows, ledger)
    order, unit = _in_order(rows, ledger, "descending")
    (top, high), (bottom, low) = order[0], order[-1]
    found = [
        Quantity(high - low, _interval(unit), "difference", method=f"calculated: {top} - {bottom}")
    ]
    note = ""
    if low > 0 and _interval(unit) == unit and math.isfinite(high / low):
        found.append(Quantity(high / low, "", "ratio", method=f"calculated: {top} / {bottom}"))
    else:
        note = " No ratio: it takes positive values on a scale that starts at zero."
    evidence = [_derived(ledger, [top, bottom], each) for each in found]
    return ToolResult(evidence, text=f"{_chain(order, '>')}.{note}")


def rank(
    rows: RowIds, ledger: Ledger, order: Literal["ascending", "descending"] = "descending"
) -> ToolResult:
    """Sort rows by value.

    Args:
        rows: Two or more rows of the same property.
        ledger: Passed by the loop.
        order: descending puts the largest first.
    """
    found, _ = _in_order(_several(rows, ledger), ledger, order)
    text = _chain(found, ">" if order == "descending" else "<")
    return ToolResult([_held(ledger, row) for row, _ in found], text=f"{order}: {text}.")


def average(rows: RowIds, ledger: Ledger) -> list[Quantity]:
    """Give mean, minimum, maximum and standard deviation of rows.

    Args:
        rows: Two or more rows of the same property.
        ledger: Passed by the loop.
    """
    rows = _several(rows, ledger)
    order, unit = _in_order(rows, ledger, "ascending")
    values = [value for _, value in order]
    mean = math.fsum(values) / len(values)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    (lowest, low), (highest, high) = order[0], order[-1]
    of = f"of {', '.join(rows)}"
    found = [
        (rows, Quantity(mean, unit, "mean", method=f"calculated: mean {of}")),
        ([lowest], Quantity(low, unit, "minimum", method=f"calculated: minimum {of}")),
        ([highest], Quantity(high, unit, "maximum", method=f"calculated: maximum {of}")),
        (
            rows,
            Quantity(
                spread,
                _interval(unit),
                "standard_deviation",
                method=f"calculated: standard deviation (of the population, n) {of}",
            ),
        ),
    ]
    return [
        replace(_derived(ledger, about, each), derived_from=tuple(rows)) for about, each in found
    ]


def _held(ledger: Ledger, row: str) -> Quantity:
    if row not in ledger:
        known = ", ".join(list(ledger)[-10:]) or "none yet; look something up first"
        raise ToolError(f"there is no row {row}. Rows: {known}.")
    held = ledger[row]
    if not isinstance(held, Quantity):
        raise ToolError(f"{row} is a quotation, not a value. Name a row that has a value.")
    return held


def _numeric(ledger: Ledger, row: str) -> Quantity:
    held = _held(ledger, row)
    if isinstance(held.value, str | bool):
        raise ToolError(f"{row} is {held.value!r}, not a number. Name a row that has a number.")
    if not math.isfinite(held.value):
        raise ToolError(f"{row} is {held.value}, which is not finite. Use another row.")
    return held


def _number(held: Quantity) -> float:
    return float(held.value)


def _several(rows: Sequence[str], ledger: Ledger) -> list[str]:
    """The rows without repeats, all of one property."""
    unique = list(dict.fromkeys(rows))
    if len(unique) < 2:
        raise ToolError(f"{', '.join(rows)}: this takes two or more different rows.")
    properties = {_held(ledger, row).property: row for row in reversed(unique)}
    if len(properties) > 1:
        named = "; ".join(f"{row} is {name or 'unnamed'}" for name, row in properties.items())
        raise ToolError(f"the rows are of different properties ({named}). Take rows of one.")
    return unique


def _in_order(
    rows: Sequence[str], ledger: Ledger, order: Literal["ascending", "descending"]
) -> tuple[list[tuple[str, float]], str]:
    """The rows with their values in the first row's unit, ties in the order given."""
    unit = _numeric(ledger, rows[0]).unit
    values: list[tuple[str, float]] = []
    for row in rows:
        held = _numeric(ledger, row)
        if held.unit == unit and isinstance(held.value, int | float):
            values.append((row, held.value))
        else:
            values.append((row, convert(_number(held), held.unit, unit)))
    sign = -1 if order == "descending" else 1
    return sorted(values, key=lambda pair: sign * pair[1]), unit


def _interval(unit: str) -> str:
    """The unit of a difference: degC is a scale with an offset, its differences are not."""
    name = spell(parse_unit(unit)) if unit else ""
    return f"delta_{name}" if name in ("degree_Celsius", "degree_Fahrenheit") else unit


def _chain(order: Sequence[tuple[str, float]], sign: str) -> str:
    """As in "r3 > r1 = r2"; equal are values that differ by rounding only."""
    text = order[0][0]
    for (_, before), (row, value) in itertools.pairwise(order):
        text += f" {'=' if math.isclose(before, value, rel_tol=1e-12) else sign} {row}"
    return text


def _compare_texts(rows: list[str], ledger: Ledger) -> ToolResult:
    groups: dict[tuple[bool, Scalar], list[str]] = {}
    for row in rows:
        value = _held(ledger, row).value
        groups.setdefault((isinstance(value, bool), value), []).append(row)
    if any(not isinstance(value, str | bool) for _, value in groups):
        raise ToolError("some rows are texts and some are numbers. Compare like with like.")
    text = "; ".join(f"{' = '.join(same)} ({value})" for (_, value), same in groups.items())
    verdict = "same" if len(groups) == 1 else "different"
    method = f"calculated: {', '.join(rows)} compared"
    evidence = _derived(ledger, rows, Quantity(verdict, "", "comparison", method=method))
    return ToolResult([evidence], text=f"{verdict}: {text}.")


def _derived(ledger: Ledger, rows: Sequence[str], result: Quantity) -> Quantity:
    """The result with its origin: what the rows agree about, and all their sources."""
    held = [_held(ledger, row) for row in rows]
    formulas = {each.formula for each in held}
    materials = {(each.material_id, each.space_group) for each in held}
    one_formula = len(formulas) == 1
    one_material = one_formula and len(materials) == 1
    sources, licences, versions = (
        "; ".join(dict.fromkeys(part for text in texts for part in text.split("; ") if part))
        for texts in (
            [each.source for each in held],
            [each.licence for each in held],
            [each.version for each in held],
        )
    )
    return replace(
        result,
        formula=held[0].formula if one_formula else "",
        material_id=held[0].material_id if one_material else None,
        space_group=held[0].space_group if one_material else "",
        source=sources,
        licence=licences,
        version=versions,
        derived_from=tuple(rows),
    )
