"""Write the words of PDF pages as text: lines, paragraphs and tables, each with its box."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from ragkit.documents.grids import begins_with_data
from ragkit.documents.pdf.order import Row, group_rows, reading_order, split_cells
from ragkit.documents.pdf.page import PageContent
from ragkit.documents.pdf.shapes import Rule
from ragkit.documents.pdf.tables import Rows, RuledTable, Table, find_tables, ruled_tables
from ragkit.documents.pdf.words import (
    Word,
    find_words,
    in_reading_order,
    is_rtl,
    slanted_text,
)
from ragkit.documents.text import clean
from ragkit.types import Line

_PARAGRAPH_GAP = 1.35  # distance of lines by the usual one
_LINE_PITCH = 1.25  # usual distance of lines by size, where there are few
_INDENT = 0.8  # by size
_SPACE = 0.25  # width of a space by size
_WIDE_GAP = 1.5  # gap in a line, by size, that is written as two spaces
_SAME_SIZE = 0.15

_HYPHENS = "-\u00ad\u2010"
_ITEM = re.compile(
    r"(?:[•▪◦‣·○●■□➢✓–—*]|\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,4})[.)]|\[\d{1,3}\])(?:\s|$)"  # noqa: RUF001
)
_STOPPED = re.compile(r"[.!?:;…。！？]['\"”’)\]]*$")  # noqa: RUF001
_WITHOUT_SPACES = re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")
_WORD = re.compile(r"[^\W\d_]+(?:[-\u2010][^\W\d_]+)*")
_PART_START = re.compile(r"[\s(/\[{«„“\"'’]")  # noqa: RUF001
# After a hyphen at the end of a line, these continue a list: "pre- and postwar".
_CONJUNCTIONS = frozenset("and or to und oder bis et ou y o e".split())


@dataclass(slots=True)
class Piece:
    """A part of the text on one line of a page.

    Attributes:
        text: The text.
        before: What separates it from the piece before; None if that ends in a hyphen.
        box: (x0, top, x1, bottom) on the page, or None for text that is not on it.
    """

    text: str
    before: str | None
    box: tuple[float, float, float, float] | None = None


@dataclass(slots=True)
class PageText:
    """Text of a page in pieces, and how many of its tables and regions are in doubt."""

    pieces: list[Piece] = field(default_factory=list)
    n_doubtful_tables: int = 0
    is_order_doubtful: bool = False


@dataclass(slots=True)
class _TextLine:
    """A line of text and its place."""

    text: str
    x0: float
    x1: float
    y: float
    size: float
    top: float
    bottom: float
    first_width: float
    is_kept: bool  # ends with its line: a row of a doubtful table
    is_rtl: bool


def page_text(content: PageContent) -> PageText:
    """Put the characters of a page in the order of reading."""
    page = PageText()
    turns = Counter(char.turn for char in content.chars)
    slanted = turns.pop(-1, 0)
    for turn, _ in turns.most_common():
        words = find_words([char for char in content.chars if char.turn == turn])
        rules = content.upright_rules(turn)
        tables = ruled_tables(words, rules)
        words, by_word = _set_aside(words, tables)
        last: _TextLine | None = None
        for region in reading_order(words, rules):
            parts = list(_parts(region.words, by_word, rules))
            doubtful = [part for part in parts if isinstance(part, Rows) and part.doubtful]
            page.n_doubtful_tables += len(doubtful)
            has_tables = doubtful or any(isinstance(part, Table) for part in parts)
            page.is_order_doubtful |= region.doubtful and not has_tables
            for part in parts:
                if isinstance(part, Table):
                    pieces, last = _table_pieces(part), None
                else:
                    pieces, last = _paragraphs(part, last)
                for piece in pieces:
                    piece.box = piece.box and content.to_page(turn, piece.box)
                    page.pieces.append(piece)
    if slanted:
        text = slanted_text([char for char in content.chars if char.turn == -1])
        page.pieces.append(Piece(text, "\n\n"))
    return page


def _set_aside(
    words: Sequence[Word], tables: Sequence[RuledTable]
) -> tuple[list[Word], dict[Word, Table]]:
    """Replace the words of ruled tables by one empty word for each table."""
    by_word: dict[Word, Table] = {}
    rest = list(words)
    for found in tables:
        inside = {
            id(word)
            for word in rest
            if found.x0 <= (word.x0 + word.x1) / 2 <= found.x1
            and found.y0 <= (word.top + word.bottom) / 2 <= found.y1
        }
        if inside:
            size = median(word.size for word in rest if id(word) in inside)
            rest = [word for word in rest if id(word) not in inside]
            place = Word("", found.x0, found.x1, found.y0 + size, size)
            rest.append(place)
            by_word[place] = found.table
    return rest, by_word


def _parts(
    words: Sequence[Word], by_word: dict[Word, Table], rules: Sequence[Rule]
) -> Iterator[Table | Rows]:
    """Divide a region into its tables and the rows between them."""
    rows: list[Row] = []
    for row in group_rows(words):
        placed = [word for word in row if word in by_word]
        others = [word for word in row if word not in by_word]
        if others:
            rows.append(others)
        if placed:
            if rows:
                yield from find_tables(rows, rules)
            rows = []
            yield from (by_word[word] for word in placed)
    if rows:
        yield from find_tables(rows, rules)


def _box(words: Iterable[Word]) -> tuple[float, float, float, float]:
    words = list(words)
    return (
        min(word.x0 for word in words),
        min(word.top for word in words),
        max(word.x1 for word in words),
        max(word.bottom for word in words),
    )


def _table_pieces(table: Table) -> list[Piece]:
    """Write a table in the notation of GitHub-flavoured Markdown.

    The first row is the header; if it is data, the header cells are empty.
    """
    pieces: list[Piece] = []
    before = "\n\n"
    rows = table.rows
    if begins_with_data([[_cell_text(cell) for cell in row] for row in rows]):
        rows = [[[] for _ in rows[0]], *rows]
    for number, row in enumerate(rows):
        for cell in row:
            before += "|"
            if cell:
                text = _cell_text(cell)
                pieces.append(Piece(text, before + " ", _box(cell)))
                before = " "
            else:
                before += " "
        before += "|"
        if number == 0:
            before += "\n|" + " --- |" * len(row)
        before += "\n"
    pieces.append(Piece("", before.rstrip("\n")))
    return pieces


def _cell_text(cell: Sequence[Word]) -> str:
    text = " ".join(word.text for word in cell).replace("\u00ad", "")
    return clean(text).replace("\\", "\\\\").replace("|", "\\|")


def _line(row: Row, *, is_kept: bool) -> _TextLine:
    words = in_reading_order(row)
    x0, top, x1, bottom = _box(words)
    rtl = is_rtl(words)
    text = (
        "  ".join(_cell_text(cell) for cell in split_cells(row)) if is_kept else _join(words, rtl)
    )
    longest = max(words, key=lambda word: len(word.text))
    first = words[0]
    return _TextLine(
        text=clean(text).strip(),
        x0=x0,
        x1=x1,
        y=longest.y,
        size=longest.size,
        top=top,
        bottom=bottom,
        first_width=first.x1 - first.x0,
        is_kept=is_kept,
        is_rtl=rtl,
    )


def _join(words: Sequence[Word], rtl: bool) -> str:
    text = words[0].text
    for left, right in pairwise(words):
        wide = not rtl and right.x0 - left.x1 > _WIDE_GAP * max(left.size, right.size)
        text += ("  " if wide else " ") + right.text
    head = text[:-1].replace("\u00ad", "")
    return head + text[-1:]


def _paragraphs(rows: Rows, before: _TextLine | None) -> tuple[list[Piece], _TextLine | None]:
    """Write rows as lines; the lines of a paragraph are joined where they were only wrapped."""
    lines = [_line(row, is_kept=rows.doubtful) for row in rows.rows]
    block = _Block(lines)
    pieces: list[Piece] = []
    for i, line in enumerate(lines):
        if i == 0:
            separator = _between_regions(before, line)
        else:
            separator = block.separator(lines[i - 1], line)
        pieces.append(Piece(line.text, separator, (line.x0, line.top, line.x1, line.bottom)))
    return pieces, lines[-1] if lines else before


def _between_regions(before: _TextLine | None, line: _TextLine) -> str | None:
    """Return what separates two columns: nothing but a space inside a sentence."""
    if before is None or before.is_kept or line.is_kept or not _same_size(before, line):
        return "\n\n"
    if _STOPPED.search(before.text) or not line.text[:1].islower():
        return "\n\n"
    return None if before.text[-1:] in _HYPHENS else " "


def _same_size(a: _TextLine, b: _TextLine) -> bool:
    return abs(a.size - b.size) <= _SAME_SIZE * max(a.size, b.size)


class _Block:
    """Lines of a region with its usual margins and distances."""

    def __init__(self, lines: Sequence[_TextLine]) -> None:
        starts = Counter(round(line.x0) for line in lines)
        self._left = max(starts, key=lambda x: (starts[x], -x)) if starts else 0
        ends = sorted(line.x1 for line in lines)
        self._right = ends[int(0.9 * (len(ends) - 1))] if ends else 0.0
        lefts = sorted(line.x0 for line in lines)
        self._far_left = lefts[int(0.1 * (len(lefts) - 1))] if lefts else 0.0
        pitches = [b.y - a.y for a, b in pairwise(lines) if _same_size(a, b)]
        even = len(pitches) == 2 and max(pitches) < 1.1 * min(pitches)
        self._pitch = median(pitches) if len(pitches) >= 3 or even else None
        full = [b for a, b in pairwise(lines) if self._is_full(a, b)]
        share = len(full) / max(1, len(lines) - 1)
        continued = any(line.text[:1].islower() for line in full)
        even = share >= 0.75 and len(full) >= 3 and not _are_short(lines)
        self._is_wrapped = len(full) >= 2 and share >= 0.5 and (continued or even)

    def _is_full(self, line: _TextLine, following: _TextLine) -> bool:
        """Return True if the next line's first word did not fit into the line."""
        needed = following.first_width + _SPACE * line.size
        free = line.x0 - self._far_left if line.is_rtl else self._right - line.x1
        return free < needed

    def separator(self, line: _TextLine, following: _TextLine) -> str | None:
        """Return what separates a line from the next; None if it ends in a hyphen."""
        pitch = self._pitch or _LINE_PITCH * line.size
        if following.y - line.y > _PARAGRAPH_GAP * pitch or not _same_size(line, following):
            return "\n\n"
        if line.is_kept or following.is_kept:
            return "\n"
        indent, indent_before = following.x0 - self._left, line.x0 - self._left
        if _ITEM.match(following.text):
            return "\n"
        if not line.is_rtl and indent > _INDENT * line.size and abs(indent_before) < 2:
            return "\n\n" if following.text[:1].isupper() else "\n"
        hyphenated = line.text[-1:] in _HYPHENS and line.text[-2:-1].isalnum()
        continues = hyphenated or following.text[:1].islower()
        if not continues and not self._is_wrapped:
            return "\n"
        if not self._is_full(line, following) and not (
            continues and line.x1 - line.x0 > 0.6 * (self._right - self._left)
        ):
            return "\n"
        if hyphenated:
            return None
        if _WITHOUT_SPACES.match(line.text[-1:]) and _WITHOUT_SPACES.match(following.text):
            return ""
        return " "


