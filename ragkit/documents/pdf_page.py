"""Read the characters, lines and pictures of a PDF page with PDFium, in points.

Coordinates begin at the top left of the page as it is shown.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

MAX_CHARS = 200_000  # of a page; a full page of a newspaper has 30,000
_MAX_OBJECTS = 20_000  # shapes of a page that are looked at
_MAX_SEGMENTS = 20_000  # lines and curves of a page that are looked at
_MAX_DEPTH = 5  # of forms inside forms
_MAX_PIXELS = 1_500  # longer side of a page that is drawn to see which text is visible
_INVISIBLE = 3  # text rendering mode of the text layer of a scan
_RULE_WIDTH = 3.0  # points; thicker shapes are boxes
_WHITE = 245  # of 255

Matrix = tuple[float, float, float, float, float, float]
_IDENTITY: Matrix = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)


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


class Rule(NamedTuple):
    """A horizontal or vertical line, or an edge of a box."""

    x0: float
    y0: float
    x1: float
    y1: float


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
    frame: _Frame | None = None

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

    frame = _Frame(page.raw)
    content = PageContent(frame.width, frame.height, frame=frame)
    for kind, obj, matrix in _objects(page.raw, content):
        if kind == raw.FPDF_PAGEOBJ_PATH:
            content.n_segments += max(0, raw.FPDFPath_CountSegments(obj))
            if content.n_segments <= _MAX_SEGMENTS:
                content.rules += _rules(obj, matrix, frame)
        elif kind == raw.FPDF_PAGEOBJ_IMAGE:
            content.n_images += 1
            share = _share(obj, matrix, frame)
            content.image_share = max(content.image_share, share)
    text_page = raw.FPDFText_LoadPage(page.raw)
    if not text_page:
        return content
    try:
        _Reader(page, text_page, frame, content).read()
    finally:
        raw.FPDFText_ClosePage(text_page)
    return content


class _Frame:
    """Converts PDF user space to points from the top left of the page as it is shown."""

    def __init__(self, page: Any) -> None:
        from pypdfium2 import raw

        box = raw.FS_RECTF()
        raw.FPDF_GetPageBoundingBox(page, box)
        self._left, self._top = float(box.left), float(box.top)
        self._width, self._height = float(box.right - box.left), float(box.top - box.bottom)
        self.turns = raw.FPDFPage_GetRotation(page) % 4  # clockwise
        sides = (self._width, self._height)
        self.width, self.height = sides[::-1] if self.turns % 2 else sides

    def point(self, x: float, y: float) -> tuple[float, float]:
        x, y = x - self._left, self._top - y
        if not self.turns:
            return x, y
        if self.turns == 1:
            return self._height - y, x
        if self.turns == 2:
            return self._width - x, self._height - y
        return y, self._width - x

    def box(self, x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
        """Convert a box with x0 <= x1 and y0 <= y1."""
        if not self.turns:
            return x0 - self._left, self._top - y1, x1 - self._left, self._top - y0
        (ax, ay), (bx, by) = self.point(x0, y0), self.point(x1, y1)
        return min(ax, bx), min(ay, by), max(ax, bx), max(ay, by)

    def upright(self, turn: int, x: float, y: float) -> tuple[float, float]:
        """Turn a point of the page so that text of this direction is horizontal."""
        if turn == 1:
            return self.height - y, x
        if turn == 2:
            return self.width - x, self.height - y
        return (y, self.width - x) if turn == 3 else (x, y)


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

    def __init__(self, page: Any, text_page: Any, frame: _Frame, content: PageContent) -> None:
        self._page = page
        self._text_page = text_page
        self._frame = frame
        self._content = content
        self._styles: dict[int, _Style] = {}
        self._picture: Any = None

    def read(self) -> None:
        from pypdfium2 import raw

        text_page, content = self._text_page, self._content
        n_chars = max(0, raw.FPDFText_CountChars(text_page))
        content.n_dropped = max(0, n_chars - MAX_CHARS)
        box = raw.FS_RECTF()
        spaced, high = False, 0
        for i in range(min(n_chars, MAX_CHARS)):
            obj = raw.FPDFText_GetTextObject(text_page, i)
            if not obj:
                continue  # a space or a line end that PDFium infers
            code = raw.FPDFText_GetUnicode(text_page, i)
            if 0xD800 <= code < 0xDC00:
                high = code
                continue
            if high and 0xDC00 <= code < 0xE000:
                code = 0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00)
            high = 0
            text = chr(code) if code < 0x110000 else "\ufffd"
            if text.isspace():
                spaced = True
                continue
            key = ctypes.addressof(obj.contents)
            style = self._styles.get(key)
            if style is None:
                style = self._styles[key] = self._style(obj, i)
            raw.FPDFText_GetLooseCharBox(text_page, i, box)
            bounds = self._frame.box(box.left, box.bottom, box.right, box.top)
            if code < 32 or code == 0xFFFE:
                text = self._control(text)
            elif raw.FPDFText_HasUnicodeMapError(text_page, i) or _is_private(text):
                content.n_unmapped += 1
                text = text if text.isprintable() else "\ufffd"
            if self._is_shown(bounds, style):
                content.chars.append(self._char(text, bounds, style, spaced))
            spaced = False

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


def _objects(page: Any, content: PageContent) -> Iterator[tuple[int, Any, Matrix]]:
    """Yield (type, object, matrix) of the shapes and pictures, also inside forms."""
    from pypdfium2 import raw

    stack: list[tuple[Callable[[int], Any], int, int, Matrix, int]] = [
        (
            lambda i: raw.FPDFPage_GetObject(page, i),
            0,
            raw.FPDFPage_CountObjects(page),
            _IDENTITY,
            0,
        )
    ]
    for _ in range(_MAX_OBJECTS):
        while stack and stack[-1][1] >= stack[-1][2]:
            stack.pop()
        if not stack:
            return
        get, i, n, matrix, depth = stack.pop()
        stack.append((get, i + 1, n, matrix, depth))
        obj = get(i)
        kind = raw.FPDFPageObj_GetType(obj)
        if kind == raw.FPDF_PAGEOBJ_FORM and depth < _MAX_DEPTH:
            inner = _product(_matrix(obj), matrix)
            getter = _form_getter(obj)
            stack.append((getter, 0, raw.FPDFFormObj_CountObjects(obj), inner, depth + 1))
        else:
            yield kind, obj, matrix


def _form_getter(form: Any) -> Callable[[int], Any]:
    from pypdfium2 import raw

    return lambda i: raw.FPDFFormObj_GetObject(form, i)


def _matrix(obj: Any) -> Matrix:
    from pypdfium2 import raw

    m = raw.FS_MATRIX()
    return (m.a, m.b, m.c, m.d, m.e, m.f) if raw.FPDFPageObj_GetMatrix(obj, m) else _IDENTITY


def _product(first: Matrix, then: Matrix) -> Matrix:
    a, b, c, d, e, f = first
    g, h, i, j, k, m = then
    return (
        *(a * g + b * i, a * h + b * j, c * g + d * i, c * h + d * j),
        *(e * g + f * i + k, e * h + f * j + m),
    )


def _share(image: Any, matrix: Matrix, frame: _Frame) -> float:
    """Return the share of the page that an image covers."""
    from pypdfium2 import raw

    left, bottom, right, top = (ctypes.c_float() for _ in range(4))
    if not raw.FPDFPageObj_GetBounds(image, left, bottom, right, top):
        return 0.0
    (ax, ay), (bx, by) = (
        _apply(matrix, left.value, bottom.value),
        _apply(matrix, right.value, top.value),
    )
    x0, y0, x1, y1 = frame.box(min(ax, bx), min(ay, by), max(ax, bx), max(ay, by))
    width = min(x1, frame.width) - max(x0, 0.0)
    height = min(y1, frame.height) - max(y0, 0.0)
    return max(width, 0.0) * max(height, 0.0) / max(frame.width * frame.height, 1.0)


def _apply(matrix: Matrix, x: float, y: float) -> tuple[float, float]:
    a, b, c, d, e, f = matrix
    return a * x + c * y + e, b * x + d * y + f


def _rules(path: Any, matrix: Matrix, frame: _Frame) -> Iterator[Rule]:
    """Yield the horizontal and vertical lines of a path; a thin box is one line."""
    from pypdfium2 import raw

    full = _product(_matrix(path), matrix)
    x, y = ctypes.c_float(), ctypes.c_float()
    points: list[tuple[float, float]] = []
    for i in range(min(raw.FPDFPath_CountSegments(path), _MAX_SEGMENTS)):
        segment = raw.FPDFPath_GetPathSegment(path, i)
        kind = raw.FPDFPathSegment_GetType(segment)
        raw.FPDFPathSegment_GetPoint(segment, x, y)
        if kind != raw.FPDF_SEGMENT_LINETO:
            yield from _edges(points)
            points = []
        points.append(frame.point(*_apply(full, x.value, y.value)))
        if kind == raw.FPDF_SEGMENT_LINETO and raw.FPDFPathSegment_GetClose(segment):
            points.append(points[0])
    yield from _edges(points)


def _edges(points: list[tuple[float, float]]) -> Iterator[Rule]:
    if len(points) < 2:
        return
    xs, ys = [x for x, _ in points], [y for _, y in points]
    x0, y0, x1, y1 = min(xs), min(ys), max(xs), max(ys)
    if y1 - y0 <= _RULE_WIDTH or x1 - x0 <= _RULE_WIDTH:
        if y1 - y0 <= _RULE_WIDTH:
            y0 = y1 = (y0 + y1) / 2
        else:
            x0 = x1 = (x0 + x1) / 2
        yield Rule(x0, y0, x1, y1)
        return
    for (ax, ay), (bx, by) in pairwise(points):
        if abs(ax - bx) < 0.5 or abs(ay - by) < 0.5:
            yield Rule(min(ax, bx), min(ay, by), max(ax, bx), max(ay, by))
