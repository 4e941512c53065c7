"""Join the characters of a PDF page to words, with superscripts and subscripts as plain text."""

# ruff: noqa: RUF001 - accents and signs are what this module is about
from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from ragkit.documents.pdf.page import Char
from ragkit.documents.scripts import subscript, superscript

# Shares of the font's size.
_WORD_GAP = 0.17
_SPACE_GAP = 0.03  # if the file has a space character there
_ROW = 0.2  # difference of baselines in a row
_SMALL = 0.88  # size of a script by that of its host
_NEAR = 0.25  # gap between a script and its host
_FOOTNOTE_GAP = 0.6  # gap between the number of a footnote and its text
_RAISED = (0.12, 0.75)
_LOWERED = (0.04, 0.5)
_MAX_SCRIPT = 20  # characters
_MAX_ROWS = 6  # above and below a script in which its host may be

# Accents that are drawn over a letter as characters of their own.
_COMBINING = "\u0301\u0300\u0308\u0302\u0303\u0327\u030c\u030a\u0306\u0304\u0307\u030b"
_ACCENTS = dict(zip("´`¨ˆ˜¸ˇ˚˘¯˙˝", _COMBINING, strict=True))
_LIGATURE = re.compile("[\ufb00-\ufdff\ufe70-\ufefc]")
_RTL = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_MIRRORED = str.maketrans("()[]{}<>«»", ")(][}{><»«")
_LTR_RUN = re.compile(r"[^\W\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc_]+(?:[.,:/-]\w+)*")


class Word(NamedTuple):
    """A word: its extent along the line, its baseline and the size of its font, in points."""

    text: str
    x0: float
    x1: float
    y: float
    size: float

    @property
    def top(self) -> float:
        """Top of its letters, about."""
        return self.y - 0.8 * self.size

    @property
    def bottom(self) -> float:
        """Bottom of its letters, about."""
        return self.y + 0.22 * self.size


@dataclass(slots=True)
class _Run:
    """Adjacent characters of one size on one baseline, and the scripts attached to them."""

    text: str
    x0: float
    x1: float
    y: float
    size: float
    spaced: bool
    before: list[_Run] = field(default_factory=list)
    raised: list[_Run] = field(default_factory=list)
    lowered: list[_Run] = field(default_factory=list)

    def parts(self) -> tuple[str, float, float]:
        """Return the text with its scripts, and its ends."""
        if not (self.before or self.raised or self.lowered):
            return self.text, self.x0, self.x1
        runs = [self, *self.before, *self.raised, *self.lowered]
        left = _scripts(self.before, self.y)
        right = _script(self.lowered, subscript) + _script(self.raised, superscript)
        if left and self.x0 - max(run.x1 for run in self.before) > _WORD_GAP * self.size:
            left += " "  # the number of a footnote
        return left + self.text + right, min(r.x0 for r in runs), max(r.x1 for r in runs)


def _script(runs: Sequence[_Run], write: Callable[[str], str]) -> str:
    text = "".join(run.text for run in sorted(runs, key=lambda run: run.x0))
    return write(text) if text else ""


def _scripts(runs: Sequence[_Run], baseline: float) -> str:
    lowered = [run for run in runs if run.y > baseline]
    raised = [run for run in runs if run.y <= baseline]
    return _script(lowered, subscript) + _script(raised, superscript)


def find_words(chars: Sequence[Char]) -> list[Word]:
    """Return the words of upright characters, in no particular order."""
    rows = [_runs(row) for row in _rows(_with_accents(chars))]
    _attach_scripts(rows)
    return [word for row in rows for word in _words(row)]


def slanted_text(chars: Sequence[Char]) -> str:
    """Return the text of slanted characters in the order in which they are drawn."""
    pieces = []
    for owner, group in groupby(chars, key=lambda char: char.owner):
        del owner
        text = "".join(f" {char.text}" if char.spaced else char.text for char in group)
        pieces.append(text.strip())
    return " ".join(filter(None, pieces))


