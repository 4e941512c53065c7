"""Convert CSV rows and JSON objects to documents."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

from ragkit.documents.json_values import JsonReader, skip_space
from ragkit.documents.losses import LossList
from ragkit.documents.text import clean, decode, parse_scalar, to_json_value, to_metadata
from ragkit.errors import DocumentError
from ragkit.types import Document, Loss

_ID_FIELDS = ("_id", "id")
TEXT_FIELDS = ("text", "contents")
_LINE = re.compile(r"[^\n]*\n?")
_MAX_BAD_LINES = 100_000


class Records(Sequence[Document]):
    """Sequence of the documents of a file's records, which are created while iterating.

    A file of 100 MB may have millions of records, whose documents would take gigabytes.
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
        position = index + self._count if index < 0 else index
        if not 0 <= position < self._count:
            raise IndexError(f"document {index} of {self._count}")
        return next(itertools.islice(self, position, None))


def find_id_field(fields: Mapping[str, Any]) -> str:
    """Return the name of the field with the record's id, or an empty string."""
    return next((name for name in _ID_FIELDS if fields.get(name) not in (None, "")), "")


def to_document(
    fields: Mapping[str, Any], document_id: str, source: str, kind: str, *, id_field: str = ""
) -> Document:
    """Convert one record to a document.

    The text is the `text` or `contents` field, and the other fields are metadata. Without such a
    field, the text is one line "name: value" for each field with a value. The text of a record
    that has only a title is the title.

    Args:
        fields: The record: a JSON object, or the strings of a CSV row, whose numbers, true and
            false are converted in the metadata.
        document_id: Id of the document.
        source: Id of the file.
        kind: "csv", "json" or "jsonl", for `metadata["format"]`.
        id_field: The field that the id came from, which is left out of the metadata.

    >>> row = {"title": "Iron", "text": "A metal.", "group": "8"}
    >>> to_document(row, "d1", "elements.csv", "csv")
    Document(id='d1', text='A metal.', title='Iron', source='elements.csv', \
metadata={'group': 8, 'format': 'csv'})
    """
    text_field = _find_text_field(fields)
    title = fields.get("title")
    title = clean(title) if isinstance(title, str) else ""
    text = clean(fields[text_field]) if text_field else _to_lines(fields)
    used = {text_field, "title" if title or fields.get("title") == "" else "", id_field}
    others = {name: value for name, value in fields.items() if name not in used}
    if kind == "csv":
        others = {name: parse_scalar(value) for name, value in others.items()}
    nested = others.pop("metadata") if isinstance(others.get("metadata"), dict) else {}
    metadata = {**to_metadata({**nested, **others}), "format": kind}
    return Document(document_id, text if text.strip() else title, title, source, metadata)


def has_text(fields: Mapping[str, Any]) -> bool:
    """Return True if the record's document would have a text.

    >>> [has_text(fields) for fields in ({"a": 1}, {"a": None}, {"text": " ", "a": 1})]
    [True, False, False]
    """
    text_field, title = _find_text_field(fields), fields.get("title")
    if (text_field and fields[text_field].strip()) or (isinstance(title, str) and title.strip()):
        return True
    return not text_field and any(value is not None and value != "" for value in fields.values())


def _find_text_field(fields: Mapping[str, Any]) -> str:
    """Return the name of the field with the text, or an empty string."""
    names = [name for name in TEXT_FIELDS if isinstance(fields.get(name), str)]
    return next((name for name in names if fields[name].strip()), names[0] if names else "")


def _to_lines(fields: Mapping[str, Any]) -> str:
    lines = []
    for name, value in fields.items():
        value = to_json_value(value)
        if value is None or value == "":
            continue
        value_text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        lines.append(f"{clean(name)}: {value_text}")
    return "\n".join(lines)


def read_jsonl(data: bytes, name: str, *, encoding: str = "") -> tuple[Records, tuple[Loss, ...]]:
    """Read one document per line; report bad lines as losses.

    Raises:
        DocumentError: More than 100,000 lines, and more than nine in ten, are not JSON.
    """
    text, decoding_losses = decode(data, name, encoding=encoding)
    reader = JsonReader()

    def lines() -> Iterator[tuple[int, Any]]:
        return _parse_lines(text, name, reader)

    return _records(lines, reader, name, "jsonl", decoding_losses)


