"""Read what slides, sheets and Word files draw: texts of shapes, tables, charts and diagrams."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from xml.etree.ElementTree import Element

from ragkit.documents.grids import spread, write_table
from ragkit.documents.office.equations import M, equation_text
from ragkit.documents.office.numbering import format_number
from ragkit.documents.office.ooxml import MC, A, C, Package, branch, is_on, local
from ragkit.documents.scalars import to_int
from ragkit.documents.scripts import subscript, superscript

DGM = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}"
NO_ALT = "pictures without alternative text"
WHY_NO_ALT = "text in pictures is not read; describe them in their alternative text"
_AUTO_NUMBER = re.compile(
    r"(arabic|alphaLc|alphaUc|romanLc|romanUc)(Period|ParenR|ParenBoth|Plain)"
)
_AUTO_FORMATS = {
    "alphaLc": "lowerLetter",
    "alphaUc": "upperLetter",
    "arabic": "decimal",
    "romanLc": "lowerRoman",
    "romanUc": "upperRoman",
}
_AROUND = {"Period": ("", "."), "ParenR": ("", ")"), "ParenBoth": ("(", ")"), "Plain": ("", "")}
_DECORATIVE = "{http://schemas.microsoft.com/office/drawing/2017/decorative}decorative"


class Segments:
    """Pieces of a paragraph; neighbours with the same looks are joined before they are written.

    >>> segments = Segments()
    >>> for piece, looks in [("x", ""), ("1", "up"), ("0", "up"), (" is", "")]:
    ...     segments.add(piece, looks)
    >>> segments.text()
    'x¹⁰ is'
    """

    def __init__(self) -> None:
        self._pieces: list[tuple[str, list[str]]] = []

    def add(self, text: str, looks: str = "") -> None:
        """Add text that looks raised ("up"), lowered ("down") or struck through ("struck")."""
        if not text:
            return
        if self._pieces and self._pieces[-1][0] == looks:
            self._pieces[-1][1].append(text)
        else:
            self._pieces.append((looks, [text]))

    def text(self) -> str:
        """Return the paragraph's text, without soft hyphens."""
        texts = (_write_piece("".join(parts), looks) for looks, parts in self._pieces)
        return "".join(texts).replace("\u00ad", "")


def _write_piece(text: str, looks: str) -> str:
    inner = text.strip()
    if not looks or not inner:
        return text
    start = text.index(inner)
    writers = {"up": superscript, "down": subscript, "struck": "~~{}~~".format}
    return text[:start] + writers[looks](inner) + text[start + len(inner) :]


def body_lines(body: Element) -> list[str]:
    """Return the lines of a text body: its paragraphs with their numbers and list marks."""
    lines = []
    counters: dict[int, int] = {}
    for paragraph in body.iter(f"{A}p"):
        text = _paragraph_text(paragraph)
        properties = paragraph.find(f"{A}pPr")
        level = 0 if properties is None else min(max(to_int(properties.get("lvl")), 0), 8)
        if not text:
            continue
        label = _auto_number(properties, level, counters)
        mark = "  " * (level - 1) + "- " if level and not label else ""
        lines.append(mark + label + text)
    return lines


def table_text(table: Element) -> str:
    """Return a table as Markdown; a merged cell's value stands in each cell that it covers."""
    rows: list[list[str]] = []
    for row in table.iter(f"{A}tr"):
        cells: list[str] = []
        for cell in row.findall(f"{A}tc"):
            if is_on(cell.get("hMerge", "0")) and cells:
                text = spread(cells[-1])
            elif is_on(cell.get("vMerge", "0")) and rows and len(cells) < len(rows[-1]):
                text = spread(rows[-1][len(cells)])
            else:
                text = " ".join(body_lines(cell))
            cells.append(text)
        rows.append(cells)
    if not any(map(any, rows)):
        return ""
    properties = table.find(f"{A}tblPr")
    has_header = properties is not None and is_on(properties.get("firstRow", "0"))
    return write_table(rows, int(has_header and len(rows) > 1))


def alt_text(properties: Element | None) -> str | None:
    """Return the alternative text of a drawing; None if it is marked as decorative.

    Args:
        properties: The `cNvPr` or `docPr` element.
    """
    if properties is None:
        return ""
    if any(is_on(mark.get("val")) for mark in properties.iter(_DECORATIVE)):
        return None
    return " ".join((properties.get("descr") or properties.get("title") or "").split())


def chart_text(package: Package, part: str) -> str:
    """Return a chart's titles and the data that it shows as a table; empty if it has no data."""
    root = package.xml(part)
    plot = root.find(f".//{C}plotArea")
    if plot is None:
        return ""
    tables = _series_tables(list(plot.iter(f"{C}ser")))
    titles = [_title(chart) for chart in root.iter(f"{C}chart")]
    axes = [_title(axis) for axis in plot if axis.tag.endswith("Ax")]
    lines = [f"Chart: {'; '.join(filter(None, titles))}".rstrip(": ")]
    if any(axes):
        lines.append(f"Axes: {'; '.join(filter(None, axes))}")
    return "\n\n".join(["\n".join(lines), *tables]) if tables else ""


