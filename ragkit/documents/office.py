"""Convert office files and e-books to Markdown with markitdown. Runs in the worker process."""

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
_OLE_SIGNATURE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_IMAGE = re.compile(r"!\[([^\]\n]*)\]\([^)\n]*\)")
_EMPTY_ROW = re.compile(r"^\|(?:[ :-]*\|)+[ ]*(?:\n|\Z)", re.MULTILINE)
_MAX_CELLS = 2_000_000
# No escapes, emphasis and link targets: they would appear in quotes from the text.
_MARKDOWN_OPTIONS = {
    "bullets": "-",
    "escape_asterisks": False,
    "escape_misc": False,
    "escape_underscores": False,
    "strip": ["a", "b", "em", "i", "strong"],
}


def read_office(data: bytes, name: str, *, kind: str, unpacked_bytes: int) -> Extract:
    """Convert a Word, PowerPoint, Excel or EPUB file to Markdown; replace images by their alt text.

    Args:
        data: Content of the file.
        name: Id of the file.
        kind: "docx", "pptx", "xlsx" or "epub".
        unpacked_bytes: Maximum unpacked size of the archive.

    Raises:
        DocumentError: The file is encrypted, broken, or too big when unpacked.
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
        # On damaged files the converters pass on any exception of their XML libraries.
        if type(error).__name__ == "MissingDependencyException":
            command = "pip install 'ragkit-framework[office]'"
            raise MissingExtra(f"a {kind} file needs the extra `office`: {command}") from error
        raise DocumentError(f"{name}: broken: {type(error).__name__}: {error}") from error
    text = _EMPTY_ROW.sub("", clean(_IMAGE.sub(r"\1", text))).strip()
    return Extract(text, clean(title) or first_heading(text), {"format": "markdown"})


def check_archive(data: bytes, name: str, unpacked_bytes: int) -> None:
    """Check a ZIP archive's directory before anything is unpacked.

    `zipfile` never reads more of a member than the directory states, so the sum of the stated
    sizes bounds the unpacked size even if they are wrong.

    Raises:
        DocumentError: The file is encrypted, not an archive, or too big when unpacked.
    """
    if data.startswith(_OLE_SIGNATURE):
        why = "it needs a password or is in a format before 2007; save it unprotected in a new one"
        raise DocumentError(f"{name}: encrypted: {why}")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
        raise DocumentError(f"{name}: broken: it is not a ZIP archive: {error}") from error
    if any(member.flag_bits & 1 for member in members):
        raise DocumentError(f"{name}: encrypted: it needs a password; save it without one")
    total = sum(member.file_size for member in members)
    if total > unpacked_bytes or (total > 10_000_000 and total > MAX_RATIO * len(data)):
        limit = f"the limit is {unpacked_bytes} bytes and {MAX_RATIO} times its size"
        raise DocumentError(f"{name}: too big when unpacked: {total} bytes; {limit}")


def _convert(data: bytes, kind: str) -> tuple[str, str]:
    require("markitdown", extra="office")
    converters = require("markitdown.converters", extra="office")
    stream_info = require("markitdown", extra="office").StreamInfo(extension=f".{kind}")
    converter = getattr(converters, _CONVERTERS[kind])()
    result = converter.convert(io.BytesIO(data), stream_info, **_MARKDOWN_OPTIONS)
    return result.markdown, result.title or ""


def _read_workbook(data: bytes, name: str) -> Extract:
    """Write each sheet as a `## ` section, one line per row.

    markitdown's own converter writes NaN for empty cells.
    """
    openpyxl = require("openpyxl", extra="office")
    workbook = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    sections: list[str] = []
    losses: list[Loss] = []
    n_remaining = _MAX_CELLS
    for sheet in workbook.worksheets:
        lines = [f"## {sheet.title}", ""]
        sheet.reset_dimensions()  # the stated size would pad every row
        for row in sheet.iter_rows(values_only=True):
            n_remaining -= len(row) or 1  # row numbers are not bounded, so an empty row counts too
            if n_remaining < 0:
                why = f"the limit of {_MAX_CELLS} cells a file; export the sheet as CSV"
                sheet_name = f"{name} sheet {sheet.title}"
                losses.append(
                    Loss("documents", sheet_name, "the rest", f"{len(lines) - 2} rows", why)
                )
                break
            cells = _cells(row)
            if cells:
                lines.append(" | ".join(cells))
        if len(lines) > 2:
            sections.append("\n".join(lines))
    text = clean("\n\n".join(sections))
    return Extract(text, "", {"format": "markdown"}, tuple(losses))


def _cells(row: Iterable[Any]) -> list[str]:
    """Convert a row's cells to text, without the empty ones at its end."""
    cells = ["" if value is None else " ".join(str(value).split()) for value in row]
    while cells and not cells[-1]:
        cells.pop()
    return cells
