"""Tables of a text, as the chunker sees them: rows that stay whole, and headers that go along."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from ragkit.chunking.fields import Field, field_header
from ragkit.markdown import BAR, MAX_HEADER, Table, find_tables, join_row, split_row
from ragkit.types import Tokenizer

_MAX_KEY = 100  # characters of a row's key in the header of a part of the row


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
        fields: Fields of a record, whose names are headers too.
    """

    def __init__(
        self, text: str, tokenizer: Tokenizer, *, max_cost: int, fields: list[Field] | None = None
    ) -> None:
        self._text = text
        self._fields = fields or []
        self._tables = find_tables(text)
        self._starts = [table.start for table in self._tables]
        self._max_cost = max_cost
        found = {table.header for table in self._tables} | {part.header for part in self._fields}
        headers = sorted(found - {""})
        counts = map(len, tokenizer.spans(headers) if headers else [])
        self._counted = (-1, 0, 0)  # start of a row, a position in it, and the bars between them
        self._costs = dict(zip(headers, counts, strict=True))

    def split(self, sentences: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Replace the sentences of tables by rows."""
        return split_rows(self._text, sentences, self._tables)

    def cost(self, position: int) -> int:
        """Return the number of tokens of the header for a chunk that begins at `position`."""
        table = self._around(position)
        header = table.header if table else field_header(self._fields, position)
        return min(self._costs.get(header, 0), self._max_cost)

    def header(self, position: int) -> str:
        """Return the header for a chunk that begins at `position`, or an empty string.

        Inside a row, the header is that of the columns from `position` on, after the key of the
        row: "first column: first cell". Inside the value of a record's field, it is the record's
        first field and the name of this one.
        """
        table = self._around(position)
        if table is None:
            return field_header(self._fields, position)
        if not table.header:
            return ""
        row = max(bisect_right(table.rows, (position, len(self._text))) - 1, 0)
        start = table.rows[row][0] if table.rows else position
        n_cells = self._count_cells(start, position) if start < position else 0
        if n_cells < 1:
            return table.header
        names = split_row(table.header)
        key = split_row(self._text[start : start + MAX_HEADER])[0]
        key = f"{names[0]}: {key}" if names[0] else key
        return join_row([key[:_MAX_KEY], *names[n_cells:]])

    def _count_cells(self, start: int, position: int) -> int:
        """Return the number of cells that end between the start of a row and `position`.

        The count of an earlier position in the row is continued, for linear total time.
        """
        row, counted, n_bars = self._counted
        if row != start or counted > position:
            counted, n_bars = start, 0
        n_bars += sum(1 for _ in BAR.finditer(self._text, counted, position))
        self._counted = (start, position, n_bars)
        return n_bars - self._text.startswith("|", start)

    def _around(self, position: int) -> Table | None:
        """Return the table that has begun before `position` and ends behind it."""
        i = bisect_right(self._starts, position - 1) - 1
        return self._tables[i] if i >= 0 and position < self._tables[i].end else None
