"""Find the tables of a sheet and write them as Markdown."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

from ragkit.documents.grids import (
    MAX_CELLS,
    guess_header,
    is_number,
    join_cells,
    spread,
    write_table,
)

_MAX_GAP = 3  # empty columns inside a table
_MAX_NAME = 40  # characters of a row's name
_MAX_OPEN = 4  # tables that may go on below
_MAX_WRITTEN = 5 * MAX_CELLS


@dataclass
class Grid:
    """Values and layout of a sheet; rows and columns count from 1.

    Attributes:
        rows: Texts of the cells by row and column; no empty ones.
        merges: First row and column, last row and column of each merged cell.
        hidden_rows: Hidden rows, in order.
        hidden_columns: First and last of each range of hidden columns.
        bold_rows: Rows of which all text is bold.
        last_row: The row that was read last.
        n_written: Number of cells written, also empty ones.
    """

    rows: dict[int, dict[int, str]] = field(default_factory=dict)
    merges: list[tuple[int, int, int, int]] = field(default_factory=list)
    hidden_rows: list[int] = field(default_factory=list)
    hidden_columns: list[tuple[int, int]] = field(default_factory=list)
    bold_rows: set[int] = field(default_factory=set)
    last_row: int = 0
    n_written: int = 0
    _headers: dict[int, set[int]] = field(default_factory=dict)
    _grouped_rows: set[int] = field(default_factory=set)

    def add_header(self, row: int, column: int) -> None:
        """Note that a table or filter has its header at a row, from a column on."""
        self._headers.setdefault(row, set()).add(column)

    def is_header(self, row: int, first: int, last: int) -> bool:
        """Return True if a row is the header of a table or filter in the columns."""
        return any(first <= column <= last for column in self._headers.get(row, ()))

    def is_grouped(self, row: int) -> bool:
        """Return True if a merged cell goes over several columns of a row."""
        return row in self._grouped_rows

    def is_hidden(self, column: int) -> bool:
        """Return True if a column is hidden."""
        index = bisect_left(self._ranges, (column + 1,)) - 1
        return index >= 0 and column <= self._ranges[index][1]

    def visible_row(self, row: int) -> int:
        """Return a row's number among those that are not hidden."""
        return row - bisect_left(self._hidden, row)

    def visible_column(self, column: int) -> int:
        """Return a visible column's number among those that are not hidden."""
        return column - self._n_hidden[bisect_left(self._ranges, (column,))]

    def spread_merges(self) -> None:
        """Write the value of each merged cell in all the cells that it covers.

        A cell that stands alone in its row is a heading, and a long one a paragraph: they are not
        repeated.
        """
        numbers = sorted(self.rows)
        n_left = MAX_CELLS  # bounds the work
        for top, left, bottom, right in self.merges:
            value = spread(self.rows.get(top, {}).get(left, ""))
            if not value:
                continue
            start = bisect_left(numbers, top)
            for row in numbers[start : bisect_left(numbers, bottom + 1)]:
                values = self.rows[row]
                n_left -= len(values) + right - left + 1
                if n_left < 0:
                    return
                if all(left <= column <= right for column in values):
                    continue
                columns = [
                    column for column in range(left, right + 1) if not self.is_hidden(column)
                ]
                values.update(dict.fromkeys(columns, value))
                if len(columns) > 1:
                    self._grouped_rows.add(row)

    @cached_property
    def _ranges(self) -> list[tuple[int, int]]:
        """Ranges of hidden columns, in order and without overlaps."""
        ranges: list[tuple[int, int]] = []
        for first, last in sorted(self.hidden_columns):
            if ranges and first <= ranges[-1][1]:
                ranges[-1] = (ranges[-1][0], max(last, ranges[-1][1]))
            else:
                ranges.append((first, last))
        return ranges

    @cached_property
    def _n_hidden(self) -> list[int]:
        """Number of columns in the first ranges of hidden columns."""
        return [0, *accumulate(last - first + 1 for first, last in self._ranges)]

    @cached_property
    def _hidden(self) -> list[int]:
        return sorted(self.hidden_rows)


class _Region(NamedTuple):
    """Values between empty rows and columns: first and last column, and texts as in `Grid`."""

    first: int
    last: int
    rows: dict[int, dict[int, str]]


@dataclass(slots=True)
class _Table:
    """A table: where it stands, and its rows from the header on."""

    first: int
    last: int
    rows: list[list[str]]
    n_header: int

    def continues(self, other: _Table) -> bool:
        """Return True if this is a part of a table above it: same columns, same kinds of values."""
        if self.n_header or not other.n_header or len(other.rows) <= other.n_header:
            return False
        if self.first < other.first or self.last > other.last:
            return False
        offset = self.first - other.first
        above = other.rows[other.n_header]
        pairs = zip(self.rows[0], above[offset:], strict=False)
        kinds = [(is_number(here), is_number(there)) for here, there in pairs if here and there]
        return len(kinds) > 1 and all(here == there for here, there in kinds)

    def heads(self, below: _Table) -> bool:
        """Return True if this is the header of the values below it: words above numbers."""
        counts = [_count(row) for row in self.rows]
        return (
            (len(counts) == 1 or (len(counts) == 2 and counts[0] < counts[1]))
            and not self.n_header
            and not below.n_header
            and (self.first, self.last) == (below.first, below.last)
            and not any(is_number(cell) for row in self.rows for cell in row)
            and any(is_number(cell) for cell in below.rows[0])
        )

    def append(self, other: _Table) -> None:
        """Append the rows of a part below."""
        self.n_header = self.n_header or len(self.rows)
        pad = [""] * (other.first - self.first)
        self.rows += [pad + row for row in other.rows]


