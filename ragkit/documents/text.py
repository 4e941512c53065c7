"""Decode and clean text, and read plain text and Markdown files."""

from __future__ import annotations

import codecs
import importlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ragkit.documents.front_matter import split_front_matter
from ragkit.markdown import find_headings
from ragkit.types import Loss

RESERVED = frozenset({"doc_id", "format", "n_pages", "pages", "source", "title"})
"""Metadata keys set by ragkit; a file's own field of that name gets an underscore appended."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is a prefix of it
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MAGIC = (
    b"%PDF-",
    b"PK\x03\x04",
    b"\x89PNG",
    b"GIF8",
    b"\x1f\x8b",
    b"\xd0\xcf\x11\xe0",
    b"\x7fELF",
)
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\b\x1b"))
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Extract:
    """Content that a parser extracts from one file: a document without an id."""

    text: str
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    losses: tuple[Loss, ...] = ()


def clean(text: str) -> str:
    r"""Replace NUL and lone surrogates with U+FFFD, and all line ends with \n.

    >>> clean("a\x00b\r\nc\rd")
    'a�b\nc\nd'
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _UNSTORABLE.sub("\ufffd", text)


def is_binary(data: bytes) -> bool:
    """Return True if bytes have a binary signature, an early NUL or many control characters."""
    if data.startswith(_MAGIC):
        return True
    if _bom_encoding(data):
        return False
    head = data[:65536]
    n_controls = len(head) - len(head.translate(None, _CONTROLS))
    return b"\0" in head[:8192] or n_controls > len(head) // 10


def decode(data: bytes, name: str, *, declared: str = "") -> tuple[str, tuple[Loss, ...]]:
    """Decode and clean text; report a loss if the encoding was guessed or does not fit.

    The encoding is that of the byte order mark, else `declared`, else UTF-8, else a guess.

    Args:
        data: Content of the file.
        name: Id of the file, for the loss.
        declared: Encoding declared in the file.
    """
    encoding = _bom_encoding(data) or _lookup_encoding(declared) or "utf-8"
    try:
        return clean(data.decode(encoding)), ()
    except UnicodeDecodeError:
        pass
    if encoding == "utf-8" and not _is_mostly_utf8(data):
        encoding = _guess_encoding(data)
        why = f"it is not UTF-8 and was read as {encoding}, a guess; save it as UTF-8 to be sure"
        lost = "certainty about characters beyond ASCII"
    else:
        why = f"some bytes are not {encoding}; save it as UTF-8"
        lost = "the bytes shown as U+FFFD"
    text = clean(data.decode(encoding, "replace"))
    return text, (Loss("documents", name, lost, f"{len(text)} characters", why),)


def _bom_encoding(data: bytes) -> str:
    return next((name for mark, name in _BOMS if data.startswith(mark)), "")


def _lookup_encoding(encoding: str) -> str:
    try:
        info = codecs.lookup(encoding)
    except (LookupError, ValueError):
        return ""
    # A declaration that is readable as ASCII cannot be in UTF-16. On the web, Latin-1 means
    # Windows-1252.
    is_text = getattr(info, "_is_text_encoding", True)
    if not is_text or info.name.startswith(("utf-16", "utf-32")):
        return ""
    return "cp1252" if info.name in {"iso8859-1", "ascii"} else info.name


def _is_mostly_utf8(data: bytes) -> bool:
    text = data.decode("utf-8", "replace")
    n_wrong = text.count("\ufffd")
    n_right = sum(1 for char in text if char > "\x7f") - n_wrong
    return n_right > 2 * n_wrong


def _guess_encoding(data: bytes) -> str:
    # Detectors are unreliable for Western text, which has few non-ASCII letters, and reliable
    # elsewhere.
    sample = data[:65536].translate(None, b" \t\r\n")
    n_high = len(sample) - len(sample.translate(None, bytes(range(128, 256))))
    if 4 * n_high < len(sample):
        return "cp1252"
    try:
        detector = importlib.import_module("charset_normalizer")  # optional
    except ImportError:
        return "cp1252"
    others = ["cp932", "gb18030", "big5", "euc_jp", "euc_kr", "cp1251", "cp1253", "koi8_r"]
    best = detector.from_bytes(data[:65536], cp_isolation=others).best()
    return str(best.encoding) if best else "cp1252"


def read_text(data: bytes, name: str) -> Extract:
    """Read a plain text file."""
    text, losses = decode(data, name)
    return Extract(text, losses=losses, metadata={"format": "text"})


def read_markdown(data: bytes, name: str) -> Extract:
    """Read a Markdown file; its front matter becomes title and metadata."""
    text, losses = decode(data, name)
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
