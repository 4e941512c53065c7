"""Load one file into documents, with the parser for its suffix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ragkit.digests import digest as bytes_digest
from ragkit.documents.files import SourceFile, printable, read_stable
from ragkit.documents.records import read_json, read_jsonl
from ragkit.documents.sandbox import SandboxLimits, extract
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
"""Lower-case file suffixes and the kind of file that each is read as."""

_STREAMED = ("csv", "html", "json", "jsonl", "markdown", "text")
_ARCHIVES = frozenset({"docx", "epub", "pdf", "pptx", "xlsx"})
_NO_SUFFIX = "unsupported type: its name has no suffix such as .txt"
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class LoadResult:
    """Result of loading one file: its documents, its losses and the digest of its bytes.

    There is at least one document. Documents made from records (CSV, JSON, JSON Lines) are created
    again by each iteration.
    """

    documents: Sequence[Document]
    losses: tuple[Loss, ...]
    digest: str


def load_file(file: SourceFile, *, limits: SandboxLimits | None = None) -> LoadResult:
    """Load one file: one document per record for CSV, JSON and JSON Lines, else a single one.

    PDF, office files, e-books, e-mails and HTML are parsed in a child process.

    Args:
        file: A file returned by `find_files`.
        limits: SandboxLimits of the child process.

    Raises:
        DocumentError: The file yields no document. The message begins with the file's id and the
            reason: unsupported type, empty, binary, encrypted, broken, no text layer, too big, too
            big when unpacked, timed out, changed while it was read, cannot be read, or a missing
            extra.
    """
    suffix = file.path.suffix.lower()
    if suffix not in SUPPORTED:
        reason = f"unsupported type {printable(suffix)[:20]}" if suffix else _NO_SUFFIX
        raise DocumentError(f"{file.id}: {reason}; convert it to text, Markdown, HTML or PDF")
    data, digest = read_stable(file.path, file.id)
    kind = SUPPORTED[suffix]
    if data and kind not in _ARCHIVES and is_binary(data):
        raise DocumentError(f"{file.id}: binary: its bytes are not text, despite its suffix")
    delimiter = "\t" if suffix == ".tsv" else ""
    documents, losses = _parse(kind, data, file.id, delimiter, limits or SandboxLimits())
    return LoadResult(documents, losses, digest)


def read_stream(text: str, *, name: str = "stdin", format: str = "text") -> LoadResult:
    """Load documents from a text, such as standard input.

    Args:
        text: The text.
        name: Source of the documents; also the id of a single document.
        format: "text", "markdown", "html", "csv", "json" or "jsonl".

    Raises:
        DocumentError: The text yields no document, as for `load_file`.
        ValueError: The format is unknown.

    >>> read_stream("# Iron\\nA metal.", format="markdown").documents[0].title
    'Iron'
    """
    if format not in _STREAMED:
        raise ValueError(f"format is {format!r}, expected one of {', '.join(_STREAMED)}")
    data = clean(text).encode()
    if data:
        data = _BOM + data  # overrides an encoding declared in the text
    documents, losses = _parse(format, data, name, "", SandboxLimits())
    return LoadResult(documents, losses, bytes_digest(text.encode("utf-8", "surrogatepass")))


def _parse(
    kind: str, data: bytes, name: str, delimiter: str, limits: SandboxLimits
) -> tuple[Sequence[Document], tuple[Loss, ...]]:
    if not data:
        raise DocumentError(f"{name}: empty: it has no bytes")
    if kind == "csv":
        documents, losses = read_csv(data, name, delimiter=delimiter)
    elif kind == "json":
        documents, losses = read_json(data, name)
    elif kind == "jsonl":
        documents, losses = read_jsonl(data, name)
    else:
        return _single(_extract(kind, data, name, limits), name)
    if not documents:
        why = f"; {losses[0].what}: {losses[0].why}" if losses else ""
        raise DocumentError(f"{name}: empty: no record with text was found in it{why}")
    return documents, losses


def _extract(kind: str, data: bytes, name: str, limits: SandboxLimits) -> Extract:
    if kind == "text":
        return read_text(data, name)
    if kind == "markdown":
        return read_markdown(data, name)
    try:
        return extract(kind, data, name, limits)
    except MissingExtra as error:
        raise DocumentError(f"{name}: {error}") from error


def _single(extracted: Extract, name: str) -> tuple[Sequence[Document], tuple[Loss, ...]]:
    if not extracted.text.strip():
        raise DocumentError(f"{name}: empty: no text was found in it")
    document = Document(
        name, extracted.text, extracted.title, name, extracted.metadata, extracted.layout
    )
    return (document,), extracted.losses
