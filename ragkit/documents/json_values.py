"""Parse JSON values from a text, one at a time and with bounded memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 200
MAX_COST = 1_000_000_000
_WINDOW_SIZE = 1 << 20
_MAX_LITERAL = 16  # characters; "-Infinity" and an escape are shorter
_SPACE = re.compile(r"[ \t\n\r]*")
# Estimated bytes of memory for a container, and for the item after each comma and colon.
_COSTS = (("[", 80), ("{", 120), (",", 60), (":", 120))


class JsonReader:
    """Lenient JSON parser that bounds the depth and the memory of a value.

    NaN and the infinities, which are not JSON, become null. A number out of the range of Python or
    of a database stays a string. If an object repeats a name, the last value is used;
    `n_repeated` counts these repetitions.

    >>> JsonReader().parse('{"a": 1e400, "b": 2}')
    {'a': '1e400', 'b': 2}
    """

    def __init__(self) -> None:
        self.n_repeated = 0
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_constant=_to_null,
            parse_float=_to_float,
            parse_int=_to_int,
        )

    def parse(self, text: str) -> Any:
        """Parse a text that is one JSON value.

        Raises:
            ValueError: The text is not JSON, is nested too deep, or would take too much memory.
        """
        if len(text) > _WINDOW_SIZE:
            _check_cost(text)
        try:
            value = self._decoder.decode(text)
        except RecursionError as error:
            raise ValueError("it is nested too deep") from error
        _check_depth(value, text, 0, len(text))
        return value

    def iter_items(self, text: str, start: int) -> Iterator[Any]:
        """Yield the items of the array that begins at `start`, one at a time.

        Raises:
            ValueError: As for `parse`.
        """
        position = skip_space(text, start + 1)
        if text.startswith("]", position):
            _require_end(text, position + 1)
            return
        window = _Window(text, self._decoder)
        while True:
            value, end = window.read(position)
            yield value
            position = skip_space(text, end)
            if text.startswith("]", position):
                _require_end(text, position + 1)
                return
            if not text.startswith(",", position):
                raise json.JSONDecodeError("Expecting ',' delimiter", text, position)
            position = skip_space(text, position + 1)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        self.n_repeated += len(pairs) - len(fields)
        return fields


class _Window:
    """Sliding window over a long text; bounds the cost of a value before it is parsed."""

    def __init__(self, text: str, decoder: json.JSONDecoder) -> None:
        self._text = text
        self._decoder = decoder
        self._base = 0
        self._window = text[:_WINDOW_SIZE]

    def read(self, position: int) -> tuple[Any, int]:
        """Return the value at a position, and the position of its end."""
        if position >= self._base + len(self._window):
            self._move(position, _WINDOW_SIZE)
        while True:
            start = position - self._base
            is_last = self._base + len(self._window) == len(self._text)
            try:
                value, end = self._decoder.raw_decode(self._window, start)
            except json.JSONDecodeError as error:
                # A truncated value fails at the end of the window, but a truncated string at
                # its start.
                truncated = error.pos >= len(self._window) - _MAX_LITERAL
                if is_last or not (truncated or error.msg.startswith("Unterminated string")):
                    message, offset = error.msg, self._base + error.pos
                    raise json.JSONDecodeError(message, self._text, offset) from None
            except RecursionError as error:
                raise ValueError("it is nested too deep") from error
            else:
                # A number at the end of the window may continue after it, as in 1.5|e3.
                if is_last or end < len(self._window) - _MAX_LITERAL:
                    _check_depth(value, self._window, start, end)
                    return value, self._base + end
            self._move(position, 4 * len(self._window) if start == 0 else _WINDOW_SIZE)

    def _move(self, position: int, size: int) -> None:
        self._base, self._window = position, self._text[position : position + size]
        if size > _WINDOW_SIZE:
            _check_cost(self._window)


def skip_space(text: str, position: int) -> int:
    """Return the position of the first character at or after `position` that is not JSON space."""
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _require_end(text: str, position: int) -> None:
    position = skip_space(text, position)
    if position < len(text):
        raise json.JSONDecodeError("Extra data", text, position)


def _check_cost(text: str) -> None:
    if sum(cost * text.count(character) for character, cost in _COSTS) > MAX_COST:
        raise ValueError(
            f"too big when unpacked: one value of {len(text)} characters would take over "
            f"{MAX_COST} bytes of memory; split it"
        )


def _check_depth(value: Any, text: str, start: int, end: int) -> None:
    """Raise ValueError for a value nested too deep for recursive functions."""
    if text.count("[", start, end) + text.count("{", start, end) <= MAX_DEPTH:
        return
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return
    raise ValueError("it is nested too deep")


def _to_null(name: str) -> None:
    """Replace NaN and the infinities, which are not JSON, with null."""


def _to_int(literal: str) -> int | str:
    return int(literal) if len(literal) <= 20 else literal


def _to_float(literal: str) -> float | str:
    value = float(literal)
    return value if abs(value) != float("inf") else literal
