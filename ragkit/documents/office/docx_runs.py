"""Read the text inside a paragraph of a Word file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple
from xml.etree.ElementTree import Element

from ragkit.documents.losses import LossTally
from ragkit.documents.office.docx_styles import Styles
from ragkit.documents.office.drawings import (
    DGM,
    NO_ALT,
    WHY_NO_ALT,
    Segments,
    alt_text,
    resolve_branches,
)
from ragkit.documents.office.equations import M, equation_text
from ragkit.documents.office.numbering import W
from ragkit.documents.office.ooxml import R, is_on, local
from ragkit.documents.office.symbols import from_symbol_font, is_symbol_font
from ragkit.documents.scalars import to_int

_TRANSPARENT = frozenset(
    {"bdo", "customXml", "dir", "fldSimple", "hyperlink", "sdt", "sdtContent", "smartTag"}
)
# Fields that show nothing: entries of an index or a table of contents, links to other programs.
_SILENT_FIELDS = frozenset({"ADVANCE", "ASK", "PRIVATE", "RD", "SET", "TA", "TC", "XE"})
_CHANGES = "accept or reject the tracked changes in Word to be sure"
_ACCEPTED = "the text as if all changes were accepted"


class Reference(NamedTuple):
    """Something that a paragraph refers to and that is read behind it.

    Attributes:
        kind: "footnote", "endnote", "comment", "box", "chart" or "diagram".
        id: Its id, in its part or of a relation.
        element: The content of a text box.
        mark: Mark of a note in the text.
    """

    kind: str
    id: str = ""
    element: Element | None = None
    mark: str = ""


@dataclass(slots=True)
class _Field:
    """An open field: its code, its form control, and whether its result has begun."""

    form: Element | None
    code: list[str] = field(default_factory=list)
    has_result: bool = False


@dataclass(slots=True)
class _Drawing:
    """What a drawing has: pictures, and descriptions; None for one that is marked decorative."""

    n_pictures: int = 0
    descriptions: list[str | None] = field(default_factory=list)


class Runs:
    """Reader of paragraphs; it keeps the open fields and counts the notes of the file.

    Attributes:
        place: Where the reader is, for losses.
        references: What the paragraphs read so far refer to, in order.
    """

    def __init__(self, styles: Styles, tally: LossTally) -> None:
        self._styles = styles
        self._tally = tally
        self._fields: list[_Field] = []
        self._segments = Segments()
        self._paragraph_style = ""
        self._n_notes = {"footnote": 0, "endnote": 0}
        self._looks: dict[tuple[str, str], tuple[bool, str, bool]] = {}
        self.place = ""
        self.references: list[Reference] = []

    def read(self, paragraph: Element, style: str) -> str:
        """Return the text of a paragraph.

        Args:
            paragraph: A `w:p` element, or an element of inline content.
            style: Id of the paragraph's style.
        """
        self._segments, self._paragraph_style = Segments(), style
        # A code goes on in no other paragraph, so a field that is not closed hides nothing there.
        self._fields = [item for item in self._fields if item.has_result]
        self._read_inline(paragraph)
        return self._segments.text()

    def count_change(self, element: Element) -> bool:
        """Count an element if it is a tracked change; return True if its content is to be read."""
        name = local(element.tag)
        if name == "ins":
            self.count_insertion()
        elif name == "del":
            self.count_deletion()
        elif name == "moveFrom":
            self._tally.count("old places of moved text", _CHANGES, self.place, kept=_ACCEPTED)
        return name in {"ins", "moveTo"}

    def count_deletion(self) -> None:
        """Count a tracked deletion."""
        self._tally.count("tracked deletions", _CHANGES, self.place, kept=_ACCEPTED)

    def count_insertion(self) -> None:
        """Count a tracked insertion, which is read."""
        self._tally.count("marks of tracked insertions", _CHANGES, self.place, kept=_ACCEPTED)

    def count_hidden(self) -> None:
        """Count a hidden text."""
        why = "hidden text is not read; show it in Word to have it read"
        self._tally.count("hidden texts", why, self.place)

    def _read_inline(self, parent: Element) -> None:
        for child in resolve_branches(parent):
            name = local(child.tag)
            if child.tag.startswith(M):
                if self._is_visible():
                    self._segments.add(equation_text(child))
            elif name == "r":
                self._read_run(child)
            elif name in _TRANSPARENT or self.count_change(child):
                self._read_inline(child)

    def _read_run(self, run: Element) -> None:
        properties = run.find(f"{W}rPr")
        is_hidden, looks, font = self._run_looks(properties)
        if is_hidden and any(item.tag == f"{W}t" and item.text for item in run.iter()):
            self.count_hidden()
        for child in resolve_branches(run):
            name = local(child.tag)
            if name in {"fldChar", "instrText"}:
                self._read_field(child, name, looks)
            elif is_hidden or not self._is_visible():
                continue
            elif name == "t":
                text = child.text or ""
                self._segments.add(self._convert(text, font) if font else text, looks)
            elif name in self._CHARACTERS:
                self._segments.add(self._CHARACTERS[name], looks)
            elif name in self._READERS:
                self._READERS[name](self, child)

    def _run_looks(self, properties: Element | None) -> tuple[bool, str, str]:
        """Return whether a run is hidden, how it looks, and its font if that is a symbol font."""
        style = _value(properties, "rStyle")
        key = (style, self._paragraph_style)
        if key not in self._looks:
            self._looks[key] = self._style_looks(style)
        is_hidden, align, is_struck = self._looks[key]
        font = ""
        for item in () if properties is None else properties:
            value = item.get(f"{W}val")
            if item.tag == f"{W}vanish":
                is_hidden = is_on(value)
            elif item.tag == f"{W}vertAlign":
                align = value or ""
            elif item.tag in {f"{W}strike", f"{W}dstrike"}:
                is_struck = is_on(value)
            elif item.tag == f"{W}rFonts":
                font = item.get(f"{W}ascii") or item.get(f"{W}hAnsi") or ""
        looks = {"superscript": "up", "subscript": "down"}.get(align, "struck" if is_struck else "")
        return is_hidden, looks, font if is_symbol_font(font) else ""

    def _style_looks(self, style: str) -> tuple[bool, str, bool]:
        """Return the looks of a character style on top of the paragraph's style."""
        chain, path = (style, self._paragraph_style), f"{W}rPr/{W}"
        is_hidden, is_struck = (
            # Switches of both styles cancel each other.
            sum(self._styles.is_on(name, path + switch) for name in chain) == 1
            for switch in ("vanish", "strike")
        )
        aligns = (self._styles.value(name, f"{path}vertAlign") for name in chain)
        return is_hidden, next(filter(None, aligns), ""), is_struck

    def _is_visible(self) -> bool:
        """Return True if no open field is at its code."""
        return all(item.has_result for item in self._fields)

    def _read_field(self, element: Element, name: str, looks: str) -> None:
        if name == "instrText":
            if self._fields:
                self._fields[-1].code.append(element.text or "")
            return
        kind = element.get(f"{W}fldCharType")
        if kind == "begin":
            self._fields.append(_Field(element.find(f"{W}ffData")))
        elif kind == "separate" and self._fields:
            self._fields[-1].has_result = True
        elif kind == "end" and self._fields:
            ended = self._fields.pop()
            if not ended.has_result and self._is_visible():
                self._segments.add(self._show(ended), looks)

    def _show(self, ended: _Field) -> str:
        """Return what a field without a stored result shows."""
        if ended.form is not None:
            return _form_value(ended.form)
        word = "".join(ended.code).split(maxsplit=1)[:1]
        if word and word[0].upper() not in _SILENT_FIELDS:
            why = "the file has no result of the field; update the fields in Word and save it"
            self._tally.count("results of fields", why, self.place)
        return ""

    def _convert(self, text: str, font: str) -> str:
        """Convert text in a symbol font."""
        return "".join(self._symbol(ord(char), font) if char > " " else char for char in text)

    def _symbol(self, code: int, font: str) -> str:
        char = from_symbol_font(code, font)
        if char is None and (code >= 0xE000 or is_symbol_font(font)):
            why = "the font has own characters; write them as Unicode characters"
            self._tally.count("characters of symbol fonts", why, self.place)
            return "\ufffd"
        return char or chr(code)

    def _read_sym(self, element: Element) -> None:
        code = element.get(f"{W}char", "")
        try:
            number = int(code[:6], 16)
            self._segments.add(self._symbol(number, element.get(f"{W}font", "")))
        except (ValueError, OverflowError):
            self._segments.add("\ufffd")

    def _read_note(self, element: Element) -> None:
        kind = local(element.tag).removesuffix("Reference")
        self._n_notes[kind] += 1
        mark = f"[^{'e' if kind == 'endnote' else ''}{self._n_notes[kind]}]"
        self.references.append(Reference(kind, element.get(f"{W}id", ""), mark=mark))
        self._segments.add(mark)

    def _read_comment(self, element: Element) -> None:
        self.references.append(Reference("comment", element.get(f"{W}id", "")))

    def _read_ruby(self, element: Element) -> None:
        """Read the words below a pronunciation guide."""
        base = element.find(f"{W}rubyBase")
        if base is not None:
            self._read_inline(base)

    def _read_drawing(self, element: Element) -> None:
        """Read the description of a drawing, and find the texts, charts and diagrams in it."""
        found = _Drawing()
        self._find_content(element, found)
        words = " ".join(dict.fromkeys(filter(None, found.descriptions)))
        self._segments.add(" ".join(words.split()))
        if element.tag == f"{W}object":  # the picture of an object, which is counted
            return
        if found.n_pictures and not words and None not in found.descriptions:
            self._tally.count(NO_ALT, WHY_NO_ALT, self.place, n=found.n_pictures)

    def _find_content(self, parent: Element, found: _Drawing) -> None:
        """Find the boxes, charts, diagrams and pictures in a drawing."""
        for child in resolve_branches(parent):
            name = local(child.tag)
            if name in {"docPr", "cNvPr"}:
                found.descriptions.append(alt_text(child))
            elif name == "txbxContent":
                self.references.append(Reference("box", element=child))
            elif name == "chart":
                self.references.append(Reference("chart", child.get(f"{R}id", "")))
            elif child.tag == f"{DGM}relIds":
                self.references.append(Reference("diagram", child.get(f"{R}dm", "")))
            elif name in {"OLEObject", "control", "contentPart"}:
                why = "objects of other programs are not read; save them as files of their own"
                self._tally.count("embedded objects", why, self.place)
            else:
                found.descriptions += [child.get("alt", ""), child.get("string", "")]
                found.n_pictures += name in {"pic", "imagedata"}
                self._find_content(child, found)

    _CHARACTERS: ClassVar[dict[str, str]] = {
        "br": "\n",
        "cr": "\n",
        "noBreakHyphen": "-",
        "ptab": "\t",
        "tab": "\t",
    }
    _READERS: ClassVar[dict[str, Callable[[Runs, Element], None]]] = {
        "commentReference": _read_comment,
        "drawing": _read_drawing,
        "endnoteReference": _read_note,
        "footnoteReference": _read_note,
        "object": _read_drawing,
        "pict": _read_drawing,
        "ruby": _read_ruby,
        "sym": _read_sym,
    }


def _value(properties: Element | None, name: str) -> str:
    found = None if properties is None else properties.find(W + name)
    return "" if found is None else found.get(f"{W}val", "")


def _form_value(form: Element) -> str:
    """Return the state of a check box, or the chosen entry of a list of a form."""
    box = form.find(f"{W}checkBox")
    if box is not None:
        for name in ("checked", "default"):
            state = box.find(W + name)
            if state is not None:
                return "☑" if is_on(state.get(f"{W}val")) else "☐"
        return "☐"
    choices = form.find(f"{W}ddList")
    if choices is None:
        return ""
    entries = _values(choices.findall(f"{W}listEntry"))
    chosen = _values(choices.findall(f"{W}result")) or _values(choices.findall(f"{W}default"))
    index = to_int(chosen[0]) if chosen else 0
    return entries[index] if 0 <= index < len(entries) else ""


def _values(elements: Iterable[Element]) -> list[str]:
    return [element.get(f"{W}val", "") for element in elements]
