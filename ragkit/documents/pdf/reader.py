"""Extract the text of a PDF page by page. Runs in the worker process."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ragkit.documents.pdf.extras import Extras, ExtrasReader, attachment_names
from ragkit.documents.pdf.page import PageContent, read_page
from ragkit.documents.pdf.text import PageText, Piece, page_text, write_text
from ragkit.documents.text import Extract, clean
from ragkit.errors import DocumentError
from ragkit.types import Loss

MAX_PAGES = 5_000
_MAX_LISTED = 20  # pages and names that a loss lists
_PICTURE_SHARE = 0.5  # of a page that a picture covers
_MANY_SEGMENTS = 3_000  # lines and curves: text of 100 letters drawn as shapes
_FEW_CHARS = 200
_DEFAULT_TITLE = re.compile(
    r"\(?untitled\)?|\(anonymous\)|microsoft \w+ - .*"
    r"|.*\.(docx?|dvi|indd|odt|pptx?|pub|qxd|rtf|tex|wpd)"
)
_PASSWORD, _SECURITY = 4, 5  # error codes of PDFium

# What is lost of a page, what remains, and why; the pages are added to the reason.
_FAULTS = {
    "scan": ("{n}", "{rest}", "a picture without text; run OCR on it"),
    "picture": (
        "text inside pictures of {n}",
        "the text beside them",
        "a picture or drawn shapes fill it, and it has little text; run OCR on it",
    ),
    "order": ("certainty about the order of the words of {n}", "the words", "columns or a table"),
    "table": (
        "the columns of a table on {n}",
        "its lines, with two spaces between cells",
        "the cells are not clearly aligned",
    ),
    "unmapped": (
        "certainty about characters of {n}",
        "guesses, or U+FFFD in their places",
        "a font does not say which characters its shapes are",
    ),
    "hidden": (
        "text of {n} that cannot be seen",
        "the visible text",
        "it has the colour of the page, or its layer is switched off",
    ),
    "outside": ("text outside the borders of {n}", "the text inside", "it is not shown"),
    "hidden notes": ("hidden comments on {n}", "those that are shown", "they are marked as hidden"),
    "long": ("characters or comments of {n}", "the first ones", "it has too many"),
}


def read_pdf(data: bytes, name: str) -> Extract:
    """Join the pages' texts by blank lines; `metadata["pages"]` lists the offset of each page.

    Raises:
        DocumentError: The file is encrypted, broken, or without any text.
    """
    document = _open(data, name)
    try:
        return _read(document, name)
    finally:
        document.close()


def _open(data: bytes, name: str) -> Any:
    from pypdfium2 import PdfDocument, PdfiumError

    try:
        return PdfDocument(data)
    except PdfiumError as error:
        code = getattr(error, "err_code", None)
        if code == _PASSWORD:
            why = "encrypted: it needs a password; save it without one"
            raise DocumentError(f"{name}: {why}") from error
        if code == _SECURITY:
            why = "encrypted: its encryption is not supported; save it without"
            raise DocumentError(f"{name}: {why}") from error
        raise DocumentError(f"{name}: broken: {error}") from error


def _read(document: Any, name: str) -> Extract:
    from pypdfium2 import raw

    n_pages = len(document)
    losses: list[Loss] = []
    form_type = document.get_formtype()
    if form_type in (raw.FORMTYPE_XFA_FULL, raw.FORMTYPE_XFA_FOREGROUND):
        why = "an XFA form; print it to PDF"
        losses.append(Loss("documents", name, "the form", "what its pages show without it", why))
    if form_type != raw.FORMTYPE_NONE:
        document.init_forms()
    pages = _Pages(document, n_pages)
    if not any(piece.text for page in pages.texts for piece in page.pieces):
        _raise_without_text(name, n_pages, pages)
    text, starts, lines = write_text(pages.texts)
    metadata = {"format": "pdf", "n_pages": n_pages, "pages": starts}
    losses += _losses(name, n_pages, pages)
    losses += _attachments(name, document, pages.n_files)
    return Extract(text, _title(document), metadata, tuple(losses), tuple(lines))


class _Pages:
    """Texts of the pages up to `MAX_PAGES`, and what is wrong with them.

    Attributes:
        texts: Text of each page.
        failed: Numbers of the pages that cannot be read.
        faults: Numbers of the pages with each fault of `_FAULTS`.
        n_files: Files attached to pages.
    """

    def __init__(self, document: Any, n_pages: int) -> None:
        self.texts: list[PageText] = []
        self.failed: list[int] = []
        self.faults: dict[str, list[int]] = defaultdict(list)
        self.n_files = 0
        extras = ExtrasReader(document.formenv and document.formenv.raw)
        for number in range(min(n_pages, MAX_PAGES)):
            self.texts.append(self._read(document, number, extras))

    def _read(self, document: Any, number: int, reader: ExtrasReader) -> PageText:
        from pypdfium2 import PdfiumError

        try:
            page = document[number]
        except PdfiumError:
            self.failed.append(number + 1)
            return PageText()
        try:
            content = read_page(page)
            extras = reader.read(page.raw)
        finally:
            page.close()
        text = page_text(content)
        for line, box in extras.lines:
            text.pieces.append(Piece(line, "\n\n", content.shown_box(*box)))
        for fault in _faults(content, extras, text):
            self.faults[fault].append(number + 1)
        self.n_files += extras.n_files
        return text


def _faults(content: PageContent, extras: Extras, text: PageText) -> list[str]:
    """Return the keys of `_FAULTS` that apply to a page."""
    n_chars = len(content.chars)
    drawn = content.image_share >= _PICTURE_SHARE or content.n_segments >= _MANY_SEGMENTS
    checks = {
        "scan": content.n_images and not n_chars,
        "picture": drawn and n_chars < _FEW_CHARS and not (content.n_images and not n_chars),
        "order": text.is_order_doubtful,
        "table": text.n_doubtful_tables,
        "unmapped": content.n_unmapped,
        "hidden": content.n_hidden,
        "outside": content.n_outside,
        "hidden notes": extras.n_hidden,
        "long": content.n_dropped or extras.n_dropped,
    }
    return [fault for fault, applies in checks.items() if applies]


def _title(document: Any) -> str:
    """Return the title of the document information, unless it is a program's default."""
    title = " ".join(clean(document.get_metadata_value("Title")).split())
    return "" if _DEFAULT_TITLE.fullmatch(title.lower()) else title


