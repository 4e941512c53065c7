"""Bytes to stored text, and the two plainest formats: text and Markdown."""

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
from ragkit.types import Loss

RESERVED = frozenset({"doc_id", "format", "n_pages", "pages", "source", "title"})
"""Metadata keys that ragkit sets; a file's own field of that name gets an underscore appended."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
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
    """What a parser makes of one file: a document that has no id yet."""

    text: str
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    losses: tuple[Loss, ...] = ()


def clean(text: str) -> str:
    r"""The text as it is stored: NUL and lone surrogates become U+FFFD, line ends become \n.

    >>> clean("a\x00b\r\nc\rd")
    'a�b\nc\nd'
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _UNSTORABLE.sub("\ufffd", text)


def is_binary(data: bytes) -> bool:
    """Whether these bytes are no text: a known signature, an early NUL, many control characters."""
    if data.startswith(_MAGIC):
        return True
    if _bom(data):
        return False
    head = data[:65536]
    n_controls = len(head) - len(head.translate(None, _CONTROLS))
    return b"\0" in head[:8192] or n_controls > len(head) // 10


def decode(data: bytes, name: str, *, declared: str = "") -> tuple[str, tuple[Loss, ...]]:
    """The clean text of these bytes, with a loss where the encoding was guessed or did not fit.

    A byte order mark decides, then `declared`, then UTF-8, then a guess.

    Args:
        data: The file's bytes.
        name: The file's id, for the loss.
        declared: The encoding that the file itself names.
    """
    encoding = _bom(data) or _known(declared) or "utf-8"
    try:
        return clean(data.decode(encoding)), ()
    except UnicodeDecodeError:
        pass
    if encoding == "utf-8" and not _is_mostly_utf8(data):
        encoding = _guess(data)
        why = f"it is not UTF-8 and was read as {encoding}, a guess; save it as UTF-8 to be sure"
        lost = "certainty about characters beyond ASCII"
    else:
        why = f"some bytes are not {encoding}; save it as UTF-8"
        lost = "the bytes shown as U+FFFD"
    text = clean(data.decode(encoding, "replace"))
    return text, (Loss("documents", name, lost, f"{len(text)} characters", why),)


def _bom(data: bytes) -> str:
    return next((name for mark, name in _BOMS if data.startswith(mark)), "")


def _known(encoding: str) -> str:
    try:
        info = codecs.lookup(encoding)
    except (LookupError, ValueError):
        return ""
    # UTF-16 was declared in ASCII, which cannot be; Latin-1 means Windows-1252 on the web.
    is_text = getattr(info, "_is_text_encoding", True)
    if not is_text or info.name.startswith(("utf-16", "utf-32")):
        return ""
    return "cp1252" if info.name in {"iso8859-1", "ascii"} else info.name


def _is_mostly_utf8(data: bytes) -> bool:
    text = data.decode("utf-8", "replace")
    n_wrong = text.count("\ufffd")
    n_right = sum(1 for char in text if char > "\x7f") - n_wrong
    return n_right > 2 * n_wrong


def _guess(data: bytes) -> str:
    # Western text has few accented letters, and detectors err on it; elsewhere they do well.
    sample = data[:65536].translate(None, b" \t\r\n")
    n_high = len(sample) - len(sample.translate(None, bytes(range(128, 256))))
    if 4 * n_high < len(sample):
        return "cp1252"
    try:
        detector = importlib.import_module("charset_normalizer")  # no dependency; better if there
    except ImportError:
        return "cp1252"
    others = ["cp932", "gb18030", "big5", "euc_jp", "euc_kr", "cp1251", "cp1253", "koi8_r"]
    best = detector.from_bytes(data[:65536], cp_isolation=others).best()
    return str(best.encoding) if best else "cp1252"


def read_text(data: bytes, name: str) -> Extract:
    """A text file as it is."""
    text, losses = decode(data, name)
    return Extract(text, losses=losses, metadata={"format": "text"})


