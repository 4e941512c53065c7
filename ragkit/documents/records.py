"""Convert CSV rows and JSON objects to documents."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

from ragkit.documents.json_values import JsonReader, skip_space
from ragkit.documents.losses import LossList
from ragkit.documents.text import clean, decode, to_json_value, to_metadata
from ragkit.errors import DocumentError
from ragkit.types import Document, Loss

_ID_FIELDS = ("_id", "id")
TEXT_FIELDS = ("text", "contents")
_CORPUS_FIELDS = ("_id", "contents")
_LONGEST_FIELD = 1000  # characters; a longer list or object is data, such as a vector
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


@dataclass(frozen=True, slots=True)
class RecordIds:
    """Ids of the documents of a file's records.

    A record with an own id is FILE#ID, one without is FILE#N with its number N. In a file that has
    both kinds the latter is FILE@N, because an own id may be a number.

    Attributes:
        file: Id of the file.
        raw: Use own ids as they are, without the file. They may then repeat.
        mixed: Some records have own ids and some have none.

    >>> RecordIds("elements.csv").of("Fe", 26), RecordIds("elements.csv", raw=True).of("Fe", 26)
    ('elements.csv#Fe', 'Fe')
    >>> RecordIds("notes.jsonl").of("", 3), RecordIds("notes.jsonl", mixed=True).of("", 3)
    ('notes.jsonl#3', 'notes.jsonl@3')
    """

    file: str
    raw: bool = False
    mixed: bool = False

    def of(self, own_id: str, number: int) -> str:
        """Return the document id of a record; `own_id` is empty if it has none."""
        if own_id:
            return own_id if self.raw else f"{self.file}#{own_id}"
        return f"{self.file}{'@' if self.mixed else '#'}{number}"


def to_document(
    fields: Mapping[str, Any],
    document_id: str,
    source: str,
    kind: str,
    *,
    id_field: str = "",
    typed: Mapping[str, Any] | None = None,
) -> Document:
    """Convert one record to a document.

    The text is the `text` or `contents` field, an empty line, and one line "name: value" for each
    other field with a value, except title and id; the others are also metadata. A field whose value
    takes more than 1000 characters, and the object `metadata`, are metadata only. Without a text
    field, the text is these lines of all fields. The text of a record that has only a title is the
    title.

    The records of evaluation corpora have a field `_id` (BEIR) or `contents` (Pyserini); their text
    is the field alone.

    Args:
        fields: The record: a JSON object, or the strings of a CSV row.
        document_id: Id of the document.
        source: Id of the file.
        kind: "csv", "json" or "jsonl", for `metadata["format"]`.
        id_field: The field that the id came from, which is left out of the metadata.
        typed: The values of the fields as metadata; default: `fields`.

    >>> row = {"title": "Iron", "text": "A metal.", "group": "8"}
    >>> to_document(row, "d1", "elements.csv", "csv")
    Document(id='d1', text='A metal.\\n\\ngroup: 8', title='Iron', source='elements.csv', \
metadata={'group': '8', 'format': 'csv'}, layout=())
    """
    text_field = _find_text_field(fields)
    title = fields.get("title")
    used = {text_field, "title" if isinstance(title, str) else "", id_field}
    title = clean(title) if isinstance(title, str) else ""
    if text_field:
        text = clean(fields[text_field])
        lines = _to_lines(_searchable(fields, used))
        text = "\n\n".join(part for part in (text, lines) if part.strip())
    else:
        text = _to_lines(fields)
    others = {name: value for name, value in (typed or fields).items() if name not in used}
    nested = others.pop("metadata") if isinstance(others.get("metadata"), dict) else {}
    metadata = {**to_metadata({**nested, **others}), "format": kind}
    return Document(document_id, text if text.strip() else title, title, source, metadata)


def has_text(fields: Mapping[str, Any]) -> bool:
    """Return True if the record's document would have a text.

    >>> [has_text(fields) for fields in ({"a": 1}, {"a": None}, {"_id": 1, "text": " ", "a": 1})]
    [True, False, False]
    """
    text_field, title = _find_text_field(fields), fields.get("title")
    if (text_field and fields[text_field].strip()) or (isinstance(title, str) and title.strip()):
        return True
    others = _searchable(fields, {text_field, *_ID_FIELDS}) if text_field else fields
    return any(value is not None and value != "" for value in others.values())


def _searchable(fields: Mapping[str, Any], used: Container[str]) -> Mapping[str, Any]:
    """Return the fields that are written after the text."""
    if any(name in fields for name in _CORPUS_FIELDS):
        return {}
    return {
        name: value
        for name, value in fields.items()
        if name not in used
        and not (name == "metadata" and isinstance(value, dict))
        and (not isinstance(value, list | dict) or len(_to_lines({"": value})) <= _LONGEST_FIELD)
    }


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


def read_jsonl(
    data: bytes, name: str, *, encoding: str = "", raw_ids: bool = False
) -> tuple[Records, tuple[Loss, ...]]:
    """Read one document per line; report bad lines as losses.

    Args:
        data: Content of the file.
        name: Id of the file.
        encoding: Encoding of a file that is not UTF-8; guessed if empty.
        raw_ids: See `RecordIds`.

    Raises:
        DocumentError: More than 100,000 lines, and more than nine in ten, are not JSON.
    """
    text, decoding_losses = decode(data, name, encoding=encoding)
    reader = JsonReader()

    def lines() -> Iterator[tuple[int, Any]]:
        return _parse_lines(text, name, reader)

    records, losses = _records(lines, RecordIds(name, raw=raw_ids), "jsonl", reader)
    return records, (*decoding_losses, *losses)


def read_json(
    data: bytes, name: str, *, encoding: str = "", raw_ids: bool = False
) -> tuple[Records, tuple[Loss, ...]]:
    """Read the records of a JSON array, or a JSON object, whose id is the file's.

    Args:
        data: Content of the file.
        name: Id of the file.
        encoding: Encoding of a file that is not UTF-8; guessed if empty.
        raw_ids: See `RecordIds`; an object too has its own id then.

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
            records, losses = _records(items, RecordIds(name, raw=raw_ids), "json", reader)
            return records, (*decoding_losses, *losses)
        value = reader.parse(text)
    except ValueError as error:
        reason = str(error)
        if not reason.startswith("too big"):
            reason = f"broken: it is not JSON: {reason}"
        raise DocumentError(f"{name}: {reason}") from error
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise DocumentError(f"{name}: broken: expected an array or an object, got a {kind}")
    id_field, own_id = _own_id(value) if raw_ids else ("", "")
    document = to_document(value, own_id or name, name, "json", id_field=id_field)
    repeated = LossList(name)
    _report_repeated(reader, repeated, name)
    documents = [document] if document.text.strip() else []
    return Records(len(documents), lambda: iter(documents)), (*decoding_losses, *repeated.all())


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
    values: Callable[[], Iterable[tuple[int, Any]]], ids: RecordIds, kind: str, reader: JsonReader
) -> tuple[Records, tuple[Loss, ...]]:
    """Check every value once and report losses; create the documents when they are iterated."""
    losses = LossList(ids.file)
    accepted = bytearray()  # 1 for each value that becomes a document, else 0
    first_numbers: dict[str, int] = {}
    kinds: set[bool] = set()
    for number, value in values():
        reason = _rejection(value, {} if ids.raw else first_numbers, kind)
        accepted.append(not reason)
        if reason:
            losses.report(f"{ids.file} {_UNITS[kind]} {number}", reason)
            continue
        own_id = _own_id(value)[1]
        kinds.add(bool(own_id))
        if own_id:
            first_numbers.setdefault(own_id, number)
    _report_repeated(reader, losses, ids.file)
    ids = replace(ids, mixed=len(kinds) == 2)

    def make() -> Iterator[Document]:
        for is_accepted, (number, value) in zip(accepted, values(), strict=True):
            if is_accepted:
                id_field, own_id = _own_id(value)
                document_id = ids.of(own_id, number)
                yield to_document(value, document_id, ids.file, kind, id_field=id_field)

    return Records(sum(accepted), make), losses.all()


_UNITS = {"json": "item", "jsonl": "line"}


def _rejection(value: Any, first_numbers: Mapping[str, int], kind: str) -> str:
    """Return why a value is not a document, or an empty string.

    `first_numbers` maps the ids of earlier values to their numbers.
    """
    if isinstance(value, ValueError):
        return f"it is not JSON: {value}"
    if not isinstance(value, dict):
        return f"expected an object, got a {type(value).__name__}"
    own_id = _own_id(value)[1]
    if own_id in first_numbers:
        first = f"{_UNITS[kind]} {first_numbers[own_id]}"
        return f"{own_id!r} is already the id of {first}; make the ids unique"
    return "" if has_text(value) else "it has no text"


def _own_id(fields: Mapping[str, Any]) -> tuple[str, str]:
    """Return the name of the id field and the id; both are empty if the record has no id."""
    id_field = find_id_field(fields)
    own_id = clean(str(fields[id_field])) if id_field else ""
    return (id_field, own_id) if own_id else ("", "")


def _report_repeated(reader: JsonReader, losses: LossList, name: str) -> None:
    if reader.n_repeated:
        lost, kept = f"{reader.n_repeated} values", "the last value of each name"
        losses.report(name, "a name occurs twice in an object", lost=lost, kept=kept)
