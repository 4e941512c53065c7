"""Collect the losses of one file, up to a limit."""

from __future__ import annotations

from collections.abc import Iterable

from ragkit.types import Loss

MAX_LOSSES = 1_000


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
