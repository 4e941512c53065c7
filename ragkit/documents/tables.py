"""CSV to Documents, one a row."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterator

from ragkit.documents.losses import LossList
from ragkit.documents.records import TEXT_FIELDS, Records, has_text, record
from ragkit.documents.text import decode, scalar
from ragkit.types import Document, Loss

MAX_COLUMNS = 16_384  # of a spreadsheet
_DELIMITERS = ",;\t|"
_MAX_NAME = 200  # a name comes back in the text of every row
_N_LINES = 3  # that many lines in a cell that look like rows are taken for rows


def read_csv(data: bytes, name: str, *, delimiter: str = "") -> tuple[Records, tuple[Loss, ...]]:
    """One Document a row, the first row naming the columns.

    A row's id is its `_id` or `id` where every row has another one, else the file's id, `#` and
    the row's number from 1. A first row of nothing but numbers is data, and the columns are then
    called "column 1" and so on.

    Args:
        data: The file's bytes.
        name: The file's id.
        delimiter: What separates cells; found from the first lines if empty.
    """
    text, found = decode(data, name)
    table = _Table(text, delimiter or _delimiter(text))
    survey = _Survey(table, name)

    def make() -> Iterator[Document]:
        own = table.names[survey.id_place] if survey.id_place >= 0 else ""
        for number, row in enumerate(table.rows(), start=1):
            if survey.fit[number - 1]:
                key = row[survey.id_place] if own else f"{name}#{number}"
                yield record(table.fields(row), key, name, "csv", own=own)

    return Records(sum(survey.fit), make), (*found, *survey.losses.all())


class _Table:
    """The names of the columns, and the rows below them."""

    def __init__(self, text: str, delimiter: str) -> None:
        self.delimiter = delimiter
        self._text = text
        first = next(self._filled(), [])
        words = [cell for cell in first if cell]
        self.has_header = not all(isinstance(scalar(cell), int | float) for cell in words)
        self.width = len(first)
        self.names: list[str] = []
        self._seen: Counter[str] = Counter()
        for cell in first:
            self._add_name(" ".join(cell.split())[:_MAX_NAME] if self.has_header else "")
        self.long_names = [cell[:40] for cell in first if len(cell) > _MAX_NAME]

    def rows(self, unclosed: list[int] | None = None) -> Iterator[list[str]]:
        """The rows that hold anything; `unclosed` as for `parse`."""
        return itertools.islice(self._filled(unclosed), int(self.has_header), None)

    def fields(self, row: list[str]) -> dict[str, str]:
        """The cells by the names of their columns, without the empty ones."""
        while len(self.names) < len(row):
            self._add_name("")
        cells = zip(self.names, row, strict=False)
        return {column: cell for column, cell in cells if cell or column in TEXT_FIELDS}

    def _filled(self, unclosed: list[int] | None = None) -> Iterator[list[str]]:
        return (row for row in parse(self._text, self.delimiter, unclosed) if any(row))

    def _add_name(self, name: str) -> None:
        name = name or f"column {len(self.names) + 1}"
        self._seen[name] += 1
        while self._seen[name] > 1:
            name = f"{name} ({self._seen[name]})"
            self._seen[name] += 1
        self.names.append(name)


class _Survey:
    """What one look at every row tells: which become documents, their ids, what is odd.

    Attributes:
        fit: For each row whether it has a text.
        id_place: The column whose cells are the rows' ids, or -1.
    """

    def __init__(self, table: _Table, name: str) -> None:
        self.losses = LossList(name)
        self.fit = bytearray()
        self._table = table
        self._unclosed: list[int] = []
        self._odd: dict[str, list[int]] = {}  # what is odd: the first such row, how many there are
        ids = [table.names.index(own) for own in ("_id", "id") if own in table.names]
        digests = {place: bytearray() for place in ids if table.has_header}
        for number, row in enumerate(table.rows(self._unclosed), start=1):
            for place in list(digests):
                if place < len(row) and row[place]:
                    digests[place] += hashlib.blake2b(row[place].encode(), digest_size=8).digest()
                else:
                    del digests[place]
            self.fit.append(has_text(table.fields(row)))
            if not self.fit[-1]:
                self._lost(f"{name} row {number}", "the row", "nothing", "its text is empty")
            self._look(number, row)
        self.id_place = next((place for place in digests if _all_differ(digests[place])), -1)
        self._report(name)

    def _look(self, number: int, row: list[str]) -> None:
        table = self._table
        if table.has_header and len(row) > table.width and any(row[table.width :]):
            self._note("surplus", number)
        if table.width >= _N_LINES and any(
            "\n" in cell and _holds_rows(cell, table.delimiter, table.width) for cell in row
        ):
            self._note("swallowed", number)
        if self._unclosed:
            self._unclosed.clear()
            self._note("unclosed", number)

    def _note(self, oddity: str, number: int) -> None:
        self._odd.setdefault(oddity, [number, 0])[1] += 1

    def _report(self, name: str) -> None:
        width = self._table.width
        if self._table.long_names:
            why = f"at most {_MAX_NAME} characters; is the first row a header?"
            first = self._table.long_names[0]
            self._lost(name, "the ends of column names", f"{first!r} and so on", why)
        if "surplus" in self._odd:
            row, n_rows = self._odd["surplus"]
            why = f"row {row} has more cells than the {width} of the first row; quote what holds"
            lost = f"the places of cells in {n_rows} rows"
            self._lost(name, lost, "them as further columns", f"{why} {self._table.delimiter!r}")
        if "swallowed" in self._odd:
            row, n_rows = self._odd["swallowed"]
            why = f"a quoted cell of row {row} holds lines that look like rows; close its quote"
            self._lost(name, f"perhaps rows, in {n_rows} rows", "them as text of a cell", why)
        if "unclosed" in self._odd:
            row, n_rows = self._odd["unclosed"]
            why = f"a cell of row {row} begins with a quote that no cell's end closes; double it"
            lost = f"perhaps the borders of cells in {n_rows} rows"
            self._lost(name, lost, "the quotes as characters", why)
        if len(self._table.names) > MAX_COLUMNS:
            why = f"more than {MAX_COLUMNS} cells in a row; is the delimiter right?"
            self._lost(name, "the cells behind", "them as one cell", why)

    def _lost(self, what: str, lost: str, kept: str, why: str) -> None:
        self.losses.lost(what, why, lost=lost, kept=kept)


def _all_differ(digests: bytearray) -> bool:
    """Whether no 8 bytes come twice."""
    import numpy as np

    values = np.sort(np.frombuffer(digests, dtype=np.uint64))  # (rows,)
    return values.size > 0 and not bool((values[1:] == values[:-1]).any())


def _holds_rows(cell: str, delimiter: str, width: int) -> bool:
    """Whether the lines inside, first and last aside, look like rows of this width."""
    lines = cell[:65536].split("\n")[1:-1]
    return len(lines) >= _N_LINES and all(line.count(delimiter) == width - 1 for line in lines)


def parse(text: str, delimiter: str, unclosed: list[int] | None = None) -> Iterator[list[str]]:
    r"""Rows of cells, quoted ones as in RFC 4180; what follows the last of `MAX_COLUMNS` is one.

    A quote that is never closed, or closed before the cell ends, is a character. Cells have any
    length: the `csv` module's limit is one for the whole process.

    Args:
        text: The table.
        delimiter: What separates cells.
        unclosed: Takes the places of cells whose first quote crosses the cell's end.

    >>> list(parse('a,"b ""c"", d"\n1,2\n"5"" x,"y" z\n', ","))
    [['a', 'b "c", d'], ['1', '2'], ['"5"" x', '"y" z']]
    """
    mark = re.escape(delimiter)
    cell = re.compile(
        rf' *+"([^"]*+(?:""[^"]*+)*+)"[ ]*+({mark}|\n|\Z)|([^{mark}\n]*+)({mark}|\n|\Z)'
    )
    place = 0
    while place < len(text):
        end = text.find("\n", place)
        end = len(text) if end < 0 else end
        if text.find('"', place, end) < 0:
            yield [word.strip() for word in text[place:end].split(delimiter, MAX_COLUMNS)]
            place = end + 1
        else:
            row, place = _quoted_row(text, place, cell, unclosed)
            yield row


def _quoted_row(
    text: str, place: int, cell: re.Pattern[str], unclosed: list[int] | None
) -> tuple[list[str], int]:
    """The row that begins at `place`, and where the next one does."""
    row: list[str] = []
    while len(row) < MAX_COLUMNS and (match := cell.match(text, place)):
        quoted, end, bare, bare_end = match.groups()
        if quoted is None:
            quoted, end = bare.strip(), bare_end
            if unclosed is not None and quoted.startswith('"') and quoted.count('"') % 2:
                unclosed.append(place)
        else:
            quoted = quoted.replace('""', '"')
        row.append(quoted)
        place = match.end()
        if end in {"\n", ""}:
            return row, place
    end_of_line = text.find("\n", place)
    end_of_line = len(text) if end_of_line < 0 else end_of_line
    return [*row, text[place:end_of_line].strip()], end_of_line + 1


def _delimiter(text: str) -> str:
    """The candidate that cuts the first lines into equally many cells, most of all."""
    head = text[:65536]
    if len(text) > len(head) and "\n" in head:
        head = head[: head.rindex("\n") + 1]
    best = (0.0, 0, ",")
    for delimiter in _DELIMITERS:
        widths = [len(row) for row, _ in zip(parse(head, delimiter), range(50), strict=False)]
        width, n_rows = Counter(widths).most_common(1)[0] if widths else (1, 0)
        if width > 1:
            best = max(best, (n_rows / len(widths), width, delimiter), key=lambda item: item[:2])
    return best[2]
