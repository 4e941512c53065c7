"""JSON values out of a text, one at a time and at a bounded cost."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 200
MAX_COST = 1_000_000_000
_WINDOW = 1 << 20
_LONGEST_WORD = 16  # characters; "-Infinity" and an escape are shorter
_SPACE = re.compile(r"[ \t\n\r]*")
# Bytes that Python takes for a container and for what follows each comma and colon.
_COSTS = (("[", 80), ("{", 120), (",", 60), (":", 120))


class JsonReader:
    """Reads JSON as other tools write it, beyond the letter where nothing is lost by it.

    NaN and the infinities, which are no JSON, become null. A number that Python or a database
    could not hold stays the text it is. Of a name that comes twice in an object the last value
    counts, and `n_repeated` tells how often that happened.

    >>> JsonReader().value('{"a": 1e400, "b": 2}')
    {'a': '1e400', 'b': 2}
    """

    def __init__(self) -> None:
        self.n_repeated = 0
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_constant=_no_number,
            parse_float=_float,
            parse_int=_int,
        )

    def value(self, text: str) -> Any:
        """The one value of a text.

        Raises:
            ValueError: It is not JSON, is nested too deep, or would take too much memory.
        """
        if len(text) > _WINDOW:
            _check_cost(text)
        try:
            value = self._decoder.decode(text)
        except RecursionError as error:
            raise ValueError("it is nested too deep") from error
        _check_depth(value, text, 0, len(text))
        return value

    def items(self, text: str, start: int) -> Iterator[Any]:
        """The items of the array that begins at `start`, without the whole of it in memory.

        Raises:
            ValueError: As for `value`.
        """
        place = skip_space(text, start + 1)
        if text.startswith("]", place):
            _expect_end(text, place + 1)
            return
        window = _Window(text, self._decoder)
        while True:
            value, end = window.read(place)
            yield value
            place = skip_space(text, end)
            if text.startswith("]", place):
                _expect_end(text, place + 1)
                return
            if not text.startswith(",", place):
                raise json.JSONDecodeError("Expecting ',' delimiter", text, place)
            place = skip_space(text, place + 1)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        self.n_repeated += len(pairs) - len(fields)
        return fields


class _Window:
    """A piece of a long text, so that the cost of each value is known before it is read."""

    def __init__(self, text: str, decoder: json.JSONDecoder) -> None:
        self._text = text
        self._decoder = decoder
        self._base = 0
        self._piece = text[:_WINDOW]

    def read(self, place: int) -> tuple[Any, int]:
        """The value at this place, and where it ends."""
        if place >= self._base + len(self._piece):
            self._move(place, _WINDOW)
        while True:
            start = place - self._base
            is_last = self._base + len(self._piece) == len(self._text)
            try:
                value, end = self._decoder.raw_decode(self._piece, start)
            except json.JSONDecodeError as error:
                # A window that is cut off is unfinished at its end; a string, where it began.
                cut_off = error.pos >= len(self._piece) - _LONGEST_WORD
                if is_last or not (cut_off or error.msg.startswith("Unterminated string")):
                    message, where = error.msg, self._base + error.pos
                    raise json.JSONDecodeError(message, self._text, where) from None
            except RecursionError as error:
                raise ValueError("it is nested too deep") from error
            else:
                # A number at the end of the piece may go on behind it, as in 1.5|e3.
                if is_last or end < len(self._piece) - _LONGEST_WORD:
                    _check_depth(value, self._piece, start, end)
                    return value, self._base + end
            self._move(place, 4 * len(self._piece) if start == 0 else _WINDOW)

    def _move(self, place: int, size: int) -> None:
        self._base, self._piece = place, self._text[place : place + size]
        if size > _WINDOW:
            _check_cost(self._piece)


def skip_space(text: str, place: int) -> int:
    """The place of the first character from `place` on that is no JSON space."""
    match = _SPACE.match(text, place)
    return match.end() if match else place


def _expect_end(text: str, place: int) -> None:
    place = skip_space(text, place)
    if place < len(text):
        raise json.JSONDecodeError("Extra data", text, place)


def _check_cost(text: str) -> None:
    if sum(cost * text.count(mark) for mark, cost in _COSTS) > MAX_COST:
        raise ValueError(
            f"too big when unpacked: one value of {len(text)} characters would take over "
            f"{MAX_COST} bytes of memory; split it"
        )


def _check_depth(value: Any, text: str, start: int, end: int) -> None:
    """Refuses what the recursive functions of Python and of a reader would stumble on."""
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


def _no_number(name: str) -> None:
    """NaN and the infinities, which are no JSON, become null."""


def _int(word: str) -> int | str:
    return int(word) if len(word) <= 20 else word


def _float(word: str) -> float | str:
    value = float(word)
    return value if abs(value) != float("inf") else word
