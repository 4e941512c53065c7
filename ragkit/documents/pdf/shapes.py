"""Find the shapes and pictures of a PDF page with PDFium, and where they are."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

MAX_SEGMENTS = 20_000  # lines and curves of a page that are looked at
_MAX_OBJECTS = 20_000  # shapes of a page that are looked at
_MAX_DEPTH = 5  # of forms inside forms
_RULE_WIDTH = 3.0  # points; thicker shapes are boxes

Matrix = tuple[float, float, float, float, float, float]
_IDENTITY: Matrix = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)


class Rule(NamedTuple):
    """A horizontal or vertical line, or an edge of a box."""

    x0: float
    y0: float
    x1: float
    y1: float


class Frame:
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
        """Convert a point."""
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

    def boxes(self, corners: memoryview) -> list[tuple[float, float, float, float]]:
        """Convert boxes: the left, top, right and bottom of each, as 32-bit floats."""
        rows = struct.iter_unpack("4f", corners)
        if self.turns:
            return [self.box(x0, y0, x1, y1) for x0, y1, x1, y0 in rows]
        left, top = self._left, self._top
        return [(x0 - left, top - y1, x1 - left, top - y0) for x0, y1, x1, y0 in rows]

    def upright(self, turn: int, x: float, y: float) -> tuple[float, float]:
        """Turn a point of the page so that text of this direction is horizontal."""
        if turn == 1:
            return self.height - y, x
        if turn == 2:
            return self.width - x, self.height - y
        return (y, self.width - x) if turn == 3 else (x, y)


def page_objects(page: Any) -> Iterator[tuple[int, Any, Matrix]]:
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


def covered_share(image: Any, matrix: Matrix, frame: Frame) -> float:
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


def path_rules(path: Any, matrix: Matrix, frame: Frame) -> Iterator[Rule]:
    """Yield the horizontal and vertical lines of a path; a thin box is one line."""
    from pypdfium2 import raw

    full = _product(_matrix(path), matrix)
    x, y = ctypes.c_float(), ctypes.c_float()
    points: list[tuple[float, float]] = []
    for i in range(min(raw.FPDFPath_CountSegments(path), MAX_SEGMENTS)):
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
