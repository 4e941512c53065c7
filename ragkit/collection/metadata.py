"""Texts and metadata as the store can hold them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

Metadata = Mapping[str, Any]

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_MAX_DEPTH = 100  # far below the limits of SQLite and of Python's parser


def storable(text: str) -> str:
    """Replace NUL and lone surrogates by U+FFFD, which leaves offsets unchanged."""
    return _UNSTORABLE.sub("\ufffd", text)


def to_json(fields: Metadata) -> str:
    """Return metadata as JSON.

    Raises:
        ValueError: A value is not JSON, or is nested more than 100 deep.
    """
    try:
        return json.dumps(_storable(fields, 0), sort_keys=True, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"its metadata cannot be written as JSON: {error}") from error


def check_metadata(fields: Metadata) -> None:
    """Raise ValueError if the fields cannot be written as JSON."""
    try:
        to_json(fields)
    except ValueError as error:
        raise ValueError(f"metadata is {fields!r:.200}: {error}") from error


def can_be_filtered(value: object) -> bool:
    """Return True for text, numbers, booleans, null, and lists of them.

    Other values are stored with the document only.
    """
    if isinstance(value, list | tuple):
        return all(item is None or isinstance(item, str | int | float) for item in value)
    return value is None or isinstance(value, str | int | float)


def _storable(value: Any, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise ValueError(f"it is nested more than {_MAX_DEPTH} deep")
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {_storable(key, depth): _storable(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item, depth + 1) for item in value]
    return value
