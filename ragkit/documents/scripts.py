"""Write superscripts and subscripts as plain text."""

# ruff: noqa: RUF001, RUF002 - signs of typography are what this module is about
from __future__ import annotations

import re

_MINUS = "-−–"
_SUPERSCRIPTS = dict(zip("0123456789+=()in", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁼⁽⁾ⁱⁿ", strict=True))
_SUPERSCRIPTS |= dict.fromkeys(_MINUS, "⁻")
_SUBSCRIPTS = dict(zip("0123456789+=()", "₀₁₂₃₄₅₆₇₈₉₊₌₍₎", strict=True))
_SUBSCRIPTS |= dict(zip("aehijklmnoprstuvx", "ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ", strict=True))
_SUBSCRIPTS |= dict.fromkeys(_MINUS, "₋")
_SIGNS = {"o": "°", "∘": "°", "º": "°", "tm": "™", "sm": "℠"}
_ORDINALS = frozenset("st nd rd th er re ère ème".split())
_WORD = re.compile(r"[^\W\d_]{2}")
_SPACED_SIGN = re.compile(r"\s*([+−=,;/])\s*|(?<=\w)\s+(-)\s+(?=\w)")
_ATOM = re.compile(rf"[+{_MINUS}]?\w+(?:[.,]\d+)?[+{_MINUS}]?")


def superscript(text: str) -> str:
    """Return a raised text: in superscript characters where each has one, else after "^".

    Ordinal endings stay as they are, and a raised "o" is a degree sign. Signs such as "*" are not
    marked.

    >>> [superscript(text) for text in ["5", "−2", "n+1", "th", "o", "*", "0.5", "a+b"]]
    ['⁵', '⁻²', 'ⁿ⁺¹', 'th', '°', '*', '^0.5', '^(a+b)']
    """
    text = _normalize(text)
    if text.lower() in _ORDINALS:
        return text
    return _SIGNS.get(text.lower()) or _write(text, _SUPERSCRIPTS, "^")


def subscript(text: str) -> str:
    """Return a lowered text: in subscript characters where each has one, else after "_".

    Words of two or more letters are written after "_", which readers and models know better.

    >>> [subscript(text) for text in ["2", "1-x", "i", "c", "max", "B,max"]]
    ['₂', '₁₋ₓ', 'ᵢ', '_c', '_max', '_(B,max)']
    """
    return _write(_normalize(text), _SUBSCRIPTS, "_")


def _normalize(text: str) -> str:
    """Remove white space at the ends and around signs; write other white space as one space."""
    return _SPACED_SIGN.sub(r"\1\2", " ".join(text.split()))


def _write(text: str, forms: dict[str, str], mark: str) -> str:
    if all(char in forms for char in text) and not _WORD.search(text):
        return "".join(forms[char] for char in text)
    if not any(char.isalnum() for char in text):
        return text
    return mark + (text if _ATOM.fullmatch(text) else f"({text})")
