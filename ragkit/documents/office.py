"""Office files and e-books to Markdown, by markitdown's converters. Runs in the worker."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable
from typing import Any

from ragkit.documents.text import Extract, clean, first_heading
from ragkit.errors import DocumentError, MissingExtra, require
from ragkit.types import Loss

MAX_RATIO = 200
_CONVERTERS = {"docx": "DocxConverter", "epub": "EpubConverter", "pptx": "PptxConverter"}
_OLD = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_IMAGE = re.compile(r"!\[([^\]\n]*)\]\([^)\n]*\)")
_EMPTY_ROW = re.compile(r"^\|(?:[ :-]*\|)+[ ]*(?:\n|\Z)", re.MULTILINE)
_MAX_CELLS = 2_000_000
# Escapes, emphasis and link targets would stand in every quote of the text.
_PLAIN = {
    "bullets": "-",
    "escape_asterisks": False,
    "escape_misc": False,
    "escape_underscores": False,
    "strip": ["a", "b", "em", "i", "strong"],
}


def read_office(data: bytes, name: str, *, kind: str, unpacked_bytes: int) -> Extract:
    """A Word, PowerPoint, Excel or EPUB file as Markdown, images by their descriptions.

    Args:
        data: The file's bytes.
        name: The file's id.
        kind: "docx", "pptx", "xlsx" or "epub".
        unpacked_bytes: The most that the archive may unpack to.

    Raises:
        DocumentError: It is encrypted, broken, or unpacks to too much.
        MissingExtra: The extra `office` is not installed.
    """
    check_archive(data, name, unpacked_bytes)
    try:
        if kind == "xlsx":
            return _read_workbook(data, name)
        text, title = _convert(data, kind)
    except (MissingExtra, MemoryError):
        raise
    except Exception as error:
        # The converters raise whatever the XML library they use meets in a damaged file.
        if type(error).__name__ == "MissingDependencyException":
            line = "pip install 'ragkit-framework[office]'"
            raise MissingExtra(f"a {kind} file needs the extra `office`: {line}") from error
        raise DocumentError(f"{name}: broken: {type(error).__name__}: {error}") from error
    text = _EMPTY_ROW.sub("", clean(_IMAGE.sub(r"\1", text))).strip()
    return Extract(text, clean(title) or first_heading(text), {"format": "markdown"})


def check_archive(data: bytes, name: str, unpacked_bytes: int) -> None:
    """Looks at a ZIP archive's directory before anything is unpacked.

    `zipfile` never reads more of a member than the directory says, so the directory's sum bounds
    what can come out, lies included.

    Raises:
        DocumentError: It is encrypted, no archive, or would unpack to too much.
    """
    if data.startswith(_OLD):
        why = "it needs a password or is in the format before 2007; save it as a plain new one"
        raise DocumentError(f"{name}: encrypted: {why}")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
        raise DocumentError(f"{name}: broken: not the ZIP archive it should be: {error}") from error
    if any(member.flag_bits & 1 for member in members):
        raise DocumentError(f"{name}: encrypted: it needs a password; save it without one")
    total = sum(member.file_size for member in members)
    if total > unpacked_bytes or (total > 10_000_000 and total > MAX_RATIO * len(data)):
        limit = f"at most {unpacked_bytes} bytes and {MAX_RATIO} times its size are unpacked"
        raise DocumentError(f"{name}: too big when unpacked: {total} bytes; {limit}")


def _convert(data: bytes, kind: str) -> tuple[str, str]:
    require("markitdown", extra="office")
    converters = require("markitdown.converters", extra="office")
    stream_info = require("markitdown", extra="office").StreamInfo(extension=f".{kind}")
    converter = getattr(converters, _CONVERTERS[kind])()
    result = converter.convert(io.BytesIO(data), stream_info, **_PLAIN)
    return result.markdown, result.title or ""


def _read_workbook(data: bytes, name: str) -> Extract:
    """Sheets as `## ` sections, a row a line. markitdown's own way writes NaN for empty cells."""
    openpyxl = require("openpyxl", extra="office")
    workbook = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    sections: list[str] = []
    losses: list[Loss] = []
    n_left = _MAX_CELLS
    for sheet in workbook.worksheets:
        lines = [f"## {sheet.title}", ""]
        sheet.reset_dimensions()  # the size a file claims would pad every row
        for row in sheet.iter_rows(values_only=True):
            n_left -= len(row) or 1  # a row's number may be of any size
            if n_left < 0:
                why = f"the cap of {_MAX_CELLS} cells a file; export the sheet as CSV"
                what = f"{name} sheet {sheet.title}"
                losses.append(Loss("documents", what, "the rest", f"{len(lines) - 2} rows", why))
                break
            cells = _cells(row)
            if cells:
                lines.append(" | ".join(cells))
        if len(lines) > 2:
            sections.append("\n".join(lines))
    text = clean("\n\n".join(sections))
    return Extract(text, "", {"format": "markdown"}, tuple(losses))


def _cells(row: Iterable[Any]) -> list[str]:
    """A row's cells as text, without the empty ones at its end."""
    cells = ["" if value is None else " ".join(str(value).split()) for value in row]
    while cells and not cells[-1]:
        cells.pop()
    return cells
