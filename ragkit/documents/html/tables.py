"""Collect the cells of an HTML table, and write it as a Markdown table if it holds data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ragkit.markdown import write_table

LONG_CELL = 300  # characters; a cell of several paragraphs that is longer is page layout
_MAX_COLSPAN = 100
_MAX_ROWSPAN = 65_534  # as in the HTML standard
_N_HEAD = 50  # rows by which a header without `th` is recognised
_MAX_HEADERS = 3  # header rows that are joined
_REPEATS = 10_000  # characters that repeated cells may take, beside four times the table's own
_SPACE = re.compile(r"[ \t\n\r\f]+")
_SPAN = re.compile(r"\s*(\d{1,6})")
_NUMBER = re.compile(r"[-+−–±~<>≤≥$€£ ]*\d")  # noqa: RUF001


@dataclass(slots=True)
class Cell:
    """Cell of a table.

    Attributes:
        is_header: Whether it is a `th` element.
        colspan: Number of columns that it covers.
        rowspan: Number of rows that it covers; 0 for all that follow.
        parts: Pieces of its text.
        length: Number of characters of the pieces.
        breaks: Line ends after its text so far: 1 for a line, 2 for a paragraph.
        is_bold: Whether all of its text is bold.
    """

    is_header: bool
    colspan: int
    rowspan: int
    parts: list[str] = field(default_factory=list)
    length: int = 0
    breaks: int = 0
    is_bold: bool = True

    def write(self, data: str, *, is_bold: bool) -> None:
        """Append text."""
        self.parts.append(data)
        self.length += len(data)
        if not data.isspace():
            self.is_bold &= is_bold
            self.breaks = 0

    def end_line(self, n_lines: int) -> None:
        """Note the end of a line or paragraph, which is a space in a table."""
        self.parts.append(" ")
        self.breaks = max(self.breaks, n_lines)

    @property
    def is_layout(self) -> bool:
        """Whether further text would make it a long cell of several paragraphs."""
        return self.breaks > 0 and self.length >= LONG_CELL

    @property
    def text(self) -> str:
        """Text with single spaces."""
        return _SPACE.sub(" ", "".join(self.parts)).strip(" ")


@dataclass(slots=True)
class Row:
    """Row of a table; `in_head` if it stands in a `thead` element."""

    in_head: bool
    cells: list[Cell] = field(default_factory=list)

    @property
    def is_header(self) -> bool:
        """Whether all of its cells are headers."""
        return self.in_head or all(cell.is_header for cell in self.cells)


class TableBuffer:
    """Rows of an open table.

    Attributes:
        rows: Rows in order.
        cell: Open cell, or None.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.cell: Cell | None = None
        self._in_head = False

    def start_part(self, tag: str, attributes: dict[str, str]) -> None:
        """Begin a row, a cell or a group of rows."""
        if tag == "tr" or (tag in {"td", "th"} and not self.rows):
            self.rows.append(Row(self._in_head))
            self.cell = None
        if tag in {"td", "th"}:
            colspan = _span(attributes.get("colspan", ""), _MAX_COLSPAN) or 1
            rowspan = _span(attributes.get("rowspan", ""), _MAX_ROWSPAN)
            self.cell = Cell(tag == "th", colspan, rowspan)
            self.rows[-1].cells.append(self.cell)
        elif tag != "tr":
            self._in_head = tag == "thead"

    def end_part(self, tag: str) -> None:
        """End a row, a cell or a group of rows, and with it the open cell."""
        self.cell = None
        if tag == "thead":
            self._in_head = False

    def markdown(self) -> tuple[str, str] | None:
        """Return the title rows and the Markdown table; None if the table holds no data.

        A cell that spans several columns or rows is repeated in each, unless it is the whole row,
        such as a section's name. Up to three header rows are joined: "Yield / MPa". Without header
        cells, the first row is the header if it alone is bold, or if it alone has no number in a
        column; otherwise the header cells are empty.
        """
        rows = [row for row in self.rows if row.cells]
        titles: list[str] = []
        while len(rows) > 1 and len(rows[0].cells) == 1 and rows[0].cells[0].colspan > 1:
            titles.append(rows.pop(0).cells[0].text)
        grid = _fill_spans(rows)
        n_headers = _count_headers(rows, grid)
        width = max((len(line) for line in grid), default=0)
        if len(grid) < 2 or (width < 2 and not n_headers):
            return None
        header = [_join_names(grid[:n_headers], column) for column in range(width)]
        body = [line for line in grid[n_headers:] if any(line)]
        if not body:
            return None
        return "\n".join(filter(None, titles)), write_table(header, body)


def _span(text: str, largest: int) -> int:
    match = _SPAN.match(text)
    return min(int(match[1]), largest) if match else 1


def _count_headers(rows: Sequence[Row], grid: Sequence[Sequence[str]]) -> int:
    """Return the number of header rows at the beginning, fewer than all rows."""
    n_headers = 0
    while n_headers < min(_MAX_HEADERS, len(rows) - 1) and rows[n_headers].is_header:
        n_headers += 1
    if n_headers == len(rows) - 1 and all(row.is_header and not row.in_head for row in rows):
        return min(1, n_headers)
    if n_headers or len(rows) < 2:
        return n_headers
    bold = [all(cell.is_bold and cell.text for cell in row.cells) for row in rows[:_N_HEAD]]
    return int((bold[0] and not any(bold[1:])) or _names_numbers(grid))


def _names_numbers(grid: Sequence[Sequence[str]]) -> bool:
    """Return True if the first row has only names, and a column below it only numbers.

    Only the first rows are looked at, for linear total time.
    """
    first, rest = grid[0], grid[1:_N_HEAD]
    if not all(first) or any(_NUMBER.match(cell) for cell in first):
        return False
    columns = ([line[i] if i < len(line) else "" for line in rest] for i in range(len(first)))
    return any(all(map(_NUMBER.match, column)) for column in columns)


def _join_names(headers: Sequence[Sequence[str]], column: int) -> str:
    """Join the names in a column of the header rows; repeated ones stand once."""
    names = [line[column] for line in headers if column < len(line) and line[column]]
    return " / ".join(dict.fromkeys(names))


def _fill_spans(rows: Sequence[Row]) -> list[list[str]]:
    """Return the texts of all columns of each row, with spanning cells repeated.

    A cell that is the whole row stands once, and so do all cells when the repetitions have used up
    their budget of characters.
    """
    budget = _REPEATS + 4 * sum(cell.length + 4 for row in rows for cell in row.cells)
    grid: list[list[str]] = []
    above: dict[int, tuple[str, int]] = {}  # column -> text from above, and rows it still covers
    for row in rows:
        line = {column: text for column, (text, _) in above.items()}
        above = {column: (text, n - 1) for column, (text, n) in above.items() if n > 1}
        column = 0
        for cell in row.cells:
            text, n_more = cell.text, (cell.rowspan or _MAX_ROWSPAN) - 1
            while column in line:
                column += 1
            colspan = cell.colspan if budget > 0 else 1
            budget -= (colspan - 1) * (len(text) + 4)
            is_whole_row = len(row.cells) == 1 and not line
            for covered in range(column, column + colspan):
                line[covered] = "" if is_whole_row and covered else text
                if n_more:
                    above[covered] = (text, n_more)
            column += colspan
        width = max(line, default=-1) + 1
        grid.append([line.get(column, "") for column in range(width)])
        budget -= sum(len(text) + 4 for text, _ in above.values()) + 4 * (width - len(line))
        if budget <= 0:
            above = {}
    return grid
