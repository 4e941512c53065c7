"""Load one file into documents, with the parser for its suffix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from ragkit.digests import digest as bytes_digest
from ragkit.documents.decoding import is_binary
from ragkit.documents.encodings import check_encoding
from ragkit.documents.files import SourceFile, printable, read_stable
from ragkit.documents.records import read_json, read_jsonl
from ragkit.documents.sandbox import SandboxLimits, extract
from ragkit.documents.tables import read_csv
from ragkit.documents.text import Extract, clean, read_markdown, read_text
from ragkit.errors import DocumentError, MissingExtra
from ragkit.types import Document, Loss

SUPPORTED: Mapping[str, str] = MappingProxyType(
    {
        ".csv": "csv",
        ".docm": "docx",
        ".docx": "docx",
        ".dotm": "docx",
        ".dotx": "docx",
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
        ".potm": "pptx",
        ".potx": "pptx",
        ".ppsm": "pptx",
        ".ppsx": "pptx",
        ".pptm": "pptx",
        ".pptx": "pptx",
        ".rst": "text",
        ".text": "text",
        ".tsv": "csv",
        ".txt": "text",
        ".xhtml": "html",
        ".xlsm": "xlsx",
        ".xlsx": "xlsx",
        ".xltm": "xlsx",
        ".xltx": "xlsx",
    }
)
"""Lower-case file suffixes and the kind of file that each is read as."""

_STREAMED = ("csv", "html", "json", "jsonl", "markdown", "text")
_ARCHIVES = frozenset({"docx", "epub", "pdf", "pptx", "xlsx"})
_REMEDIES = {
    **dict.fromkeys((".doc", ".dot", ".odt", ".rtf"), "save it as .docx"),
    **dict.fromkeys((".odp", ".pps", ".ppt"), "save it as .pptx"),
    **dict.fromkeys((".ods", ".xls", ".xlsb", ".xlt"), "save it as .xlsx"),
    ".mbox": "save each of its e-mails as an .eml file",
    ".msg": "save it as an .eml file",
}
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


def load_file(
    file: SourceFile,
    *,
    encoding: str = "",
    limits: SandboxLimits | None = None,
    raw_ids: bool = False,
) -> LoadResult:
    """Load one file: one document per record for CSV, JSON and JSON Lines, else a single one.

    PDF, office files, e-books, e-mails and HTML are parsed in a child process.

    Args:
        file: A file returned by `find_files`.
        encoding: Encoding of text, HTML and mail that is not UTF-8 and declares none, for example
            "windows-1251"; empty for a guess.
        limits: SandboxLimits of the child process.
        raw_ids: Give records their own ids without the file's id, as evaluation corpora need it
            whose judgements name them. They may then repeat.

    Raises:
        DocumentError: The file yields no document. The message begins with the file's id and the
            reason: unsupported type, empty, binary, encrypted, broken, no text layer, too big, too
            big when unpacked, timed out, changed while it was read, cannot be read, or a missing
            extra.
        ValueError: The encoding is unknown.
    """
    check_encoding(encoding)
    suffix = file.path.suffix.lower()
    if suffix not in SUPPORTED:
        reason = f"unsupported type {printable(suffix)[:20]}" if suffix else _NO_SUFFIX
        remedy = _REMEDIES.get(suffix, "convert it to text, Markdown, HTML or PDF")
        raise DocumentError(f"{file.id}: {reason}; {remedy}")
    data, digest = read_stable(file.path, file.id)
    kind = SUPPORTED[suffix]
    if data and kind not in _ARCHIVES and is_binary(data, encoding):
        raise DocumentError(f"{file.id}: binary: its bytes are not text, despite its suffix")
    delimiter = "\t" if suffix == ".tsv" else ""
    options = _Options(delimiter, encoding, limits or SandboxLimits(), raw_ids)
    documents, losses = _parse(kind, data, file.id, options)
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
    documents, losses = _parse(format, data, name, _Options())
    return LoadResult(documents, losses, bytes_digest(text.encode("utf-8", "surrogatepass")))


@dataclass(frozen=True, slots=True)
class _Options:
    """How a file is parsed: the cell separator of a table, the encoding, limits and ids."""

    delimiter: str = ""
    encoding: str = ""
    limits: SandboxLimits = field(default_factory=SandboxLimits)
    raw_ids: bool = False


def _parse(
    kind: str, data: bytes, name: str, options: _Options
) -> tuple[Sequence[Document], tuple[Loss, ...]]:
    if not data:
        raise DocumentError(f"{name}: empty: it has no bytes")
    if kind == "csv":
        documents, losses = read_csv(
            data,
            name,
            delimiter=options.delimiter,
            encoding=options.encoding,
            raw_ids=options.raw_ids,
        )
    elif kind == "json":
        documents, losses = read_json(
            data, name, encoding=options.encoding, raw_ids=options.raw_ids
        )
    elif kind == "jsonl":
        documents, losses = read_jsonl(
            data, name, encoding=options.encoding, raw_ids=options.raw_ids
        )
    else:
        return _single(_extract(kind, data, name, options), name)
    if not documents:
        why = f"; {losses[0].what}: {losses[0].why}" if losses else ""
        raise DocumentError(f"{name}: empty: no record with text was found in it{why}")
    return documents, losses


def _extract(kind: str, data: bytes, name: str, options: _Options) -> Extract:
    if kind == "text":
        return read_text(data, name, encoding=options.encoding)
    if kind == "markdown":
        return read_markdown(data, name, encoding=options.encoding)
    try:
        return extract(kind, data, name, options.limits, encoding=options.encoding)
    except MissingExtra as error:
        raise DocumentError(f"{name}: {error}") from error


def _single(extracted: Extract, name: str) -> tuple[Sequence[Document], tuple[Loss, ...]]:
    if not extracted.text.strip():
        raise DocumentError(f"{name}: empty: no text was found in it")
    document = Document(
        name, extracted.text, extracted.title, name, extracted.metadata, extracted.layout
    )
    return (document,), extracted.losses
