"""Find tables among the rows of a region: cells that are aligned to columns.

A table is at least three rows with at least two cells. It is certain if its columns are disjoint,
its cells are aligned in them, and it has three columns, lines, or a column of numbers. Lists,
references and prose are none.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from ragkit.documents.pdf.order import Row, group_rows, split_cells
from ragkit.documents.pdf.shapes import Rule
from ragkit.documents.pdf.words import Word, in_reading_order

_MIN_ROWS, _MIN_COLUMNS = 3, 2
_ALIGNED = 0.6  # difference of the edges of aligned cells, by size
_SHARE_ALIGNED, _SHARE_DOUBTFUL, _SHARE_FILLED, _SHARE_NUMERIC = 0.8, 0.6, 0.5, 0.6
_MAX_RULES = 400  # of a page that is searched for ruled tables
_HEADER_GAP = 0.5  # gap between the headers of narrow columns, by size
_TOUCH = 2.0  # points between lines that touch
_MAX_WORDS = 8  # median number of words of a cell in a certain table
_MAX_PITCH = 4.0  # distance of rows, by size
_LABEL = re.compile(r"[•▪◦‣·*–—-]|\(?(?:\d{1,3}|[A-Za-z]|[ivx]{1,4})[.)]|\[\d{1,3}\]")  # noqa: RUF001
_NUMBER = re.compile(r"[^\w]*\d[\d.,\s/:%()±×⁰¹²³⁴-⁹⁻+-]*(?:[^\W\d]{1,4})?[^\w]*")  # noqa: RUF001

Cell = list[Word]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells; an empty cell is an empty list of words."""

    rows: list[list[Cell]]


