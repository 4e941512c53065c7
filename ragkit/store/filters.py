"""`where`: filters in JSON form, as SQL and as a Python predicate that mean the same.

    {"year": 2020}                                   equal
    {"year": {">=": 2000, "<": 2020}}                all of them
    {"and": [...]}, {"or": [...]}, {"not": {...}}    and, or, not

Operators: == != > >= < <= in nin exists contains. Fields are metadata keys and doc_id, source,
title. A field that is missing or of another type than the value does not match, also for != and nin
(only `!= null` holds for every other value); numbers are one type, booleans another. `contains`
finds a substring in a text or an element in a list.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from ragkit.errors import FilterError
from ragkit.types import Where

COLUMNS = {"doc_id": "d.id", "source": "d.source", "title": "d.title"}
OPERATORS = ("==", "!=", ">", ">=", "<", "<=", "in", "nin", "exists", "contains")
_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
}
_MAX_DEPTH, _MAX_CONDITIONS = 32, 300  # SQLite refuses expressions deeper than 1,000
_JSON_TYPES = {
    "number": "('integer', 'real')",
    "text": "('text')",
    "boolean": "('true', 'false')",
    "null": "('null')",
}


def parse_expression(text: str) -> dict[str, Any]:
    """One filter from the command line: JSON, or `field OP value` as in `year>=2020`.

    Values are read as JSON where they are JSON, else as text.

    >>> parse_expression("year>=2020")
    {'year': {'>=': 2020}}
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
    operator = match[2].strip()
    try:
        value = json.loads(match[3])
    except ValueError:
        value = match[3].strip()
    where = {match[1]: {"==" if operator == "=" else operator: value}}
    check(where)
    return where


def check(where: object) -> None:
    """Raise `FilterError` for anything that is not a filter; names what is wrong."""
    _Sql().condition(where)


def to_sql(where: Where) -> tuple[str, dict[str, Any]]:
    """A condition over `chunks c` joined with `documents d`, and its bound values."""
    sql = _Sql()
    return sql.condition(where), sql.values


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
            raise FilterError(f"a filter is nested deeper than {_MAX_DEPTH}; flatten it")
        terms = [self._term(key, value) for key, value in where.items()]
        self._depth -= 1
        return "(" + (" AND ".join(terms) or "1") + ")"

    def _term(self, key: object, value: object) -> str:
        if key in ("and", "or"):
            if not isinstance(value, list | tuple) or not value:
                raise FilterError(f"{key!r} holds {value!r}; expected a list of filters")
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
        return "(" + " AND ".join(self._compare(key, op, v) for op, v in value.items()) + ")"

    def _compare(self, field: str, operator: object, value: Any) -> str:
        check_operator(field, operator, value)
        self._n_conditions += 1
        if self._n_conditions > _MAX_CONDITIONS:
            raise FilterError(
                f"a filter has over {_MAX_CONDITIONS} conditions; list values with 'in' instead"
            )
        # A missing field is NULL in SQL, whose negation is NULL too; here it is false.
        return f"IFNULL({self._test(field, str(operator), value)}, 0)"

    def _test(self, field: str, operator: str, value: Any) -> str:
        if operator == "exists":
            kind = self._type(field)
            return f"({kind} IS {'NOT ' if value else ''}NULL)"
        if operator in ("in", "nin"):
            by_type: dict[str, list[Any]] = {}
            for item in value:
                by_type.setdefault(type_name(item), []).append(item)
            parts = [self._membership(field, operator, k, v) for k, v in by_type.items()]
            return "(" + (" OR ".join(parts) or "0") + ")"
        if operator == "contains":
            return self._contains(field, value)
        if value is None:
            return f"({self._type(field)} {'' if operator == '==' else '!'}= 'null')"
        sql = "=" if operator == "==" else operator
        kind = f"{self._type(field)} IN {_JSON_TYPES[type_name(value)]}"
        return f"({kind} AND {self._value(field)} {sql} {self._literal(value)})"

    def _literal(self, value: str | bool | int | float) -> str:
        """A value; numbers are read by SQLite's JSON, as those it is compared with."""
        if isinstance(value, str | bool):
            return self.bind(value)
        return f"json_extract({self.bind(json.dumps([value]))}, '$[0]')"

    def _membership(self, field: str, operator: str, kind: str, values: list[Any]) -> str:
        typed = f"{self._type(field)} IN {_JSON_TYPES[kind]}"
        if kind == "null":
            return typed if operator == "in" else "0"
        listed = f"(SELECT value FROM json_each({self.bind(json.dumps(values))}))"
        negate = "NOT " if operator == "nin" else ""
        return f"({typed} AND {self._value(field)} {negate}IN {listed})"

    def _contains(self, field: str, value: Any) -> str:
        in_text = "0"
        if isinstance(value, str):
            text = self._value(field)
            in_text = f"({self._type(field)} = 'text' AND instr({text}, {self.bind(value)}) > 0)"
        if field in COLUMNS:
            return in_text
        path = self.bind(f'$."{field}"')
        kind = type_name(value)
        equal = "1" if kind == "null" else f"e.value = {self._literal(value)}"
        in_list = (
            f"({self._type(field)} = 'array' AND EXISTS (SELECT 1 FROM "
            f"json_each(c.metadata, {path}) AS e WHERE e.type IN {_JSON_TYPES[kind]} AND {equal}))"
        )
        return f"({in_text} OR {in_list})"

    def _type(self, field: str) -> str:
        if field in COLUMNS:
            return "'text'"
        path = self.bind(f'$."{field}"')
        return f"json_type(c.metadata, {path})"

    def _value(self, field: str) -> str:
        if field in COLUMNS:
            return COLUMNS[field]
        path = self.bind(f'$."{field}"')
        return f"json_extract(c.metadata, {path})"


