"""Convert office files and e-books to Markdown. Runs in the worker process."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

from ragkit.documents.office.docx import read_docx
from ragkit.documents.office.epub import read_epub
from ragkit.documents.office.ooxml import PackageError
from ragkit.documents.office.pptx import read_pptx
from ragkit.documents.office.xlsx import read_xlsx
from ragkit.documents.text import Extract
from ragkit.errors import DocumentError

MAX_RATIO = 200
_READERS: dict[str, Callable[[bytes, str], Extract]] = {
    "docx": read_docx,
    "epub": read_epub,
    "pptx": read_pptx,
    "xlsx": read_xlsx,
}
_OLE_SIGNATURE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")  # stream of a file with a password


def read_office(data: bytes, name: str, *, kind: str, unpacked_bytes: int) -> Extract:
    """Convert a Word, PowerPoint, Excel or EPUB file to Markdown.

    Args:
        data: Content of the file.
        name: Id of the file.
        kind: "docx", "pptx", "xlsx" or "epub".
        unpacked_bytes: Maximum unpacked size of the archive.

    Raises:
        DocumentError: The file is encrypted, broken, or too big when unpacked.
    """
    check_archive(data, name, unpacked_bytes)
    try:
        return _READERS[kind](data, name)
    except (DocumentError, MemoryError):
        raise
    except RecursionError as error:
        raise DocumentError(f"{name}: broken: its elements are nested too deep") from error
    except PackageError as error:
        raise DocumentError(f"{name}: broken: {error}") from error
    except Exception as error:
        # Damaged archives and XML raise many kinds of exceptions.
        raise DocumentError(f"{name}: broken: {type(error).__name__}: {error}") from error


def check_archive(data: bytes, name: str, unpacked_bytes: int) -> None:
    """Check a ZIP archive's directory before anything is unpacked.

    `zipfile` never reads more of a member than the directory states, so the sum of the stated
    sizes bounds the unpacked size even if they are wrong.

    Raises:
        DocumentError: The file is encrypted, not an archive, or too big when unpacked.
    """
    if data.startswith(_OLE_SIGNATURE) and _ENCRYPTED in data:
        raise DocumentError(f"{name}: encrypted: it needs a password; save it without one")
    if data.startswith(_OLE_SIGNATURE):
        why = "it is in a format of before 2007, despite its suffix; save it in the present one"
        raise DocumentError(f"{name}: unsupported type: {why}")
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
