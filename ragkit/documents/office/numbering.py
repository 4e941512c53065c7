"""Count the automatic numbers of headings, clauses and lists in Word files."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from xml.etree.ElementTree import Element

from ragkit.documents.office.ooxml import is_on
from ragkit.documents.scalars import to_int

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MAX_NUMBER = 1_000_000
_N_LEVELS = 9
_PLACE = re.compile(r"%([1-9])")
_ROMAN = (
    *((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l")),
    *((40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i")),
)
_ORDINAL_ENDS = {1: "st", 2: "nd", 3: "rd"}


def format_number(number: int, kind: str) -> str | None:
    """Write a number in one of Word's number formats; None if the format is not supported.

    >>> [format_number(28, kind) for kind in ["decimal", "lowerLetter", "upperRoman", "ordinal"]]
    ['28', 'bb', 'XXVIII', '28th']
    """
    if kind in _FORMATS:
        return _FORMATS[kind](number) if 0 < number < _MAX_NUMBER else str(number)
    return None


def _letters(number: int) -> str:
    """Count a to z, aa to zz, aaa to zzz."""
    repeats, index = divmod(number - 1, 26)
    return chr(ord("a") + index) * (repeats + 1) if repeats < 50 else str(number)


def _roman(number: int) -> str:
    if number > 10_000:
        return str(number)
    text = ""
    for value, sign in _ROMAN:
        count, number = divmod(number, value)
        text += sign * count
    return text


def _ordinal(number: int) -> str:
    end = "th" if number % 100 in {11, 12, 13} else _ORDINAL_ENDS.get(number % 10, "th")
    return f"{number}{end}"


_FORMATS: dict[str, Callable[[int], str]] = {
    "decimal": str,
    "decimalZero": "{:02d}".format,
    "lowerLetter": _letters,
    "lowerRoman": _roman,
    "none": lambda _: "",
    "numberInDash": "- {} -".format,
    "ordinal": _ordinal,
    "upperLetter": lambda number: _letters(number).upper(),
    "upperRoman": lambda number: _roman(number).upper(),
}


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a list.

    Attributes:
        kind: Word's name of the number format.
        text: Text of a label; "%2" stands for the number of level 2.
        start: First number.
        restart: Number of the level after which this one starts again; 0 for never, None for any.
        is_legal: Whether all levels are written as decimal numbers.
        style: Id of the paragraph style that belongs to the level.
    """

    kind: str = "decimal"
    text: str = ""
    start: int = 1
    restart: int | None = None
    is_legal: bool = False
    style: str = ""


@dataclass(slots=True)
class _List:
    """A list of the file: its levels, its counters' owner, and where it starts anew."""

    owner: str
    levels: dict[int, Level]
    starts: dict[int, int] = field(default_factory=dict)
    is_used: bool = False


class Numbering:
    """Lists of a Word file, and the numbers that they have reached.

    Args:
        root: Root of the numbering part; None if there is none.
        style_lists: Id of the list of each numbering style.

    Attributes:
        n_unsupported: Count of the numbers whose format is not supported, written in digits.
    """

    def __init__(self, root: Element | None, style_lists: dict[str, str]) -> None:
        self._lists: dict[str, _List] = {}
        self._counters: dict[str, dict[int, int]] = {}
        self.n_unsupported = 0
        if root is None:
            return
        outlines = {
            item.get(f"{W}abstractNumId", ""): item for item in root.iter(f"{W}abstractNum")
        }
        owners = {
            item.get(f"{W}numId", ""): _value(item, "abstractNumId")
            for item in root.iter(f"{W}num")
        }
        for item in root.iter(f"{W}num"):
            number = item.get(f"{W}numId", "")
            owner = owners[number]
            link = _value(outlines.get(owner), "numStyleLink")
            if link:  # the levels stand in the list of a numbering style
                owner = owners.get(style_lists.get(link, ""), owner)
            self._lists[number] = _read_list(item, owner, outlines.get(owner))

    def level_of_style(self, number: str, style: str) -> int:
        """Return the level of a list that belongs to a paragraph style, or 0."""
        levels = self._lists[number].levels if number in self._lists else {}
        return next((key for key, level in levels.items() if style and level.style == style), 0)

    def next_label(self, number: str, index: int) -> str | None:
        """Count a paragraph, and return its label: "2.1", "(a)", or "-" for a bullet.

        Args:
            number: Id of the list.
            index: Level, from 0.

        Returns:
            None if there is no such list or level.
        """
        items = self._lists.get(number)
        if items is None or index not in items.levels:
            return None
        counters = self._counters.setdefault(items.owner, {})
        if not items.is_used:
            items.is_used = True
            for key in items.starts:
                counters.pop(key, None)
        level = items.levels[index]
        for key in range(index):  # levels that were left out count as begun
            counters.setdefault(key, self._start(items, key))
        counters[index] = counters.get(index, self._start(items, index) - 1) + 1
        for key in [key for key in counters if key > index]:
            restart = items.levels[key].restart if key in items.levels else None
            if restart is None or index < restart:
                del counters[key]
        if level.kind == "bullet":
            return "-"
        return _PLACE.sub(lambda match: self._number(items, counters, match, level), level.text)

    def _start(self, items: _List, index: int) -> int:
        level = items.levels.get(index)
        return items.starts.get(index, level.start if level else 1)

    def _number(
        self, items: _List, counters: dict[int, int], match: re.Match[str], level: Level
    ) -> str:
        index = int(match[1]) - 1
        number = counters.get(index, self._start(items, index))
        kind = items.levels[index].kind if index in items.levels else "decimal"
        if level.is_legal and kind != "none":
            kind = "decimal"
        text = "" if kind == "bullet" else format_number(number, kind)
        if text is None:
            self.n_unsupported += 1
        return str(number) if text is None else text


def _value(element: Element | None, name: str) -> str:
    """Return the value of a child element, or an empty string."""
    child = None if element is None else element.find(f".//{W}{name}")
    return "" if child is None else child.get(f"{W}val", "")


def _read_list(item: Element, owner: str, outline: Element | None) -> _List:
    levels: dict[int, Level] = {}
    for element in () if outline is None else outline.findall(f"{W}lvl"):
        if 0 <= (index := to_int(element.get(f"{W}ilvl"))) < _N_LEVELS:
            levels[index] = _read_level(element)
    items = _List(owner, levels)
    for override in item.findall(f"{W}lvlOverride"):
        index = to_int(override.get(f"{W}ilvl"))
        level = override.find(f"{W}lvl")
        if level is not None and 0 <= index < _N_LEVELS:
            levels[index] = _read_level(level)
            items.starts[index] = levels[index].start
        start = override.find(f"{W}startOverride")
        if start is not None:
            items.starts[index] = to_int(start.get(f"{W}val"), 1)
    return items


def _read_level(element: Element) -> Level:
    level = Level()
    for item in element.iter():
        value = item.get(f"{W}val")
        if item.tag == f"{W}numFmt":
            level = replace(level, kind=value or "decimal")
        elif item.tag == f"{W}lvlText":
            level = replace(level, text=value or "")
        elif item.tag == f"{W}start":
            level = replace(level, start=to_int(value, 1))
        elif item.tag == f"{W}lvlRestart":
            level = replace(level, restart=to_int(value))
        elif item.tag == f"{W}isLgl":
            level = replace(level, is_legal=is_on(value))
        elif item.tag == f"{W}pStyle":
            level = replace(level, style=value or "")
    return level
