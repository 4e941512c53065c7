"""Convert a workbook to Markdown. Runs in the worker process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple
from xml.etree.ElementTree import Element

from ragkit.documents.grids import MAX_CELLS
from ragkit.documents.losses import LossTally
from ragkit.documents.office.drawings import (
    NO_ALT,
    WHY_NO_ALT,
    Segments,
    alt_text,
    body_lines,
    chart_text,
    resolve_branches,
)
from ragkit.documents.office.number_formats import BUILT_IN, format_value
from ragkit.documents.office.ooxml import Package, R, Relation, is_on, iterate, local
from ragkit.documents.office.sheets import Grid, sheet_blocks
from ragkit.documents.scalars import to_int
from ragkit.documents.scripts import subscript, superscript
from ragkit.documents.text import Extract, clean

S = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_MAX_COLUMNS = 16_384
_REFERENCE = re.compile(r"([A-Za-z]{1,3})(\d{1,18})")
_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")
_MARGIN_CODE = re.compile(r'&(?:"[^"]*"|K[0-9A-Fa-f+-]{6}|\d+|[A-Z])')
_THREAD_END = re.compile(r"\[Threaded comment\].*?\n\s*Comment:", re.DOTALL)
_ALIGNS = {"subscript": "down", "superscript": "up"}


class _Style(NamedTuple):
    """Style of cells: number format, raised or lowered ("up", "down"), bold."""

    code: str = "General"
    looks: str = ""
    is_bold: bool = False


@dataclass(slots=True)
class _Sheet:
    """One sheet of the workbook."""

    title: str
    part: str
    grid: Grid = field(default_factory=Grid)
    notes: list[str] = field(default_factory=list)  # comments, drawings, headers and footers

    def place(self, row: int, column: int) -> str:
        """Return the name of a cell, for losses."""
        return f"{self.title}!{column_name(column)}{row}"


def read_xlsx(data: bytes, name: str) -> Extract:
    """Convert a workbook to Markdown: a `## ` section for each sheet, with its tables.

    Values are written as the sheet shows them, dates and times in ISO 8601. A merged cell's value
    stands in each cell that it covers. Hidden rows, columns and sheets are not read.
    """
    package = Package(data)
    reader = _Reader(package, LossTally(name))
    text = clean("\n\n".join(reader.read())).strip()
    return Extract(text, clean(package.title()), {"format": "markdown"}, reader.tally.all())


class _Reader:
    def __init__(self, package: Package, tally: LossTally) -> None:
        self._package = package
        self.tally = tally
        self._workbook = package.xml(package.main_part)
        properties = self._workbook.find(f"{S}workbookPr")
        self._is_1904 = properties is not None and is_on(properties.get("date1904", "0"))
        self._styles = self._read_styles()
        self._strings = list(self._read_strings())
        self._n_cells = 0
        self._seen: set[str] = set()

    def read(self) -> Iterator[str]:
        """Yield the text of each sheet."""
        relations = self._package.relations(self._package.main_part)
        for item in self._workbook.iter(f"{S}sheet"):
            title = " ".join(item.get("name", "").split())
            relation = relations.get(item.get(f"{R}id", ""))
            if relation is None or relation.target not in self._package:
                self.tally.count("sheets", "the file does not have them", title)
            elif item.get("state", "visible") != "visible":
                why = "hidden sheets are not read; unhide them to have them read"
                self.tally.count("sheets", why, title)
            elif relation.target not in self._seen:
                self._seen.add(relation.target)
                yield from self._read_sheet(title, relation)
        self.tally.count("programs", "macros are not read", n=self._package.has_macros())

    def _read_sheet(self, title: str, relation: Relation) -> Iterator[str]:
        sheet = _Sheet(title, relation.target)
        for element in iterate(self._package.read(sheet.part), f"{S}sheetData"):
            name = local(element.tag)
            if name == "row":
                if not self._read_row(element, sheet):
                    break
            else:
                self._read_setting(element, name, sheet)
        self._count_hidden_columns(sheet)
        for part in self._package.related(sheet.part, "table"):
            sheet.grid.add_header(*_corner(self._package.xml(part)))
        for part in self._package.related(sheet.part, "comments"):
            sheet.notes += _comments(self._package.xml(part))
        for part in self._package.related(sheet.part, "drawing"):
            sheet.notes += self._read_drawing(part, title)
        blocks = [*sheet_blocks(sheet.grid), *sheet.notes]
        if blocks:
            yield "\n\n".join([f"## {title}", *blocks])

    def _read_row(self, element: Element, sheet: _Sheet) -> bool:
        """Read a row; return False if there are too many cells."""
        grid = sheet.grid
        row = to_int(element.get("r"), grid.last_row + 1)
        grid.last_row = row
        self._n_cells += len(element)
        if self._n_cells > MAX_CELLS:
            why = f"the limit of {MAX_CELLS} cells a file; export the sheet as CSV"
            self.tally.count("sheets with more rows", why, sheet.title, kept="the rows before")
            return False
        is_hidden = is_on(element.get("hidden", "0"))
        column, is_bold = 0, True
        values: dict[int, str] = {}
        for cell in element:
            found = _REFERENCE.fullmatch(cell.get("r", ""))
            column = _column_number(found[1]) if found else column + 1
            style = self._style(cell)
            text = self._read_cell(cell, style, sheet, row, column)
            if column > _MAX_COLUMNS:
                why = "a sheet has no such columns"
                self.tally.count("values", why, sheet.place(row, column))
            elif text:
                values[column] = text
                is_bold = is_bold and style.is_bold
        if is_hidden:
            grid.hidden_rows.append(row)
            if values:
                why = "hidden rows are not read; unhide them to have them read"
                self.tally.count("rows", why, f"{sheet.title} row {row}")
        elif values:
            grid.rows[row] = values
            if is_bold:
                grid.bold_rows.add(row)
        return True

    def _read_cell(self, cell: Element, style: _Style, sheet: _Sheet, row: int, column: int) -> str:
        """Return what a cell shows."""
        kind = cell.get("t", "n")
        stored = cell.find(f"{S}v")
        text = "" if stored is None else stored.text or ""
        inline, formula = cell.find(f"{S}is"), cell.find(f"{S}f")
        if inline is not None:
            text = _rich_text(inline)
        elif formula is not None and not text and kind != "str":  # some programs write <v/>
            why = "the file has no values of formulas; open it in Excel and save it"
            self.tally.count(
                "values of formulas", why, sheet.place(row, column), kept="their formulas"
            )
            return f"={formula.text}" if formula.text else ""
        elif kind == "s":
            index = to_int(text, -1)
            if not 0 <= index < len(self._strings):
                why = "the file does not have them"
                self.tally.count("values", why, sheet.place(row, column))
                return ""
            text = self._strings[index]
        elif kind == "b":
            return "TRUE" if is_on(text or "0") else "FALSE"
        elif kind == "d":
            return text.replace("T", " ")
        elif kind == "n" and text:
            shown = format_value(text, style.code, is_1904=self._is_1904)
            if not shown:
                why = "their number format hides them"
                self.tally.count("values", why, sheet.place(row, column))
            return shown
        text = _unescape(text) if kind in {"str", "inlineStr"} else text
        text = " ".join(text.split())
        return {"up": superscript, "down": subscript}.get(style.looks, str)(text)

    def _read_setting(self, element: Element, name: str, sheet: _Sheet) -> None:
        """Read an element of a sheet besides its rows."""
        grid = sheet.grid
        if name == "cols":
            for item in element:
                if is_on(item.get("hidden", "0")):
                    first, last = to_int(item.get("min")), to_int(item.get("max"))
                    grid.hidden_columns.append((first, min(last, _MAX_COLUMNS)))
        elif name == "mergeCells":
            for item in element:
                corners = [_REFERENCE.fullmatch(part) for part in item.get("ref", "").split(":")]
                if len(corners) == 2 and corners[0] and corners[1]:
                    a, b = corners[0], corners[1]
                    box = (int(a[2]), _column_number(a[1]), int(b[2]), _column_number(b[1]))
                    grid.merges.append(box)
        elif name == "autoFilter":
            grid.add_header(*_corner(element))
        elif name == "headerFooter":
            sheet.notes += _margins(element)
        elif any(local(item.tag) in {"oleObject", "control"} for item in element.iter()):
            why = "objects of other programs and form controls are not read"
            self.tally.count("sheets with objects", why, sheet.title)

    def _count_hidden_columns(self, sheet: _Sheet) -> None:
        """Remove the values in hidden columns, and count the columns."""
        grid = sheet.grid
        hidden = {
            column for values in grid.rows.values() for column in values if grid.is_hidden(column)
        }
        for column in sorted(hidden):
            why = "hidden columns are not read; unhide them to have them read"
            self.tally.count("columns", why, f"{sheet.title} column {column_name(column)}")
        for values in grid.rows.values() if hidden else ():
            for column in hidden & values.keys():
                del values[column]

    def _read_drawing(self, part: str, title: str) -> list[str]:
        """Read the charts, the shapes and the descriptions of pictures on a sheet."""
        if part in self._seen:
            return []
        self._seen.add(part)
        blocks: list[str] = []
        relations = self._package.relations(part)
        for element in _walk(self._package.xml(part)):
            name = local(element.tag)
            if name == "txBody":
                blocks.append("\n".join(body_lines(element)))
            elif name == "pic":
                words = next((alt_text(item) for item in element.iter() if _is_named(item)), "")
                blocks.append(words or "")
                if words == "":
                    self.tally.count(NO_ALT, WHY_NO_ALT, title)
            elif name == "chart":
                relation = relations.get(element.get(f"{R}id", ""))
                target = "" if relation is None else relation.target
                is_new = target in self._package and target not in self._seen
                self._seen.add(target)
                blocks.append(chart_text(self._package, target) if is_new else "")
                if not blocks[-1]:
                    self.tally.count("charts", "the file does not store what they show", title)
        return list(filter(None, blocks))

    def _style(self, cell: Element) -> _Style:
        index = to_int(cell.get("s"))
        return self._styles[index] if 0 <= index < len(self._styles) else _Style()

    def _read_styles(self) -> list[_Style]:
        """Return the styles of cells by their index."""
        styles: list[_Style] = []
        for part in self._package.related(self._package.main_part, "styles"):
            root = self._package.xml(part)
            codes = dict(BUILT_IN)
            for item in root.iter(f"{S}numFmt"):
                codes[to_int(item.get("numFmtId"))] = item.get("formatCode", "General")
            fonts = [_font(item) for item in root.findall(f"{S}fonts/{S}font")]
            for item in root.findall(f"{S}cellXfs/{S}xf"):
                font = to_int(item.get("fontId"))
                looks, is_bold = fonts[font] if 0 <= font < len(fonts) else ("", False)
                code = codes.get(to_int(item.get("numFmtId")), "General")
                styles.append(_Style(code, looks, is_bold))
        return styles

    def _read_strings(self) -> Iterator[str]:
        """Yield the workbook's table of strings."""
        for part in self._package.related(self._package.main_part, "sharedStrings")[:1]:
            for item in iterate(self._package.read(part), f"{S}sst"):
                yield _rich_text(item)