def _with_accents(chars: Sequence[Char]) -> list[Char]:
    """Compose accents with the letter before or after them that stands at the same place."""
    composed: list[Char] = []
    accent: Char | None = None
    for char in chars:
        if char.text in _ACCENTS:
            if composed and (letter := _composed(composed[-1], char)):
                composed[-1] = letter
                continue
            if accent:
                composed.append(accent)
            accent = char
            continue
        if accent:
            letter = _composed(char, accent)
            composed += [letter] if letter else [accent, char]
            accent = None
            continue
        composed.append(char)
    return [*composed, accent] if accent else composed


def _composed(letter: Char, accent: Char) -> Char | None:
    centre, margin = (accent.x0 + accent.x1) / 2, 0.1 * letter.size
    if not letter.text.isalpha() or not letter.x0 - margin <= centre <= letter.x1 + margin:
        return None
    if abs(letter.y - accent.y) > 0.6 * letter.size:
        return None
    base = {"ı": "i", "ȷ": "j"}.get(letter.text, letter.text)
    text = unicodedata.normalize("NFC", base + _ACCENTS[accent.text])
    return (
        letter._replace(text=text, spaced=letter.spaced or accent.spaced)
        if len(text) == 1
        else None
    )


def _rows(chars: Sequence[Char]) -> Iterator[list[Char]]:
    """Group characters by baseline, from the top."""
    row: list[Char] = []
    for char in sorted(chars, key=attrgetter("y")):
        if row and char.y != row[0].y and char.y - row[0].y > _ROW * min(char.size, row[0].size):
            yield row
            row = []
        row.append(char)
    if row:
        yield row


def _runs(row: list[Char]) -> list[_Run]:
    row = sorted(row, key=attrgetter("x0"))  # letters of a ligature stay in their order
    row = _with_accents(row)
    runs: list[_Run] = []
    last: Char | None = None
    for char in row:
        if last is not None and _is_double(last, char):
            continue  # drawn twice, to look bold
        text = (
            unicodedata.normalize("NFKC", char.text)
            if "\ufb00" <= char.text <= "\ufb06"
            else char.text
        )
        run = runs[-1] if runs else None
        if run is None or _breaks(run, char):
            runs.append(_Run(text, char.x0, char.x1, char.y, char.size, char.spaced))
        else:
            run.text += text
            if char.x1 > run.x1:
                run.x1 = char.x1
        last = char
    return runs


def _is_double(last: Char, char: Char) -> bool:
    return (
        last.owner != char.owner
        and last.text == char.text
        and abs(last.x0 - char.x0) < 0.12 * char.size
    )


def _breaks(run: _Run, char: Char) -> bool:
    gap = char.x0 - run.x1
    small, size = char.size, run.size
    if small > size:
        small, size = size, small
    if gap > _WORD_GAP * size or (char.spaced and gap > _SPACE_GAP * size) or gap < -size:
        return True
    return small < _SMALL * size


def _attach_scripts(rows: list[list[_Run]]) -> None:
    """Attach small raised or lowered runs to the larger runs beside them; they leave their rows."""
    starts = [[run.x0 for run in row] for row in rows]
    largest = [max(run.size for run in row) for row in rows]
    hosts: dict[int, _Run] = {}
    for _ in range(2):  # a raised run may follow a lowered one: SO₄²⁻
        for i, row in enumerate(rows):
            near = range(max(0, i - _MAX_ROWS), min(len(rows), i + _MAX_ROWS + 1))
            largest_script = _SMALL * max(largest[n] for n in near)
            for run in row:
                if run.size > largest_script or len(run.text) > _MAX_SCRIPT or id(run) in hosts:
                    continue
                found = [
                    _beside(run, rows[n], starts[n], hosts)
                    for n in near
                    if run.size <= _SMALL * largest[n]
                ]
                host = _attach(run, [left for left, _ in found], [right for _, right in found])
                if host:
                    hosts[id(run)] = host
    for row in rows:
        row[:] = [run for run in row if id(run) not in hosts]


