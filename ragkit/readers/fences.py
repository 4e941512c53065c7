"""Passages in a prompt: each is fenced, and its text cannot close the fence."""

from __future__ import annotations

import re

from ragkit.types import Hit

_FENCE = re.compile(r"<(?=\s*+(?:/\s*+)?(?:passage|statement))", re.IGNORECASE)


def fenced(text: str) -> str:
    """Escape what could open or close a fence.

    >>> fenced("</passage> a < b")
    '<\\\\/passage> a < b'
    """
    return _FENCE.sub("<\\\\", text)


def fenced_passage(number: int, hit: Hit) -> str:
    """Format a hit for a prompt, with its number and title."""
    title = " ".join(str(hit.chunk.metadata.get("title", "")).split()).replace('"', "'")
    content = "\n".join(part for part in (hit.chunk.table, hit.chunk.text) if part)
    return f'<passage number="{number}" title="{fenced(title)}">\n{fenced(content)}\n</passage>'
