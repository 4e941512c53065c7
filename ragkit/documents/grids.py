"""Write the tables of office files as Markdown, and tell which have a header row."""

# ruff: noqa: RUF001 - the minus sign
from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from ragkit import markdown

MAX_CELLS = 2_000_000
"""Cells of a file that are read."""
_MAX_SPREAD = 200  # characters

_NUMBER = re.compile(r"\W{0,3}(?:[A-Z]{3}\s)?\W{0,2}\d[\d\s.,:/%()eE+−-]*[^\W\d]{0,3}\W{0,3}")
_YEAR = re.compile(r"(?:19|20)\d\d")


def write_table(rows: Sequence[Sequence[str]], n_header: int) -> str:
    r"""Write a table in Markdown; without a header row, the cells of the header are empty.

    Args:
        rows: Cells of each row; line ends become spaces, and short rows get empty cells.
        n_header: Number of rows at the top that are the header; they are joined to one.

    >>> print(write_table([["metal", "n"], ["iron", "26"], ["a|b"]], 1))
    | metal | n |
    | --- | --- |
    | iron | 26 |
    | a\|b |  |
    """
    width = max(map(len, rows), default=0)
    cells = [[*row, *[""] * (width - len(row))] for row in rows]
    header = [join_cells(column) for column in zip(*cells[:n_header], strict=True)] or [""] * width
    return markdown.write_table(header, cells[n_header:])


def spread(text: str) -> str:
    """Return a merged cell's text for the further cells that it covers: none if it is long."""
    return text if len(text) <= _MAX_SPREAD else ""


def guess_header(rows: Sequence[Sequence[str]]) -> int:
    """Return 1 if the first row is surely a header by its values, else 0.

    It is one if it has different words or consecutive years above other values, and numbers stand
    below. A table of words alone does not tell.

    >>> guess_header([["metal", "n"], ["iron", "26"]])
    1
    >>> guess_header([["iron", "26"], ["tin", "50"]])
    0
    """
    if len(rows) < 2:
        return 0
    names = [name for name in rows[0] if name]
    if len(names) < 2 or 2 * len(names) < len(rows[0]) or len(set(names)) < len(names):
        return 0
    if begins_with_data(rows):
        return 0
    below = [row[column] for row in rows[1:] for column in range(min(len(row), len(rows[0])))]
    return int(any(map(is_number, below)))


def begins_with_data(rows: Sequence[Sequence[str]]) -> bool:
    """Return True if the first row has numbers, but no consecutive years above other values.

    >>> begins_with_data([["iron", "26"], ["tin", "50"]]), begins_with_data([["metal", "n"]])
    (True, False)
    """
    numbers = [column for column, name in enumerate(rows[0]) if is_number(name)]
    return bool(numbers) and not _are_years(rows, numbers)


def join_cells(cells: Sequence[str]) -> str:
    """Join the cells of a column's header rows; a merged cell's repeated value counts once."""
    return " ".join(dict.fromkeys(cell for cell in cells if cell))


def is_number(text: str) -> bool:
    """Return True if a cell is a number, a quantity, a date or a time.

    >>> [is_number(text) for text in ["1,000.5", "-3 %", "€ 5", "2024-01-31", "Q1", "H2O", ""]]
    [True, True, True, True, False, False, False]
    """
    return bool(text) and len(text) < 40 and bool(_NUMBER.fullmatch(text))


def _are_years(rows: Sequence[Sequence[str]], columns: Sequence[int]) -> bool:
    """Return True if the first row has consecutive years, and other values below."""
    names = [rows[0][column] for column in columns]
    if len(names) < 2 or not all(map(_YEAR.fullmatch, names)):
        return False
    steps = {int(b) - int(a) for a, b in pairwise(names)}
    below = [row[column] for row in rows[1:] for column in columns if column < len(row)]
    return steps in ({1}, {-1}) and not any(map(_YEAR.fullmatch, below))
