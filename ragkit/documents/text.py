"""Clean text, and read plain text and Markdown files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ragkit.documents.decoding import decode_bytes
from ragkit.documents.front_matter import split_front_matter
from ragkit.markdown import find_headings
from ragkit.types import Line, Loss

RESERVED = frozenset({"doc_id", "format", "n_pages", "pages", "source", "title"})
"""Metadata keys set by ragkit; a file's own field of that name gets an underscore appended."""

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Extract:
    """Content that a parser extracts from one file: a document without an id."""

    text: str
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    losses: tuple[Loss, ...] = ()
    layout: tuple[Line, ...] = ()


def clean(text: str) -> str:
    r"""Replace NUL and lone surrogates with U+FFFD, and all line ends with \n.

    >>> clean("a\x00b\r\nc\rd")
    'a�b\nc\nd'
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _UNSTORABLE.sub("\ufffd", text)


def decode(
    data: bytes, name: str, *, declared: str = "", encoding: str = ""
) -> tuple[str, tuple[Loss, ...]]:
    """Decode and clean text; see `ragkit.documents.decoding.decode_bytes`."""
    text, losses = decode_bytes(data, name, declared=declared, encoding=encoding)
    return clean(text), losses


def read_text(data: bytes, name: str, *, encoding: str = "") -> Extract:
    """Read a plain text file."""
    text, losses = decode(data, name, encoding=encoding)
    return Extract(text, losses=losses, metadata={"format": "text"})


def read_markdown(data: bytes, name: str, *, encoding: str = "") -> Extract:
    """Read a Markdown file; its front matter becomes title and metadata."""
    text, losses = decode(data, name, encoding=encoding)
    front = split_front_matter(text)
    if front.n_unread:
        lost = f"{front.n_unread} lines of front matter"
        losses += (Loss("documents", name, lost, f"{len(front.fields)} fields", front.why),)
    fields, body = front.fields, front.body
    title = fields.get("title")
    metadata = to_metadata({key: value for key, value in fields.items() if key != "title"})
    title = str(title) if title not in (None, "") else first_heading(body)
    return Extract(body, title, {**metadata, "format": "markdown"}, losses)


def to_metadata(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a file's fields to metadata: rename reserved names and drop None.

    >>> to_metadata({"year": 1999, "format": "octavo", "note": None})
    {'year': 1999, 'format_': 'octavo'}
    """
    metadata: dict[str, Any] = {}
    suffixes: Counter[str] = Counter()
    for name, value in fields.items():
        value = to_json_value(value)
        if value is not None:
            key = name = clean(name)
            if name in RESERVED or name in metadata:
                key = f"{name}_"
                while key in metadata:
                    suffixes[name] += 1
                    key = f"{name}_{suffixes[name] + 1}"
            metadata[key] = value
    return metadata


def to_json_value(value: object) -> Any:
    """Convert a value to portable JSON: clean strings, finite floats and 64-bit integers."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, float):
        return value if abs(value) != float("inf") and value == value else None
    if isinstance(value, list):
        return [to_json_value(item) for item in value]
    if isinstance(value, dict):
        return {clean(str(key)): to_json_value(item) for key, item in value.items()}
    return clean(str(value))


def first_heading(text: str) -> str:
    """Return the first level-1 heading outside code blocks, or an empty string."""
    headings = find_headings(text)
    return next((heading.name for heading in headings if heading.level == 1 and heading.name), "")