def column_name(column: int) -> str:
    """Return the letters of a column, counted from 1.

    >>> [column_name(number) for number in (1, 26, 27, 16384)]
    ['A', 'Z', 'AA', 'XFD']
    """
    letters = ""
    while column > 0:
        column, index = divmod(column - 1, 26)
        letters = chr(ord("A") + index) + letters
    return letters


@lru_cache(maxsize=20_000)
def _column_number(letters: str) -> int:
    number = 0
    for letter in letters.upper():
        number = 26 * number + ord(letter) - ord("A") + 1
    return number


def _corner(element: Element) -> tuple[int, int]:
    """Return the row and column of the header of a table or filter; zeros if it has none."""
    found = _REFERENCE.match(element.get("ref", ""))
    if found is None or element.get("headerRowCount") == "0":
        return 0, 0
    return int(found[2]), _column_number(found[1])


def _rich_text(item: Element) -> str:
    """Return a string without its pronunciation, with raised and lowered characters."""
    segments = Segments()
    for part in item:
        if part.tag == f"{S}t":
            segments.add(_unescape(part.text or ""))
        elif part.tag == f"{S}r":
            looks, _ = _font(part.find(f"{S}rPr"))
            text = part.find(f"{S}t")
            segments.add("" if text is None else _unescape(text.text or ""), looks)
    return segments.text()


