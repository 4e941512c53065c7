"""Calculator tools over ledger rows, with unit checking by pint.

The model names rows and operations; the arithmetic happens here. Every result is a new row with its
unit, the ids of its input rows and the expression it was computed by.
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
from ragkit.agents.toolkits import Toolkit, ToolkitSettings
from ragkit.agents.tools import RowId, Tool, ToolError, ToolResult, tool
from ragkit.agents.units import convert, format_unit, parse_unit

_MAX_FREE_INTEGER = 12  # to halve, to average, to count a dozen

RowIds = Annotated[list[RowId], Field(min_length=1, max_length=30)]
"""Parameter type for a list of ledger row ids."""


def build(settings: ToolkitSettings) -> Toolkit:
    """Build the toolkit that agent definitions name "calculator"."""
    return Toolkit(calculator_tools())


def calculator_tools() -> list[Tool]:
    """Return the tools convert_unit, calculate, compare, rank and average."""
    return [tool(function) for function in (convert_unit, calculate, compare, rank, average)]


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
    quantity = _numeric_row(ledger, row)
    value = convert(_float_value(quantity), quantity.unit, unit, context=context or "")
    target_unit = format_unit(parse_unit(unit))
    method = f"calculated: {row} converted to {target_unit or 'a plain number'}"
    if {"mol", "atom"} <= set(re.findall(r"[A-Za-z]+", f"{quantity.unit} {target_unit}")):
        method += " (moles of atoms)"
    if context:
        method += f" ({context})"
    return _with_origin(
        ledger, [row], Quantity(value, target_unit, quantity.property, method=method)
    )


def calculate(expression: str, ledger: Ledger) -> Quantity:
    """Compute with rows, numbers and units, such as (r1 + r2) / 2 or r1 - 0.5 eV.

    Args:
        expression: With + - * / ** sqrt abs min max.
        ledger: Passed by the loop.
    """

    def lookup(row: str) -> tuple[int | float, str]:
        quantity = _numeric_row(ledger, row)
        return (
            quantity.value if isinstance(quantity.value, int) else _float_value(quantity)
        ), quantity.unit

    result = evaluate(expression, lookup)
    _check_constants(result.constants, ledger.question)
    method = f"calculated: {' '.join(expression.split())}"
    if result.constants:
        method += f"; constants: {', '.join(result.constants)}"
    computed = Quantity(result.value, result.unit, "calculated", method=method)
    return _with_origin(ledger, result.rows, computed)


def _check_constants(constants: Sequence[str], question: str) -> None:
    """Raise ToolError for a constant that is neither small nor part of the question."""
    asked = set(re.findall(r"\d+(?:\.\d+)?", question.replace(",", "")))
    for number in constants if question else ():
        small = number.isdigit() and int(number) <= _MAX_FREE_INTEGER
        if not small and number not in asked:
            raise ToolError(
                f"{number} stands neither in the question nor in a row. Name the row that has it; "
                f"free are only whole numbers up to {_MAX_FREE_INTEGER}."
            )


def compare(rows: RowIds, ledger: Ledger) -> ToolResult:
    """Tell which row is larger, and by how much.

    Args:
        rows: Two or more rows of the same property.
        ledger: Passed by the loop.
    """
    rows = _distinct_rows(rows, ledger)
    if any(isinstance(_quantity_row(ledger, row).value, str | bool) for row in rows):
        return _compare_texts(rows, ledger)
    order, unit = _sorted_values(rows, ledger, "descending")
    (top, high), (bottom, low) = order[0], order[-1]
    results = [
        Quantity(
            high - low, _difference_unit(unit), "difference", method=f"calculated: {top} - {bottom}"
        )
    ]
    note = ""
    if low > 0 and _difference_unit(unit) == unit and math.isfinite(high / low):
        results.append(Quantity(high / low, "", "ratio", method=f"calculated: {top} / {bottom}"))
    else:
        note = " No ratio: it takes positive values on a scale that starts at zero."
    evidence = [_with_origin(ledger, [top, bottom], quantity) for quantity in results]
    return ToolResult(evidence, text=f"{_ordering_text(order, '>')}.{note}")


def rank(
    rows: RowIds, ledger: Ledger, order: Literal["ascending", "descending"] = "descending"
) -> ToolResult:
    """Sort rows by value.

    Args:
        rows: Two or more rows of the same property.
        ledger: Passed by the loop.
        order: descending puts the largest first.
    """
    ranked, _ = _sorted_values(_distinct_rows(rows, ledger), ledger, order)
    text = _ordering_text(ranked, ">" if order == "descending" else "<")
    return ToolResult([_quantity_row(ledger, row) for row, _ in ranked], text=f"{order}: {text}.")


def average(rows: RowIds, ledger: Ledger) -> list[Quantity]:
    """Give mean, minimum, maximum and standard deviation of rows.

    Args:
        rows: Two or more rows of the same property.
        ledger: Passed by the loop.
    """
    rows = _distinct_rows(rows, ledger)
    order, unit = _sorted_values(rows, ledger, "ascending")
    values = [value for _, value in order]
    mean = math.fsum(values) / len(values)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    (lowest, low), (highest, high) = order[0], order[-1]
    rows_text = f"of {', '.join(rows)}"
    statistics = [
        (rows, Quantity(mean, unit, "mean", method=f"calculated: mean {rows_text}")),
        ([lowest], Quantity(low, unit, "minimum", method=f"calculated: minimum {rows_text}")),
        ([highest], Quantity(high, unit, "maximum", method=f"calculated: maximum {rows_text}")),
        (
            rows,
            Quantity(
                spread,
                _difference_unit(unit),
                "standard_deviation",
                method=f"calculated: standard deviation (of the population, n) {rows_text}",
            ),
        ),
    ]
    return [
        replace(_with_origin(ledger, source_rows, quantity), derived_from=tuple(rows))
        for source_rows, quantity in statistics
    ]


def _quantity_row(ledger: Ledger, row: str) -> Quantity:
    if row not in ledger:
        known = ", ".join(list(ledger)[-10:]) or "none yet; look something up first"
        raise ToolError(f"there is no row {row}. Rows: {known}.")
    evidence = ledger[row]
    if not isinstance(evidence, Quantity):
        raise ToolError(f"{row} is a quotation, not a value. Name a row that has a value.")
    return evidence


def _numeric_row(ledger: Ledger, row: str) -> Quantity:
    quantity = _quantity_row(ledger, row)
    if isinstance(quantity.value, str | bool):
        raise ToolError(f"{row} is {quantity.value!r}, not a number. Name a row that has a number.")
    if not math.isfinite(quantity.value):
        raise ToolError(f"{row} is {quantity.value}, which is not finite. Use another row.")
    return quantity


def _float_value(quantity: Quantity) -> float:
    return float(quantity.value)


def _distinct_rows(rows: Sequence[str], ledger: Ledger) -> list[str]:
    """Return the distinct row ids; raise ToolError unless they share one property."""
    unique = list(dict.fromkeys(rows))
    if len(unique) < 2:
        raise ToolError(f"{', '.join(rows)}: this takes two or more different rows.")
    properties = {_quantity_row(ledger, row).property: row for row in reversed(unique)}
    if len(properties) > 1:
        named = "; ".join(f"{row} is {name or 'unnamed'}" for name, row in properties.items())
        raise ToolError(f"the rows are of different properties ({named}). Take rows of one.")
    return unique


def _sorted_values(
    rows: Sequence[str], ledger: Ledger, order: Literal["ascending", "descending"]
) -> tuple[list[tuple[str, float]], str]:
    """Return (row, value) pairs sorted by value, and the first row's unit, which all values use.

    The sort is stable, so ties stay in input order.
    """
    unit = _numeric_row(ledger, rows[0]).unit
    values: list[tuple[str, float]] = []
    for row in rows:
        quantity = _numeric_row(ledger, row)
        if quantity.unit == unit and isinstance(quantity.value, int | float):
            values.append((row, quantity.value))
        else:
            values.append((row, convert(_float_value(quantity), quantity.unit, unit)))
    sign = -1 if order == "descending" else 1
    return sorted(values, key=lambda pair: sign * pair[1]), unit


def _difference_unit(unit: str) -> str:
    """Return the unit of a difference: a delta unit for scales with an offset, such as degC."""
    name = format_unit(parse_unit(unit)) if unit else ""
    return f"delta_{name}" if name in ("degree_Celsius", "degree_Fahrenheit") else unit


def _ordering_text(order: Sequence[tuple[str, float]], sign: str) -> str:
    """Format an ordering such as "r3 > r1 = r2"; values equal up to rounding are joined by =."""
    text = order[0][0]
    for (_, before), (row, value) in itertools.pairwise(order):
        text += f" {'=' if math.isclose(before, value, rel_tol=1e-12) else sign} {row}"
    return text


def _compare_texts(rows: list[str], ledger: Ledger) -> ToolResult:
    groups: dict[tuple[bool, Scalar], list[str]] = {}
    for row in rows:
        value = _quantity_row(ledger, row).value
        groups.setdefault((isinstance(value, bool), value), []).append(row)
    if any(not isinstance(value, str | bool) for _, value in groups):
        raise ToolError("some rows are texts and some are numbers. Compare like with like.")
    text = "; ".join(f"{' = '.join(same)} ({value})" for (_, value), same in groups.items())
    verdict = "same" if len(groups) == 1 else "different"
    method = f"calculated: {', '.join(rows)} compared"
    evidence = _with_origin(ledger, rows, Quantity(verdict, "", "comparison", method=method))
    return ToolResult([evidence], text=f"{verdict}: {text}.")


def _with_origin(ledger: Ledger, rows: Sequence[str], result: Quantity) -> Quantity:
    """Add the origin to a result: the subject its input rows share, and all their sources."""
    quantities = [_quantity_row(ledger, row) for row in rows]
    one_subject = len({quantity.subject for quantity in quantities}) == 1
    one_form = (
        one_subject
        and len({(quantity.subject_id, quantity.variant) for quantity in quantities}) == 1
    )
    sources, licences, versions = (
        "; ".join(dict.fromkeys(part for value in values for part in value.split("; ") if part))
        for values in (
            [quantity.source for quantity in quantities],
            [quantity.licence for quantity in quantities],
            [quantity.version for quantity in quantities],
        )
    )
    return replace(
        result,
        subject=quantities[0].subject if one_subject else "",
        subject_id=quantities[0].subject_id if one_form else None,
        variant=quantities[0].variant if one_form else "",
        kind=quantities[0].kind if one_subject else "",
        source=sources,
        licence=licences,
        version=versions,
        derived_from=tuple(rows),
    )
