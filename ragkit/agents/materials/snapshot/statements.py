"""Build parts of SQL statements over the snapshot's tables."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from ragkit.agents.materials.backend import Condition, Query
from ragkit.agents.materials.chemistry.formulas import element_symbol, reduced
from ragkit.agents.materials.chemistry.properties import Property, SearchTarget, find_property
from ragkit.agents.materials.snapshot import schema
from ragkit.agents.tools import ToolError

_FORMULAS, _MATERIALS, _QUANTITIES = schema.FORMULAS, schema.MATERIALS, schema.QUANTITIES
_PROPERTIES, _ORIGINS = schema.PROPERTIES, schema.ORIGINS
OPERATORS = {"<": operator.lt, "<=": operator.le, ">=": operator.ge, ">": operator.gt}
# Relative tolerance of equality: 0.1861 matches 0.18610000000000015.
TOLERANCE = 1e-9

JOINED = (
    _QUANTITIES.join(_FORMULAS, _QUANTITIES.c.formula == _FORMULAS.c.id)
    .join(_PROPERTIES, _QUANTITIES.c.property == _PROPERTIES.c.id)
    .join(_ORIGINS, _QUANTITIES.c.origin == _ORIGINS.c.id)
    .outerjoin(_MATERIALS, _QUANTITIES.c.material == _MATERIALS.c.id)
)


def quantities() -> sa.Select[Any]:
    """Return a SELECT of all values with the columns that a `Quantity` needs."""
    return sa.select(
        _QUANTITIES.c.material,
        _QUANTITIES.c.number,
        _QUANTITIES.c.text,
        _PROPERTIES.c.name,
        _PROPERTIES.c.unit,
        _PROPERTIES.c.kind,
        _FORMULAS.c.formula,
        _MATERIALS.c.material_id,
        _MATERIALS.c.space_group,
        _ORIGINS.c.method,
        _ORIGINS.c.source,
        _ORIGINS.c.licence,
    ).select_from(JOINED)


def composition_filters(query: Query) -> list[sa.ColumnElement[bool]]:
    """Return the conditions of a query on formulas and elements."""
    elements = _FORMULAS.c.elements
    conditions: list[sa.ColumnElement[bool]] = []
    if query.formulas:
        conditions.append(_FORMULAS.c.reduced.in_([reduced(formula) for formula in query.formulas]))
    if query.chemsys:
        symbols = sorted({element_symbol(element) for element in query.chemsys})
        conditions.append(elements == f"-{'-'.join(symbols)}-")
    for element in query.elements:
        conditions.append(elements.contains(f"-{element_symbol(element)}-", autoescape=True))
    for element in query.exclude_elements:
        conditions.append(~elements.contains(f"-{element_symbol(element)}-", autoescape=True))
    return conditions


def property_ids(names: Iterable[str]) -> sa.ScalarSelect[int]:
    """Return a subquery of the ids of properties, for use with `in_`."""
    statement = sa.select(_PROPERTIES.c.id).where(_PROPERTIES.c.name.in_(list(names)))
    return statement.scalar_subquery()


def has_value(*conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Return the condition that a material has a value with the given conditions."""
    return sa.exists().where(_QUANTITIES.c.material == _MATERIALS.c.id, *conditions)


def satisfies(condition: Condition, target: SearchTarget | None = None) -> sa.ColumnElement[bool]:
    """Return the condition that a value has the property of a condition and satisfies it."""
    spec = find_property(condition.property, target)
    is_property = _QUANTITIES.c.property.in_(property_ids([spec.name]))
    value = checked_value(spec, condition)
    if isinstance(value, str):
        return is_property & (
            sa.func.lower(sa.func.replace(_QUANTITIES.c.text, "_", "")) == comparison_key(value)
        )
    if condition.operator == "=":
        return is_property & (sa.func.abs(_QUANTITIES.c.number - value) <= TOLERANCE * abs(value))
    comparison: sa.ColumnElement[bool] = OPERATORS[condition.operator](_QUANTITIES.c.number, value)
    return is_property & comparison


def checked_value(spec: Property, condition: Condition) -> float | str:
    """Convert a condition's value to the type of its property; flags become 0 and 1.

    Raises:
        ToolError: The value or the operator does not fit the property.
    """
    value = condition.value
    if spec.kind == "number" and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if condition.operator == "=":
        if spec.kind == "text" and isinstance(value, str):
            return value
        if spec.kind == "flag" and isinstance(value, bool):
            return float(value)
    expected = {
        "number": "compares with a number, as in",
        "text": "can only be equal to a text, as in",
        "flag": "can only be equal to true or false, as in",
    }[spec.kind]
    example = {"number": "> 1.5", "text": "= FM", "flag": "= true"}[spec.kind]
    raise ToolError(
        f"{spec.name} {condition.operator} {value!r} makes no sense: {spec.name} {expected} "
        f"{spec.name} {example}."
    )


def comparison_key(text: str) -> str:
    """Normalize a text for comparison: lower case, without underscores."""
    return text.replace("_", "").lower()


def sort_expressions(sort_fields: Sequence[str]) -> Iterator[sa.ColumnElement[Any]]:
    """Yield ORDER BY expressions; materials without the property come last."""
    for field in sort_fields:
        descending = field.startswith("-")
        spec = find_property(field.removeprefix("-"))
        column = _QUANTITIES.c.text if spec.kind == "text" else _QUANTITIES.c.number
        extreme = (
            sa.select(sa.func.max(column) if descending else sa.func.min(column))
            .where(
                _QUANTITIES.c.material == _MATERIALS.c.id,
                _QUANTITIES.c.property.in_(property_ids([spec.name])),
            )
            .correlate(_MATERIALS)
            .scalar_subquery()
        )
        yield extreme.is_(None)
        yield extreme.desc() if descending else extreme.asc()
