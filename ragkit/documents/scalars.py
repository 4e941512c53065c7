"""Types of values that a file writes as text: cells of CSV, and values of front matter."""

from __future__ import annotations

import re

Scalar = str | int | float | bool

_INT = re.compile(r"[+-]?(?:0|[1-9]\d*)", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][+-]?\d{1,3})?", re.ASCII)
_DECIMALS = re.compile(r"[+-]?(?:0|[1-9]\d*)\.(\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_LONGEST = 40  # characters of a number
MISSING = frozenset({"-", "–", "—", "?", "n/a", "na", "nan", "null", "none"})  # noqa: RUF001
"""Cells, in lower case, that do not keep a column from being numeric."""


def is_number(text: str) -> bool:
    """Return True if a text can be read as a number at all: "007" cannot, "1e5" and "+49" can."""
    if len(text) > _LONGEST or not (_INT.fullmatch(text) or _FLOAT.fullmatch(text)):
        return False
    return abs(float(text)) != float("inf")


def to_int(text: str | None, default: int = 0) -> int:
    """Convert an attribute to a whole number, or return the default."""
    if not text or len(text) > 20:
        return default
    try:
        return int(text)
    except ValueError:
        return default


def parse_scalar(text: str) -> Scalar:
    """Convert a value that writes back as the same text to int, float or bool.

    Thus versions, codes and phone numbers keep their text.

    >>> [parse_scalar(text) for text in ["42", "-1.5", "TRUE", "3.10", "12E4", "007", "+49"]]
    [42, -1.5, True, '3.10', '12E4', '007', '+49']
    """
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    if not is_number(text):
        return text
    if _INT.fullmatch(text):
        number = int(text)
        return number if str(number) == text and -(2**63) <= number < 2**63 else text
    return float(text) if str(float(text)) == text else text


class ColumnType:
    """Type of a CSV column: the same for all its cells, so that a filter sees all of them.

    A column is boolean if all cells are true or false, and numeric if each cell writes back as the
    same text, or all have the same number of decimals ("3.50", "10.00"). Empty cells and `MISSING`
    do not count. All other columns are text.

    >>> column = ColumnType()
    >>> for cell in ["3.50", "10.00", "n/a"]:
    ...     column.add(cell)
    >>> [column.convert(cell) for cell in ["3.50", "10.00", "n/a"]]
    [3.5, 10.0, None]
    """

    def __init__(self) -> None:
        self._is_empty = True
        self._is_boolean = True
        self._is_exact = True  # all cells so far write back as the same text
        self._n_decimals = 0  # of all cells so far; -1 if they differ or a cell has none
        self._is_text = False

    def add(self, cell: str) -> None:
        """Take a cell into account."""
        if self._is_text or not cell or cell.lower() in MISSING:
            return
        value = parse_scalar(cell)
        match = _DECIMALS.fullmatch(cell) if is_number(cell) else None
        n_decimals = len(match[1]) if match else -1
        self._is_empty = False
        self._is_boolean &= isinstance(value, bool)
        self._is_exact &= isinstance(value, int | float) and not isinstance(value, bool)
        self._n_decimals = n_decimals if self._n_decimals in (n_decimals, 0) else -1
        self._is_text = not self._is_boolean and not self._is_exact and self._n_decimals < 1

    def convert(self, cell: str) -> Scalar | None:
        """Return the value of a cell; None for a missing one in a column of numbers or booleans."""
        if self._is_text or self._is_empty:
            return cell
        if not cell or cell.lower() in MISSING:
            return None
        return parse_scalar(cell) if self._is_boolean or self._is_exact else float(cell)
