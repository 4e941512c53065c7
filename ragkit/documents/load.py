"""One file to Documents, by its suffix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ragkit.digests import digest as bytes_digest
from ragkit.documents.files import SourceFile, printable, read_stable
from ragkit.documents.records import read_json, read_jsonl
from ragkit.documents.sandbox import Limits, extract
from ragkit.documents.tables import read_csv
from ragkit.documents.text import Extract, clean, is_binary, read_markdown, read_text
from ragkit.errors import DocumentError, MissingExtra
from ragkit.types import Document, Loss

SUPPORTED: Mapping[str, str] = MappingProxyType(
    {
        ".csv": "csv",
        ".docx": "docx",
        ".eml": "eml",
        ".epub": "epub",
        ".htm": "html",
        ".html": "html",
        ".json": "json",
        ".jsonl": "jsonl",
        ".log": "text",
        ".markdown": "markdown",
        ".md": "markdown",
        ".ndjson": "jsonl",
        ".pdf": "pdf",
        ".pptx": "pptx",
        ".rst": "text",
        ".text": "text",
        ".tsv": "csv",
        ".txt": "text",
        ".xhtml": "html",
        ".xlsx": "xlsx",
    }
)
"""File suffixes, in lower case, and the kind that each is read as."""

_STREAMED = ("csv", "html", "json", "jsonl", "markdown", "text")
_ARCHIVES = frozenset({"docx", "epub", "pdf", "pptx", "xlsx"})
_NO_SUFFIX = "unsupported type: its name has no suffix such as .txt"
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What one file gave: at least one document, what was lost, and the digest of its bytes.

    The documents of records (CSV, JSON, JSON Lines) are made anew by each loop over them.
    """

    documents: Sequence[Document]
    losses: tuple[Loss, ...]
    digest: str


def load_file(file: SourceFile, *, limits: Limits | None = None) -> LoadResult:
    """The documents of one file: one for a text, one a record for CSV, JSON and JSON Lines.

    PDF, office files, e-books, e-mails and HTML are parsed in a child process.

    Args:
        file: As `find_files` gives it.
        limits: Caps of the child process.

    Raises:
        DocumentError: No document came out. The message begins with the file's id and the reason:
            unsupported type, empty, binary, encrypted, broken, no text layer, too big, too big
            when unpacked, timed out, changed while it was read, cannot be read, or a missing extra.
    """
    suffix = file.path.suffix.lower()
    if suffix not in SUPPORTED:
        shown = f"unsupported type {printable(suffix)[:20]}" if suffix else _NO_SUFFIX
        raise DocumentError(f"{file.id}: {shown}; convert it to text, Markdown, HTML or PDF")
    data, digest = read_stable(file.path, file.id)
    kind = SUPPORTED[suffix]
    if data and kind not in _ARCHIVES and is_binary(data):
        raise DocumentError(f"{file.id}: binary: its bytes are no text, whatever its suffix says")
    delimiter = "\t" if suffix == ".tsv" else ""
    documents, losses = _parse(kind, data, file.id, delimiter, limits or Limits())
    return LoadResult(documents, losses, digest)


def read_stream(text: str, *, name: str = "stdin", format: str = "text") -> LoadResult:
    """The documents of a text that did not come from a file.

    Args:
        text: The text.
        name: The source, and the id of a single document.
        format: "text", "markdown", "html", "csv", "json" or "jsonl".

    Raises:
        DocumentError: No document came out, as for `load_file`.
        ValueError: The format is none of these.

    >>> read_stream("# Iron\\nA metal.", format="markdown").documents[0].title
    'Iron'
    """
    if format not in _STREAMED:
        raise ValueError(f"format is {format!r}, expected one of {', '.join(_STREAMED)}")
    data = clean(text).encode()
    if data:
        data = _BOM + data  # so that nothing in the text can name another encoding
    documents, losses = _parse(format, data, name, "", Limits())
    return LoadResult(documents, losses, bytes_digest(text.encode("utf-8", "surrogatepass")))


def _parse(
    kind: str, data: bytes, name: str, delimiter: str, limits: Limits
) -> tuple[Sequence[Document], tuple[Loss, ...]]:
    if not data:
        raise DocumentError(f"{name}: empty: it has no bytes")
    if kind == "csv":
        records = read_csv(data, name, delimiter=delimiter)
    elif kind == "json":
        records = read_json(data, name)
    elif kind == "jsonl":
        records = read_jsonl(data, name)
    else:
        return _single(_extract(kind, data, name, limits), name)
    documents, losses = records
    if not documents:
        why = f"; {losses[0].what}: {losses[0].why}" if losses else ""
        raise DocumentError(f"{name}: empty: no record with text was found in it{why}")
    return documents, losses


def _extract(kind: str, data: bytes, name: str, limits: Limits) -> Extract:
    if kind == "text":
        return read_text(data, name)
    if kind == "markdown":
        return read_markdown(data, name)
    try:
        return extract(kind, data, name, limits)
    except MissingExtra as error:
        raise DocumentError(f"{name}: {error}") from error


def _single(found: Extract, name: str) -> tuple[Sequence[Document], tuple[Loss, ...]]:
    if not found.text.strip():
        raise DocumentError(f"{name}: empty: no text was found in it")
    document = Document(name, found.text, found.title, name, found.metadata)
    return (document,), found.losses