def diagram_text(package: Package, part: str) -> str:
    """Return the texts of a SmartArt diagram, a line each."""
    points = package.xml(part).iter(f"{DGM}pt")
    texts = (" ".join(body_lines(point)) for point in points)
    return "\n".join(f"- {text}" for text in texts if text)


def comment_lines(package: Package, part: str, authors: dict[str, str]) -> Iterator[str]:
    """Yield the comments on a slide, of the old and of the new kind."""
    for comment in package.xml(part).iter():
        if local(comment.tag) not in {"cm", "reply"}:
            continue
        old = " ".join(item.text or "" for item in comment if local(item.tag) == "text")
        new = " ".join(
            " ".join(body_lines(item)) for item in comment if local(item.tag) == "txBody"
        )
        text = " ".join(f"{old} {new}".split())
        if text:
            author = authors.get(comment.get("authorId", ""), "")
            yield f"Comment by {author}: {text}" if author else f"Comment: {text}"


def resolve_branches(element: Element) -> Iterator[Element]:
    """Yield the children of an element; of alternatives, those of the branch to read."""
    for child in element:
        if child.tag == f"{MC}AlternateContent":
            chosen = branch(child)
            if chosen is not None:
                yield from resolve_branches(chosen)
        else:
            yield child


def _paragraph_text(paragraph: Element) -> str:
    segments = Segments()
    for item in resolve_branches(paragraph):
        name = local(item.tag)
        if name in {"r", "fld"}:
            text = item.find(f"{A}t")
            segments.add("" if text is None else text.text or "", _looks(item.find(f"{A}rPr")))
        elif name == "br":
            segments.add("\n")
        elif name == "m" or item.tag.startswith(M):
            segments.add(equation_text(item))
    return segments.text().strip()


def _looks(properties: Element | None) -> str:
    if properties is None:
        return ""
    if properties.get("strike", "noStrike") != "noStrike":
        return "struck"
    baseline = to_int(properties.get("baseline", "0").rstrip("%"))
    return "up" if baseline > 0 else "down" if baseline < 0 else ""


def _auto_number(properties: Element | None, level: int, counters: dict[int, int]) -> str:
    """Return the automatic number of a paragraph, and count it."""
    for deeper in [key for key in counters if key > level]:
        del counters[deeper]
    mark = None if properties is None else properties.find(f"{A}buAutoNum")
    if mark is None:
        counters.pop(level, None)
        return ""
    counters[level] = counters.get(level, to_int(mark.get("startAt"), 1) - 1) + 1
    kind = _AUTO_NUMBER.fullmatch(mark.get("type", ""))
    before, after = _AROUND[kind[2] if kind else "Period"]
    number = format_number(counters[level], _AUTO_FORMATS[kind[1] if kind else "arabic"])
    return f"{before}{number}{after} "


def _title(holder: Element) -> str:
    """Return the title of a chart or an axis."""
    title = holder.find(f"{C}title")
    if title is None:
        return ""
    words = [*body_lines(title), *(value.text or "" for value in title.iter(f"{C}v"))]
    return " ".join(" ".join(words).split())


def _series_tables(series: Iterable[Element]) -> list[str]:
    """Return a table for each group of series that have the same categories."""
    groups: dict[tuple[tuple[int, str], ...], list[tuple[str, dict[int, str]]]] = {}
    for number, item in enumerate(series, start=1):
        name = " ".join(value.text or "" for value in item.findall(f"{C}tx//{C}v"))
        name = name or f"Series {number}"
        values = _points(item, "val") or _points(item, "yVal")
        names = _points(item, "cat") or _points(item, "xVal")
        categories = tuple(
            (key, names.get(key, "")) for key in sorted(values.keys() | names.keys())
        )
        columns = groups.setdefault(categories, [])
        columns.append((name, values))
        sizes = _points(item, "bubbleSize")
        if sizes:
            columns.append((f"{name} (size)", sizes))
    tables = []
    for categories, columns in groups.items():
        rows = [["", *(name for name, _ in columns)]]
        for key, category in categories:
            rows.append([category, *(values.get(key, "") for _, values in columns)])
        if categories:
            tables.append(write_table(rows, 1))
    return tables


def _points(series: Element, name: str) -> dict[int, str]:
    """Return the stored values of a series by index; levels of categories are joined."""
    points: dict[int, str] = {}
    holder = series.find(C + name)
    for point in () if holder is None else holder.iter(f"{C}pt"):
        value = point.find(f"{C}v")
        text = "" if value is None else " ".join((value.text or "").split())
        key = to_int(point.get("idx"))
        points[key] = f"{text} {points[key]}" if key in points else text
    return points
