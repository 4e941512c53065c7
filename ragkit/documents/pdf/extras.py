"""Read what a PDF holds beside its pages' content: forms, comments, attachments."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ragkit.documents.text import clean

_MAX_ANNOTATIONS = 2_000  # of a page
_MAX_ATTACHMENTS = 1_000
_HIDDEN = 2 | 32  # annotation flags: hidden, no view
_LINK, _POPUP, _FREE_TEXT, _FILE, _WIDGET = 2, 16, 3, 17, 20


@dataclass(slots=True)
class Extras:
    """Lines to add to a page's text, each with its box in PDF user space, and what is left out."""

    lines: list[tuple[str, tuple[float, float, float, float]]] = field(default_factory=list)
    n_files: int = 0
    n_hidden: int = 0
    n_dropped: int = 0


class ExtrasReader:
    """Reads the annotations of pages; each field of the form is read once.

    Args:
        form: A PDFium form handle, or None if the file has no form.
    """

    def __init__(self, form: Any) -> None:
        self._form = form
        self._seen: set[str] = set()

    def read(self, page: Any) -> Extras:
        """Read the annotations of a raw PDFium page."""
        from pypdfium2 import raw

        extras = Extras()
        n_annotations = max(0, raw.FPDFPage_GetAnnotCount(page))
        extras.n_dropped = max(0, n_annotations - _MAX_ANNOTATIONS)
        rect = raw.FS_RECTF()
        for i in range(min(n_annotations, _MAX_ANNOTATIONS)):
            annotation = raw.FPDFPage_GetAnnot(page, i)
            if not annotation:
                continue
            try:
                line = self._line(annotation, extras)
                if line:
                    raw.FPDFAnnot_GetRect(annotation, rect)
                    bottom, top = sorted((rect.bottom, rect.top))
                    extras.lines.append((line, (rect.left, bottom, rect.right, top)))
            finally:
                raw.FPDFPage_CloseAnnot(annotation)
        return extras

    def _line(self, annotation: Any, extras: Extras) -> str:
        from pypdfium2 import raw

        kind = raw.FPDFAnnot_GetSubtype(annotation)
        if kind in (_LINK, _POPUP):
            return ""
        if kind == _WIDGET:
            return self._field(annotation) if self._form else ""
        if kind == _FILE:
            extras.n_files += 1
        text = " ".join(_value(annotation, b"Contents").split())
        if text and raw.FPDFAnnot_GetFlags(annotation) & _HIDDEN:
            extras.n_hidden += 1
            return ""
        if not text or kind == _FREE_TEXT:
            return text
        author = " ".join(_value(annotation, b"T").split())
        return f"Comment by {author}: {text}" if author else f"Comment: {text}"

    def _field(self, widget: Any) -> str:
        """Return "name: value" for a field with a value, the first time it is seen."""
        from pypdfium2 import raw

        name = self._form_text(raw.FPDFAnnot_GetFormFieldName, widget)
        kind = raw.FPDFAnnot_GetFormFieldType(self._form, widget)
        if name in self._seen or kind in (
            raw.FPDF_FORMFIELD_PUSHBUTTON,
            raw.FPDF_FORMFIELD_UNKNOWN,
        ):
            return ""
        if kind == raw.FPDF_FORMFIELD_RADIOBUTTON:
            if not raw.FPDFAnnot_IsChecked(self._form, widget):
                return ""
            value = self._form_text(raw.FPDFAnnot_GetFormFieldExportValue, widget)
        elif kind == raw.FPDF_FORMFIELD_CHECKBOX:
            value = "yes" if raw.FPDFAnnot_IsChecked(self._form, widget) else "no"
        else:
            value = self._choices(widget) if kind == raw.FPDF_FORMFIELD_LISTBOX else ""
            value = value or self._form_text(raw.FPDFAnnot_GetFormFieldValue, widget)
        if not value:
            return ""
        self._seen.add(name)
        return f"{name}: {value}" if name else value

    def _choices(self, widget: Any) -> str:
        from pypdfium2 import raw

        def label(i: int) -> str:
            return _text(lambda *to: raw.FPDFAnnot_GetOptionLabel(self._form, widget, i, *to))

        n_options = min(max(0, raw.FPDFAnnot_GetOptionCount(self._form, widget)), 1_000)
        chosen = [
            label(i)
            for i in range(n_options)
            if raw.FPDFAnnot_IsOptionSelected(self._form, widget, i)
        ]
        return ", ".join(filter(None, chosen))

    def _form_text(self, read: Any, widget: Any) -> str:
        return " ".join(_text(lambda *to: read(self._form, widget, *to)).split())


def attachment_names(document: Any) -> list[str]:
    """Return the names of the files attached to a raw PDFium document."""
    from pypdfium2 import raw

    def name(i: int) -> str:
        attachment = raw.FPDFDoc_GetAttachment(document, i)
        return _text(lambda *to: raw.FPDFAttachment_GetName(attachment, *to))

    n_attachments = min(max(0, raw.FPDFDoc_GetAttachmentCount(document)), _MAX_ATTACHMENTS)
    return [name(i) or f"attachment {i + 1}" for i in range(n_attachments)]


def _value(annotation: Any, key: bytes) -> str:
    from pypdfium2 import raw

    return _text(lambda *to: raw.FPDFAnnot_GetStringValue(annotation, key, *to))


def _text(read: Callable[..., int]) -> str:
    """Read a UTF-16 string with a function that returns its size in bytes."""
    from pypdfium2 import raw

    size = read(None, 0)
    if size <= 2:
        return ""
    buffer = (ctypes.c_ushort * (size // 2 + 1))()
    read(ctypes.cast(buffer, ctypes.POINTER(raw.FPDF_WCHAR)), ctypes.sizeof(buffer))
    text = bytes(buffer).decode("utf-16-le", "replace")
    return clean(text.split("\0", 1)[0]).strip()
