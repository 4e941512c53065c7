"""Read CSV into documents, one per row."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ragkit.documents.losses import LossList
from ragkit.documents.records import TEXT_FIELDS, RecordIds, Records, has_text, to_document
from ragkit.documents.scalars import ColumnType, is_number
from ragkit.documents.text import decode
from ragkit.types import Document, Loss

MAX_COLUMNS = 16_384  # maximum of spreadsheet programs
_DELIMITERS = ",;\t|"
_SEPARATOR = re.compile(r'"?sep=([^\w\s"]|\t)"?[^\S\n]*(?:\n|\Z)', re.IGNORECASE)
_MAX_TITLES = 10  # rows above the header
_MAX_NAME = 200  # characters; a name is repeated in the text of every row
_N_HEAD = 50  # rows by which titles and the delimiter are recognised
_N_LINES = 3  # minimum number of row-like lines in a cell for a warning


def read_csv(
    data: bytes, name: str, *, delimiter: str = "", encoding: str = "", raw_ids: bool = False
) -> tuple[Records, tuple[Loss, ...]]:
    """Read one document per row; the first row names the columns.

    A row's own id is its `_id` or `id` if these are unique in the file, else rows are numbered from
    1. A first row of numbers only is data, and the columns are then called "column 1" and so on. A
    first line "sep=;" names the delimiter. Rows of one cell above the header are the title of each
    row that has none. The metadata have types, see `ColumnType`.

    Args:
        data: Content of the file.
        name: Id of the file.
        delimiter: Cell separator; detected from the first lines if empty.
        encoding: Encoding of a file that is not UTF-8; guessed if empty.
        raw_ids: See `RecordIds`; own ids are then used even if some repeat or are missing.
    """
    text, decoding_losses = decode(data, name, encoding=encoding)
    if declared := _SEPARATOR.match(text):
        text = text[declared.end() :]
        delimiter = delimiter or declared[1]
    table = _Table(text, delimiter or _detect_delimiter(text))
    survey = _Survey(table, name, raw_ids=raw_ids)

    def make() -> Iterator[Document]:
        column = survey.id_column
        ids = RecordIds(name, raw=raw_ids, mixed=column >= 0)
        for number, row in enumerate(table.rows(), start=1):
            if survey.accepted[number - 1]:
                own_id = row[column] if 0 <= column < len(row) else ""
                id_field = table.names[column] if own_id else ""
                fields = table.fields(row)
                typed = {key: survey.types[key].convert(cell) for key, cell in fields.items()}
                document_id = ids.of(own_id, number)
                document = to_document(
                    fields, document_id, name, "csv", id_field=id_field, typed=typed
                )
                yield document if document.title else replace(document, title=table.title)

    return Records(sum(survey.accepted), make), (*decoding_losses, *survey.losses.all())


class _Table:
    """Table with its column names and data rows."""

    def __init__(self, text: str, delimiter: str) -> None:
        self.delimiter = delimiter
        self._text = text
        head = list(itertools.islice(self._nonempty_rows(), _N_HEAD))
        titles = _find_titles(head)
        self.title = " – ".join(titles)[:_MAX_NAME]  # noqa: RUF001
        self._n_above = len(titles)
        first = head[len(titles)] if head else []
        filled = [cell for cell in first if cell]
        self.has_header = not all(map(is_number, filled))
        self.width = len(first)
        self.names: list[str] = []
        self._seen: Counter[str] = Counter()
        for cell in first:
            self._add_name(" ".join(cell.split())[:_MAX_NAME] if self.has_header else "")
        self.long_names = [cell[:40] for cell in first if len(cell) > _MAX_NAME]

    def rows(self, unclosed: list[int] | None = None) -> Iterator[list[str]]:
        """Iterate over the non-empty data rows; `unclosed` as for `parse`."""
        n_above = self._n_above + self.has_header
        return itertools.islice(self._nonempty_rows(unclosed), n_above, None)

    def fields(self, row: list[str]) -> dict[str, str]:
        """Return the non-empty cells by column name."""
        while len(self.names) < len(row):
            self._add_name("")
        cells = zip(self.names, row, strict=False)
        return {column: cell for column, cell in cells if cell or column in TEXT_FIELDS}

    def _nonempty_rows(self, unclosed: list[int] | None = None) -> Iterator[list[str]]:
        return (row for row in parse(self._text, self.delimiter, unclosed) if any(row))

    def _add_name(self, name: str) -> None:
        name = name or f"column {len(self.names) + 1}"
        self._seen[name] += 1
        while self._seen[name] > 1:
            name = f"{name} ({self._seen[name]})"
            self._seen[name] += 1
        self.names.append(name)


def _find_titles(head: Sequence[Sequence[str]]) -> list[str]:
    """Return the only cells of the first rows, if most rows have several cells."""
    n_filled = [sum(map(bool, row)) for row in head]
    n_titles = next((i for i, n in enumerate(n_filled) if n > 1), 0)
    is_table = sum(n > 1 for n in n_filled) > len(head) // 2
    if not is_table or n_titles > _MAX_TITLES:
        return []
    return [" ".join(" ".join(filter(None, row)).split()) for row in head[:n_titles]]


class _Survey:
    """First pass over the rows: finds the id column, empty rows and irregular rows.

    Attributes:
        losses: Losses of the table.
        accepted: 1 for each row that has a text, else 0.
        id_column: Index of the column with the rows' ids, or -1.
        types: Types of the columns by name.
    """

    def __init__(self, table: _Table, name: str, *, raw_ids: bool) -> None:
        self.losses = LossList(name)
        self.accepted = bytearray()
        self.types: defaultdict[str, ColumnType] = defaultdict(ColumnType)
        self._table = table
        self._unclosed: list[int] = []
        self._odd: dict[str, list[int]] = {}  # kind -> [first such row, number of such rows]
        ids = [table.names.index(id_name) for id_name in ("_id", "id") if id_name in table.names]
        digests = {column: bytearray() for column in ids if table.has_header}
        for number, row in enumerate(table.rows(self._unclosed), start=1):
            for column in [] if raw_ids else list(digests):
                if column < len(row) and row[column]:
                    digests[column] += hashlib.blake2b(row[column].encode(), digest_size=8).digest()
                else:
                    del digests[column]
            fields = table.fields(row)
            for column_name, cell in fields.items():
                self.types[column_name].add(cell)
            self.accepted.append(has_text(fields))
            if not self.accepted[-1]:
                self._lost(f"{name} row {number}", "the row", "nothing", "its text is empty")
            self._check_row(number, row)
        usable = (column for column in digests if raw_ids or _all_differ(digests[column]))
        self.id_column = next(usable, -1)
        self._report(name)

    def _check_row(self, number: int, row: list[str]) -> None:
        table = self._table
        if table.has_header and len(row) > table.width and any(row[table.width :]):
            self._count("surplus", number)
        if table.width >= _N_LINES and any(
            "\n" in cell and _contains_rows(cell, table.delimiter, table.width) for cell in row
        ):
            self._count("swallowed", number)
        if self._unclosed:
            self._unclosed.clear()
            self._count("unclosed", number)

    def _count(self, kind: str, number: int) -> None:
        self._odd.setdefault(kind, [number, 0])[1] += 1

    def _report(self, name: str) -> None:
        width = self._table.width
        if self._table.long_names:
            why = f"at most {_MAX_NAME} characters; is the first row a header?"
            first = self._table.long_names[0]
            self._lost(name, "the ends of column names", f"{first!r} and so on", why)
        if "surplus" in self._odd:
            row, n_rows = self._odd["surplus"]
            remedy = f"quote cells containing {self._table.delimiter!r}"
            why = f"row {row} has more cells than the {width} of the first row; {remedy}"
            lost = f"the columns of cells in {n_rows} rows"
            self._lost(name, lost, "additional columns", why)
        if "swallowed" in self._odd:
            row, n_rows = self._odd["swallowed"]
            why = f"a quoted cell of row {row} contains lines that look like rows; close its quote"
            self._lost(name, f"possibly rows, in {n_rows} rows", "the lines in a cell", why)
        if "unclosed" in self._odd:
            row, n_rows = self._odd["unclosed"]
            why = (
                f"a cell of row {row} begins with a quote that is not closed at its end; double it"
            )
            lost = f"possibly the borders of cells in {n_rows} rows"
            self._lost(name, lost, "the quotes as characters", why)
        if len(self._table.names) > MAX_COLUMNS:
            why = f"more than {MAX_COLUMNS} cells in a row; is the delimiter right?"
            self._lost(name, "the further cells", "them as one cell", why)

    def _lost(self, what: str, lost: str, kept: str, why: str) -> None:
        self.losses.report(what, why, lost=lost, kept=kept)


def _all_differ(digests: bytearray) -> bool:
    """Return True if all 8-byte digests are distinct and there is at least one."""
    import numpy as np

    values = np.sort(np.frombuffer(digests, dtype=np.uint64))  # (rows,)
    return values.size > 0 and not bool((values[1:] == values[:-1]).any())


def _contains_rows(cell: str, delimiter: str, width: int) -> bool:
    """Return True if the inner lines of a cell look like rows with `width` cells."""
    lines = cell[:65536].split("\n")[1:-1]
    return len(lines) >= _N_LINES and all(line.count(delimiter) == width - 1 for line in lines)


def parse(text: str, delimiter: str, unclosed: list[int] | None = None) -> Iterator[list[str]]:
    r"""Yield rows of cells, with quotes as in RFC 4180.

    A quote that is never closed, or that is closed before the end of the cell, is an ordinary
    character. From column `MAX_COLUMNS` on, the rest of a row is one cell. The length of cells is
    not limited; the limit of the `csv` module is global to the process.

    Args:
        text: The table.
        delimiter: Cell separator.
        unclosed: List to which the offsets of cells with an unclosed first quote are appended.

    >>> list(parse('a,"b ""c"", d"\n1,2\n"5"" x,"y" z\n', ","))
    [['a', 'b "c", d'], ['1', '2'], ['"5"" x', '"y" z']]
    """
    separator = re.escape(delimiter)
    cell = re.compile(
        rf' *+"([^"]*+(?:""[^"]*+)*+)"[ ]*+({separator}|\n|\Z)'
        rf"|([^{separator}\n]*+)({separator}|\n|\Z)"
    )
    offset = 0
    while offset < len(text):
        end = text.find("\n", offset)
        end = len(text) if end < 0 else end
        if text.find('"', offset, end) < 0:
            yield [part.strip() for part in text[offset:end].split(delimiter, MAX_COLUMNS)]
            offset = end + 1
        else:
            row, offset = _quoted_row(text, offset, cell, unclosed)
            yield row


def _quoted_row(
    text: str, offset: int, cell: re.Pattern[str], unclosed: list[int] | None
) -> tuple[list[str], int]:
    """Return the row that begins at `offset`, and the offset of the next row."""
    row: list[str] = []
    while len(row) < MAX_COLUMNS and (match := cell.match(text, offset)):
        value, end, bare, bare_end = match.groups()
        if value is None:
            value, end = bare.strip(), bare_end
            if unclosed is not None and value.startswith('"') and value.count('"') % 2:
                unclosed.append(offset)
        else:
            value = value.replace('""', '"')
        row.append(value)
        offset = match.end()
        if end in {"\n", ""}:
            return row, offset
    end_of_line = text.find("\n", offset)
    end_of_line = len(text) if end_of_line < 0 else end_of_line
    return [*row, text[offset:end_of_line].strip()], end_of_line + 1


def _detect_delimiter(text: str) -> str:
    """Return the delimiter that splits most of the first lines into the same number of cells."""
    head = text[:65536]
    if len(text) > len(head) and "\n" in head:
        head = head[: head.rindex("\n") + 1]
    best = (0.0, 0, ",")
    for delimiter in _DELIMITERS:
        widths = [len(row) for row, _ in zip(parse(head, delimiter), range(_N_HEAD), strict=False)]
        width, n_rows = Counter(widths).most_common(1)[0] if widths else (1, 0)
        if width > 1:
            best = max(best, (n_rows / len(widths), width, delimiter), key=lambda item: item[:2])
    return best[2]
