"""Fields of records in a document's text, whose names go along with the parts of long values."""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import NamedTuple

from ragkit.markdown import join_row
from ragkit.types import Document

_FORMATS = ("csv", "json", "jsonl")
_MAX_KEY = 100  # characters of the record's first field in the header of a part of a value


class Field(NamedTuple):
    """A line "name: value" of a record; the value may continue on further lines.

    Attributes:
        start: Offset of the name.
        header: Header row of a chunk that begins inside the value: the record's first field, if it
            is another one, and the name.
    """

    start: int
    header: str


def find_fields(document: Document) -> list[Field]:
    r"""Return the fields of a CSV row or JSON record, in text order.

    Args:
        document: A document of `ragkit.documents.records.to_document`.

    >>> row = {"code": "V-70", "note": "Brass.", "format": "csv"}
    >>> document = Document("d", "code: V-70\nnote: Brass.", metadata=row)
    >>> [header for _, header in find_fields(document)]
    ['| code |', '| code: V-70 | note |']
    """
    if document.metadata.get("format") not in _FORMATS or "|" in document.text:
        return []  # bars in a value would be taken for cells
    names = [re.escape(name) for name in document.metadata if name not in ("format", "title")]
    if not names:
        return []
    matches = list(re.finditer(rf"^(?:{'|'.join(names)}): ", document.text, re.MULTILINE))
    fields = []
    for i, match in enumerate(matches):
        first = matches[0]
        end = matches[1].start() if len(matches) > 1 else len(document.text)
        key = document.text[first.start() : end].strip()
        parts = [key] if i and len(key) <= _MAX_KEY and "\n" not in key else []
        fields.append(Field(match.start(), join_row([*parts, match[0][:-2]])))
    return fields


def field_header(fields: list[Field], position: int) -> str:
    """Return the header for a chunk that begins at `position`; empty if it begins with a field."""
    i = bisect_left(fields, (position, "")) - 1
    begins_field = i + 1 < len(fields) and fields[i + 1].start == position
    return fields[i].header if i >= 0 and not begins_field else ""
