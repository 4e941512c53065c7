"""Convert a PowerPoint file to Markdown. Runs in the worker process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from xml.etree.ElementTree import Element

from ragkit.documents.losses import LossTally
from ragkit.documents.office.drawings import (
    DGM,
    NO_ALT,
    WHY_NO_ALT,
    alt_text,
    body_lines,
    chart_text,
    comment_lines,
    diagram_text,
    resolve_branches,
    table_text,
)
from ragkit.documents.office.ooxml import A, C, Package, R, is_on, local
from ragkit.documents.text import Extract, clean

P = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_MARGINS = frozenset({"dt", "ftr", "hdr"})
_NOTE_MARGINS = _MARGINS | {"sldImg", "sldNum"}
_TITLES = frozenset({"ctrTitle", "title"})
_MEDIA = frozenset({"audioFile", "quickTimeFile", "videoFile", "wavAudioFile"})


def read_pptx(data: bytes, name: str) -> Extract:
    """Convert a PowerPoint file to Markdown: a heading for each slide, its texts, tables and notes.

    The texts of the slides' footers and layouts are at the end, each once.
    """
    package = Package(data)
    reader = _Reader(package, LossTally(name))
    text = clean("\n\n".join(reader.read())).strip()
    title = package.title() or reader.first_title
    return Extract(text, clean(title), {"format": "markdown"}, reader.tally.all())


class _Reader:
    def __init__(self, package: Package, tally: LossTally) -> None:
        self._package = package
        self.tally = tally
        self.first_title = ""
        self._margins: dict[str, None] = {}  # texts of footers and layouts
        self._seen: set[str] = set()  # parts that were read
        self._authors = self._read_authors()
        self._place = ""
        self._part = ""

    def read(self) -> Iterator[str]:
        """Yield the blocks of text of the file."""
        main = self._package.main_part
        relations = self._package.relations(main)
        slides = self._package.xml(main).iter(f"{P}sldId")
        for number, item in enumerate(slides, start=1):
            relation = relations.get(item.get(f"{R}id", ""))
            self._place = f"slide {number}"
            if relation is None or relation.target not in self._package:
                self.tally.count("slides", "the file does not have them", self._place)
            elif relation.target not in self._seen:
                self._seen.add(relation.target)
                yield from self._read_slide(relation.target, number)
        self.tally.count("programs", "macros are not read", n=self._package.has_macros())
        yield from (f"Slide footer: {text}" for text in self._margins)

    def _read_slide(self, part: str, number: int) -> Iterator[str]:
        root = self._package.xml(part)
        if not is_on(root.get("show")):
            why = "hidden slides are not read; show them in PowerPoint to have them read"
            self.tally.count("slides", why, self._place)
            return
        self._part = part
        title, blocks = "", []
        for shape in self._shapes(root):
            if _placeholder(shape) in _TITLES and not title:
                title = " ".join(" ".join(_text_lines(shape)).split())
            else:
                blocks += self._read_shape(shape)
        self.first_title = self.first_title or title
        yield f"# Slide {number}: {title}" if title else f"# Slide {number}"
        yield from filter(None, blocks)
        for notes in self._package.related(part, "notesSlide"):
            lines = [
                line
                for shape in self._shapes(self._package.xml(notes))
                if _placeholder(shape) not in _NOTE_MARGINS
                for line in _text_lines(shape)
            ]
            if lines:
                yield "\n".join(["Notes:", *lines])
        for comments in self._package.related(part, "comments"):
            yield from comment_lines(self._package, comments, self._authors)
        self._read_layouts(part)

    def _shapes(self, parent: Element) -> Iterator[Element]:
        """Yield the visible shapes of a slide in their reading order, also those in groups."""
        for tree in parent.iter(f"{P}spTree"):
            yield from self._members(tree)

    def _members(self, group: Element) -> Iterator[Element]:
        for shape in resolve_branches(group):
            properties = _properties(shape)
            if properties is not None and is_on(properties.get("hidden", "0")):
                why = "hidden shapes are not read; show them in PowerPoint to have them read"
                self.tally.count("shapes", why, self._place)
            elif shape.tag == f"{P}grpSp":
                yield from self._members(shape)
            elif shape.tag in {
                f"{P}{name}" for name in ("sp", "pic", "graphicFrame", "contentPart")
            }:
                yield shape

    def _read_shape(self, shape: Element) -> list[str]:
        """Return the blocks of text of a shape."""
        kind = _placeholder(shape)
        if kind == "sldNum":
            return []
        lines = _text_lines(shape)
        if kind in _MARGINS:
            if lines:
                self._margins[" ".join(" ".join(lines).split())] = None
            return []
        if shape.tag == f"{P}graphicFrame":
            return self._read_frame(shape)
        if lines:
            return ["\n".join(lines)]
        words = alt_text(_properties(shape))
        if shape.tag == f"{P}pic":
            self._count_picture(shape, words)
        elif shape.tag == f"{P}contentPart":
            self.tally.count("drawings in ink", "they are not read", self._place)
        return [words or ""]

    def _count_picture(self, shape: Element, words: str | None) -> None:
        if any(local(item.tag) in _MEDIA for item in shape.iter()):
            why = "sound and video are not read; add a text of what is said"
            self.tally.count("media", why, self._place)
        elif words == "":
            self.tally.count(NO_ALT, WHY_NO_ALT, self._place)

    def _read_frame(self, frame: Element) -> list[str]:
        """Read a table, a chart or a diagram."""
        table = frame.find(f".//{A}tbl")
        if table is not None:
            return [table_text(table)]
        words = alt_text(_properties(frame)) or ""
        chart, diagram = frame.find(f".//{C}chart"), frame.find(f".//{DGM}relIds")
        if chart is not None:
            text = self._read_part(chart.get(f"{R}id", ""), "charts", chart_text)
        elif diagram is not None:
            text = self._read_part(diagram.get(f"{R}dm", ""), "diagrams", diagram_text)
        else:
            text = ""
            why = "objects of other programs are not read; save them as files of their own"
            self.tally.count("embedded objects", why, self._place)
        return [words, text]

    def _read_part(self, relation_id: str, kind: str, write: Callable[[Package, str], str]) -> str:
        relation = self._package.relations(self._part).get(relation_id)
        part = "" if relation is None or relation.is_external else relation.target
        text = ""
        if part in self._package and part not in self._seen:
            self._seen.add(part)
            text = write(self._package, part)
        if not text:
            self.tally.count(kind, "the file does not store what they show", self._place)
        return text

    def _read_layouts(self, slide: str) -> None:
        """Read what the layout and the master of a slide show on it, apart from placeholders."""
        for layout in self._package.related(slide, "slideLayout"):
            for part in (layout, *self._package.related(layout, "slideMaster")):
                if part in self._seen:
                    continue
                self._seen.add(part)
                for shape in self._shapes(self._package.xml(part)):
                    text = " ".join(" ".join(_text_lines(shape)).split())
                    if _placeholder(shape) == "" and text:
                        self._margins[text] = None

    def _read_authors(self) -> dict[str, str]:
        """Return the names of the comments' authors by id."""
        authors = {}
        main = self._package.main_part
        for kind in ("commentAuthors", "authors"):
            for part in self._package.related(main, kind):
                for item in self._package.xml(part):
                    authors[item.get("id", "")] = " ".join(item.get("name", "").split())
        return authors


def _properties(shape: Element) -> Element | None:
    """Return the `cNvPr` element of a shape."""
    return None if not len(shape) else shape[0].find(f"{P}cNvPr")


def _placeholder(shape: Element) -> str:
    """Return the kind of a placeholder; an empty string for other shapes."""
    found = None if not len(shape) else shape[0].find(f"{P}nvPr/{P}ph")
    return "" if found is None else found.get("type", "obj")


def _text_lines(shape: Element) -> list[str]:
    body = shape.find(f"{P}txBody")
    return [] if body is None else body_lines(body)