def read_markdown(data: bytes, name: str) -> Extract:
    """A Markdown file without its front matter, which becomes title and metadata."""
    text, losses = decode(data, name)
    fields, body, n_strange = _front_matter(text)
    if n_strange:
        lost = f"{n_strange} lines of front matter"
        kept = f"{len(fields)} fields"
        why = "only `key: value` and `key:` with `  - ` items are understood"
        losses += (Loss("documents", name, lost, kept, why),)
    title = fields.get("title")
    metadata = own_fields({key: value for key, value in fields.items() if key != "title"})
    title = str(title) if title not in (None, "") else first_heading(body)
    return Extract(body, title, {**metadata, "format": "markdown"}, losses)


def own_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a file as metadata: reserved names get an underscore, and None goes.

    >>> own_fields({"year": 1999, "format": "octavo", "note": None})
    {'year': 1999, 'format_': 'octavo'}
    """
    kept: dict[str, Any] = {}
    n_alike: Counter[str] = Counter()
    for key, value in fields.items():
        value = plain(value)
        if value is not None:
            key = own = clean(key)
            if own in RESERVED or own in kept:
                key = f"{own}_"
                while key in kept:
                    n_alike[own] += 1
                    key = f"{own}_{n_alike[own] + 1}"
            kept[key] = value
    return kept


def plain(value: object) -> Any:
    """The value as JSON can hold it everywhere: clean strings, finite floats, 64-bit integers."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, float):
        return value if abs(value) != float("inf") and value == value else None
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {clean(str(key)): plain(item) for key, item in value.items()}
    return clean(str(value))


def scalar(word: str) -> str | int | float | bool:
    """A cell or field value as int, float or bool where the whole of it reads so.

    >>> [scalar(word) for word in ["42", "-1.5e3", "true", "007", "1.2.3"]]
    [42, -1500.0, True, '007', '1.2.3']
    """
    if word.lower() in {"true", "false"}:
        return word.lower() == "true"
    if len(word) < 20 and _INT.match(word):
        number = int(word)
        return number if -(2**63) <= number < 2**63 else word
    if len(word) < 40 and _FLOAT.match(word):
        value = float(word)
        return value if abs(value) != float("inf") else word
    return word


def first_heading(text: str) -> str:
    """The first `# ` heading outside code, or an empty string."""
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
            title = words if bare[-1:].strip() else bare.strip()  # "C#" ends in no closing mark
            if title:
                return title
    return ""


def _front_matter(text: str) -> tuple[dict[str, Any], str, int]:
    """The fields, the text after them, and how many lines were not understood."""
    if not text.startswith("---\n"):
        return {}, text, 0
    end = re.compile(r"^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.MULTILINE).search(text, 4)
    lines = [line for line in text[4 : end.start()].split("\n") if _says(line)] if end else []
    if end is None or not lines or not _FIELD.match(lines[0]):
        return {}, text, 0
    fields: dict[str, Any] = {}
    key, n_strange = "", 0
    for line in lines:
        if match := _FIELD.match(line):
            key = match[1]
            fields[key] = _value(match[2] or "")
        elif key and fields[key] in (None, []) and (match := _ITEM.match(line)):
            fields[key] = [_value(match[1], item=True)]
        elif key and isinstance(fields[key], list) and (match := _ITEM.match(line)):
            fields[key].append(_value(match[1], item=True))
        else:
            n_strange += 1
    return fields, text[end.end() :].lstrip("\n"), n_strange


def _says(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _value(word: str, *, item: bool = False) -> Any:
    """A front matter value; None for an empty one."""
    word = word.strip()
    if word.startswith(("[", "{") if item else "["):
        try:
            return JsonReader().value(word)
        except ValueError:
            if word.startswith("[") and word.endswith("]"):
                return [_bare(part.strip()) for part in word[1:-1].split(",") if part.strip()]
            return word
    return _bare(word) if word else None


def _bare(word: str) -> str | int | float | bool:
    """A value that is no list, quoted or not."""
    if len(word) > 1 and word[0] == word[-1] == '"':
        try:
            return str(json.loads(word))
        except ValueError:
            return word[1:-1]
    if len(word) > 1 and word[0] == word[-1] == "'":
        return word[1:-1].replace("''", "'")
    return scalar(word)
