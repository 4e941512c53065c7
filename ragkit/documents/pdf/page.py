"""Read what is drawn on a PDF page with PDFium, in points.

Coordinates begin at the top left of the page as it is shown.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from ragkit.documents.pdf.shapes import (
    MAX_SEGMENTS,
    Frame,
    Rule,
    covered_share,
    page_objects,
    path_rules,
)

MAX_CHARS = 200_000  # of a page; a full page of a newspaper has 30,000
_MAX_PIXELS = 1_500  # longer side of a page that is drawn to see which text is visible
_INVISIBLE = 3  # text rendering mode of the text layer of a scan
_WHITE = 245  # of 255
_SPACES = frozenset(code for code in range(0x3001) if chr(code).isspace())


class Char(NamedTuple):
    """A character: its extent along the line, its baseline and its size, in points.

    Attributes:
        text: One code point, or the letters of a ligature.
        x0: Left end.
        x1: Right end.
        y: Baseline, downwards.
        size: Height of the font.
        turn: Direction of the text in quarter turns counterclockwise; -1 for a slanted one.
        owner: Number of the text object that drew it.
        spaced: True if a space was drawn before it.
    """

    text: str
    x0: float
    x1: float
    y: float
    size: float
    turn: int
    owner: int
    spaced: bool


@dataclass(slots=True)
class PageContent:
    """What is drawn on a page.

    Attributes:
        width: Width of the page as it is shown.
        height: Height of the page as it is shown.
        chars: Visible characters in the order in which they are drawn; x and y are those of the
            page turned so that the character is upright, see `to_page`.
        rules: Lines and edges of boxes.
        n_images: Number of pictures.
        image_share: Share of the page that the largest picture covers.
        n_segments: Number of lines and curves.
        n_unmapped: Characters whose font does not give their Unicode.
        n_hidden: Characters that are drawn but cannot be seen.
        n_outside: Characters outside the page.
        n_dropped: Characters beyond `MAX_CHARS`.
        frame: Converts from PDF user space.
    """

    width: float
    height: float
    chars: list[Char] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    n_images: int = 0
    image_share: float = 0.0
    n_segments: int = 0
    n_unmapped: int = 0
    n_hidden: int = 0
    n_outside: int = 0
    n_dropped: int = 0
    frame: Frame | None = None

    def shown_box(
        self, x0: float, y0: float, x1: float, y1: float
    ) -> tuple[float, float, float, float] | None:
        """Convert a box in PDF user space to the page as it is shown."""
        return self.frame.box(x0, y0, x1, y1) if self.frame else None

    def to_page(
        self, turn: int, box: tuple[float, float, float, float]
    ) -> tuple[float, float, float, float]:
        """Convert (x0, top, x1, bottom) of upright text to the page's own directions."""
        x0, y0, x1, y1 = box
        if turn == 1:
            return y0, self.height - x1, y1, self.height - x0
        if turn == 2:
            return self.width - x1, self.height - y1, self.width - x0, self.height - y0
        if turn == 3:
            return self.width - y1, x0, self.width - y0, x1
        return box

    def upright_rules(self, turn: int) -> list[Rule]:
        """Return the lines, turned so that text of this direction is upright."""
        width, height = self.width, self.height
        if turn == 1:
            return [Rule(height - r.y1, r.x0, height - r.y0, r.x1) for r in self.rules]
        if turn == 2:
            return [
                Rule(width - r.x1, height - r.y1, width - r.x0, height - r.y0) for r in self.rules
            ]
        if turn == 3:
            return [Rule(r.y0, width - r.x1, r.y1, width - r.x0) for r in self.rules]
        return self.rules


def read_page(page: Any) -> PageContent:
    """Read a `pypdfium2.PdfPage`."""
    from pypdfium2 import raw

    frame = Frame(page.raw)
    content = PageContent(frame.width, frame.height, frame=frame)
    for kind, obj, matrix in page_objects(page.raw):
        if kind == raw.FPDF_PAGEOBJ_PATH:
            content.n_segments += max(0, raw.FPDFPath_CountSegments(obj))
            if content.n_segments <= MAX_SEGMENTS:
                content.rules += path_rules(obj, matrix, frame)
        elif kind == raw.FPDF_PAGEOBJ_IMAGE:
            content.n_images += 1
            share = covered_share(obj, matrix, frame)
            content.image_share = max(content.image_share, share)
    text_page = raw.FPDFText_LoadPage(page.raw)
    if not text_page:
        return content
    try:
        _Reader(page, text_page, frame, content).read()
    finally:
        raw.FPDFText_ClosePage(text_page)
    return content


