"""Collect the losses of one file, up to a limit."""

from __future__ import annotations

from collections.abc import Iterable

from ragkit.types import Loss

MAX_LOSSES = 1_000
_MAX_PLACES = 10
_MAX_PLACE = 100  # characters


class LossList:
    """Losses of one file in order; beyond `MAX_LOSSES` they are only counted.

    >>> losses = LossList("a.jsonl")
    >>> losses.report("a.jsonl line 2", "it is not JSON")
    >>> [loss.what for loss in losses.all()]
    ['a.jsonl line 2']
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._losses: list[Loss] = []
        self._n_more = 0

    def report(
        self, what: str, why: str, *, lost: str = "the record", kept: str = "nothing of it"
    ) -> None:
        """Report that a part of the file is lost."""
        self.add(Loss("documents", what, lost, kept, why))

    def add(self, loss: Loss) -> None:
        """Add a loss."""
        if len(self._losses) < MAX_LOSSES:
            self._losses.append(loss)
        else:
            self._n_more += 1

    def add_all(self, losses: Iterable[Loss]) -> None:
        """Add several losses."""
        for loss in losses:
            self.add(loss)

    def all(self) -> tuple[Loss, ...]:
        """Return the losses; the last one gives the number of those beyond the limit."""
        if not self._n_more:
            return tuple(self._losses)
        why = f"only the first {MAX_LOSSES} losses of a file are listed"
        lost = f"{self._n_more} more of its parts"
        return (*self._losses, Loss("documents", self._name, lost, "nothing of them", why))


class LossTally:
    """Count what is lost of each kind; the loss of a kind has the number and the first places.

    The words of a kind are ours, not the file's, so there are few kinds.

    >>> tally = LossTally("a.docx")
    >>> for place in ("page 1", "page 1", "page 7"):
    ...     tally.count("pictures", "they are not read", place)
    >>> loss, = tally.all()
    >>> loss.lost, loss.why
    ('3 pictures', 'they are not read; places: page 1, page 7')
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._counts: dict[tuple[str, str, str], int] = {}
        self._places: dict[tuple[str, str, str], list[str]] = {}

    def count(
        self, lost: str, why: str, place: str = "", *, n: int = 1, kept: str = "the other text"
    ) -> None:
        """Count `n` things that are lost at a place."""
        if not n:
            return
        kind = (lost, why, kept)
        self._counts[kind] = self._counts.get(kind, 0) + n
        places = self._places.setdefault(kind, [])
        place = place[:_MAX_PLACE]
        if place and place not in places[-1:] and len(places) <= _MAX_PLACES:
            places.append(place)

    def all(self) -> tuple[Loss, ...]:
        """Return a loss for each kind, in the order of their first occurrence."""
        losses = []
        for (lost, why, kept), n in self._counts.items():
            places = self._places[lost, why, kept]
            if places:
                more = ", ..." if len(places) > _MAX_PLACES else ""
                why = f"{why}; places: {', '.join(places[:_MAX_PLACES])}{more}"
            losses.append(Loss("documents", self._name, f"{n} {lost}", kept, why))
        return tuple(losses)
