"""Malformed input: an error with file and line, or, if lenient, a counted loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ragkit.errors import DatasetError
from ragkit.losses import report
from ragkit.types import Loss

_SHOWN = 5  # places listed in a loss


class Place(NamedTuple):
    """Where something stands: a file, and the line or record in it."""

    file: str
    spot: str

    def __str__(self) -> str:
        return f"{self.file} {self.spot}"


class Malformed(Exception):
    """What is wrong with the record at hand, and what to do; `Faults.at` adds the place."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


class Faults:
    """Raises at the first fault, or counts them all.

    Args:
        lenient: Count instead of raising.

    >>> faults = Faults(lenient=True)
    >>> for line in (3, 9):
    ...     faults.add(Place("a.tsv", f"line {line}"), "no score", "give each line 3 columns")
    >>> faults.losses()[0].lost
    '2 skipped: line 3, line 9'
    """

    def __init__(self, *, lenient: bool = False) -> None:
        self.lenient = lenient
        self._spots: dict[tuple[str, str, str], list[str]] = {}
        self._counts: dict[tuple[str, str, str], int] = {}
        self._first: dict[tuple[str, str, str], str] = {}

    def add(self, place: Place, problem: str, remedy: str, *, done: str = "skipped") -> None:
        """One fault.

        Args:
            place: Where it is.
            problem: What is wrong, with the value.
            remedy: What was expected and what to do; faults are counted by it.
            done: What is done about it if lenient.

        Raises:
            DatasetError: Not lenient.
        """
        if not self.lenient:
            message = f"{place}: {problem}; {remedy} (lenient: {done} and counted)"
            raise DatasetError(message)
        key = (place.file, remedy, done)
        spots = self._spots.setdefault(key, [])
        if len(spots) < _SHOWN:
            spots.append(place.spot)
        self._counts[key] = self._counts.get(key, 0) + 1
        self._first.setdefault(key, problem)

    @contextmanager
    def at(self, place: Place) -> Iterator[None]:
        """What is malformed inside the block is a fault of this place; the block is left."""
        try:
            yield
        except Malformed as error:
            self.add(place, error.problem, error.remedy)

    def losses(self) -> tuple[Loss, ...]:
        """One loss for each file and kind of fault, with its count and the first places."""
        losses = []
        for key, count in self._counts.items():
            file, remedy, done = key
            spots = ", ".join(self._spots[key]) + (", …" if count > _SHOWN else "")
            lost = f"{count} {done}: {spots}"
            why = f"{self._first[key]}; {remedy}"
            losses.append(Loss("data set", file, lost, "the rest of the file", why))
        return tuple(losses)

    def report(self) -> None:
        """Tell the losses to whoever collects them."""
        for loss in self.losses():
            report(loss)
