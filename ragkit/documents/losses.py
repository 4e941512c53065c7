"""The losses of one file, however many: the first are kept, the rest are counted."""

from __future__ import annotations

from ragkit.types import Loss

MAX_LOSSES = 1_000


class LossList:
    """Losses in the order they came; past `MAX_LOSSES`, one says how many more there were.

    >>> losses = LossList("a.jsonl")
    >>> losses.lost("a.jsonl line 2", "it is not JSON")
    >>> [loss.what for loss in losses.all()]
    ['a.jsonl line 2']
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._kept: list[Loss] = []
        self._n_more = 0

    def lost(
        self, what: str, why: str, *, lost: str = "the record", kept: str = "nothing of it"
    ) -> None:
        """Notes that something of the file went."""
        self.add(Loss("documents", what, lost, kept, why))

    def add(self, loss: Loss) -> None:
        """Notes a loss."""
        if len(self._kept) < MAX_LOSSES:
            self._kept.append(loss)
        else:
            self._n_more += 1

    def all(self) -> tuple[Loss, ...]:
        """The losses, and how many more there were."""
        if not self._n_more:
            return tuple(self._kept)
        why = f"only the first {MAX_LOSSES} losses of a file are listed"
        lost = f"{self._n_more} more of its parts"
        return (*self._kept, Loss("documents", self._name, lost, "nothing of them", why))
