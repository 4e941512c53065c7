"""Find the columns of a page, so that its words are read in order.

The words are grouped to rows. A gutter is a white strip between words that goes through several
rows; the tallest one whose sides are columns of prose divides the page: what is above it is read
first, then its columns from left to right, then what is below, each in the same way.

Source: the idea is that of the recursive X-Y cut (Nagy and Seth 1984), with cuts along the largest
white rectangles (Baird 1992) instead of projections of the whole page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from ragkit.documents.pdf.shapes import Rule
from ragkit.documents.pdf.words import Word, is_rtl

_MAX_ROWS = 1_000  # of a page that is searched for columns; a full page of a newspaper has 300
_MAX_DEPTH = 20
_MAX_GUTTERS = 40  # white strips that are followed at a time, and that are tried
_MAX_STRIPS = 15  # white strips between columns of prose, with their bullets and numbers
_MIN_ROWS = 3  # rows on each side of a gutter
_ROW = 0.3  # difference of baselines in a row, by size
CELL_GAP = 0.9  # gap between cells, by size
_NARROW, _WIDE = 0.7, 1.2  # width of a gutter of many and of few rows, by size
_MANY_ROWS = 8
_MIN_COLUMN = 3.5  # width of a column, by size: narrower ones are bullets and numbers
_FAR = 1.8  # distance to the next row, by size, beyond which a row is a heading or a footer
_NUMERIC = re.compile(r"[\W\d_]*\d[\W\d_]*(?:[a-zA-Z%°µμΩÅ/]{1,4})?")

Row = list[Word]


class Region(NamedTuple):
    """Words that are read from top to bottom. `doubtful`: they may be columns after all."""

    words: list[Word]
    doubtful: bool = False


class _Gutter(NamedTuple):
    x0: float
    x1: float
    first: int  # row
    last: int


@dataclass(slots=True)
class _Column:
    x0: float
    x1: float
    rows: list[Row]


def reading_order(words: Sequence[Word], rules: Sequence[Rule] = ()) -> list[Region]:
    """Divide upright words into regions in the order of reading."""
    size = median(word.size for word in words) if words else 1.0
    lines = [rule for rule in rules if rule.x1 - rule.x0 > 3 * size and rule.y1 - rule.y0 < 1]
    return list(_divide(list(words), lines, size, _MAX_DEPTH)) if words else []


def group_rows(words: Sequence[Word]) -> list[Row]:
    """Group words by baseline, from the top; the words of a row are sorted from left to right."""
    rows: list[Row] = []
    for word in sorted(words, key=lambda word: (word.y, word.x0)):
        if rows and word.y - rows[-1][0].y <= _ROW * min(word.size, rows[-1][0].size):
            rows[-1].append(word)
        else:
            rows.append([word])
    return [sorted(row, key=lambda word: word.x0) for row in rows]


def split_cells(row: Sequence[Word], width: float = CELL_GAP) -> list[Row]:
    """Split the words of a row, sorted from left to right, at gaps wider than `width` by size."""
    cells: list[Row] = []
    for word in row:
        if cells and word.x0 - cells[-1][-1].x1 < width * max(word.size, cells[-1][-1].size):
            cells[-1].append(word)
        else:
            cells.append([word])
    return cells


def _divide(words: list[Word], rules: list[Rule], size: float, depth: int) -> Iterator[Region]:
    rows = group_rows(words)
    if not depth or len(rows) > _MAX_ROWS:
        yield Region(words, doubtful=len(rows) > _MAX_ROWS)
        return
    doubtful = False
    for gutter in _gutters(rows, rules, size):
        band = _trimmed(rows, gutter)
        columns = _columns(rows[band.first : band.last + 1], size)
        if len(columns) < 2 or min(len(column.rows) for column in columns) < _MIN_ROWS:
            continue
        verdict = _are_columns(columns, size)
        if verdict is None:
            doubtful = True
        elif verdict:
            above = [word for row in rows[: band.first] for word in row]
            below = [word for row in rows[band.last + 1 :] for word in row]
            if above:
                yield from _divide(above, rules, size, depth - 1)
            if is_rtl(words):
                columns.reverse()
            for column in columns:
                inside = [word for row in column.rows for word in row]
                yield from _divide(inside, rules, size, depth - 1)
            if below:
                yield from _divide(below, rules, size, depth - 1)
            return
    yield Region(words, doubtful)


def _gutters(rows: Sequence[Row], rules: Sequence[Rule], size: float) -> list[_Gutter]:
    """Return the white strips between the words of several rows, the tallest first."""
    left = min(row[0].x0 for row in rows)
    right = max(word.x1 for row in rows for word in row)
    lines = sorted(rules, key=lambda rule: rule.y0)
    open_strips: dict[tuple[float, float], int] = {}
    found: list[_Gutter] = []
    next_line = 0
    for number, row in enumerate(rows):
        taken = [(word.x0, word.x1) for word in row]
        while next_line < len(lines) and lines[next_line].y0 < row[0].y:
            if number:
                taken.append((lines[next_line].x0, lines[next_line].x1))
            next_line += 1
        free = _free(sorted(taken), left - 2 * size, right + 2 * size, _NARROW * size)
        strips: dict[tuple[float, float], int] = {}
        for (x0, x1), first in open_strips.items():
            whole = False
            for y0, y1 in free:
                start, end = max(x0, y0), min(x1, y1)
                if end - start >= _NARROW * size:
                    key = (start, end)
                    strips[key] = min(strips.get(key, first), first)
                    whole = whole or key == (x0, x1)
            if not whole:
                found.append(_Gutter(x0, x1, first, number - 1))
        for key in free:
            strips.setdefault(key, number)
        oldest = sorted(strips.items(), key=lambda item: item[1])[:_MAX_GUTTERS]
        open_strips = dict(oldest)
    last = len(rows) - 1
    found += [_Gutter(x0, x1, first, last) for (x0, x1), first in open_strips.items()]
    inner = [
        gutter
        for gutter in found
        if gutter.x0 > left
        and gutter.x1 < right
        and gutter.last - gutter.first + 1 >= _MIN_ROWS
        and gutter.x1 - gutter.x0
        >= size * (_NARROW if gutter.last - gutter.first + 1 >= _MANY_ROWS else _WIDE)
    ]
    inner.sort(key=lambda g: (rows[g.first][0].y - rows[g.last][0].y, g.x0 - g.x1))
    return inner[:_MAX_GUTTERS]


def _free(
    taken: Sequence[tuple[float, float]], left: float, right: float, width: float
) -> list[tuple[float, float]]:
    """Return the gaps between intervals sorted by their start, from `left` to `right`."""
    gaps, end = [], left
    for x0, x1 in taken:
        if x0 - end >= width:
            gaps.append((end, x0))
        end = max(end, x1)
    return [*gaps, (end, right)] if right - end >= width else gaps


def _trimmed(rows: Sequence[Row], gutter: _Gutter) -> _Gutter:
    """Leave out rows at both ends that stand apart: headings, page numbers."""
    first, last = gutter.first, gutter.last
    size = median(row[0].size for row in rows[first : last + 1])
    while first < last and _stands_apart(rows[first], rows[first + 1], gutter, size):
        first += 1
    while first < last and _stands_apart(rows[last], rows[last - 1], gutter, size):
        last -= 1
    return gutter._replace(first=first, last=last)


def _stands_apart(row: Row, neighbour: Row, gutter: _Gutter, size: float) -> bool:
    both = row[0].x1 <= gutter.x0 and row[-1].x0 >= gutter.x1
    return abs(row[0].y - neighbour[0].y) > (2 * _FAR if both else _FAR) * size


def _columns(rows: Sequence[Row], size: float) -> list[_Column]:
    """Divide rows at all strips that go through them; narrow columns belong to a neighbour."""
    taken = sorted((word.x0, word.x1) for row in rows for word in row)
    strips = _free(taken, taken[0][0], max(x1 for _, x1 in taken), _NARROW * size)
    if len(strips) > _MAX_STRIPS:
        return []  # a table
    edges = [taken[0][0], *((x0 + x1) / 2 for x0, x1 in strips), max(x1 for _, x1 in taken)]
    columns: list[_Column] = []
    narrow_before = False
    for start, end in pairwise(edges):
        inside = [[w for w in row if start <= (w.x0 + w.x1) / 2 <= end] for row in rows]
        part = _Column(start, end, [row for row in inside if row])
        is_narrow = median(row[-1].x1 - row[0].x0 for row in part.rows) < _MIN_COLUMN * size
        if columns and (narrow_before or is_narrow):
            last = columns[-1]
            words = [word for row in (*last.rows, *part.rows) for word in row]
            columns[-1] = _Column(last.x0, part.x1, group_rows(words))
            narrow_before = False
        else:
            columns.append(part)
            narrow_before = is_narrow
    return columns


def _are_columns(columns: Sequence[_Column], size: float) -> bool | None:
    """Return True for columns of prose, False for a table, and None in doubt."""
    prose = [_is_prose(column, size) for column in columns]
    if all(prose):
        return True
    aligned = [
        _share_aligned(column, [other for other in columns if other is not column], size)
        for column in columns
    ]
    if not any(prose):
        return None if _are_blocks(columns) else False
    rest = [share for share, is_prose in zip(aligned, prose, strict=True) if not is_prose]
    return True if max(rest) < 0.7 else None


def _is_prose(column: _Column, size: float) -> bool:
    """Return True if the lines look like lines of running text."""
    lines = column.rows
    words = [word for line in lines for word in line]
    n_numeric = sum(1 for word in words if _NUMERIC.fullmatch(word.text))
    n_cells = median(len(split_cells(line)) for line in lines)
    if n_numeric >= 0.3 * len(words) or n_cells > 1:
        return False
    widths = sorted(line[-1].x1 - line[0].x0 for line in lines)
    widest = widths[int(0.9 * (len(widths) - 1))]
    fill = sum(1 for width in widths if width > 0.7 * widest) / len(widths)
    n_words = median(len(line) for line in lines)
    continued = sum(1 for line in lines[1:] if line[0].text[:1].islower()) / max(1, len(lines) - 1)
    if n_words >= 2 and continued >= 0.3:
        return True
    wordless = widest > 10 * size and n_words < 3 and not words[0].text.isascii()  # no spaces
    return fill >= 0.6 and (n_words >= (3 if len(lines) > 4 else 4) or wordless)


def _are_blocks(columns: Sequence[_Column]) -> bool:
    """Return True for short lines side by side, such as addresses, that may be columns."""
    return all(
        median(len(row) for row in column.rows) >= 2
        and not any(_NUMERIC.fullmatch("".join(word.text for word in row)) for row in column.rows)
        for column in columns
    )


def _share_aligned(column: _Column, others: Sequence[_Column], size: float) -> float:
    """Return the share of lines with a baseline that another column has too."""
    baselines = sorted(row[0].y for other in others for row in other.rows)
    n = 0
    position = 0
    for row in column.rows:
        while position < len(baselines) and baselines[position] < row[0].y - 0.15 * size:
            position += 1
        n += position < len(baselines) and baselines[position] <= row[0].y + 0.15 * size
    return n / len(column.rows)
