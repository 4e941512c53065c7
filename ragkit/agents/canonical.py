"""Canonical JSON: serialization, comparison of two values, and detection of secrets by key."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

_EXCERPT_CHARS = 60
_CONTEXT_CHARS = 20

# Keys whose values are secrets; does not match "max_tokens".
_SECRET = re.compile(
    r"(^|_)((api|access|private|secret|auth)_?key|token|passw(or)?d|passphrase|secret|credentials?"
    r"|authorization|bearer)$"
)


def canonical_json(value: object) -> str:
    """Serialize a value to canonical JSON: sorted keys, no spaces, non-ASCII characters unescaped.

    Lone surrogates, which UTF-8 cannot encode, are escaped ("\\ud800") and survive a round trip; a
    high surrogate followed by a low one comes back as the character that the pair encodes. NaN and
    infinity are written as Python writes them.

    Raises:
        TypeError: The value contains something other than strings, numbers, booleans, None,
            mappings and sequences.
    """
    try:
        text = json.dumps(
            value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_to_json_value
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(
            f"the value cannot be stored as JSON: {error}; expected strings, numbers, booleans, "
            "sequences and mappings with string keys"
        ) from error
    return re.sub("[\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", text)


def difference(first: Any, second: Any, where: str) -> str | None:
    """Return the path of the first difference between two JSON values with both values, or None.

    >>> difference({"a": [1, 2]}, {"a": [1, 3]}, "x")
    'x.a[1]: 2 and 3'
    """
    if canonical_json(first) == canonical_json(second):
        return None
    if isinstance(first, dict) and isinstance(second, dict):
        for key in sorted(first.keys() | second.keys()):
            path = f"{where}.{key}" if where else key
            if key not in first or key not in second:
                owner, value = (
                    ("second", second[key]) if key not in first else ("first", first[key])
                )
                return f"{path}: only the {owner} run has it: {_excerpt(value, 0)}"
            inner = difference(first[key], second[key], path)
            if inner:
                return inner
    if isinstance(first, list) and isinstance(second, list):
        for number, pair in enumerate(zip(first, second, strict=False)):
            inner = difference(*pair, f"{where}[{number}]")
            if inner:
                return inner
        return f"{where}: {len(first)} and {len(second)} items"
    start = 0
    if isinstance(first, str) and isinstance(second, str):
        same = (i for i, (x, y) in enumerate(zip(first, second, strict=False)) if x != y)
        start = max(0, next(same, min(len(first), len(second))) - _CONTEXT_CHARS)
    return f"{where}: {_excerpt(first, start)} and {_excerpt(second, start)}"


def _excerpt(value: object, start: int) -> str:
    """Return a short form of a value; long strings are cut to the part around offset `start`."""
    if isinstance(value, str):
        start = start if len(value) > _EXCERPT_CHARS else 0
        cut = value[start : start + _EXCERPT_CHARS]
        return f"{'…' if start else ''}{cut!r}{'…' if start + len(cut) < len(value) else ''}"
    text = canonical_json(value)
    return text if len(text) <= _EXCERPT_CHARS else f"{text[:_EXCERPT_CHARS]}…"


def secret_in(value: object, where: str = "") -> str:
    """Return the path of the first non-empty setting with the key of a secret, or ""."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            path = f"{where}.{key}" if where else str(key)
            words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", str(key)).lower()
            if item not in (None, "") and _SECRET.search(words):
                return path
            inner = secret_in(item, path)
            if inner:
                return inner
    if isinstance(value, list | tuple):
        return next(filter(None, (secret_in(item, where) for item in value)), "")
    return ""


def _to_json_value(value: Any) -> Any:
    """Convert mappings, dataclasses, paths and NumPy scalars for `json.dumps`."""
    if isinstance(value, Mapping):
        return dict(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
        return value.item()
    raise TypeError(f"a value of type {type(value).__name__}")