@dataclass(frozen=True, slots=True)
class RuledTable:
    """A table whose lines divide its cells, and its place on the page."""

    table: Table
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that are no table, or one that is in doubt: its cells are then kept apart."""

    rows: list[Row]
    doubtful: bool = False


def ruled_tables(words: Sequence[Word], rules: Sequence[Rule]) -> list[RuledTable]:
    """Return the tables whose rows and columns are divided by lines."""
    size = median(word.size for word in words) if words else 1.0
    longer = [rule for rule in rules if max(rule.x1 - rule.x0, rule.y1 - rule.y0) >= 0.8 * size]
    if len(longer) > _MAX_RULES:
        return []
    found = [_ruled_table(words, group, size) for group in _touching(longer)]
    return [table for table in found if table]


def _touching(rules: Sequence[Rule]) -> list[list[Rule]]:
    """Group the lines that touch each other."""
    groups: list[list[Rule]] = []
    for rule in rules:
        touched = [group for group in groups if any(_touch(rule, other) for other in group)]
        groups = [group for group in groups if not any(group is other for other in touched)]
        groups.append([rule, *(other for group in touched for other in group)])
    return groups


def _touch(a: Rule, b: Rule) -> bool:
    return (
        a.x0 <= b.x1 + _TOUCH
        and b.x0 <= a.x1 + _TOUCH
        and a.y0 <= b.y1 + _TOUCH
        and b.y0 <= a.y1 + _TOUCH
    )


def _ruled_table(words: Sequence[Word], rules: Sequence[Rule], size: float) -> RuledTable | None:
    x0, x1 = min(rule.x0 for rule in rules), max(rule.x1 for rule in rules)
    y0, y1 = min(rule.y0 for rule in rules), max(rule.y1 for rule in rules)
    xs = _edges(x0, x1, [rule.x0 for rule in rules if rule.x0 == rule.x1], size)
    ys = _edges(y0, y1, [rule.y0 for rule in rules if rule.x1 - rule.x0 > 0.6 * (x1 - x0)], size)
    if len(xs) < 3 or len(ys) < 3:
        return None
    grid: list[list[Cell]] = [[[] for _ in xs[1:]] for _ in ys[1:]]
    n_inside = n_crossing = 0
    for word in words:
        x, y = (word.x0 + word.x1) / 2, (word.top + word.bottom) / 2
        if x0 <= x <= x1 and y0 <= y <= y1:
            k = min(bisect_right(xs, x), len(xs) - 1) - 1
            row = min(bisect_right(ys, y), len(ys) - 1) - 1
            grid[row][k].append(word)
            n_inside += 1
            n_crossing += word.x0 < xs[k] - 0.3 * size or word.x1 > xs[k + 1] + 0.3 * size
    filled = [row for row in grid if any(row)]
    n_filled = sum(1 for row in filled for cell in row if cell)
    used = [k for k in range(len(xs) - 1) if any(row[k] for row in filled)]
    if len(filled) < 2 or len(used) < _MIN_COLUMNS or n_crossing > 0.05 * n_inside:
        return None
    if n_filled < _SHARE_FILLED * len(filled) * len(used) or n_filled < 2 * _MIN_ROWS:
        return None
    table = Table([[_reading(row[k]) for k in used] for row in filled])
    return RuledTable(table, x0, y0, x1, y1)


def _edges(start: float, end: float, places: Sequence[float], size: float) -> list[float]:
    edges: list[float] = []
    for place in sorted([start, *places, end]):
        if not edges or place - edges[-1] > 0.5 * size:
            edges.append(place)
    return edges


def _reading(cell: Cell) -> Cell:
    return [word for row in group_rows(cell) for word in in_reading_order(row)]


def find_tables(rows: Sequence[Row], rules: Sequence[Rule]) -> Iterator[Table | Rows]:
    """Divide rows from top to bottom into tables and other rows."""
    cells = [split_cells(row) for row in rows]
    start = position = 0
    while position < len(rows):
        end = _group_end(rows, cells, position)
        if end - position < _MIN_ROWS:
            position = max(end, position + 1)
            continue
        table, doubtful = _table(cells[position:end], rows[position:end], rules)
        if table is None and not doubtful:
            position = end
            continue
        if start < position:
            yield Rows(list(rows[start:position]))
        yield table or Rows(list(rows[position:end]), doubtful=True)
        start = position = end
    if start < len(rows):
        yield Rows(list(rows[start:]))


def _group_end(rows: Sequence[Row], cells: Sequence[list[Cell]], start: int) -> int:
    """Return the end of the rows of several cells from `start`; wrapped cells may be between."""
    if len(cells[start]) < _MIN_COLUMNS:
        return start
    end = start + 1
    for i in range(start + 1, len(rows)):
        size = max(rows[i][0].size, rows[i - 1][0].size)
        if rows[i][0].y - rows[i - 1][0].y > _MAX_PITCH * size:
            break
        if len(cells[i]) >= _MIN_COLUMNS:
            end = i + 1
        elif i - end >= 2 or not _fits(cells[i][0], cells[start:end]):
            break
    return end


def _fits(cell: Cell, above: Sequence[list[Cell]]) -> bool:
    """Return True if a single cell lies below one cell of the last row with several."""
    last = next(row for row in reversed(above) if len(row) >= _MIN_COLUMNS)
    touched = [c for c in last if c[0].x0 < cell[-1].x1 and cell[0].x0 < c[-1].x1]
    return len(touched) == 1 and touched[0] is not last[0]


def _table(
    cells: Sequence[list[Cell]], rows: Sequence[Row], rules: Sequence[Rule]
) -> tuple[Table | None, bool]:
    """Return the table of some rows, or None and True if it is in doubt."""
    several = [row for row in cells if len(row) >= _MIN_COLUMNS]
    n_columns = Counter(len(row) for row in several).most_common(1)[0][0]
    usual = [row for row in several if len(row) == n_columns]
    if _is_list(usual, n_columns) or _is_prose(several):
        return None, False
    size = median(row[0].size for row in rows)
    for n in sorted({len(row) for row in several}, reverse=True):
        grid = _grid(cells, n)
        if grid is None or _share_aligned(grid, size) < _SHARE_ALIGNED:
            continue
        merged = _merge_wrapped(grid, rows, rules)
        n_filled = sum(1 for row in merged for cell in row if cell)
        if (
            len(merged) >= _MIN_ROWS
            and n_filled >= _SHARE_FILLED * len(merged) * n
            and (n >= 3 or _is_ruled(_extents(grid), rows, rules) or _has_numbers(merged, n))
        ):
            return Table(merged), False
    grid = [row + [[]] * (n_columns - len(row)) for row in usual]
    is_doubtful = len(usual) >= _MIN_ROWS and n_columns >= 3
    return None, is_doubtful and _share_aligned(grid, size) >= _SHARE_DOUBTFUL


def _grid(cells: Sequence[list[Cell]], n: int) -> list[list[Cell]] | None:
    """Place the cells of all rows in the n columns that rows of n cells give."""
    full = [row for row in cells if len(row) == n]
    columns = _extents(full)
    if any(a[1] > b[0] for a, b in pairwise(columns)):
        return None
    grid: list[list[Cell]] = []
    for number, row in enumerate(cells):
        placed = _place(row, columns, is_header=number == 0)
        if placed is None:
            return None
        grid.append(placed)
    return grid


def _extents(grid: Sequence[list[Cell]]) -> list[tuple[float, float]]:
    """Return the left and right end of each column."""
    return [
        (min(cell[0].x0 for cell in column if cell), max(cell[-1].x1 for cell in column if cell))
        for column in zip(*grid, strict=True)
    ]


def _is_list(full: Sequence[list[Cell]], n_columns: int) -> bool:
    labels = sum(1 for row in full if _LABEL.fullmatch(_text(row[0])))
    return n_columns == 2 and labels > 0.5 * len(full)


def _is_prose(full: Sequence[list[Cell]]) -> bool:
    cells = [cell for row in full for cell in row]
    continued = sum(1 for row in full[1:] for cell in row if cell[0].text[:1].islower())
    n_words = [len(cell) for cell in cells]
    return median(n_words) > _MAX_WORDS or (
        median(n_words) > 2 and continued > 0.4 * max(1, len(cells))
    )


def _share_aligned(grid: Sequence[list[Cell]], size: float) -> float:
    """Return the share of cells whose left, right or middle is that of their column."""
    n_aligned = n_cells = 0
    for column in zip(*grid, strict=True):
        cells = [cell for cell in column if cell]
        n_cells += len(cells)
        best = 0
        for edge in (_left, _right, _middle):
            places = [edge(cell) for cell in cells]
            usual = median(places) if places else 0.0
            best = max(best, sum(1 for x in places if abs(x - usual) <= _ALIGNED * size))
        n_aligned += best
    return n_aligned / max(1, n_cells)


def _left(cell: Cell) -> float:
    return cell[0].x0


def _right(cell: Cell) -> float:
    return cell[-1].x1


def _middle(cell: Cell) -> float:
    return (cell[0].x0 + cell[-1].x1) / 2


def _place(
    row: list[Cell], columns: Sequence[tuple[float, float]], *, is_header: bool
) -> list[Cell] | None:
    """Place cells in columns; return None if one lies in two columns, or two in one.

    A cell of the header may lie over several columns.
    """
    placed: list[Cell] = [[] for _ in columns]
    starts = [start for start, _ in columns]
    for cell in row:
        last = bisect_right(starts, cell[-1].x1) - 1
        first = max(0, bisect_right(starts, cell[0].x0) - 1)
        touched = [
            k
            for k in range(first, last + 1)
            if cell[0].x0 < columns[k][1] and columns[k][0] < cell[-1].x1
        ]
        k = (
            touched[0]
            if touched
            else min(
                (k for k in (first, first + 1) if k < len(columns)),
                key=lambda k: max(columns[k][0] - cell[-1].x1, cell[0].x0 - columns[k][1]),
            )
        )
        parts = split_cells(cell, _HEADER_GAP) if is_header and len(touched) > 1 else []
        if len(parts) > 1 and (divided := _place(parts, columns, is_header=False)):
            placed = [old or new for old, new in zip(placed, divided, strict=True)]
            continue
        if placed[k] or (len(touched) > 1 and not is_header):
            return None
        placed[k] = list(cell)
    return placed


def _merge_wrapped(
    grid: list[list[Cell]], rows: Sequence[Row], rules: Sequence[Rule]
) -> list[list[Cell]]:
    """Join the lines of wrapped cells: lines between two rules, or without a first cell."""
    left, right = min(row[0].x0 for row in rows), max(row[-1].x1 for row in rows)
    lines = sorted(
        rule.y0
        for rule in rules
        if rule.y1 == rule.y0 and min(rule.x1, right) - max(rule.x0, left) > 0.7 * (right - left)
    )
    pitches = [b[0].y - a[0].y for a, b in pairwise(rows)]
    usual = [pitch for pitch, row in zip(pitches, grid[1:], strict=False) if row[0]]
    inner = [y for y in lines if rows[0][0].y < y < rows[-1][0].y]
    ruled = len(inner) >= 2 and 2 * len(inner) >= len(usual)
    merged = [grid[0]]
    for row, before, after in zip(grid[1:], rows, rows[1:], strict=False):
        separate = any(before[0].y < y < after[0].y for y in inner)
        pitch = after[0].y - before[0].y
        wrapped = not row[0] and bool(usual) and pitch < 0.85 * median(usual)
        if not separate and (ruled or wrapped or (not row[0] and sum(map(bool, row)) == 1)):
            merged[-1] = [above + cell for above, cell in zip(merged[-1], row, strict=True)]
        else:
            merged.append(row)
    return merged


def _is_ruled(
    columns: Sequence[tuple[float, float]], rows: Sequence[Row], rules: Sequence[Rule]
) -> bool:
    """Return True if lines separate rows or columns."""
    top, bottom = rows[0][0].top - 6, rows[-1][0].bottom + 6
    left, right = columns[0][0], columns[-1][1]
    near = [rule for rule in rules if rule.y1 >= top and rule.y0 <= bottom]
    across = {
        round(rule.y0)
        for rule in near
        if rule.y0 == rule.y1 and min(rule.x1, right) - max(rule.x0, left) > 0.7 * (right - left)
    }
    between = any(
        rule.x0 == rule.x1 and a[1] <= rule.x0 <= b[0]
        for rule in near
        for a, b in pairwise(columns)
    )
    return len(across) >= 2 or between


def _has_numbers(grid: Sequence[list[Cell]], n_columns: int) -> bool:
    for k in range(1, n_columns):
        body = [_text(row[k]) for row in grid[1:] if row[k]]
        if sum(1 for text in body if _NUMBER.fullmatch(text)) > _SHARE_NUMERIC * len(body):
            return True
    return False


def _text(cell: Cell) -> str:
    return " ".join(word.text for word in in_reading_order(cell))
