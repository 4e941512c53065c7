"""Write the equations of Word and PowerPoint (OMML) as plain text."""

from __future__ import annotations

import re
from collections.abc import Callable
from xml.etree.ElementTree import Element

from ragkit.documents.office.ooxml import A, local
from ragkit.documents.scripts import subscript, superscript

M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_ATOM = re.compile(r"[\w.]+|[\[({][^()\[\]{}]*[\])}]")
_INVISIBLE = re.compile("[\u2061-\u2064]")  # operators, as the one between "sin" and "x"
_ROOTS = {"": "√", "2": "√", "3": "∛", "4": "∜"}


def equation_text(element: Element) -> str:
    """Return an equation on one line: fractions with "/", raised and lowered characters.

    Args:
        element: An `m:oMath` or `m:oMathPara` element, or one inside it.
    """
    if element.tag == f"{M}t" or element.tag == f"{A}t":
        return _INVISIBLE.sub(" ", element.text or "")
    name = local(element.tag)
    if name in {"del", "moveFrom"} or name.endswith("Pr"):
        return ""
    if element.tag.startswith(M) and name in _WRITERS:
        return _WRITERS[name](element)
    return "".join(map(equation_text, element))


def _part(element: Element, name: str) -> str:
    child = element.find(M + name)
    return "" if child is None else equation_text(child)


def _parts(element: Element, name: str) -> list[str]:
    return [equation_text(child) for child in element.findall(M + name)]


def _property(element: Element, name: str, default: str) -> str:
    """Return the value of a property of an element; `default` if it is not set."""
    found = element.find(f"{M}{local(element.tag)}Pr/{M}{name}")
    return default if found is None else found.get(f"{M}val", default)


def _group(text: str) -> str:
    return text if _ATOM.fullmatch(text) else f"({text})"


def _fraction(element: Element) -> str:
    over, under = _part(element, "num"), _part(element, "den")
    if _property(element, "type", "bar") == "noBar":
        return f"{over} choose {under}"
    return f"{_group(over)}/{_group(under)}"


def _scripts(element: Element) -> str:
    low, high = _part(element, "sub"), _part(element, "sup")
    base, marks = _part(element, "e"), subscript(low) + superscript(high)
    return marks + base if local(element.tag) == "sPre" else base + marks


def _root(element: Element) -> str:
    degree = _part(element, "deg").strip()
    sign = _ROOTS.get(degree) or superscript(degree) + "√"
    return sign + _group(_part(element, "e"))


def _nary(element: Element) -> str:
    limits = subscript(_part(element, "sub")) + superscript(_part(element, "sup"))
    return f"{_property(element, 'chr', '∫')}{limits} {_part(element, 'e')}"


def _limit(element: Element) -> str:
    write = subscript if local(element.tag) == "limLow" else superscript
    return _part(element, "e") + write(_part(element, "lim"))


def _delimited(element: Element) -> str:
    inner = _property(element, "sepChr", "|").join(_parts(element, "e"))
    return _property(element, "begChr", "(") + inner + _property(element, "endChr", ")")


def _function(element: Element) -> str:
    argument = _part(element, "e")
    return (
        _part(element, "fName") + ("" if argument.startswith(("(", "[", "{")) else " ") + argument
    )


def _accent(element: Element) -> str:
    """Put a combining mark behind each letter of a bar, or behind the base of an accent."""
    base = _part(element, "e")
    if local(element.tag) == "bar":
        mark = "\u0305" if _property(element, "pos", "bot") == "top" else "\u0332"
        return "".join(char + mark for char in base)
    return base + _property(element, "chr", "\u0302")


def _matrix(element: Element) -> str:
    return f"[{'; '.join(', '.join(_parts(row, 'e')) for row in element.findall(f'{M}mr'))}]"


def _rows(element: Element) -> str:
    """Write the lines of an equation array or of a paragraph of equations."""
    lines = (equation_text(line).replace("&", "").strip() for line in element)
    return "; ".join(filter(None, lines))


_WRITERS: dict[str, Callable[[Element], str]] = {
    "acc": _accent,
    "bar": _accent,
    "d": _delimited,
    "eqArr": _rows,
    "f": _fraction,
    "func": _function,
    "limLow": _limit,
    "limUpp": _limit,
    "m": _matrix,
    "nary": _nary,
    "oMathPara": _rows,
    "rad": _root,
    "sPre": _scripts,
    "sSub": _scripts,
    "sSubSup": _scripts,
    "sSup": _scripts,
}
