"""Write MathML as a line of text."""

# ruff: noqa: RUF001 - signs of mathematics are what this module is about
from __future__ import annotations

import re
from collections.abc import Sequence

from ragkit.documents.scripts import subscript, superscript

_MAX_DEPTH = 40  # elements inside each other; deeper ones count as their content
_DROPPED = frozenset({"annotation", "annotation-xml", "mphantom"})
_OPERATORS = frozenset("=≠≈≡∼<>≤≥±×÷·⋅→⇒∈+−-∗*")
_INVISIBLE = str.maketrans(dict.fromkeys("\u2061\u2062\u2063\u2064\u200b"))
_SIGN = re.compile(r"(^\s*|[(=<>,]\s*)([-−+±])\s+")
_ACCENTED = frozenset({"mover", "munder", "munderover"})
_ACCENTS = frozenset("¯^~→ˆ˙¨‾˜⏞⏟_.")


class MathWriter:
    """Writer of one formula: powers, indices, fractions and roots in a line.

    Args:
        alternative: Text of a formula without content.

    >>> formula = MathWriter()
    >>> for tag in ("msup", "mi", "mn"):
    ...     formula.start(tag)
    ...     if tag != "msup":
    ...         formula.write("x" if tag == "mi" else "2")
    ...         formula.end(tag)
    >>> formula.end("msup")
    >>> formula.text()
    'x²'
    """

    def __init__(self, alternative: str = "") -> None:
        self._alternative = alternative
        self._open: list[tuple[str, list[str]]] = [("math", [])]
        self._n_deeper = 0

    def start(self, tag: str) -> None:
        """Open an element."""
        if len(self._open) >= _MAX_DEPTH:
            self._n_deeper += 1
        else:
            self._open.append((tag, []))

    def write(self, data: str) -> None:
        """Append text to the open element."""
        words = " ".join(data.translate(_INVISIBLE).split())
        if words:
            self._open[-1][1].append(words)

    def end(self, tag: str) -> None:
        """Close the innermost element, which is `tag`."""
        if self._n_deeper:
            self._n_deeper -= 1
        elif len(self._open) > 1:
            _, parts = self._open.pop()
            self._open[-1][1].append(_compose(tag, parts))

    def text(self) -> str:
        """Return the formula; elements that are still open are closed."""
        self._n_deeper = 0
        while len(self._open) > 1:
            self.end(self._open[-1][0])
        return " ".join(_row(self._open[0][1]).split()) or self._alternative


def _compose(tag: str, parts: Sequence[str]) -> str:
    first, second, third = (*parts, "", "", "")[:3]
    if tag in _DROPPED:
        return ""
    if tag in {"msup", "msub", "msubsup", "mroot", "mfrac"} and len(parts) > 1:
        base = _atom(first)
        return {
            "msup": lambda: base + superscript(second),
            "msub": lambda: base + subscript(second),
            "msubsup": lambda: base + subscript(second) + superscript(third),
            "mroot": lambda: f"{base}^(1/{_atom(second)})",
            "mfrac": lambda: f"{base}/{_atom(second)}",
        }[tag]()
    if tag in _ACCENTED and len(parts) > 1:
        upper = third if tag == "munderover" else second
        limits = "" if tag == "mover" else subscript(second)
        has_limit = tag != "munder" and upper not in _ACCENTS
        return first + limits + (superscript(upper) if has_limit else "")
    if tag == "mo" and first in _OPERATORS:
        return f" {first} "
    if tag == "msqrt":
        return f"√{_atom(_row(parts))}"
    if tag in {"mtd", "mtr", "mspace"}:
        return _row(parts) + {"mtd": " ", "mtr": "; ", "mspace": " "}[tag]
    return _row(parts)


def _row(parts: Sequence[str]) -> str:
    return _SIGN.sub(r"\1\2", "".join(parts))


def _atom(text: str) -> str:
    """Return the text, in parentheses if it is an expression."""
    text = text.strip()
    return f"({text})" if re.search(r"[ +−/]", text) and not text.startswith("(") else text
