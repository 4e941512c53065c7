"""Parts of SQL statements over the snapshot's tables."""

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
# Equal numbers may differ in their last digits: 0.1861 finds 0.18610000000000015.
TOLERANCE = 1e-9

JOINED = (
    _QUANTITIES.join(_FORMULAS, _QUANTITIES.c.formula == _FORMULAS.c.id)
    .join(_PROPERTIES, _QUANTITIES.c.property == _PROPERTIES.c.id)
    .join(_ORIGINS, _QUANTITIES.c.origin == _ORIGINS.c.id)
    .outerjoin(_MATERIALS, _QUANTITIES.c.material == _MATERIALS.c.id)
)


def quantities() -> sa.Select[Any]:
    """A statement for every value with all that a `Quantity` needs."""
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


def composition(query: Query) -> list[sa.ColumnElement[bool]]:
    """What the query says of the elements."""
    elements = _FORMULAS.c.elements
    wanted: list[sa.ColumnElement[bool]] = []
    if query.formulas:
        wanted.append(_FORMULAS.c.reduced.in_([reduced(each) for each in query.formulas]))
    if query.chemsys:
        symbols = sorted({element_symbol(each) for each in query.chemsys})
        wanted.append(elements == f"-{'-'.join(symbols)}-")
    for each in query.elements:
        wanted.append(elements.contains(f"-{element_symbol(each)}-", autoescape=True))
    for each in query.exclude_elements:
        wanted.append(~elements.contains(f"-{element_symbol(each)}-", autoescape=True))
    return wanted


def property_ids(names: Iterable[str]) -> sa.ScalarSelect[int]:
    """The ids of properties, for `in_`."""
    chosen = sa.select(_PROPERTIES.c.id).where(_PROPERTIES.c.name.in_(list(names)))
    return chosen.scalar_subquery()


def has(*conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Whether the material has a value like that."""
    return sa.exists().where(_QUANTITIES.c.material == _MATERIALS.c.id, *conditions)


def holds(condition: Condition, place: SearchTarget | None = None) -> sa.ColumnElement[bool]:
    """Whether a value is of the condition's property and satisfies it."""
    spec = find_property(condition.property, place)
    mine = _QUANTITIES.c.property.in_(property_ids([spec.name]))
    value = checked_value(spec, condition)
    if isinstance(value, str):
        return mine & (sa.func.lower(sa.func.replace(_QUANTITIES.c.text, "_", "")) == loose(value))
    if condition.operator == "=":
        return mine & (sa.func.abs(_QUANTITIES.c.number - value) <= TOLERANCE * abs(value))
    compared: sa.ColumnElement[bool] = OPERATORS[condition.operator](_QUANTITIES.c.number, value)
    return mine & compared


def checked_value(spec: Property, condition: Condition) -> float | str:
    """The condition's value as its property has it; flags as 0 and 1.

    Raises:
        ToolError: The value or the operator does not suit the property.
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


def loose(text: str) -> str:
    """A text as it is compared: without capitals and underscores."""
    return text.replace("_", "").lower()


def order(sort_fields: Sequence[str]) -> Iterator[sa.ColumnElement[Any]]:
    """How materials are sorted; those without the property come last."""
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
