"""JSON values: one text for each, the first difference of two, and names that mean a secret."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

_SHOWN_CHARS = 60
_BEFORE_CHARS = 20

# Names whose value is a secret by itself; "max_tokens" is none.
_SECRET = re.compile(
    r"(^|_)((api|access|private|secret|auth)_?key|token|passw(or)?d|passphrase|secret|credentials?"
    r"|authorization|bearer)$"
)


def canonical_json(value: object) -> str:
    """The one JSON text of a value: sorted keys, no spaces, characters as they are.

    A lone surrogate, which UTF-8 cannot hold, is escaped ("\\ud800") and comes back as it was; of
    a high one followed by a low one comes back the character that both stand for. NaN and infinity
    are written as Python writes them.

    Raises:
        TypeError: It holds something that is no text, number, flag, mapping or sequence.
    """
    try:
        text = json.dumps(
            value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_plain
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(
            f"this cannot be kept as JSON: {error}; expected texts, numbers, flags, mappings with "
            "text keys and sequences"
        ) from error
    return re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def difference(one: Any, two: Any, where: str) -> str | None:
    """The path of the first difference of two JSON values and both values there, or None.

    >>> difference({"a": [1, 2]}, {"a": [1, 3]}, "x")
    'x.a[1]: 2 and 3'
    """
    if canonical_json(one) == canonical_json(two):
        return None
    if isinstance(one, dict) and isinstance(two, dict):
        for key in sorted(one.keys() | two.keys()):
            path = f"{where}.{key}" if where else key
            if key not in one or key not in two:
                has, value = ("second", two[key]) if key not in one else ("first", one[key])
                return f"{path}: only the {has} run has it: {_shown(value, 0)}"
            found = difference(one[key], two[key], path)
            if found:
                return found
    if isinstance(one, list) and isinstance(two, list):
        for number, pair in enumerate(zip(one, two, strict=False)):
            found = difference(*pair, f"{where}[{number}]")
            if found:
                return found
        return f"{where}: {len(one)} and {len(two)} items"
    start = 0
    if isinstance(one, str) and isinstance(two, str):
        same = (i for i, (x, y) in enumerate(zip(one, two, strict=False)) if x != y)
        start = max(0, next(same, min(len(one), len(two))) - _BEFORE_CHARS)
    return f"{where}: {_shown(one, start)} and {_shown(two, start)}"


def _shown(value: object, start: int) -> str:
    """A value shortly, a long text from near its first difference."""
    if isinstance(value, str):
        start = start if len(value) > _SHOWN_CHARS else 0
        cut = value[start : start + _SHOWN_CHARS]
        return f"{'…' if start else ''}{cut!r}{'…' if start + len(cut) < len(value) else ''}"
    text = canonical_json(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def secret_in(value: object, where: str = "") -> str:
    """The path of the first setting that is named like a secret and has a value; "" if none."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            path = f"{where}.{key}" if where else str(key)
            words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", str(key)).lower()
            if each not in (None, "") and _SECRET.search(words):
                return path
            found = secret_in(each, path)
            if found:
                return found
    if isinstance(value, list | tuple):
        return next(filter(None, (secret_in(each, where) for each in value)), "")
    return ""


def _plain(value: Any) -> Any:
    """What `json` does not know and we do."""
    if isinstance(value, Mapping):
        return dict(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
        return value.item()
    raise TypeError(f"a value of type {type(value).__name__}")