def _are_short(lines: Sequence[_TextLine]) -> bool:
    """Return True for lines of a few words, such as names; scripts without spaces have one."""
    n_words = median(len(line.text.split()) for line in lines)
    return n_words < 4 and not any(_WITHOUT_SPACES.search(line.text) for line in lines)


def write_text(pages: Sequence[PageText]) -> tuple[str, list[int], list[Line]]:
    """Return the text of all pages, the offset of each page, and the lines with their boxes."""
    hyphens = _Hyphens(piece for page in pages for piece in page.pieces)
    parts: list[str] = []
    starts: list[int] = []
    lines: list[Line] = []
    offset = 0
    for number, page in enumerate(pages, start=1):
        if number > 1:
            parts.append("\n\n")
            offset += 2
        starts.append(offset)
        for i, piece in enumerate(page.pieces):
            separator = piece.before or ""
            if i == 0:
                separator = separator.lstrip("\n")
            text = piece.text
            following = page.pieces[i + 1] if i + 1 < len(page.pieces) else None
            if following is not None and following.before is None:
                text = hyphens.joined(text, following.text)
            elif text.endswith("\u00ad"):
                text = text[:-1] + "-"
            parts += [separator, text]
            start = offset + len(separator)
            offset = start + len(text)
            if text and piece.box:
                lines.append(Line(start, offset, number, *(round(v, 1) for v in piece.box)))
    return "".join(parts), starts, lines