def check_operator(field: str, operator: object, value: Any) -> None:
    """Raise `FilterError` for an unknown operator or a value it cannot take."""
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
        if operator in _ORDER and kind not in ("number", "text"):
            raise FilterError(f"{operator!r} of {field!r} is {value!r}; expected a number or text")
        if kind == "number" and not math.isfinite(_number(item)):
            raise FilterError(f"{operator!r} of {field!r} is {item!r}; expected a finite number")
        if kind == "text" and re.search("[\x00\ud800-\udfff]", item):
            raise FilterError(
                f"{operator!r} of {field!r} is {item!r}; NUL and lone surrogates are stored nowhere"
            )


def type_name(value: object) -> str:
    """ "number", "text", "boolean" or "null"; others cannot be compared."""
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
    """Whether fields pass a filter; the meaning of `to_sql`, in Python."""
    check(where)
    return all(_passes(key, value, fields) for key, value in where.items())


def _passes(key: str, value: Any, fields: Mapping[str, Any]) -> bool:
    if key == "and":
        return all(matches(part, fields) for part in value)
    if key == "or":
        return any(matches(part, fields) for part in value)
    if key == "not":
        return not matches(value, fields)
    tests = value if isinstance(value, Mapping) else {"==": value}
    return all(_holds(op, v, key in fields, fields.get(key)) for op, v in tests.items())


def _holds(operator: str, value: Any, present: bool, actual: Any) -> bool:
    if operator == "exists":
        return present is value
    if not present:
        return False
    if operator == "contains":
        if isinstance(actual, list | tuple):
            return any(_equal(item, value) for item in actual)
        return isinstance(actual, str) and isinstance(value, str) and value in actual
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
    return _ORDER[operator](_comparable(actual), _comparable(value))


def _is_member(operator: str, actual: Any, value: Any) -> bool:
    same = [item for item in value if type_name(item) == type_name(actual)]
    if operator == "in":
        return any(_equal(item, actual) for item in same)
    return actual is not None and bool(same) and not any(_equal(item, actual) for item in same)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, list | tuple | Mapping) or type_name(a) != type_name(b):
        return False
    return bool(_comparable(a) == _comparable(b))


def _comparable(value: Any) -> Any:
    return _number(value) if type_name(value) == "number" else value


def _number(value: int | float) -> int | float:
    """A number as SQLite holds it: integers of over 64 bits are floats."""
    if isinstance(value, float) or -(1 << 63) <= value < 1 << 63:
        return value
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
