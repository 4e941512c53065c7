"""Rows and JSON objects to Documents, by one set of rules for ids, titles and texts."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

from ragkit.documents.json_values import JsonReader, skip_space
from ragkit.documents.losses import LossList
from ragkit.documents.text import clean, decode, own_fields, plain, scalar
from ragkit.errors import DocumentError
from ragkit.types import Document, Loss

_ID_FIELDS = ("_id", "id")
TEXT_FIELDS = ("text", "contents")
_LINE = re.compile(r"[^\n]*\n?")
_MAX_BAD_LINES = 100_000


class Records(Sequence[Document]):
    """The documents of a file's records, made anew by each loop over them.

    A file of 100 MB may hold millions of records, which as documents would take gigabytes.
    """

    def __init__(self, count: int, make: Callable[[], Iterator[Document]]) -> None:
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Document]:
        return self._make()

    @overload
    def __getitem__(self, index: int) -> Document: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Document]: ...

    def __getitem__(self, index: int | slice) -> Document | Sequence[Document]:
        if isinstance(index, slice):
            return tuple(self)[index]
        place = index + self._count if index < 0 else index
        if not 0 <= place < self._count:
            raise IndexError(f"document {index} of {self._count}")
        return next(itertools.islice(self, place, None))


def id_field(fields: Mapping[str, Any]) -> str:
    """The name of the field that holds a record's own id, or an empty string."""
    return next((name for name in _ID_FIELDS if fields.get(name) not in (None, "")), "")


def record(
    fields: Mapping[str, Any], key: str, source: str, kind: str, *, own: str = ""
) -> Document:
    """One record as a Document.

    The text is the `text` or `contents` field and the rest metadata; without such a field it is
    one line "name: value" for each field that has a value. A record with a title and no text says
    its title.

    Args:
        fields: The record: what JSON holds, or the strings of a CSV row, whose whole numbers,
            decimals, true and false are typed in the metadata.
        key: The document's id.
        source: The file's id.
        kind: "csv", "json" or "jsonl", for `metadata["format"]`.
        own: The field that the id came from, which is then no metadata.

    >>> record({"title": "Iron", "text": "A metal.", "group": "8"}, "d1", "elements.csv", "csv")
    Document(id='d1', text='A metal.', title='Iron', source='elements.csv', \
metadata={'group': 8, 'format': 'csv'})
    """
    body = _body(fields)
    title = fields.get("title")
    title = clean(title) if isinstance(title, str) else ""
    text = clean(fields[body]) if body else _lines(fields)
    used = {body, "title" if title or fields.get("title") == "" else "", own}
    others = {name: value for name, value in fields.items() if name not in used}
    if kind == "csv":
        others = {name: scalar(value) for name, value in others.items()}
    nested = others.pop("metadata") if isinstance(others.get("metadata"), dict) else {}
    metadata = {**own_fields({**nested, **others}), "format": kind}
    return Document(key, text if text.strip() else title, title, source, metadata)


def has_text(fields: Mapping[str, Any]) -> bool:
    """Whether the record as a Document has a text.

    >>> [has_text(fields) for fields in ({"a": 1}, {"a": None}, {"text": " ", "a": 1})]
    [True, False, False]
    """
    body, title = _body(fields), fields.get("title")
    if (body and fields[body].strip()) or (isinstance(title, str) and title.strip()):
        return True
    return not body and any(value is not None and value != "" for value in fields.values())


def _body(fields: Mapping[str, Any]) -> str:
    """The name of the field that is the text, or an empty string."""
    bodies = [name for name in TEXT_FIELDS if isinstance(fields.get(name), str)]
    return next((name for name in bodies if fields[name].strip()), bodies[0] if bodies else "")


def _lines(fields: Mapping[str, Any]) -> str:
    lines = []
    for name, value in fields.items():
        value = plain(value)
        if value is None or value == "":
            continue
        word = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        lines.append(f"{clean(name)}: {word}")
    return "\n".join(lines)


def read_jsonl(data: bytes, name: str) -> tuple[Records, tuple[Loss, ...]]:
    """One Document a line; a bad line is a loss.

    Raises:
        DocumentError: Over 100,000 lines, and nine of ten, are not JSON.
    """
    text, found = decode(data, name)
    reader = JsonReader()
    return _records(lambda: _json_lines(text, name, reader), reader, name, "jsonl", found)


