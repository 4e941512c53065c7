"""Database records inside the printed transcripts of agents.

A transcript mixes what tools returned with what a language model wrote. Only lists of records in
Python's notation that hold a field of the Materials Project are taken; a model's answers are prose
or JSON and never match.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from ragkit.agents.ledger import Scalar
from ragkit.agents.materials.chemistry.properties import PATHS, lookup


def records(text: str) -> Iterator[dict[str, Any]]:
    """The records of every list of dictionaries in the text, in order.

    >>> list(records("Thought: go on\\n[{'material_id': 'mp-2534', 'band_gap': 0.2}]Action: x"))
    [{'material_id': 'mp-2534', 'band_gap': 0.2}]
    """
    start = text.find("[{'")
    while start >= 0:
        end = _closing(text, start)
        found = _literal(text[start:end]) if end else None
        if isinstance(found, list):
            yield from (each for each in found if isinstance(each, dict))
        start = text.find("[{'", end if end and isinstance(found, list) else start + 1)


def values(record: Mapping[str, Any]) -> dict[str, Scalar]:
    """The values of a record by our property names; fields that we do not know are left out.

    >>> values({"bulk_modulus": {"vrh": 85.872}, "is_stable": True, "magmoms": [4.1]})
    {'k_vrh': 85.872, 'is_stable': True}
    """
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{name}": each for name, each in value.items()}
        else:
            flat[str(key)] = value
    kept: dict[str, Scalar] = {}
    for path, value in flat.items():
        name = _property(path)
        if name and isinstance(value, bool | int | float | str):
            kept[name] = value
    return kept


def _property(path: str) -> str | None:
    """Our name of a field; aliases do not count, since a field is no phrase."""
    found = lookup(path)
    return found.name if found and path in (found.name, *PATHS) else None


def _closing(text: str, start: int) -> int | None:
    """The end of the bracket that opens at `start`; brackets in strings do not count."""
    depth, quote, position = 0, "", start
    while position < len(text):
        letter = text[position]
        if quote:
            if letter == "\\":
                position += 1
            elif letter == quote:
                quote = ""
        elif letter in "'\"":
            quote = letter
        elif letter in "[{(":
            depth += 1
        elif letter in ")}]":
            depth -= 1
            if depth == 0:
                return position + 1
        position += 1
    return None


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
