"""Decode and clean text, and read plain text and Markdown files."""

from __future__ import annotations

import codecs
import importlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ragkit.documents.json_values import JsonReader
from ragkit.types import Line, Loss

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
_FIELD = re.compile(r"([\w][\w .-]*):(?:[ \t]+(.*))?$")
_ITEM = re.compile(r"[ \t]*-[ \t]+(.*)$")
_INT = re.compile(r"[+-]?(?:0|[1-9]\d*)$", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][+-]?\d{1,3})?$", re.ASCII)
_HEADING = re.compile(r"#[ \t]+(.*)")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


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
    fields, body, n_unknown = _front_matter(text)
    if n_unknown:
        lost = f"{n_unknown} lines of front matter"
        kept = f"{len(fields)} fields"
        why = "only `key: value` and `key:` with `  - ` items are supported"
        losses += (Loss("documents", name, lost, kept, why),)
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


def parse_scalar(text: str) -> str | int | float | bool:
    """Convert a cell or field value to int, float or bool if all of it can be parsed as such.

    >>> [parse_scalar(text) for text in ["42", "-1.5e3", "true", "007", "1.2.3"]]
    [42, -1500.0, True, '007', '1.2.3']
    """
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    if len(text) < 20 and _INT.match(text):
        number = int(text)
        return number if -(2**63) <= number < 2**63 else text
    if len(text) < 40 and _FLOAT.match(text):
        value = float(text)
        return value if abs(value) != float("inf") else text
    return text


def first_heading(text: str) -> str:
    """Return the first level-1 heading outside code blocks, or an empty string."""
    fence = ""
    for match in re.finditer(r"^.*$", text, re.MULTILINE):
        line = match.group()
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence):
                fence = ""
        elif mark:
            fence = mark[1]
        elif heading := _HEADING.match(line):
            words = heading[1].strip()
            bare = words.rstrip("#")
            title = words if bare[-1:].strip() else bare.strip()  # "C#" has no closing marks
            if title:
                return title
    return ""


def _front_matter(text: str) -> tuple[dict[str, Any], str, int]:
    """Return the fields, the text after them, and the number of unsupported lines."""
    if not text.startswith("---\n"):
        return {}, text, 0
    end = re.compile(r"^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.MULTILINE).search(text, 4)
    lines = (
        [line for line in text[4 : end.start()].split("\n") if _has_content(line)] if end else []
    )
    if end is None or not lines or not _FIELD.match(lines[0]):
        return {}, text, 0
    fields: dict[str, Any] = {}
    key, n_unknown = "", 0
    for line in lines:
        if match := _FIELD.match(line):
            key = match[1]
            fields[key] = _parse_value(match[2] or "")
        elif key and fields[key] in (None, []) and (match := _ITEM.match(line)):
            fields[key] = [_parse_value(match[1], item=True)]
        elif key and isinstance(fields[key], list) and (match := _ITEM.match(line)):
            fields[key].append(_parse_value(match[1], item=True))
        else:
            n_unknown += 1
    return fields, text[end.end() :].lstrip("\n"), n_unknown


def _has_content(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _parse_value(text: str, *, item: bool = False) -> Any:
    """Parse a front matter value; return None for an empty one."""
    text = text.strip()
    if text.startswith(("[", "{") if item else "["):
        try:
            return JsonReader().parse(text)
        except ValueError:
            if text.startswith("[") and text.endswith("]"):
                return [
                    _parse_quoted(part.strip()) for part in text[1:-1].split(",") if part.strip()
                ]
            return text
    return _parse_quoted(text) if text else None


def _parse_quoted(text: str) -> str | int | float | bool:
    """Parse a scalar value, quoted or not."""
    if len(text) > 1 and text[0] == text[-1] == '"':
        try:
            return str(json.loads(text))
        except ValueError:
            return text[1:-1]
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    return parse_scalar(text)
