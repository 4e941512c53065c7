"""Malformed input: an error with file and line or, if lenient, a counted loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ragkit.errors import DatasetError
from ragkit.losses import report
from ragkit.types import Loss

_MAX_SHOWN = 5  # locations listed in a loss


class Location(NamedTuple):
    """A location in the input: a file, and the line or record in it."""

    file: str
    position: str

    def __str__(self) -> str:
        return f"{self.file} {self.position}"


class Malformed(Exception):
    """Raised for a malformed record, with a problem and a remedy; `Faults.at` adds the location."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


class Faults:
    """Collects malformed records: raises at the first one or, if lenient, counts them.

    Args:
        lenient: Count instead of raising.

    >>> faults = Faults(lenient=True)
    >>> for line in (3, 9):
    ...     faults.add(Location("a.tsv", f"line {line}"), "no score", "give each line 3 columns")
    >>> faults.losses()[0].lost
    '2 skipped: line 3, line 9'
    """

    def __init__(self, *, lenient: bool = False) -> None:
        self.lenient = lenient
        self._positions: dict[tuple[str, str, str], list[str]] = {}
        self._counts: dict[tuple[str, str, str], int] = {}
        self._first: dict[tuple[str, str, str], str] = {}

    def add(self, location: Location, problem: str, remedy: str, *, done: str = "skipped") -> None:
        """Report one fault.

        Args:
            location: Its location.
            problem: What is wrong, with the value.
            remedy: What was expected and what to do; faults are grouped by it.
            done: What is done about it if lenient.

        Raises:
            DatasetError: `lenient` is False.
        """
        if not self.lenient:
            message = f"{location}: {problem}; {remedy} (lenient: {done} and counted)"
            raise DatasetError(message)
        key = (location.file, remedy, done)
        positions = self._positions.setdefault(key, [])
        if len(positions) < _MAX_SHOWN:
            positions.append(location.position)
        self._counts[key] = self._counts.get(key, 0) + 1
        self._first.setdefault(key, problem)

    @contextmanager
    def at(self, location: Location) -> Iterator[None]:
        """Turn `Malformed` raised in the block into a fault at this location; leave the block."""
        try:
            yield
        except Malformed as error:
            self.add(location, error.problem, error.remedy)

    def losses(self) -> tuple[Loss, ...]:
        """Return one loss for each file and kind of fault, with its count and first locations."""
        losses = []
        for key, count in self._counts.items():
            file, remedy, done = key
            positions = ", ".join(self._positions[key]) + (", …" if count > _MAX_SHOWN else "")
            lost = f"{count} {done}: {positions}"
            why = f"{self._first[key]}; {remedy}"
            losses.append(Loss("data set", file, lost, "the rest of the file", why))
        return tuple(losses)

    def report(self) -> None:
        """Report the losses to the active collector, see `ragkit.losses`."""
        for loss in self.losses():
            report(loss)