def _font(font: Element | None) -> tuple[str, bool]:
    """Return the looks of a font, as for `Segments`, and whether it is bold."""
    looks, is_bold = "", False
    for item in () if font is None else font:
        name = local(item.tag)
        if name == "vertAlign":
            looks = _ALIGNS.get(item.get("val", ""), looks)
        elif name == "strike" and is_on(item.get("val")):
            looks = looks or "struck"
        elif name == "b":
            is_bold = is_on(item.get("val"))
    return looks, is_bold


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text) if "_x" in text else text


def _comments(root: Element) -> list[str]:
    """Return the comments on cells, each with its cell and author."""
    authors = [" ".join((item.text or "").split()) for item in root.iter(f"{S}author")]
    lines = []
    for comment in root.iter(f"{S}comment"):
        index = to_int(comment.get("authorId"), -1)
        author = authors[index] if 0 <= index < len(authors) else ""
        holder = comment.find(f"{S}text")
        text = "" if holder is None else _rich_text(holder).strip()
        if text.startswith("[Threaded comment]"):
            author, text = "", _THREAD_END.sub("", text)
        text = " ".join(text.split()).removeprefix(f"{author}:").strip()
        by = f" by {author}" if author else ""
        if text:
            lines.append(f"Comment on {comment.get('ref', '')}{by}: {text}")
    return lines


def _margins(element: Element) -> list[str]:
    """Return the page headers and footers of a sheet, without page numbers and dates."""
    lines: dict[str, None] = {}
    for item in element:
        kind = "Page header" if local(item.tag).endswith("Header") else "Page footer"
        parts = (_MARGIN_CODE.sub(" ", part) for part in (item.text or "").split("&&"))
        text = " ".join("&".join(parts).split())
        if any(map(str.isalpha, text)):
            lines[f"{kind}: {text}"] = None
    return list(lines)


def _walk(element: Element) -> Iterator[Element]:
    """Yield the elements inside an element, of alternatives those of the branch to read."""
    for child in resolve_branches(element):
        yield child
        yield from _walk(child)


def _is_named(element: Element) -> bool:
    return local(element.tag) == "cNvPr"