def read_json(data: bytes, name: str, *, encoding: str = "") -> tuple[Records, tuple[Loss, ...]]:
    """Read the records of a JSON array, or a JSON object as the only record.

    Raises:
        DocumentError: The file is not JSON, or neither an array nor an object.
    """
    text, decoding_losses = decode(data, name, encoding=encoding)
    reader = JsonReader()
    start = skip_space(text, 0)

    def items() -> Iterator[tuple[int, Any]]:
        return enumerate(reader.iter_items(text, start), start=1)

    try:
        if text.startswith("[", start):
            return _records(items, reader, name, "json", decoding_losses)
        value = reader.parse(text)
    except ValueError as error:
        reason = str(error)
        if not reason.startswith("too big"):
            reason = f"broken: it is not JSON: {reason}"
        raise DocumentError(f"{name}: {reason}") from error
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise DocumentError(f"{name}: broken: expected an array or an object, got a {kind}")
    id_field = find_id_field(value)
    document_id = clean(str(value[id_field])) if id_field else name
    document = to_document(value, document_id, name, "json", id_field=id_field)
    losses = LossList(name)
    _report_repeated(reader, losses, name)
    documents = [document] if document.text.strip() else []
    return Records(len(documents), lambda: iter(documents)), (*decoding_losses, *losses.all())


def _parse_lines(text: str, name: str, reader: JsonReader) -> Iterator[tuple[int, Any]]:
    """Yield each line's number and value; for a bad line the value is a ValueError."""
    n_good = n_bad = 0
    for number, match in enumerate(_LINE.finditer(text), start=1):
        line = match.group().strip()
        if not line:
            continue
        try:
            value = reader.parse(line)
            n_good += 1
        except ValueError as error:
            value = ValueError(str(error))
            n_bad += 1
            if n_bad > max(_MAX_BAD_LINES, 9 * n_good):
                why = (
                    f"{n_bad} of its first {number} lines are not JSON, e.g. line {number}: {error}"
                )
                raise DocumentError(f"{name}: broken: {why}") from error
        yield number, value


def _records(
    values: Callable[[], Iterable[tuple[int, Any]]],
    reader: JsonReader,
    name: str,
    kind: str,
    decoding_losses: tuple[Loss, ...],
) -> tuple[Records, tuple[Loss, ...]]:
    """Check every value once and report losses; create the documents when they are iterated."""
    losses = LossList(name)
    accepted = bytearray()  # 1 for each value that becomes a document, else 0
    first_numbers: dict[str, int] = {}
    for number, value in values():
        reason = _rejection(value, number, first_numbers, name, kind)
        accepted.append(not reason)
        if reason:
            losses.report(f"{name} {_UNITS[kind]} {number}", reason)
    _report_repeated(reader, losses, name)

    def make() -> Iterator[Document]:
        for is_accepted, (number, value) in zip(accepted, values(), strict=True):
            if is_accepted:
                id_field, document_id = _document_id(value, number, name)
                yield to_document(value, document_id, name, kind, id_field=id_field)

    return Records(sum(accepted), make), (*decoding_losses, *losses.all())


_UNITS = {"json": "item", "jsonl": "line"}


def _rejection(value: Any, number: int, first_numbers: dict[str, int], name: str, kind: str) -> str:
    """Return why a value is not a document, or an empty string.

    `first_numbers` maps the ids of earlier values to their numbers; the value's id is added.
    """
    if isinstance(value, ValueError):
        return f"it is not JSON: {value}"
    if not isinstance(value, dict):
        return f"expected an object, got a {type(value).__name__}"
    id_field, document_id = _document_id(value, number, name)
    if id_field and document_id in first_numbers:
        first = f"{_UNITS[kind]} {first_numbers[document_id]}"
        return f"{document_id!r} is already the id of {first}; make the ids unique"
    if not has_text(value):
        return "it has no text"
    if id_field:
        first_numbers[document_id] = number
    return ""


def _document_id(fields: Mapping[str, Any], number: int, name: str) -> tuple[str, str]:
    """Return the name of the id field, or an empty string, and the document's id."""
    id_field = find_id_field(fields)
    document_id = clean(str(fields[id_field])) if id_field else ""
    if not document_id or document_id.startswith(f"{name}#"):  # may clash with a generated id
        return "", f"{name}#{number}"
    return id_field, document_id


def _report_repeated(reader: JsonReader, losses: LossList, name: str) -> None:
    if reader.n_repeated:
        lost, kept = f"{reader.n_repeated} values", "the last value of each name"
        losses.report(name, "a name occurs twice in an object", lost=lost, kept=kept)
