"""CSV to Documents, one a row."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from ragkit.documents.records import TEXT_FIELDS, record
from ragkit.documents.text import decode, scalar
from ragkit.types import Document, Loss

_DELIMITERS = ",;\t|"


def read_csv(data: bytes, name: str, *, delimiter: str = "") -> tuple[list[Document], list[Loss]]:
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
    rows = [row for row in parse(text, delimiter or _delimiter(text)) if any(row)]
    if not rows:
        return [], list(found)
    names, rows = _columns(rows)
    own, keys = _keys(names, rows)
    documents: list[Document] = []
    losses: list[Loss] = list(found)
    for number, row in enumerate(rows, start=1):
        cells = zip(names, row, strict=False)
        fields = {column: cell for column, cell in cells if cell or column in TEXT_FIELDS}
        key = keys[number - 1] if keys else f"{name}#{number}"
        document = record(fields, key, name, "csv", own=own)
        if document.text.strip():
            documents.append(document)
        else:
            why = "its text is empty"
            losses.append(Loss("documents", f"{name} row {number}", "the row", "nothing", why))
    return documents, losses


def parse(text: str, delimiter: str) -> Iterator[list[str]]:
    r"""Rows of cells, quoted ones as in RFC 4180; a quote that is never closed is a character.

    Cells have any length: the `csv` module's limit is one for the whole process.

    >>> list(parse('a,"b ""c"", d"\n1,2\n', ","))
    [['a', 'b "c", d'], ['1', '2']]
    """
    mark = re.escape(delimiter)
    cell = re.compile(
        rf' *+"([^"]*+(?:""[^"]*+)*+)"([^{mark}\n]*+)({mark}|\n|\Z)|([^{mark}\n]*+)({mark}|\n|\Z)'
    )
    row: list[str] = []
    place = 0
    while place < len(text) or row:
        match = cell.match(text, place)
        if match is None:  # cannot be: the second form matches everywhere
            break
        quoted, rest, end, bare, bare_end = match.groups()
        row.append(bare.strip() if quoted is None else quoted.replace('""', '"') + rest.rstrip())
        place = match.end()
        if (end or bare_end) != delimiter:
            yield row
            row = []


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


def _columns(rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Unique column names, as many as the widest row has cells, and the rows below them."""
    width = max(len(row) for row in rows)
    filled = [cell for cell in rows[0] if cell]
    if all(isinstance(scalar(cell), int | float) for cell in filled):
        return [f"column {number}" for number in range(1, width + 1)], rows
    names: list[str] = []
    seen: Counter[str] = Counter()
    for number in range(1, width + 1):
        name = rows[0][number - 1] if number <= len(rows[0]) else ""
        name = " ".join(name.split()) or f"column {number}"
        seen[name] += 1
        while seen[name] > 1:
            name = f"{name} ({seen[name]})"
            seen[name] += 1
        names.append(name)
    return names, rows[1:]


def _keys(names: list[str], rows: list[list[str]]) -> tuple[str, list[str]]:
    """The id column and every row's own id; nothing if some row has none or shares it."""
    for column in ("_id", "id"):
        if column in names:
            place = names.index(column)
            keys = [row[place] if place < len(row) else "" for row in rows]
            if all(keys) and len(set(keys)) == len(keys):
                return column, keys
    return "", []
