"""Several token indexes as one: counts add up, successors unite, rows are numbered through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Self, TypeVar

import numpy as np

from ragkit.indexes.prefixes import Prefix, SortedSuffixes, empty_mask
from ragkit.indexes.ranking import check_search
from ragkit.types import Mask, Rows

Index = TypeVar("Index", bound=SortedSuffixes)

Prefixes = tuple[Prefix | None, ...]
"""The prefix in each segment; None where it does not occur."""


class SegmentedSuffixes(Generic[Index]):
    """Several indexes, or views of them, that answer like one built over their allowed rows.

    Args:
        segments: At least one, all of the same tokenizer. Row 0 of a segment follows the last row
            of the segment before, whether those are allowed or not.

    Raises:
        ValueError: There are no segments, or two tokenizers.
    """

    def __init__(self, segments: Sequence[Index]) -> None:
        if not segments:
            raise ValueError("there are no segments; expected at least one")
        made_by = {(segment.vocab_size, segment.tokenizer) for segment in segments}
        if len(made_by) > 1:
            raise ValueError(
                f"the segments' vocabularies and tokenizers are {sorted(made_by)}; expected one. "
                "Build them anew with the same tokenizer"
            )
        self.segments = tuple(segments)
        self.vocab_size = segments[0].vocab_size
        self.tokenizer = segments[0].tokenizer
        self._offsets = np.cumsum([0, *(segment.n_rows for segment in segments)])

    @property
    def n_tokens(self) -> int:
        """Tokens of the allowed rows."""
        return sum(segment.n_tokens for segment in self.segments)

    @property
    def n_rows(self) -> int:
        """Rows of all segments, whether allowed or not."""
        return int(self._offsets[-1])

    def restricted(self, allowed: Mask) -> Self:
        """A view that holds only some of the rows: bool (rows,), over all segments.

        Raises:
            ValueError: The mask does not fit.
        """
        check_search(1, self.n_rows, allowed)
        parts = np.split(allowed, self._offsets[1:-1])
        views = [s.restricted(part) for s, part in zip(self.segments, parts, strict=True)]
        return type(self)(views)

    def start(self) -> Prefixes:
        """The empty prefix."""
        return tuple(segment.start() for segment in self.segments)

    def advance(self, state: Prefixes, token: int) -> Prefixes | None:
        """The prefix one token longer, or None if no allowed row holds it."""
        longer = tuple(
            None if part is None else segment.advance(part, token)
            for segment, part in zip(self.segments, state, strict=True)
        )
        return None if all(part is None for part in longer) else longer

    def find(self, ngram: Sequence[int]) -> Prefixes | None:
        """The prefix of these tokens, or None if no allowed row holds it."""
        if len(ngram) == 0:
            return self.start()
        found = tuple(segment.find(ngram) for segment in self.segments)
        return None if all(part is None for part in found) else found

    def count(self, state: Prefixes) -> int:
        """Occurrences in allowed rows."""
        return sum(segment.count(part) for segment, part in self._parts(state))

    def token_counts(self) -> Rows:
        """int64 (vocab_size,): occurrences of every prefix of one token in allowed rows."""
        total: Rows = np.sum([segment.token_counts() for segment in self.segments], axis=0)
        return total

    def successors(self, state: Prefixes) -> Rows:
        """int64 (n,): the distinct tokens that follow in allowed rows, ascending."""
        found = [segment.successors(part) for segment, part in self._parts(state)]
        return found[0] if len(found) == 1 else np.unique(np.concatenate(found))

    def successors_of(self, states: Sequence[Prefixes]) -> list[Rows]:
        """`successors` of each state."""
        found: list[list[Rows]] = [[] for _ in states]
        for i, segment in enumerate(self.segments):
            parts = [(place, state[i]) for place, state in enumerate(states)]
            inside = [(place, part) for place, part in parts if part is not None]
            some = segment.successors_of([part for _, part in inside])
            for (place, _), tokens in zip(inside, some, strict=True):
                found[place].append(tokens)
        return [each[0] if len(each) == 1 else np.unique(np.concatenate(each)) for each in found]

    def allowed_mask(self, states: Sequence[Prefixes], vocab_size: int) -> Mask:
        """bool (states, vocab_size): the successors of each state; see `SortedSuffixes`."""
        mask = empty_mask(len(states), vocab_size, self.vocab_size)
        for i, segment in enumerate(self.segments):
            parts = [(place, state[i]) for place, state in enumerate(states)]
            inside = [(place, part) for place, part in parts if part is not None]
            some = segment.allowed_mask([part for _, part in inside], vocab_size)
            mask[[place for place, _ in inside]] |= some
        return mask

    def locate(self, state: Prefixes, limit: int | None = None) -> tuple[Rows, Rows]:
        """Where the prefix occurs in allowed rows: rows and offsets, see `SortedSuffixes`."""
        found = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))]
        for segment, part, first in zip(self.segments, state, self._offsets, strict=False):
            if part is not None:
                rows, offsets = segment.locate(part, limit)
                found.append((rows + first, offsets))
                limit = None if limit is None else limit - len(rows)
        return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])

    def row(self, i: int) -> Rows:
        """int64 (tokens,): one row, whether allowed or not.

        Raises:
            ValueError: There is no such row.
        """
        if not 0 <= i < self.n_rows:
            raise ValueError(f"row {i} does not exist; expected 0 to {self.n_rows - 1}")
        number = int(np.searchsorted(self._offsets, i, side="right")) - 1
        return self.segments[number].row(i - int(self._offsets[number]))

    def _parts(self, state: Prefixes) -> list[tuple[Index, Prefix]]:
        pairs = zip(self.segments, state, strict=True)
        return [(segment, part) for segment, part in pairs if part is not None]
