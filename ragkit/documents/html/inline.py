"""Collect the text of inline elements that change its meaning: superscripts, notes, ruby."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from ragkit.documents.scripts import subscript, superscript

MAX_OPEN = 4  # inline elements inside each other that are collected
MAX_LENGTH = 100  # characters; a longer text is none of these

_NOTE = re.compile(r"footnote|endnote|noteref|fnref|\breference\b|\bcite|\bfn\b|\bfn\d", re.I)
_FRAME = re.compile(r"\[.*\]|\(.*\)")

InlineKind = Literal["sup", "sub", "note", "ruby", "rt"]


@dataclass(slots=True, eq=False)
class Inline:
    """Open inline element: its kind, the pieces of its text, and of its reading (ruby)."""

    kind: InlineKind
    parts: list[str] = field(default_factory=list)
    length: int = 0
    reading: list[str] = field(default_factory=list)

    def write(self, data: str) -> None:
        """Append a piece of text."""
        self.parts.append(data)
        self.length += len(data)

    def text(self) -> str:
        """Return the text as it is written into the line."""
        raw = "".join(self.parts)
        words = " ".join(raw.split())
        if self.kind == "note" or (self.kind == "sup" and re.fullmatch(r"\[.*\]", words)):
            words = _note(words)
        elif self.kind == "sup":
            words = superscript(words)
        elif self.kind == "sub":
            words = subscript(words)
        elif self.kind == "ruby" and self.reading:
            words = f"{words}({''.join(self.reading)})"
        return words + (" " if raw[-1:].isspace() else "")


def is_note(attributes: dict[str, str]) -> bool:
    """Return True if an element is the mark of a footnote or a reference.

    >>> [is_note(attributes) for attributes in ({"class": "footnote-ref"}, {"class": "big"})]
    [True, False]
    """
    names = (attributes.get(name, "") for name in ("class", "role", "id", "epub:type"))
    return any(map(_NOTE.search, names))


def _note(words: str) -> str:
    """Return the mark of a note in brackets, which no reader takes for a part of a number."""
    if not any(char.isalnum() for char in words):
        return "" if words in {"^", "↑", "↩", "↵"} else words
    return words if _FRAME.fullmatch(words) else f"[{words}]"
