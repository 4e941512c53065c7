"""Where the text of a document stands on its pages: lines with their boxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import isfinite

import numpy as np

from ragkit.types import Box, Line

_RECORD = np.dtype(
    [("start", "<u4"), ("end", "<u4"), ("page", "<u4"), ("box", "<f4", (4,))]
)  # 28 bytes


def pack(lines: Iterable[Line]) -> bytes:
    """Return the lines as bytes, 28 each."""
    rows = [(line.start, line.end, line.page, tuple(line[3:])) for line in lines]
    return np.array(rows, dtype=_RECORD).tobytes()


def unpack(data: bytes, start: int | None = None, end: int | None = None) -> tuple[Line, ...]:
    """Return the lines that text[start:end] touches, by default all.

    Raises:
        ValueError: The data are not packed lines.
    """
    if len(data) % _RECORD.itemsize:
        raise ValueError(f"{len(data)} bytes are not packed lines")
    rows = np.frombuffer(data, dtype=_RECORD)
    first = 0 if start is None else int(np.searchsorted(rows["end"], start, side="right"))
    last = len(rows) if end is None else int(np.searchsorted(rows["start"], end, side="left"))
    return tuple(
        Line(int(row["start"]), int(row["end"]), int(row["page"]),
             *(round(float(value), 1) for value in row["box"]))
        for row in rows[first:last]
    )  # fmt: skip


def fault(lines: Sequence[Line], length: int) -> str:
    """Return why lines do not fit a text of this length, or an empty string."""
    if any(a.end > b.start for a, b in pairwise(lines)):
        return "its lines overlap or are not in order"
    if not all(0 <= line.start < line.end <= length for line in lines):
        return "a line is outside the text"
    if not all(line.page >= 1 and all(map(isfinite, line[3:])) for line in lines):
        return "a line has no page or no box"
    return ""


def boxes(lines: Iterable[Line], start: int, end: int) -> tuple[Box, ...]:
    """Return the boxes of the lines that text[start:end] touches."""
    return tuple(Box(*line[2:]) for line in lines if line.start < end and start < line.end)