def read_json(data: bytes, name: str) -> tuple[Records, tuple[Loss, ...]]:
    """The records of a JSON array, or the one of an object.

    Raises:
        DocumentError: It is not JSON, or neither array nor object.
    """
    text, found = decode(data, name)
    reader = JsonReader()
    start = skip_space(text, 0)

    def items() -> Iterator[tuple[int, Any]]:
        return enumerate(reader.items(text, start), start=1)

    try:
        if text.startswith("[", start):
            return _records(items, reader, name, "json", found)
        value = reader.value(text)
    except ValueError as error:
        reason = str(error)
        if not reason.startswith("too big"):
            reason = f"broken: it is not JSON: {reason}"
        raise DocumentError(f"{name}: {reason}") from error
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise DocumentError(f"{name}: broken: an array or object was expected, this is a {kind}")
    own = id_field(value)
    document = record(value, clean(str(value[own])) if own else name, name, "json", own=own)
    losses = LossList(name)
    _note_repeated(reader, losses, name)
    documents = [document] if document.text.strip() else []
    return Records(len(documents), lambda: iter(documents)), (*found, *losses.all())


def _json_lines(text: str, name: str, reader: JsonReader) -> Iterator[tuple[int, Any]]:
    """Each line's number and value; a ValueError for a value that cannot be read."""
    n_good = n_bad = 0
    for number, match in enumerate(_LINE.finditer(text), start=1):
        line = match.group().strip()
        if not line:
            continue
        try:
            value = reader.value(line)
            n_good += 1
        except ValueError as error:
            value = ValueError(str(error))
            n_bad += 1
            if n_bad > max(_MAX_BAD_LINES, 9 * n_good):
                why = f"{n_bad} of its first {number} lines are not JSON, as line {number}: {error}"
                raise DocumentError(f"{name}: broken: {why}") from error
        yield number, value


def _records(
    values: Callable[[], Iterable[tuple[int, Any]]],
    reader: JsonReader,
    name: str,
    kind: str,
    found: tuple[Loss, ...],
) -> tuple[Records, tuple[Loss, ...]]:
    """Looks at every value once, for the losses; the documents are made later."""
    losses = LossList(name)
    fit = bytearray()  # whether each value becomes a document
    places: dict[str, int] = {}
    for number, value in values():
        reason = _why_not(value, number, places, name, kind)
        fit.append(not reason)
        if reason:
            losses.lost(f"{name} {_UNITS[kind]} {number}", reason)
    _note_repeated(reader, losses, name)

    def make() -> Iterator[Document]:
        for is_fit, (number, value) in zip(fit, values(), strict=True):
            if is_fit:
                own, key = _key(value, number, name)
                yield record(value, key, name, kind, own=own)

    return Records(sum(fit), make), (*found, *losses.all())


_UNITS = {"json": "item", "jsonl": "line"}


def _why_not(value: Any, number: int, places: dict[str, int], name: str, kind: str) -> str:
    """Why a value is no document, or an empty string; `places` holds the ids met before."""
    if isinstance(value, ValueError):
        return f"it is not JSON: {value}"
    if not isinstance(value, dict):
        return f"an object was expected, this is a {type(value).__name__}"
    own, key = _key(value, number, name)
    if own and key in places:
        unit = _UNITS[kind]
        return f"{key!r} is the id of {unit} {places[key]} already; make the ids unique"
    if not has_text(value):
        return "it has no text"
    if own:
        places[key] = number
    return ""


def _key(fields: Mapping[str, Any], number: int, name: str) -> tuple[str, str]:
    """The field that holds the id, if any, and the id."""
    own = id_field(fields)
    key = clean(str(fields[own])) if own else ""
    if not key or key.startswith(f"{name}#"):  # else it might be the one that another record gets
        return "", f"{name}#{number}"
    return own, key


def _note_repeated(reader: JsonReader, losses: LossList, name: str) -> None:
    if reader.n_repeated:
        lost, kept = f"{reader.n_repeated} values", "the last value of each name"
        losses.lost(name, "a name comes twice in an object", lost=lost, kept=kept)