def _attach(run: _Run, lefts: list[_Run | None], rights: list[_Run | None]) -> _Run | None:
    """Attach a script to the nearest host, one on the left if there is one; return it."""
    if hosts := [host for host in lefts if host]:
        host = min(hosts, key=lambda host: abs(run.x0 - host.x1))
        (host.raised if run.y < host.y else host.lowered).append(run)
    elif hosts := [host for host in rights if host]:
        host = min(hosts, key=lambda host: abs(host.x0 - run.x1))
        host.before.append(run)
    else:
        return None
    return host


def _beside(
    run: _Run, row: Sequence[_Run], starts: Sequence[float], hosts: dict[int, _Run]
) -> tuple[_Run | None, _Run | None]:
    """Return the runs of a row directly left and right of a script that may be its host."""
    k = bisect_right(starts, run.x0 + 0.1 * run.size)
    left = right = None
    for other in reversed(row[max(0, k - 3) : k]):
        host = hosts.get(id(other), other)
        if host is not run and _is_script(run, host):
            attached = host.raised if run.y < host.y else host.lowered
            scripts = [*host.raised, *host.lowered]
            ends = (max([host.x1, *(script.x1 for script in some)]) for some in (attached, scripts))
            gap = min((run.x0 - end for end in ends), key=abs)
            if -0.5 * host.size <= gap <= _NEAR * host.size and not (run.spaced and gap > 0.1):
                left = host
                break
    for host in row[k : k + 2]:
        gap = host.x0 - run.x1
        near = -0.2 * host.size <= gap <= _FOOTNOTE_GAP * host.size
        if near and id(host) not in hosts and _is_script(run, host):
            right = host
            break
    return left, right


def _is_script(run: _Run, host: _Run) -> bool:
    if run.size > _SMALL * host.size:
        return False
    rise = (host.y - run.y) / host.size
    return _RAISED[0] <= rise <= _RAISED[1] or _LOWERED[0] <= -rise <= _LOWERED[1]


def _words(row: Sequence[_Run]) -> Iterator[Word]:
    """Join runs without a gap between them: a base with its scripts, small capitals."""
    text, start, end = "", 0.0, 0.0
    first: _Run | None = None
    for run in row:
        part, x0, x1 = run.parts()
        if first is not None:
            size = max(first.size, run.size)
            gap = x0 - end
            if gap <= _WORD_GAP * size and gap >= -size and not (run.spaced and gap > 0):
                text, end = text + part, max(end, x1)
                if run.size > first.size:
                    first = run
                continue
            yield Word(_readable(text), start, end, first.y, first.size)
        first, text, start, end = run, part, x0, x1
    if first is not None:
        yield Word(_readable(text), start, end, first.y, first.size)


def _readable(text: str) -> str:
    """Return a word whose characters are sorted from left to right in the order of reading."""
    if _RTL.search(text):
        text = _LTR_RUN.sub(lambda match: match[0][::-1], text[::-1].translate(_MIRRORED))
    if _LIGATURE.search(text):
        text = _LIGATURE.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    return text


def in_reading_order(words: Sequence[Word]) -> list[Word]:
    """Sort the words of a line, which may be written from right to left."""
    words = sorted(words, key=lambda word: word.x0)
    if not is_rtl(words):
        return words
    ordered: list[Word] = []
    for rtl, group in groupby(reversed(words), key=lambda word: bool(_RTL.search(word.text))):
        run = list(group)
        has_letters = any(char.isalpha() for word in run for char in word.text)
        # Words of another script, with their numbers, are read from left to right.
        ordered += run if rtl or not has_letters else run[::-1]
    return ordered


def is_rtl(words: Sequence[Word]) -> bool:
    """Return True if most letters of the words are of a script written from right to left."""
    letters = [char for word in words for char in word.text if char.isalpha()]
    n_rtl = sum(1 for char in letters if _RTL.match(char))
    return 2 * n_rtl > len(letters)
