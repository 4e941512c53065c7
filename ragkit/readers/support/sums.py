"""Numbers that a statement computed from two numbers of its sources."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal

from ragkit.readers.support.quantities import Quantity
from ragkit.readers.support.wording import Sentence

_DIFFERENCE = re.compile(
    r"\b(?:differ(?:s|ed|ence)?|(?:larger|smaller|higher|lower|more|less|fewer|greater|longer"
    r"|shorter|older|younger|taller|heavier|lighter|earlier|later)\b|exceeds|years? after"
    r"|after|before|later|apart|gap between|margin|aged?\b|lasted|spanned|increased? (?:by|of)"
    r"|decreased? (?:by|of)|rose by|fell by|dropped? (?:by|of))",
    re.IGNORECASE,
)
_RATIO = re.compile(r"\b(?:times|ratio|factor|-fold|fold|share)\b", re.IGNORECASE)
_TOTAL = re.compile(
    r"\b(?:total|together|combined|both|sum|altogether|in all|overall)\b", re.IGNORECASE
)
_PERCENT = re.compile(
    r"\b(?:increase|decrease|rise|rose|fell|drop|grew|growth|decline|reduc|higher|lower|more|less"
    r"|larger|smaller|change)",
    re.IGNORECASE,
)


def compute(
    quantity: Quantity, part: Sentence, sources: Sequence[Sentence]
) -> tuple[str, int] | None:
    """Return how a statement's number follows from two of the sources', and from which sentence.

    Both numbers must stand in sentences that name something of the statement, and the statement
    must say that it computed: "difference", "larger by", "times", "total", "years after".
    """
    if quantity.kind != "number":
        return None
    near = part.text[max(0, quantity.start - 80) : quantity.end + 60]
    ways = [
        name
        for name, pattern in (("-", _DIFFERENCE), ("/", _RATIO), ("+", _TOTAL), ("%", _PERCENT))
        if pattern.search(near)
    ]
    if not ways:
        return None
    stems = {word.stem for word in part.words if word.content}
    names = {word.key for word in part.words if word.name}
    values = [
        (value, i)
        for i, source in enumerate(sources)
        if len(stems & source.stems()) >= 2 or names & source.keys()
        for value in source.quantities
        if value.point and value.kind in ("number", "year")
    ]
    for i, (left, index) in enumerate(values[:16]):
        for right, _ in values[i + 1 : 16]:
            if (left.kind, left.unit) != (right.kind, right.unit) or left.low == right.low:
                continue
            if min(abs(left.low), abs(right.low)) <= quantity.step and left.kind != "year":
                continue  # too small to show in the result
            for way in ways:
                for reason, result in _results(way, left, right, quantity):
                    if quantity.agrees(result):
                        return reason, index
    return None


def _results(
    way: str, left: Quantity, right: Quantity, wanted: Quantity
) -> Iterator[tuple[str, Quantity]]:
    """Yield what one way of computing gives, and how it is written."""
    a, b = (left, right) if left.low > right.low else (right, left)
    years = left.kind == "year"
    if a.unit == "%" and not (way == "-" and "point" in wanted.text):
        return
    if way == "-" and (wanted.unit == a.unit or (years and wanted.unit in ("#year", "year", ""))):
        yield f"{_number(a)} - {_number(b)} = {wanted.text}", _point(a.low - b.low, wanted)
    if way == "+" and wanted.unit == a.unit and not years:
        yield f"{_number(a)} + {_number(b)} = {wanted.text}", _point(a.low + b.low, wanted)
    if way == "/" and b.low > 0 and not years and wanted.unit in ("", "#time"):
        yield f"{_number(a)} / {_number(b)} = {wanted.text}", _point(a.low / b.low, wanted)
    if way == "%" and wanted.unit == "%" and b.low > 0 and not years:
        up = f"({_number(a)} - {_number(b)}) / {_number(b)} = {wanted.text}"
        down = f"({_number(a)} - {_number(b)}) / {_number(a)} = {wanted.text}"
        yield up, _point(100 * (a.low - b.low) / b.low, wanted)
        yield down, _point(100 * (a.low - b.low) / a.low, wanted)


def _point(value: Decimal, like: Quantity) -> Quantity:
    return replace(like, low=value, high=value, about=False)


def _number(quantity: Quantity) -> str:
    return f"{quantity.low / quantity.scale:f}"