def _raise_without_text(name: str, n_pages: int, pages: _Pages) -> None:
    if pages.failed:
        page = pages.failed[0]
        raise DocumentError(f"{name}: broken: no page can be read; page {page} is damaged")
    if not n_pages:
        raise DocumentError(f"{name}: empty: it has no pages")
    if pages.faults["hidden"] or pages.faults["outside"]:
        raise DocumentError(f"{name}: empty: none of its text can be seen on its pages")
    raise DocumentError(f"{name}: no text layer: {n_pages} pages without text; run OCR on it first")


def _losses(name: str, n_pages: int, pages: _Pages) -> list[Loss]:
    losses = []
    if pages.failed:
        n_lost, n_kept = len(pages.failed), len(pages.texts) - len(pages.failed)
        why = f"broken: {_list(pages.failed)}"
        losses.append(Loss("documents", name, f"{n_lost} pages", f"{n_kept} pages", why))
    for fault, (lost, kept, why) in _FAULTS.items():
        numbers = pages.faults[fault]
        if not numbers:
            continue
        n, rest = f"{len(numbers)} pages", f"{len(pages.texts) - len(numbers)} pages"
        lost, kept = lost.format(n=n), kept.format(rest=rest)
        losses.append(Loss("documents", name, lost, kept, f"{why}: {_list(numbers)}"))
    if n_pages > MAX_PAGES:
        lost = f"{n_pages - MAX_PAGES} pages"
        why = "the page limit; split the file"
        losses.append(Loss("documents", name, lost, f"{MAX_PAGES} pages", why))
    return losses


def _list(numbers: Sequence[int]) -> str:
    listed = ", ".join(map(str, numbers[:_MAX_LISTED]))
    rest = len(numbers) - _MAX_LISTED
    return f"page {listed} and {rest} more" if rest > 0 else f"page {listed}"


def _attachments(name: str, document: Any, n_on_pages: int) -> list[Loss]:
    why = "attached to the PDF; save it and add it by itself"
    names = attachment_names(document.raw)
    losses = [
        Loss("documents", f"{name}: {attached}", "the attachment", "nothing of it", why)
        for attached in names[:_MAX_LISTED]
    ]
    n_more = len(names) - len(losses) + n_on_pages
    if n_more:
        losses.append(Loss("documents", name, f"{n_more} attachments", "nothing of them", why))
    return losses
