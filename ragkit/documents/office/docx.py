"""Convert a Word file to Markdown. Runs in the worker process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element

from ragkit.documents.grids import MAX_CELLS, guess_header, spread, write_table
from ragkit.documents.html.reader import read_html
from ragkit.documents.losses import LossTally
from ragkit.documents.office.docx_runs import Reference, Runs
from ragkit.documents.office.docx_styles import Styles, to_level
from ragkit.documents.office.drawings import chart_text, diagram_text, resolve_branches
from ragkit.documents.office.equations import M, equation_text
from ragkit.documents.office.numbering import Numbering, W
from ragkit.documents.office.ooxml import Package, R, branch, is_on, iterate, local
from ragkit.documents.scalars import to_int
from ragkit.documents.text import Extract, clean, first_heading, read_text
from ragkit.types import Loss

_MAX_SPAN = 1_000
_MAX_PLACE = 60
_WRAPPERS = frozenset({"customXml", "sdt", "sdtContent", "smartTag"})
_NOTE_PARTS = {"comment": "comments", "endnote": "endnotes", "footnote": "footnotes"}


class _Block(NamedTuple):
    """A paragraph, heading, list item or table."""

    text: str
    is_item: bool = False


class _Cell(NamedTuple):
    """A cell of a table, and the number of columns that it covers."""

    element: Element | None
    n_columns: int = 1
    is_continued: bool = False  # the cell above goes on


class _Row(NamedTuple):
    cells: list[_Cell]
    is_header: bool
    is_bold: bool


def read_docx(data: bytes, name: str) -> Extract:
    """Convert a Word file to Markdown.

    Notes, comments and the texts of boxes follow the paragraph or table that refers to them; page
    headers and footers are at the end.
    """
    package = Package(data)
    reader = _Reader(package, name)
    text = reader.read()
    title = package.title() or first_heading(text)
    return Extract(text, clean(title), {"format": "markdown"}, reader.losses())


class _Reader:
    def __init__(self, package: Package, name: str) -> None:
        self._package = package
        self._name = name
        self._tally = LossTally(name)
        main = package.main_part
        self._styles = Styles(self._root("styles"))
        self._numbering = Numbering(self._root("numbering"), self._styles.lists())
        self._runs = Runs(self._styles, self._tally)
        self._has_even = _has(self._root("settings"), "evenAndOddHeaders")
        self._relations = package.relations(main)  # of the part that is read
        self._notes: dict[str, dict[str, Element]] = {}
        self._seen: set[tuple[str, str]] = set()  # what was read once
        self._margins: dict[str, list[str]] = {"Page header": [], "Page footer": []}
        self._carry = ""  # text of a paragraph whose end is deleted
        self._n_cells = 0
        self._depth = 0  # of tables
        self._chunk_losses: list[Loss] = []

    def read(self) -> str:
        """Return the text of the file."""
        part = self._package.main_part
        blocks: list[_Block] = []
        for element in iterate(self._package.read(part), f"{W}body"):
            self._read_block(element, blocks)
        self._end_carry(blocks)
        blocks += self._read_references()
        for label, texts in self._margins.items():
            blocks += [_Block(f"{label}: {text}") for text in dict.fromkeys(texts)]
        return clean(_join(blocks)).strip()

    def losses(self) -> tuple[Loss, ...]:
        """Return the losses of the file, after it was read."""
        why = "their number format is not supported; they are written in digits"
        n = self._numbering.n_unsupported
        self._tally.count("forms of automatic numbers", why, n=n, kept="the numbers")
        self._tally.count("programs", "macros are not read", n=self._package.has_macros())
        return (*self._tally.all(), *self._chunk_losses)

    def _root(self, kind: str) -> Element | None:
        """Return the root of a part that the document refers to, or None."""
        parts = self._package.related(self._package.main_part, kind)
        return self._package.xml(parts[0]) if parts else None

    def _read_blocks(self, parent: Element) -> list[_Block]:
        blocks: list[_Block] = []
        for element in resolve_branches(parent):
            self._read_block(element, blocks)
        self._end_carry(blocks)
        return blocks

    def _end_carry(self, blocks: list[_Block]) -> None:
        """Write the text of a paragraph whose end is deleted, if no paragraph follows it."""
        if self._carry:
            blocks.append(_Block(self._carry.strip()))
        self._carry = ""

    def _read_block(self, element: Element, blocks: list[_Block]) -> None:
        name = local(element.tag)
        if name == "p" and element.tag.startswith(W):
            self._read_paragraph(element, blocks)
        elif name == "tbl":
            self._read_table(element, blocks)
        elif name in _WRAPPERS or name == "AlternateContent":
            inner = branch(element) if name == "AlternateContent" else element
            for child in () if inner is None else resolve_branches(inner):
                self._read_block(child, blocks)
        elif name in {"del", "ins", "moveFrom", "moveTo"}:
            blocks += self._read_blocks(element) if self._runs.count_change(element) else []
        elif element.tag.startswith(M):
            blocks.append(_Block(equation_text(element)))
        elif name == "sectPr":
            self._read_margins(element)
        elif name in {"altChunk", "subDoc"}:
            self._read_chunk(element, blocks)

    def _read_paragraph(self, element: Element, blocks: list[_Block]) -> None:
        properties = element.find(f"{W}pPr")
        style = _value(properties, "pStyle") or self._styles.default_paragraph
        text = self._carry + self._runs.read(element, style)
        self._carry = ""
        mark = None if properties is None else properties.find(f"{W}rPr")
        if _has(mark, "del") or _has(mark, "moveFrom"):
            if _has(mark, "del") and element.find(f"{W}del") is None:
                self._runs.count_deletion()
            self._carry = text
        else:
            is_hidden = _has(mark, "vanish") and not text.strip()
            label = "" if is_hidden else self._label(properties, style)
            block = self._write_paragraph(text.strip(), label, self._heading(properties, style))
            if block.text:
                blocks.append(block)
        if properties is not None:
            for section in properties.findall(f"{W}sectPr"):
                self._read_margins(section)
        if not self._depth and not self._carry:
            blocks += self._read_references()

    def _write_paragraph(self, text: str, label: str, heading: int | None) -> _Block:
        """Write a paragraph with its heading mark, its number or its list mark."""
        if not text:
            return _Block("")
        if heading is not None and not self._depth:
            line = " ".join(f"{label.strip(' -')} {text}".split())
            self._runs.place = f'"{line[:_MAX_PLACE]}"'
            return _Block(f"{'#' * min(heading + 1, 6)} {line}")
        return _Block(f"{label} {text}" if label else text, bool(label))

    def _heading(self, properties: Element | None, style: str) -> int | None:
        own = None if properties is None else properties.find(f"{W}outlineLvl")
        return self._styles.heading(style) if own is None else to_level(own)

    def _label(self, properties: Element | None, style: str) -> str:
        """Count a paragraph of a list, and return its number or mark with its indent."""
        own = None if properties is None else properties.find(f"{W}numPr")
        path = f"{W}pPr/{W}numPr/{W}"
        number = _value(own, "numId")
        level = _value(own, "ilvl")
        if not number:
            number = self._styles.value(style, f"{path}numId")
            level = level or self._styles.value(style, f"{path}ilvl")
        if not level:
            level = str(self._numbering.level_of_style(number, style))
        label = self._numbering.next_label(number, to_int(level))
        if label is None:
            return ""
        return "  " * min(to_int(level), 8) + "-" if label == "-" else label.strip()

    def _read_table(self, table: Element, blocks: list[_Block]) -> None:
        self._end_carry(blocks)
        rows = [self._read_row(row) for row in self._find(table, "tr")]
        rows = [row for row in rows if row.cells]
        width = max((sum(cell.n_columns for cell in row.cells) for row in rows), default=0)
        if self._n_cells > MAX_CELLS:
            why = f"the limit of {MAX_CELLS} cells a file; split the file"
            self._tally.count("tables", why, self._runs.place)
        elif width == 1 and not self._depth:  # a frame around text
            for row in rows:
                for cell in row.cells:
                    blocks += [] if cell.element is None else self._read_blocks(cell.element)
        else:
            self._depth += 1
            texts = self._cell_texts(rows)
            self._depth -= 1
            if self._depth:
                inner = (", ".join(filter(None, row)) for row in texts)
                blocks.append(_Block("; ".join(filter(None, inner))))
            elif any(map(any, texts)):
                blocks.append(_Block(write_table(texts, self._n_header(table, rows, texts))))
        if not self._depth:
            blocks += self._read_references()

    def _find(self, parent: Element, name: str) -> Iterable[Element]:
        """Yield the rows of a table or the cells of a row, also those in wrappers."""
        for child in resolve_branches(parent):
            tag = local(child.tag)
            if tag == name:
                yield child
            elif tag in _WRAPPERS or self._runs.count_change(child):
                yield from self._find(child, name)

    def _read_row(self, row: Element) -> _Row:
        """Return the cells of a row; none if the row is deleted or hidden."""
        properties = row.find(f"{W}trPr")
        if _has(properties, "del"):
            self._runs.count_deletion()
            return _Row([], False, False)
        if _has(properties, "hidden"):
            self._runs.count_hidden()
            return _Row([], False, False)
        if _has(properties, "ins"):
            self._runs.count_insertion()
        before, after = (_span(properties, name) for name in ("gridBefore", "gridAfter"))
        cells = [_Cell(None)] * before
        for element in self._find(row, "tc"):
            cell_properties = element.find(f"{W}tcPr")
            merge = None if cell_properties is None else cell_properties.find(f"{W}vMerge")
            is_continued = merge is not None and merge.get(f"{W}val", "continue") == "continue"
            if _value(cell_properties, "hMerge") == "continue" and cells:
                cells[-1] = cells[-1]._replace(n_columns=cells[-1].n_columns + 1)
            else:
                span = max(_span(cell_properties, "gridSpan"), 1)
                cells.append(_Cell(element, span, is_continued))
        cells += [_Cell(None)] * after
        self._n_cells += sum(cell.n_columns for cell in cells)
        return _Row(cells, _has(properties, "tblHeader"), self._is_bold(row))

    def _cell_texts(self, rows: Sequence[_Row]) -> list[list[str]]:
        """Return the text of each cell; a merged cell's value stands in each that it covers."""
        texts: list[list[str]] = []
        for row in rows:
            line: list[str] = []
            for cell in row.cells:
                above = texts[-1] if texts else []
                if cell.is_continued and len(line) < len(above):
                    text = spread(above[len(line)])
                elif cell.element is None:
                    text = ""
                else:
                    text = " ".join(block.text for block in self._read_blocks(cell.element))
                line.append(text)
                line += [spread(text)] * (cell.n_columns - 1)
            texts.append(line)
        return texts

    def _n_header(self, table: Element, rows: Sequence[_Row], texts: list[list[str]]) -> int:
        """Return the number of header rows: marked as such, set off by their looks, or guessed."""
        flags = [row.is_header for row in rows]
        n_marked = flags.index(False) if False in flags else 0
        if n_marked or len(rows) < 2:
            return n_marked
        is_bold = rows[0].is_bold and not all(row.is_bold for row in rows)
        properties = table.find(f"{W}tblPr")
        look = None if properties is None else properties.find(f"{W}tblLook")
        if is_bold or (look is not None and self._styles_first_row(look, properties)):
            return 1
        return guess_header(texts)

    def _styles_first_row(self, look: Element, properties: Element | None) -> bool:
        """Return True if the table's style sets off the first row."""
        path = f"{W}tblStylePr[@{W}type='firstRow']"
        first = look.get(f"{W}firstRow")
        code = look.get(f"{W}val", "0")
        is_asked = is_on(first) if first else bool(_hex(code) & 0x20)
        return is_asked and self._styles.find(_value(properties, "tblStyle"), path) is not None

    def _is_bold(self, row: Element) -> bool:
        """Return True if all text of a row is bold."""
        found = False
        for paragraph in row.iter(f"{W}p"):
            style = _value(paragraph.find(f"{W}pPr"), "pStyle") or self._styles.default_paragraph
            inherited = self._styles.is_on(style, f"{W}rPr/{W}b")
            for run in paragraph.iter(f"{W}r"):
                own = run.find(f"{W}rPr/{W}b")
                if run.find(f"{W}t") is not None:
                    found = True
                    if not (inherited if own is None else is_on(own.get(f"{W}val"))):
                        return False
        return found

    def _read_references(self) -> list[_Block]:
        """Read the notes, comments, boxes, charts and diagrams that the last block refers to."""
        blocks: list[_Block] = []
        while self._runs.references:
            references, self._runs.references = self._runs.references, []
            for reference in references:
                if reference.element is not None:
                    blocks += self._read_blocks(reference.element)
                elif reference.kind in _NOTE_PARTS:
                    blocks += self._read_note(reference)
                else:
                    blocks += self._read_figure(reference)
        return blocks

    def _read_note(self, reference: Reference) -> list[_Block]:
        kind, key = _NOTE_PARTS[reference.kind], (reference.kind, reference.id)
        parts = self._package.related(self._package.main_part, kind)
        if kind not in self._notes:
            notes = self._package.xml(parts[0]) if parts else ()
            self._notes[kind] = {item.get(f"{W}id", ""): item for item in notes}
        note = self._notes[kind].get(reference.id)
        if note is None or key in self._seen:
            return []
        self._seen.add(key)
        texts = self._read_story(parts[0], note)
        words = " ".join(" ".join(texts).split())
        if reference.mark:
            return [_Block(f"{reference.mark}: {words}")] if words else []
        author = " ".join(note.get(f"{W}author", "").split())
        return [_Block(f"Comment by {author}: {words}" if author else f"Comment: {words}")]

    def _read_story(self, part: str, element: Element) -> list[str]:
        """Return the texts of the blocks of another part."""
        outer, self._relations = self._relations, self._package.relations(part)
        self._depth += 1  # like in a cell: no headings, tables on one line
        blocks = self._read_blocks(element) + self._read_references()
        self._depth -= 1
        self._relations = outer
        return [block.text for block in blocks]

    def _read_figure(self, reference: Reference) -> list[_Block]:
        """Read a chart's data or a diagram's texts."""
        relation = self._relations.get(reference.id)
        part = "" if relation is None or relation.is_external else relation.target
        text = ""
        if part in self._package and (reference.kind, part) not in self._seen:
            self._seen.add((reference.kind, part))
            write = chart_text if reference.kind == "chart" else diagram_text
            text = write(self._package, part)
        if not text:
            why = "the file does not store what it shows"
            self._tally.count(f"{reference.kind}s", why, self._runs.place)
        return [_Block(text)] if text else []

    def _read_margins(self, section: Element) -> None:
        """Read the page headers and footers of a section, each part once."""
        shown = {"default": True, "first": _has(section, "titlePg"), "even": self._has_even}
        for item in section:
            name, kind = local(item.tag), item.get(f"{W}type", "default")
            relation = self._relations.get(item.get(f"{R}id", ""))
            if name not in {"headerReference", "footerReference"} or relation is None:
                continue
            key = ("margin", relation.target)
            if not shown.get(kind) or key in self._seen or relation.target not in self._package:
                continue
            self._seen.add(key)
            root = self._package.xml(relation.target)
            words = " ".join(" ".join(self._read_story(relation.target, root)).split())
            if any(map(str.isalpha, words)):  # more than a page number
                self._margins["Page header" if name[0] == "h" else "Page footer"].append(words)

    def _read_chunk(self, element: Element, blocks: list[_Block]) -> None:
        """Read an embedded document of HTML or plain text."""
        relation = self._relations.get(element.get(f"{R}id", ""))
        part = "" if relation is None else relation.target
        suffix = part.rpartition(".")[2].lower()
        if part in self._package and suffix in {"htm", "html", "txt", "xhtml"}:
            if ("chunk", part) not in self._seen:
                self._seen.add(("chunk", part))
                parse = read_text if suffix == "txt" else read_html
                extract = parse(self._package.read(part), f"{self._name} {part}")
                blocks.append(_Block(extract.text.strip()))
                self._chunk_losses += extract.losses
        else:
            why = "they are other files; open this one in Word and save it with their text"
            self._tally.count("embedded documents", why, self._runs.place)


def _join(blocks: Sequence[_Block]) -> str:
    """Join blocks by blank lines, items of a list by line ends."""
    parts: list[str] = []
    was_item = False
    for block in blocks:
        if parts:
            parts.append("\n" if was_item and block.is_item else "\n\n")
        parts.append(block.text)
        was_item = block.is_item
    return "".join(parts)


def _value(properties: Element | None, name: str) -> str:
    found = None if properties is None else properties.find(W + name)
    return "" if found is None else found.get(f"{W}val", "")


def _has(properties: Element | None, name: str) -> bool:
    found = None if properties is None else properties.find(W + name)
    return found is not None and is_on(found.get(f"{W}val"))


def _span(properties: Element | None, name: str) -> int:
    return min(max(to_int(_value(properties, name)), 0), _MAX_SPAN)


def _hex(text: str) -> int:
    try:
        return int(text[:8], 16)
    except ValueError:
        return 0
