"""Find the headings and tables of a Markdown text, and write tables.

Tables are those of GitHub-flavoured Markdown: a header row, a delimiter row and data rows. They
are recognised in texts of every format. All scans take linear time.

Source: CommonMark 0.31.2, sections 4.2, 4.3 and 4.5; GitHub Flavored Markdown 0.29, section 4.10.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

MAX_HEADER = 600  # characters of a table's header that accompany each of its chunks
_MAX_HEADING = 200  # characters of a heading that is underlined
_LAST_PARAGRAPH = 1000  # characters searched for the first line of such a heading

_FENCE = re.compile(r"^ {0,3}(`{3,}+|~{3,}+)([^\n]*+)", re.MULTILINE)
# Groups: the hashes, the rest of the line, an underline.
_HEADING = re.compile(r"^ {0,3}(?:(#{1,6})(?!\S)([^\n]*+)|(={2,}+|-{3,}+)[ \t]*+$)", re.MULTILINE)
_NO_PARAGRAPH = re.compile(r" {4}| {0,3}(?:\t|[-*+][ \t]|\d{1,9}[.)][ \t]|[>|])")
_BEFORE_PARAGRAPH = re.compile(r" {0,3}(?:#{1,6}(?!\S)|`{3}|~{3}|={2,}[ \t]*$|-{3,}[ \t]*$)")
_DELIMITER = re.compile(
    r"^[ \t>]*+\|?+[ \t]*+:?+-++:?+[ \t]*+(?:\|[ \t]*+:?+-++:?+[ \t]*+)*+\|?+[ \t]*+$",
    re.MULTILINE,
)
_DASHES = re.compile("-+")  # one run in each cell of a delimiter row
_ROW_MARGIN = re.compile(r"^[ \t>]*+(?:(?:[-*+]|\d{1,9}[.)])[ \t]++)?+")
_END_OF_TABLE = re.compile(r" {0,3}(?:#{1,6}(?!\S)|`{3}|~{3})")
BAR = re.compile(r"(?<!\\)\|")  # ends a cell


class Heading(NamedTuple):
    """Heading text[start:end] with its level from 1; `name` is its text without marks."""

    start: int
    end: int
    level: int
    name: str


class Table(NamedTuple):
    """Table text[start:end].

    Attributes:
        header: Its header row "| a | b |", at most `MAX_HEADER` characters; empty if all header
            cells are.
        rows: (start, end) of the data rows.
        start: Offset of the header row, or of the first row if the header is not in the text.
        end: Offset after the last row.
    """

    header: str
    rows: list[tuple[int, int]]
    start: int
    end: int


def find_headings(text: str) -> list[Heading]:
    """Find the headings outside fenced code: lines after "#" marks, and underlined lines.

    An underlined heading has at most 200 characters. Its underline has at least two "=" or three
    "-", since "--" begins a signature.

    >>> [heading.name for heading in find_headings("# A\\n#tag\\n\\nB\\n---\\n    # code")]
    ['A', 'B']
    """
    headings: list[Heading] = []
    for match in _outside_fences(text, _HEADING):
        hashes, rest, underline = match.groups()
        if hashes:
            name = _without_closing_marks(rest.strip())
            headings.append(Heading(match.start(), match.end(), len(hashes), name))
        elif heading := _underlined(text, match, 1 if underline[0] == "=" else 2):
            headings.append(heading)
    return headings


def _without_closing_marks(rest: str) -> str:
    """Remove the closing hashes of a heading; they follow white space or are the whole text."""
    bare = rest.rstrip("#")
    return bare.rstrip() if not bare or bare[-1].isspace() else rest


def _underlined(text: str, underline: re.Match[str], level: int) -> Heading | None:
    """Return the heading above an underline, or None if there is no paragraph."""
    lowest = max(0, underline.start() - _LAST_PARAGRAPH)
    begin = underline.start()
    lines: list[str] = []
    while begin > lowest:
        line_start = text.rfind("\n", lowest, begin - 1) + 1 or lowest
        line = text[line_start : begin - 1]
        if not line.strip() or _BEFORE_PARAGRAPH.match(line):
            break
        if _NO_PARAGRAPH.match(line) or (level == 2 and "|" in line):
            return None
        lines.append(line.strip())
        begin = line_start
    name = " ".join(reversed(lines))
    return Heading(begin, underline.end(), level, name) if 0 < len(name) <= _MAX_HEADING else None


def find_tables(text: str, header: str = "") -> list[Table]:
    r"""Find the tables outside fenced code.

    A table ends before a blank line, a line without "|", a heading or fenced code.

    Args:
        text: The text.
        header: Header row of the table in which the text begins; empty if it begins in none.

    >>> find_tables("| a | b |\n| --- | --- |\n| 1 | 2 |")
    [Table(header='| a | b |', rows=[(24, 33)], start=0, end=33)]
    """
    if "|" not in text:
        return []
    tables: list[Table] = []
    if header:
        first = text.partition("\n")[0]
        head = -1 if "|" in first else len(first)  # a part of a long cell may have no bar
        tables = [_table(text, header, head + 1, head)]
    for match in _outside_fences(text, _DELIMITER):
        if match.start() < (tables[-1].end if tables else 1) or "|" not in match[0]:
            continue
        start = text.rfind("\n", 0, match.start() - 1) + 1
        line = text[start : match.start() - 1]
        cells = split_row(line)
        if "|" in line and len(cells) == len(_DASHES.findall(match[0])):
            name = join_row(cells) if any(cells) else ""
            if len(name) > MAX_HEADER:
                name = name[: MAX_HEADER - 1] + "…"
            margin = len(line) - len(line.lstrip())
            tables.append(_table(text, name, start + margin, match.end()))
    return tables


def _table(text: str, header: str, start: int, head: int) -> Table:
    """Return the table that begins at `start` and whose data rows begin after offset `head`."""
    rows: list[tuple[int, int]] = []
    end, position = max(head, start), head + 1
    while position < len(text):
        line_end = text.find("\n", position)
        line_end = len(text) if line_end < 0 else line_end
        line = text[position:line_end]
        if "|" not in line or _END_OF_TABLE.match(line):
            break
        end = position + len(line.rstrip())
        if position or not _DELIMITER.match(line):
            rows.append((end - len(line.strip()), end))
        position = line_end + 1
    return Table(header, rows, start, end)


def _outside_fences(text: str, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
    """Yield the matches outside fenced code; a fence that is not closed extends to the end."""
    fences = _find_fences(text)
    fence = next(fences, None)
    for match in pattern.finditer(text):
        while fence and fence[1] <= match.start():
            fence = next(fences, None)
        if not fence or match.start() < fence[0]:
            yield match


def _find_fences(text: str) -> Iterator[tuple[int, int]]:
    """Yield the spans of fenced code, with their fences."""
    fence, start = "", 0
    for match in _FENCE.finditer(text):
        mark, rest = match[1], match[2].strip()
        if fence:
            if mark.startswith(fence) and not rest:
                yield start, match.end()
                fence = ""
        elif not (mark[0] == "`" and "`" in rest):
            fence, start = mark, match.start()
    if fence:
        yield start, len(text)


def split_row(line: str) -> list[str]:
    r"""Return the cells of a table row, with or without outer bars.

    >>> split_row(r"| a \| b |  | c |"), split_row("a | b")
    (['a | b', '', 'c'], ['a', 'b'])
    """
    line = _ROW_MARGIN.sub("", line, count=1).rstrip().removeprefix("|")
    if line.endswith("|") and not line.endswith("\\|"):
        line = line[:-1]
    return [cell.strip().replace("\\|", "|") for cell in BAR.split(line)]


def join_row(cells: Iterable[str]) -> str:
    r"""Write a table row; bars in cells are escaped, and white space becomes one space.

    >>> join_row(["a | b", "", "c\nd"])
    '| a \\| b |  | c d |'
    """
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def write_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table; an empty header is written as empty cells.

    >>> write_table(["a", "b"], [["1", "2"]])
    '| a | b |\\n| --- | --- |\\n| 1 | 2 |'
    """
    return "\n".join([join_row(header), join_row(["---"] * len(header)), *map(join_row, rows)])


def name_cells(row: str, header: str) -> str:
    """Return a row as "name: cell; …", without empty cells.

    A row that has more cells than the header, or that may be a part of a row, stays as it is.

    >>> name_cells("| V-70 | 5 |  |", "| valve | pressure / bar | note |")
    'valve: V-70; pressure / bar: 5'
    """
    names, cells = split_row(header) if header else [], split_row(row)
    fits = len(names) == len(cells) or (
        row.lstrip("> \t").startswith("|") and len(names) > len(cells)
    )
    if not fits or not header.endswith("|") or not any(cells):
        return row
    named = zip(names, cells, strict=False)
    return "; ".join(f"{name}: {cell}" if name else cell for name, cell in named if cell)
