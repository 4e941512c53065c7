"""Look up the properties of Word's styles."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from ragkit.documents.office.numbering import W
from ragkit.documents.office.ooxml import is_on
from ragkit.documents.scalars import to_int

_MAX_CHAIN = 50
_DIGITS = frozenset("123456789")


class Styles:
    """Styles of a Word file; a style inherits what it does not say.

    Args:
        root: Root of the styles part; None if there is none.
    """

    def __init__(self, root: Element | None) -> None:
        self._styles: dict[str, Element] = {}
        self._found: dict[tuple[str, str], Element | None] = {}
        self.default_paragraph = ""
        for style in () if root is None else root.iter(f"{W}style"):
            identity = style.get(f"{W}styleId", "")
            self._styles[identity] = style
            is_default = is_on(style.get(f"{W}default", "0"))
            if is_default and style.get(f"{W}type") == "paragraph":
                self.default_paragraph = identity

    def find(self, style: str, path: str) -> Element | None:
        """Return the element at a path in a style or the first of its ancestors that has it."""
        key = (style, path)
        if key not in self._found:
            found = None
            for item in self._chain(style):
                found = item.find(path)
                if found is not None:
                    break
            self._found[key] = found
        return self._found[key]

    def value(self, style: str, path: str) -> str:
        """Return the value of the element at a path, or an empty string."""
        found = self.find(style, path)
        return "" if found is None else found.get(f"{W}val", "")

    def is_on(self, style: str, path: str) -> bool:
        """Return True if a style or its ancestors switch a property on."""
        found = self.find(style, path)
        return found is not None and is_on(found.get(f"{W}val"))

    def heading(self, style: str) -> int | None:
        """Return the outline level of a paragraph style, from 0; None for body text."""
        for item in self._chain(style):
            outline = item.find(f"{W}pPr/{W}outlineLvl")
            if outline is not None:
                return to_level(outline)
            name = _name(item)
            kind, _, level = name.rpartition(" ")
            if name == "title" or (kind == "heading" and level in _DIGITS):
                return int(level) - 1 if kind else 0
        return None

    def lists(self) -> dict[str, str]:
        """Return the id of the list of each numbering style."""
        path = f"{W}pPr/{W}numPr/{W}numId"
        return {name: number for name in self._styles if (number := self.value(name, path))}

    def _chain(self, style: str) -> list[Element]:
        chain: list[Element] = []
        while style in self._styles and len(chain) < _MAX_CHAIN:
            chain.append(self._styles[style])
            based_on = chain[-1].find(f"{W}basedOn")
            style = "" if based_on is None else based_on.get(f"{W}val", "")
        return chain


def to_level(outline: Element) -> int | None:
    """Return the level of an `outlineLvl` element, from 0; None for body text."""
    level = to_int(outline.get(f"{W}val"), 9)
    return level if 0 <= level < 9 else None


def _name(style: Element) -> str:
    name = style.find(f"{W}name")
    return "" if name is None else name.get(f"{W}val", "").lower()