@dataclass(slots=True)
class _Style:
    """Properties that the characters of a text object share."""

    number: int
    size: float
    turn: int
    baseline: float
    suspicious: bool


class _Reader:
    """Reads the characters of one page."""

    def __init__(self, page: Any, text_page: Any, frame: Frame, content: PageContent) -> None:
        self._page = page
        self._text_page = text_page
        self._frame = frame
        self._content = content
        self._styles: dict[int, _Style] = {}
        self._picture: Any = None

    def read(self) -> None:
        from pypdfium2 import raw

        n_chars = max(0, raw.FPDFText_CountChars(self._text_page))
        self._content.n_dropped = max(0, n_chars - MAX_CHARS)
        drawn, boxes = self._drawn(min(n_chars, MAX_CHARS))
        for (i, code, owner, is_unmapped, spaced), bounds in zip(drawn, boxes, strict=True):
            style = self._styles.get(owner)
            if style is None:
                obj = ctypes.cast(owner, raw.FPDF_PAGEOBJECT)
                style = self._styles[owner] = self._style(obj, i)
            text = chr(code) if code < 0x110000 else "\ufffd"
            if code < 32 or code == 0xFFFE:
                text = self._control(text)
            elif is_unmapped or _is_private(text):
                self._content.n_unmapped += 1
                text = text if text.isprintable() else "\ufffd"
            if self._is_shown(bounds, style):
                self._content.chars.append(self._char(text, bounds, style, spaced))

    def _drawn(
        self, n_chars: int
    ) -> tuple[list[tuple[int, int, int, bool, bool]], list[tuple[float, float, float, float]]]:
        """Return the characters that a text object draws, without spaces, and their boxes.

        Returns:
            (index, code point, address of the text object, no Unicode in the font, space before)
            of each character; and its box on the page as it is shown.
        """
        get_object, get_code, get_box, has_error = _fast_calls()
        page = ctypes.cast(self._text_page, ctypes.c_void_p).value or 0
        buffer = (ctypes.c_float * (4 * n_chars))()  # left, top, right, bottom of each
        place = ctypes.addressof(buffer)
        drawn = []
        spaced, high = False, 0
        for i in range(n_chars):
            owner = get_object(page, i)
            if not owner:
                continue  # a space or a line end that PDFium infers
            code = get_code(page, i)
            if 0xD800 <= code < 0xE000:
                if code < 0xDC00:
                    high = code
                    continue
                if high:
                    code = 0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00)
            high = 0
            if code in _SPACES:
                spaced = True
                continue
            get_box(page, i, place)
            place += 16
            drawn.append((i, code, owner, bool(has_error(page, i)), spaced))
            spaced = False
        return drawn, self._frame.boxes(memoryview(buffer).cast("B")[: 16 * len(drawn)])

    def _control(self, text: str) -> str:
        if text in "\x02\ufffe":
            return "-"  # PDFium's sign for a hyphen at the end of a line
        self._content.n_unmapped += 1
        return "\ufffd"

    def _char(
        self,
        text: str,
        bounds: tuple[float, float, float, float],
        style: _Style,
        spaced: bool,
    ) -> Char:
        x0, x1 = bounds[0], bounds[2]
        if style.turn > 0:
            start = self._frame.upright(style.turn, bounds[0], bounds[1])[0]
            end = self._frame.upright(style.turn, bounds[2], bounds[3])[0]
            x0, x1 = min(start, end), max(start, end)
        return Char(text, x0, x1, style.baseline, style.size, style.turn, style.number, spaced)

    def _style(self, obj: Any, i: int) -> _Style:
        from pypdfium2 import raw

        matrix, size = raw.FS_MATRIX(), raw.FPDFText_GetFontSize(self._text_page, i)
        raw.FPDFText_GetMatrix(self._text_page, i, matrix)
        size *= math.hypot(matrix.c, matrix.d)
        angle = math.degrees(math.atan2(matrix.b, matrix.a)) - 90 * self._frame.turns
        turn = round(angle / 90)
        upright = abs(angle - 90 * turn) <= 5
        mode = raw.FPDFTextObj_GetTextRenderMode(obj)
        suspicious = mode != _INVISIBLE and (_is_pale(obj) or _is_optional(obj))
        x, y = ctypes.c_double(), ctypes.c_double()
        raw.FPDFText_GetCharOrigin(self._text_page, i, x, y)
        turn = turn % 4 if upright else -1
        baseline = self._frame.upright(turn, *self._frame.point(x.value, y.value))[1]
        return _Style(len(self._styles), max(abs(size), 0.1), turn, baseline, suspicious)

    def _is_shown(self, bounds: tuple[float, float, float, float], style: _Style) -> bool:
        x, y = (bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2
        if not (0 <= x <= self._frame.width and 0 <= y <= self._frame.height):
            self._content.n_outside += 1
            return False
        if style.suspicious and not self._is_visible(bounds):
            self._content.n_hidden += 1
            return False
        return True

    def _is_visible(self, bounds: tuple[float, float, float, float]) -> bool:
        """Return True if the page, when it is drawn, is not of one colour at this place."""
        if self._picture is None:
            scale = min(2.0, _MAX_PIXELS / max(self._frame.width, self._frame.height, 1.0))
            picture = self._page.render(scale=scale, grayscale=True).to_numpy()
            self._picture = picture, scale
        pixels, scale = self._picture
        x0, y0, x1, y1 = (int(value * scale) for value in bounds)
        part = pixels[max(y0, 0) : y1 + 1, max(x0, 0) : x1 + 1]
        return bool(part.size) and int(part.max()) - int(part.min()) > 255 - _WHITE


@lru_cache(maxsize=1)
def _fast_calls() -> tuple[Callable[..., Any], ...]:
    """Return four of PDFium's functions that are called for every character.

    They take and return plain integers as pointers, and keep the interpreter's lock; so a call
    takes a third of the time of pypdfium2's.
    """
    from pypdfium2 import raw

    pointer, index, answer = ctypes.c_void_p, ctypes.c_int, ctypes.c_int
    kinds = (
        (raw.FPDFText_GetTextObject, pointer, (pointer, index)),
        (raw.FPDFText_GetUnicode, ctypes.c_uint, (pointer, index)),
        (raw.FPDFText_GetLooseCharBox, answer, (pointer, index, pointer)),
        (raw.FPDFText_HasUnicodeMapError, answer, (pointer, index)),
    )
    return tuple(
        ctypes.PYFUNCTYPE(result, *arguments)(ctypes.cast(function, pointer).value or 0)
        for function, result, arguments in kinds
    )


def _is_private(text: str) -> bool:
    return "\ue000" <= text <= "\uf8ff" or text >= "\U000f0000"


def _is_pale(obj: Any) -> bool:
    """Return True for text that is nearly white or transparent."""
    from pypdfium2 import raw

    red, green, blue, alpha = (ctypes.c_uint() for _ in range(4))
    if not raw.FPDFPageObj_GetFillColor(obj, red, green, blue, alpha):
        return False
    return alpha.value < 16 or min(red.value, green.value, blue.value) >= _WHITE


def _is_optional(obj: Any) -> bool:
    """Return True for text of a layer that may be switched off."""
    from pypdfium2 import raw

    name, size = ctypes.create_string_buffer(16), ctypes.c_ulong()
    for n in range(min(raw.FPDFPageObj_CountMarks(obj), 16)):
        mark = raw.FPDFPageObj_GetMark(obj, n)
        kind = ctypes.cast(name, ctypes.POINTER(raw.FPDF_WCHAR))
        is_named = mark and raw.FPDFPageObjMark_GetName(mark, kind, 16, size)
        if is_named and name.raw[: size.value].decode("utf-16-le", "replace").rstrip("\0") == "OC":
            return True
    return False
