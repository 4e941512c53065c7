"""Metadata filters (`where`) in JSON form, as SQL and as an equivalent Python predicate.

    {"year": 2020}                                   equality
    {"year": {">=": 2000, "<": 2020}}                all conditions of a field
    {"and": [...]}, {"or": [...]}, {"not": {...}}    logical operators

Operators: == != > >= < <= in nin exists contains. Fields are metadata keys and doc_id, source,
title. A field that is missing, or of another type than the value, does not match, not even with !=
and nin; but `!= null` matches any value other than null. Integers and floats are one type, booleans
another. `contains` matches a substring of a text or an element of a list. Texts are compared in one
spelling (`ragkit.normalize`), so that "é" is one letter however it is written; case counts.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ragkit.errors import FilterError
from ragkit.normalize import normalize
from ragkit.types import Where

COLUMNS = {"doc_id": "d.id", "source": "d.source", "title": "d.title"}
OPERATORS = ("==", "!=", ">", ">=", "<", "<=", "in", "nin", "exists", "contains")
_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
}
_ARTICLES = {
    "boolean": "true or false",
    "list": "a list",
    "null": "null",
    "number": "a number",
    "text": "text",
}
_MAX_DEPTH, _MAX_CONDITIONS = 32, 300  # SQLite refuses expressions deeper than 1,000
_JSON_TYPES = {
    "number": "('integer', 'real')",
    "text": "('text')",
    "boolean": "('true', 'false')",
    "null": "('null')",
}


def parse_expression(text: str) -> dict[str, Any]:
    """Parse a filter from the command line: JSON, or `FIELD OP VALUE` as in `year>=2020`.

    A value is parsed as JSON if it is JSON, else it is text. A number, true or false matches the
    same characters as text, too, except in a comparison by size: the field may be either.

    >>> parse_expression("year>=2020")
    {'year': {'>=': 2020}}
    >>> parse_expression("version=3.10")
    {'version': {'in': [3.1, '3.10']}}
    """
    stripped = text.strip()
    if stripped.startswith("{"):
        try:
            value = json.loads(stripped)
        except ValueError as error:
            raise FilterError(f"the filter {text!r} is not JSON: {error}") from error
        check(value)
        return dict(value)
    match = re.fullmatch(
        r"([^\s=!<>]+)\s*(==|!=|>=|<=|=|>|<|\s(?:in|nin|contains)\s)\s*([^\s=!<>].*)", stripped
    )
    if match is None:
        raise FilterError(
            f"cannot read the filter {text!r}; expected FIELD OP VALUE, as in 'year>=2020', or JSON"
        )
    where = _condition(match[1], match[2].strip(), match[3].strip())
    check(where)
    return where


class _Number(NamedTuple):
    value: int | float
    text: str


def _condition(field: str, operator: str, text: str) -> dict[str, Any]:
    """Return the filter for a condition whose value is given as text."""
    try:
        value = json.loads(
            text,
            parse_int=lambda digits: _Number(int(digits), digits),
            parse_float=lambda digits: _Number(float(digits), digits),
            parse_constant=_refuse_constant,
        )
    except ValueError:
        value = text
    if operator in ("in", "nin") and isinstance(value, list):
        return {field: {operator: [reading for item in value for reading in _readings(item)]}}
    readings = _readings(value)
    if operator == "contains" and len(readings) > 1:
        return {"or": [{field: {"contains": reading}} for reading in readings]}
    if operator in ("=", "==", "!="):
        if len(readings) > 1:
            return {field: {"nin" if operator == "!=" else "in": readings}}
        operator = "!=" if operator == "!=" else "=="
    return {field: {operator: readings[0]}}


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _readings(value: Any) -> list[Any]:
    """Return what a value on the command line can mean: a number, true or false is also a text."""
    if isinstance(value, bool):
        return [value, "true" if value else "false"]
    if isinstance(value, _Number):
        is_finite = math.isfinite(_number(value.value))
        return [value.value, value.text] if is_finite else [value.text]
    return [value]


def check(where: object) -> None:
    """Raise `FilterError` if `where` is not a valid filter."""
    _Sql().condition(where)


def to_sql(where: Where) -> tuple[str, dict[str, Any]]:
    """Return an SQL condition over `chunks c` joined with `documents d`, and its bound values."""
    sql = _Sql()
    return sql.condition(where), sql.values


def conditions(where: Where) -> Iterator[tuple[str, str, Any]]:
    """Iterate over the conditions of a valid filter: field, operator and value."""
    for key, value in where.items():
        if key in ("and", "or"):
            for part in value:
                yield from conditions(part)
        elif key == "not":
            yield from conditions(value)
        else:
            tests = value if isinstance(value, Mapping) else {"==": value}
            yield from ((key, operator, operand) for operator, operand in tests.items())


def explain_mismatch(field: str, operator: str, value: Any, found: Mapping[str, int]) -> str:
    """Return why a condition can match no document, in words; empty if only the values differ.

    Args:
        field: Field of the condition.
        operator: Operator of the condition.
        value: Value of the condition.
        found: Number of documents by the type of their field: text, number, boolean, null or list.

    >>> explain_mismatch("year", "==", 2020, {"text": 12})
    "the field 'year' holds text in 12 documents, the filter compares with a number"
    """
    if not found:
        is_expected = operator == "exists" and not value
        return "" if is_expected else f"no document has the field {field!r}"
    if operator == "exists" or (operator == "!=" and value is None):
        return ""
    kinds = {type_name(item) for item in (value if operator in ("in", "nin") else [value])}
    if operator == "contains":
        expected = {"list", "text"} if kinds == {"text"} else {"list"}
        wanted = f"searches {' and '.join(f'{kind}s' for kind in sorted(expected))}"
    else:
        expected = kinds
        wanted = f"compares with {' and '.join(_ARTICLES[kind] for kind in sorted(kinds))}"
    if not expected or expected & found.keys():
        return ""
    held = " and ".join(f"{_ARTICLES[kind]} in {n} documents" for kind, n in sorted(found.items()))
    return f"the field {field!r} holds {held}, the filter {wanted}"


class _Sql:
    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self._depth = self._n_conditions = 0

    def bind(self, value: Any) -> str:
        name = f"w{len(self.values)}"
        self.values[name] = value
        return f":{name}"

    def condition(self, where: object) -> str:
        if not isinstance(where, Mapping):
            raise FilterError(f"a filter is {where!r}; expected an object like {{'year': 2020}}")
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise FilterError(f"the filter is nested deeper than {_MAX_DEPTH} levels; flatten it")
        terms = [self._term(key, value) for key, value in where.items()]
        self._depth -= 1
        return "(" + (" AND ".join(terms) or "1") + ")"

    def _term(self, key: object, value: object) -> str:
        if key in ("and", "or"):
            if not isinstance(value, list | tuple) or not value:
                raise FilterError(
                    f"{key!r} has the value {value!r}; expected a non-empty list of filters"
                )
            return "(" + f" {str(key).upper()} ".join(self.condition(part) for part in value) + ")"
        if key == "not":
            return f"NOT {self.condition(value)}"
        if not isinstance(key, str) or not key or re.search(r'["\\\x00-\x1f\ud800-\udfff]', key):
            raise FilterError(
                f"the field {key!r} cannot be filtered; expected a name without quotes, "
                "backslashes and control characters"
            )
        if not isinstance(value, Mapping):
            value = {"==": value}
        if not value:
            raise FilterError(
                f"the field {key!r} has no operator; expected one of {' '.join(OPERATORS)}"
            )
        terms = (self._condition_sql(key, op, operand) for op, operand in value.items())
        return "(" + " AND ".join(terms) + ")"

    def _condition_sql(self, field: str, operator: object, value: Any) -> str:
        check_operator(field, operator, value)
        self._n_conditions += 1
        if self._n_conditions > _MAX_CONDITIONS:
            raise FilterError(
                f"the filter has over {_MAX_CONDITIONS} conditions; list values with 'in' instead"
            )
        # In SQL a condition on a missing field is NULL, as is its negation; here it is false.
        return f"IFNULL({self._operator_sql(field, str(operator), value)}, 0)"

    def _operator_sql(self, field: str, operator: str, value: Any) -> str:
        if operator == "exists":
            kind = self._type_sql(field)
            return f"({kind} IS {'NOT ' if value else ''}NULL)"
        if operator in ("in", "nin"):
            by_type: dict[str, list[Any]] = {}
            for item in value:
                by_type.setdefault(type_name(item), []).append(item)
            terms = [self._membership(field, operator, k, v) for k, v in by_type.items()]
            return "(" + (" OR ".join(terms) or "0") + ")"
        if operator == "contains":
            return self._contains(field, value)
        if value is None:
            return f"({self._type_sql(field)} {'' if operator == '==' else '!'}= 'null')"
        sql = "=" if operator == "==" else operator
        same_type = f"{self._type_sql(field)} IN {_JSON_TYPES[type_name(value)]}"
        stored = self._value_sql(field, is_text=isinstance(value, str))
        return f"({same_type} AND {stored} {sql} {self._literal(value)})"

    def _literal(self, value: str | bool | int | float) -> str:
        """Return the SQL of a value; numbers are parsed by SQLite's JSON, as stored ones are."""
        if isinstance(value, str | bool):
            return self.bind(_comparable(value))
        return f"json_extract({self.bind(json.dumps([value]))}, '$[0]')"

    def _membership(self, field: str, operator: str, kind: str, values: list[Any]) -> str:
        same_type = f"{self._type_sql(field)} IN {_JSON_TYPES[kind]}"
        if kind == "null":
            return same_type if operator == "in" else "0"
        if kind == "text":
            values = [_comparable(value) for value in values]
        members = f"(SELECT value FROM json_each({self.bind(json.dumps(values))}))"
        negate = "NOT " if operator == "nin" else ""
        stored = self._value_sql(field, is_text=kind == "text")
        return f"({same_type} AND {stored} {negate}IN {members})"

    def _contains(self, field: str, value: Any) -> str:
        in_text = "0"
        if isinstance(value, str):
            text = self._value_sql(field, is_text=True)
            found = f"instr({text}, {self._literal(value)}) > 0"
            in_text = f"({self._type_sql(field)} = 'text' AND {found})"
        if field in COLUMNS:
            return in_text
        path = self.bind(f'$."{field}"')
        kind = type_name(value)
        element = "normalized(e.value)" if kind == "text" else "e.value"
        equal = "1" if kind == "null" else f"{element} = {self._literal(value)}"
        in_list = (
            f"({self._type_sql(field)} = 'array' AND EXISTS (SELECT 1 FROM "
            f"json_each(c.metadata, {path}) AS e WHERE e.type IN {_JSON_TYPES[kind]} AND {equal}))"
        )
        return f"({in_text} OR {in_list})"

    def _type_sql(self, field: str) -> str:
        if field in COLUMNS:
            return "'text'"
        path = self.bind(f'$."{field}"')
        return f"json_type(c.metadata, {path})"

    def _value_sql(self, field: str, *, is_text: bool) -> str:
        if field in COLUMNS:
            value = COLUMNS[field]
        else:
            path = self.bind(f'$."{field}"')
            value = f"json_extract(c.metadata, {path})"
        return f"normalized({value})" if is_text else value