def sheet_blocks(grid: Grid) -> list[str]:
    """Return the blocks of a sheet: headings and lines of text as they are, and tables.

    Empty rows part tables, unless the values below go on in the same columns without a header of
    their own. Empty columns part tables if the right one has names of its own in its first column.
    """
    grid.spread_merges()
    blocks: list[str | _Table] = []
    tables: list[_Table] = []  # that may go on below
    for band in _bands(grid):
        for region in _regions(grid, band):
            for block in _read_parts(grid, region):
                if isinstance(block, str):
                    blocks.append(block)
                    tables = []  # what is below a line of text is another table
                elif above := _find_start(block, tables):
                    above.append(block)
                else:
                    blocks.append(block)
                    tables.append(block)
    return [
        block if isinstance(block, str) else write_table(block.rows, block.n_header)
        for block in blocks
        if block
    ]


def _find_start(table: _Table, tables: Sequence[_Table]) -> _Table | None:
    """Return the table right above in the same columns, if it goes on in this one."""
    for above in reversed(tables[-_MAX_OPEN:]):
        if above.first <= table.last and table.first <= above.last:
            return above if above.heads(table) or table.continues(above) else None
    return None


def _bands(grid: Grid) -> Iterator[list[int]]:
    """Yield the groups of rows between empty rows."""
    band: list[int] = []
    for row in sorted(row for row, values in grid.rows.items() if values):
        if band and grid.visible_row(row) != grid.visible_row(band[-1]) + 1:
            yield band
            band = []
        band.append(row)
    if band:
        yield band


def _regions(grid: Grid, band: Sequence[int]) -> list[_Region]:
    """Return the regions side by side in a band of rows."""
    by_column: dict[int, list[str]] = {}
    for row in band:
        for column, value in grid.rows[row].items():
            by_column.setdefault(column, []).append(value)
    runs: list[list[int]] = []  # columns that touch
    for column in sorted(by_column):
        if runs and grid.visible_column(column) == grid.visible_column(runs[-1][-1]) + 1:
            runs[-1].append(column)
        else:
            runs.append([column])
    parts = runs[:1]
    for run in runs[1:]:
        gap = grid.visible_column(run[0]) - grid.visible_column(parts[-1][-1]) - 1
        is_table = len(parts[-1]) > 1 and len(run) > 1 and _are_names(by_column[run[0]])
        if is_table or gap > _MAX_GAP:
            parts.append(run)
        else:
            parts[-1].extend(run)
    starts = [part[0] for part in parts]
    regions = [_Region(part[0], part[-1], {}) for part in parts]
    for row in band:
        for column, value in grid.rows[row].items():
            region = regions[bisect_left(starts, column + 1) - 1]
            region.rows.setdefault(row, {})[column] = value
    return regions


def _are_names(values: Sequence[str]) -> bool:
    """Return True if these are at least two values, different ones and no numbers."""
    return len(set(values)) == len(values) > 1 and not any(map(is_number, values))


def _read_parts(grid: Grid, region: _Region) -> Iterator[str | _Table]:
    """Yield the blocks of a region; a marked header begins a new table."""
    part: dict[int, dict[int, str]] = {}
    for row, values in region.rows.items():
        if part and grid.is_header(row, region.first, region.last):
            yield from _read_region(grid, region._replace(rows=part))
            part = {}
        part[row] = values
    yield from _read_region(grid, region._replace(rows=part))


def _read_region(grid: Grid, region: _Region) -> list[str | _Table]:
    """Return a table with the lines above and below it."""
    columns = [
        column for column in range(region.first, region.last + 1) if not grid.is_hidden(column)
    ]
    numbers = sorted(region.rows)
    n_values = [len(region.rows[row]) for row in numbers]
    grid.n_written += len(numbers) * len(columns)
    if max(n_values) == 1 or grid.n_written > _MAX_WRITTEN:  # text, or a far too thin table
        return ["\n".join("; ".join(region.rows[row].values()) for row in numbers)]
    rows = [[region.rows[row].get(column, "") for column in columns] for row in numbers]
    top = next(index for index, n in enumerate(n_values) if n > 1)
    bottom = len(rows)
    while n_values[bottom - 1] == 1 and len(rows[bottom - 1][0]) > _MAX_NAME:
        bottom -= 1  # a note below the table
    body = rows[top:bottom]
    n_header = _count_header(grid, numbers[top:bottom], body, region)
    table = _Table(region.first, region.last, body, n_header)
    above, below = (["".join(row) for row in part] for part in (rows[:top], rows[bottom:]))
    return [*above, table, *below]


def _count_header(
    grid: Grid, numbers: Sequence[int], rows: Sequence[Sequence[str]], region: _Region
) -> int:
    """Return the number of header rows: marked, all bold, or told by their values."""
    if len(rows) < 2:
        return 0
    is_group = grid.is_grouped(numbers[0]) or _is_group(rows[0], rows[1])
    if is_group and not any(map(is_number, rows[1])):
        both = [join_cells(pair) for pair in zip(rows[0], rows[1], strict=True)]
        if guess_header([both, *rows[2:]]):
            return 2
    is_bold = numbers[0] in grid.bold_rows and not all(row in grid.bold_rows for row in numbers)
    if is_bold or grid.is_header(numbers[0], region.first, region.last):
        return 1
    return guess_header(rows)


def _is_group(row: Sequence[str], below: Sequence[str]) -> bool:
    """Return True if a row has less than half as many values as the one below."""
    return 2 * _count(row) < _count(below)


def _count(row: Sequence[str]) -> int:
    return sum(map(bool, row))
