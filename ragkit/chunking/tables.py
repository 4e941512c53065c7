"""Tables of a text, as the chunker sees them: rows that stay whole, and headers that go along."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from ragkit.markdown import MAX_HEADER, Table, find_tables, join_row, split_row
from ragkit.types import Tokenizer


def split_rows(
    text: str, sentences: Sequence[tuple[int, int]], tables: Iterable[Table]
) -> list[tuple[int, int]]:
    """Replace the sentences of tables by rows; header row and delimiter row are one span.

    Args:
        text: The text.
        sentences: (start, end) of its sentences, in order.
        tables: Its tables, in order.

    >>> text = "Now: | a. B. |"
    >>> split_rows(text, [(0, 9), (10, 14)], [Table("", [(5, 14)], 5, 14)])
    [(0, 4), (5, 14)]
    """
    spans: list[tuple[int, int]] = []
    rest = iter(sentences)
    sentence = next(rest, None)
    for table in tables:
        while sentence and sentence[0] < table.end:
            start, end = sentence
            if start < table.start:
                before = _stripped(text, start, min(end, table.start))
                spans += [before] if before[0] < before[1] else []
            if end > table.end:
                sentence = _stripped(text, table.end, end)
                break
            sentence = next(rest, None)
        first = table.rows[0][0] if table.rows else table.end
        head = _stripped(text, table.start, first)
        spans += [head, *table.rows] if head[0] < head[1] else table.rows
    if sentence:
        spans += [sentence, *rest] if sentence[0] < sentence[1] else rest
    return spans


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[end - 1].isspace():
        end -= 1
    while start < end and text[start].isspace():
        start += 1
    return start, end


class Tables:
    """Tables of a text, found by offset.

    Args:
        text: The text.
        tokenizer: Tokenizer of the headers.
        max_cost: Maximum number of tokens that a header counts for.
    """

    def __init__(self, text: str, tokenizer: Tokenizer, *, max_cost: int) -> None:
        self._text = text
        self._tables = find_tables(text)
        self._starts = [table.start for table in self._tables]
        self._max_cost = max_cost
        headers = sorted({table.header for table in self._tables if table.header})
        counts = map(len, tokenizer.spans(headers) if headers else [])
        self._costs = dict(zip(headers, counts, strict=True))

    def split(self, sentences: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Replace the sentences of tables by rows."""
        return split_rows(self._text, sentences, self._tables)

    def cost(self, position: int) -> int:
        """Return the number of tokens of the header for a chunk that begins at `position`."""
        table = self._around(position)
        return min(self._costs.get(table.header, 0), self._max_cost) if table else 0

    def header(self, position: int) -> str:
        """Return the header for a chunk that begins at `position`, or an empty string."""
        table = self._around(position)
        if not table or not table.header:
            return ""
        row = max(bisect_right(table.rows, (position, len(self._text))) - 1, 0)
        start = table.rows[row][0] if table.rows else position
        if start >= position:
            return table.header
        return _rest_of_header(table.header, self._text[start:position])

    def _around(self, position: int) -> Table | None:
        """Return the table that has begun before `position` and ends behind it."""
        i = bisect_right(self._starts, position - 1) - 1
        return self._tables[i] if i >= 0 and position < self._tables[i].end else None


def _rest_of_header(header: str, before: str) -> str:
    """Return the header of a part of a row: its key, and the columns from the part on.

    >>> _rest_of_header("| valve | bar | note |", "| V-70 | 5 | a long")
    '| valve: V-70 | note |'
    """
    names, cells = split_row(header), split_row(before)
    n_complete = len(cells) - (not before.rstrip().endswith("|"))
    if not n_complete:
        return header
    key = f"{names[0]}: {cells[0]}" if names[0] else cells[0]
    return join_row([key, *names[n_complete:]])[:MAX_HEADER]