def check_operator(field: str, operator: object, value: Any) -> None:
    """Raise `FilterError` for an unknown operator or a value that it does not support."""
    if operator not in OPERATORS:
        raise FilterError(
            f"unknown operator {operator!r} for the field {field!r}; "
            f"expected one of {' '.join(OPERATORS)}"
        )
    if operator == "exists" and not isinstance(value, bool):
        raise FilterError(f"'exists' of {field!r} is {value!r}; expected true or false")
    if operator in ("in", "nin") and not isinstance(value, list | tuple):
        raise FilterError(f"{operator!r} of {field!r} is {value!r}; expected a list")
    for item in value if operator in ("in", "nin") else [value]:
        kind = type_name(item)
        if operator in _COMPARISONS and kind not in ("number", "text"):
            raise FilterError(f"{operator!r} of {field!r} is {value!r}; expected a number or text")
        if kind == "number" and not math.isfinite(_number(item)):
            raise FilterError(f"{operator!r} of {field!r} is {item!r}; expected a finite number")
        if kind == "text" and re.search("[\x00\ud800-\udfff]", item):
            raise FilterError(
                f"{operator!r} of {field!r} is {item!r}; expected text without NUL and lone "
                "surrogates, which are never stored"
            )


def type_name(value: object) -> str:
    """Return "number", "text", "boolean" or "null"; raise `FilterError` for other types."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "text"
    raise FilterError(
        f"cannot compare with {value!r}; expected text, a number, true, false or null"
    )


def matches(where: Where, fields: Mapping[str, Any]) -> bool:
    """Return True if fields match a filter; equivalent to the SQL of `to_sql`."""
    check(where)
    return all(_matches_entry(key, value, fields) for key, value in where.items())


def _matches_entry(key: str, value: Any, fields: Mapping[str, Any]) -> bool:
    if key == "and":
        return all(matches(part, fields) for part in value)
    if key == "or":
        return any(matches(part, fields) for part in value)
    if key == "not":
        return not matches(value, fields)
    conditions = value if isinstance(value, Mapping) else {"==": value}
    return all(
        _is_satisfied(op, operand, key in fields, fields.get(key))
        for op, operand in conditions.items()
    )


def _is_satisfied(operator: str, value: Any, present: bool, actual: Any) -> bool:
    if operator == "exists":
        return present is value
    if not present:
        return False
    if operator == "contains":
        if isinstance(actual, list | tuple):
            return any(_equal(item, value) for item in actual)
        both_text = isinstance(actual, str) and isinstance(value, str)
        return both_text and _comparable(value) in _comparable(actual)
    if operator == "!=" and value is None:
        return actual is not None
    if isinstance(actual, list | tuple | Mapping):
        return False
    if operator in ("in", "nin"):
        return _is_member(operator, actual, value)
    if type_name(actual) != type_name(value):
        return False
    if operator in ("==", "!="):
        return _equal(actual, value) is (operator == "==")
    return _COMPARISONS[operator](_comparable(actual), _comparable(value))


def _is_member(operator: str, actual: Any, value: Any) -> bool:
    same_type = [item for item in value if type_name(item) == type_name(actual)]
    if operator == "in":
        return any(_equal(item, actual) for item in same_type)
    if actual is None or not same_type:
        return False
    return not any(_equal(item, actual) for item in same_type)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, list | tuple | Mapping) or type_name(a) != type_name(b):
        return False
    return bool(_comparable(a) == _comparable(b))


def _comparable(value: Any) -> Any:
    if isinstance(value, str):
        return normalize(value)
    return _number(value) if type_name(value) == "number" else value


def _number(value: int | float) -> int | float:
    """Convert a number as SQLite does: integers of more than 64 bits become floats."""
    if isinstance(value, float) or -(1 << 63) <= value < 1 << 63:
        return value
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
