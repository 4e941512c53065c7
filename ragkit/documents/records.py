"""Rows and JSON objects to Documents, by one set of rules for ids, titles and texts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ragkit.documents.text import clean, decode, own_fields, plain, scalar
from ragkit.errors import DocumentError
from ragkit.types import Document, Loss

_ID_FIELDS = ("_id", "id")
TEXT_FIELDS = ("text", "contents")


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
    bodies = [name for name in TEXT_FIELDS if isinstance(fields.get(name), str)]
    body = next((name for name in bodies if fields[name].strip()), bodies[0] if bodies else "")
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


def _lines(fields: Mapping[str, Any]) -> str:
    lines = []
    for name, value in fields.items():
        value = plain(value)
        if value is None or value == "":
            continue
        word = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        lines.append(f"{clean(name)}: {word}")
    return "\n".join(lines)


def read_jsonl(data: bytes, name: str) -> tuple[list[Document], list[Loss]]:
    """One Document a line; a bad line is a loss."""
    text, losses = decode(data, name)
    records: list[tuple[int, Any]] = []
    bad: list[Loss] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                records.append((number, json.loads(line, parse_constant=_no_number)))
            except (ValueError, RecursionError) as error:
                bad.append(_lost(f"{name} line {number}", f"it is not JSON: {_reason(error)}"))
    documents, losses_ = _records(records, name, "jsonl", "line")
    return documents, [*losses, *bad, *losses_]


def read_json(data: bytes, name: str) -> tuple[list[Document], list[Loss]]:
    """The records of a JSON array, or the one of an object.

    Raises:
        DocumentError: It is not JSON, or neither array nor object.
    """
    text, losses = decode(data, name)
    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{name}: broken: it is not JSON: {_reason(error)}") from error
    if isinstance(value, dict):
        own = id_field(value)
        key = clean(str(value[own])) if own else name
        try:
            document = record(value, key, name, "json", own=own)
        except RecursionError as error:
            raise DocumentError(f"{name}: broken: {_reason(error)}") from error
        return ([document] if document.text.strip() else []), list(losses)
    if not isinstance(value, list):
        kind = type(value).__name__
        raise DocumentError(f"{name}: broken: an array or object was expected, this is a {kind}")
    documents, losses_ = _records(enumerate(value, start=1), name, "json", "item")
    return documents, [*losses, *losses_]


def _records(
    records: Iterator[tuple[int, Any]] | list[tuple[int, Any]], name: str, kind: str, unit: str
) -> tuple[list[Document], list[Loss]]:
    documents: list[Document] = []
    losses: list[Loss] = []
    places: dict[str, int] = {}
    for number, value in records:
        what = f"{name} {unit} {number}"
        if not isinstance(value, dict):
            losses.append(_lost(what, f"an object was expected, this is a {type(value).__name__}"))
            continue
        own = id_field(value)
        key = clean(str(value[own])) if own else f"{name}#{number}"
        try:
            document = record(value, key, name, kind, own=own)
        except RecursionError as error:
            losses.append(_lost(what, _reason(error)))
            continue
        if key in places:
            why = f"{key!r} is the id of {unit} {places[key]} already; make the ids unique"
            losses.append(_lost(what, why))
        elif not document.text.strip():
            losses.append(_lost(what, "it has no text"))
        else:
            places[key] = number
            documents.append(document)
    return documents, losses


def _lost(what: str, why: str) -> Loss:
    return Loss("documents", what, "the record", "nothing of it", why)


def _no_number(name: str) -> None:
    """NaN and the infinities, which are no JSON, become null."""


def _reason(error: Exception) -> str:
    return "it is nested too deep" if isinstance(error, RecursionError) else str(error)
