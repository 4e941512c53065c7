"""Extract the text of a PDF page by page. Runs in the worker process."""

from __future__ import annotations

import io
import re
from typing import Any

from ragkit.documents.text import Extract, clean
from ragkit.errors import DocumentError
from ragkit.types import Loss

MAX_PAGES = 5_000
_DEFAULT_TITLE = re.compile(
    r"\(?untitled\)?|\(anonymous\)|microsoft \w+ - .*"
    r"|.*\.(docx?|dvi|indd|odt|pptx?|pub|qxd|rtf|tex|wpd)"
)


def read_pdf(data: bytes, name: str) -> Extract:
    """Join the pages' texts by blank lines; `metadata["pages"]` lists the offset of each page.

    Raises:
        DocumentError: The file is encrypted, broken, or without any text.
    """
    from pypdf.errors import LimitReachedError, PyPdfError

    try:
        reader = _open(data, name)
        n_pages = len(reader.pages)
    except LimitReachedError as error:
        raise DocumentError(f"{name}: too big when unpacked: {error}") from error
    except (PyPdfError, *_PARSER_ERRORS) as error:
        raise DocumentError(f"{name}: broken: {type(error).__name__}: {error}") from error
    texts, failed, scanned = [], [], []
    for number in range(min(n_pages, MAX_PAGES)):
        text, fault = _read_page(reader, number)
        texts.append(text)
        if fault:
            failed.append((number + 1, fault))
        elif not text and _has_image(reader, number):
            scanned.append(number + 1)
    if not any(texts):
        _raise_without_text(name, n_pages, failed)
    starts, offset = [], 0
    for text in texts:
        starts.append(offset)
        offset += len(text) + 2
    metadata = {"format": "pdf", "n_pages": n_pages, "pages": starts}
    losses = _losses(name, n_pages, failed, scanned)
    return Extract("\n\n".join(texts), _title(reader), metadata, losses)


# Exceptions that pypdf raises for damaged files besides its own.
_PARSER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)


def _open(data: bytes, name: str) -> Any:
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, FileNotDecryptedError

    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise DocumentError(f"{name}: encrypted: it needs a password; save it without one")
    except FileNotDecryptedError as error:
        raise DocumentError(
            f"{name}: encrypted: it needs a password; save it without one"
        ) from error
    except DependencyError as error:
        why = "its AES encryption needs `pip install cryptography`; or save it unencrypted"
        raise DocumentError(f"{name}: encrypted: {why}") from error
    return reader


def _read_page(reader: Any, number: int) -> tuple[str, str]:
    """Return a page's text and, if it cannot be read, the error."""
    from pypdf.errors import PyPdfError

    try:
        return clean(reader.pages[number].extract_text()).strip(), ""
    except (PyPdfError, *_PARSER_ERRORS) as error:
        return "", f"{type(error).__name__}: {error}"


def _has_image(reader: Any, number: int) -> bool:
    from pypdf.errors import PyPdfError

    try:
        resources = reader.pages[number]["/Resources"].get_object()
        objects = resources.get("/XObject", {}).get_object()
        return any(objects[key].get_object().get("/Subtype") == "/Image" for key in objects)
    except (PyPdfError, *_PARSER_ERRORS):
        return False


def _title(reader: Any) -> str:
    """Return the title of the document information, unless it is a program's default."""
    from pypdf.errors import PyPdfError

    try:
        title = " ".join(clean((reader.metadata or {}).get("/Title") or "").split())
    except (PyPdfError, *_PARSER_ERRORS):
        return ""
    return "" if _DEFAULT_TITLE.fullmatch(title.lower()) else title


def _raise_without_text(name: str, n_pages: int, failed: list[tuple[int, str]]) -> None:
    if failed:
        raise DocumentError(
            f"{name}: broken: no page can be read; page {failed[0][0]}: {failed[0][1]}"
        )
    if not n_pages:
        raise DocumentError(f"{name}: empty: it has no pages")
    raise DocumentError(f"{name}: no text layer: {n_pages} pages without text; run OCR on it first")


def _losses(
    name: str, n_pages: int, failed: list[tuple[int, str]], scanned: list[int]
) -> tuple[Loss, ...]:
    losses = [
        Loss("documents", f"{name} page {number}", "the page", "nothing of it", f"broken: {why}")
        for number, why in failed
    ]
    if scanned:
        pages = ", ".join(map(str, scanned))
        why = f"an image without text on page {pages}; run OCR on it"
        kept = f"{n_pages - len(scanned)} pages"
        losses.append(Loss("documents", name, f"{len(scanned)} pages", kept, why))
    if n_pages > MAX_PAGES:
        lost = f"{n_pages - MAX_PAGES} pages"
        losses.append(
            Loss("documents", name, lost, f"{MAX_PAGES} pages", "the page limit; split the file")
        )
    return tuple(losses)