class _Hyphens:
    """Decides which hyphens at the end of lines belong to a word, by the other words of the text.

    A hyphen stays if the hyphenated word stands elsewhere in the text, if the part before it is one
    letter, capitals, digits or hyphenated itself, if the text has other words that begin with this
    part and a hyphen, or if both parts are words of the text, unless the joined word stands
    elsewhere. Else it only divides a word at the end of a line.
    """

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._words: Counter[str] = Counter()
        for piece in pieces:
            words = piece.text.lower().split()
            # The ends of lines may be parts of words.
            if words and words[-1][-1] in _HYPHENS:
                words.pop()
            if piece.before is None:
                words = words[1:]
            for word in words:
                for found in _WORD.findall(word.replace("\u00ad", "")):
                    self._words[found] += 1
                    if "-" in found:
                        self._words[found.split("-")[0] + "-"] += 1

    def joined(self, line: str, following: str) -> str:
        """Return the line as it stands before the next one: without its hyphen, or with it."""
        body = line[:-1]
        left = _PART_START.split(body)[-1]
        match = re.match(r"[^\W_]+(?:[-\u2010][^\W_]+)*", following)
        right = match[0] if match else ""
        if right.lower() in _CONJUNCTIONS:
            return f"{body}- "
        if line.endswith("\u00ad"):
            return body
        return body + line[-1] if self._stays(left, right) else body

    def _stays(self, left: str, right: str) -> bool:
        if not right[:1].islower():
            return True
        words, low = self._words, left.lower()
        n_joined, n_hyphenated = words[low + right], words[f"{low}-{right}"]
        if n_joined != n_hyphenated:
            return n_hyphenated > n_joined
        letters = left[1:] if left[:1].isupper() else left
        if not letters.isalpha() or not letters.islower() or len(left) < 2:
            return True
        if words[low + "-"]:
            return True
        return len(left) > 2 and len(right) > 2 and bool(words[low]) and bool(words[right])
