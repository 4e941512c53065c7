"""Several token indexes searched as one, with consecutive row numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Self, TypeVar

import numpy as np

from ragkit.indexes.prefixes import Prefix, SortedSuffixes, empty_mask
from ragkit.indexes.ranking import check_search
from ragkit.types import Mask, Rows

Index = TypeVar("Index", bound=SortedSuffixes)

Prefixes = tuple[Prefix | None, ...]
"""A prefix in each segment; None in segments where it does not occur."""


class SegmentedSuffixes(Generic[Index]):
    """Several indexes, or restricted views of them, equivalent to one index over all allowed rows.

    Args:
        segments: At least one, all with the same tokenizer. Rows are numbered consecutively across
            segments, allowed or not.

    Raises:
        ValueError: There are no segments, or their tokenizers differ.
    """

    def __init__(self, segments: Sequence[Index]) -> None:
        if not segments:
            raise ValueError("there are no segments; expected at least one")
        tokenizers = {(segment.vocab_size, segment.tokenizer) for segment in segments}
        if len(tokenizers) > 1:
            raise ValueError(
                f"the segments have the vocabulary sizes and tokenizers {sorted(tokenizers)}; "
                "expected one tokenizer. Rebuild the segments with the same tokenizer"
            )
        self.segments = tuple(segments)
        self.vocab_size = segments[0].vocab_size
        self.tokenizer = segments[0].tokenizer
        self._offsets = np.cumsum([0, *(segment.n_rows for segment in segments)])

    @property
    def n_tokens(self) -> int:
        """Number of tokens in allowed rows."""
        return sum(segment.n_tokens for segment in self.segments)

    @property
    def n_rows(self) -> int:
        """Number of rows of all segments, allowed or not."""
        return int(self._offsets[-1])

    def restricted(self, allowed: Mask) -> Self:
        """Return a view restricted to some rows; the mask is bool (rows,) over all segments.

        Raises:
            ValueError: The mask has the wrong shape or dtype.
        """
        check_search(1, self.n_rows, allowed)
        parts = np.split(allowed, self._offsets[1:-1])
        views = [s.restricted(part) for s, part in zip(self.segments, parts, strict=True)]
        return type(self)(views)

    def start(self) -> Prefixes:
        """Return the empty prefix."""
        return tuple(segment.start() for segment in self.segments)

    def advance(self, state: Prefixes, token: int) -> Prefixes | None:
        """Return the prefix extended by a token, or None if it does not occur in allowed rows."""
        longer = tuple(
            None if part is None else segment.advance(part, token)
            for segment, part in zip(self.segments, state, strict=True)
        )
        return None if all(part is None for part in longer) else longer

    def find(self, ngram: Sequence[int]) -> Prefixes | None:
        """Return the prefix of these tokens, or None if they do not occur in allowed rows."""
        if len(ngram) == 0:
            return self.start()
        state = tuple(segment.find(ngram) for segment in self.segments)
        return None if all(part is None for part in state) else state

    def count(self, state: Prefixes) -> int:
        """Count the occurrences of a prefix in allowed rows."""
        return sum(segment.count(part) for segment, part in self._parts(state))

    def token_counts(self) -> Rows:
        """Count the occurrences of each token in allowed rows, int64 (vocab_size,)."""
        total: Rows = np.sum([segment.token_counts() for segment in self.segments], axis=0)
        return total

    def successors(self, state: Prefixes) -> Rows:
        """Return the distinct next tokens in allowed rows, ascending, int64 (n,)."""
        return _union([segment.successors(part) for segment, part in self._parts(state)])

    def successors_of(self, states: Sequence[Prefixes]) -> list[Rows]:
        """Return the successors of each state."""
        by_state: list[list[Rows]] = [[] for _ in states]
        for i, segment in enumerate(self.segments):
            indices, parts = _present([state[i] for state in states])
            for index, tokens in zip(indices, segment.successors_of(parts), strict=True):
                by_state[index].append(tokens)
        return [_union(token_lists) for token_lists in by_state]

    def allowed_mask(self, states: Sequence[Prefixes], vocab_size: int) -> Mask:
        """Return the successors of each state as a mask, bool (states, vocab_size).

        Args:
            states: The prefixes.
            vocab_size: Number of columns; see `SortedSuffixes.allowed_mask`.
        """
        mask = empty_mask(len(states), vocab_size, self.vocab_size)
        for i, segment in enumerate(self.segments):
            indices, parts = _present([state[i] for state in states])
            mask[indices] |= segment.allowed_mask(parts, vocab_size)
        return mask

    def locate(self, state: Prefixes, limit: int | None = None) -> tuple[Rows, Rows]:
        """Return the occurrences of a prefix in allowed rows; see `SortedSuffixes.locate`."""
        located = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))]
        for segment, part, first in zip(self.segments, state, self._offsets, strict=False):
            if part is not None:
                rows, offsets = segment.locate(part, limit)
                located.append((rows + first, offsets))
                limit = None if limit is None else limit - len(rows)
        return np.concatenate([r for r, _ in located]), np.concatenate([o for _, o in located])

    def row(self, i: int) -> Rows:
        """Return the tokens of one row, allowed or not, int64 (tokens,).

        Raises:
            ValueError: The row does not exist.
        """
        if not 0 <= i < self.n_rows:
            raise ValueError(f"row {i} does not exist; expected 0 to {self.n_rows - 1}")
        number = int(np.searchsorted(self._offsets, i, side="right")) - 1
        return self.segments[number].row(i - int(self._offsets[number]))

    def _parts(self, state: Prefixes) -> list[tuple[Index, Prefix]]:
        pairs = zip(self.segments, state, strict=True)
        return [(segment, part) for segment, part in pairs if part is not None]


def _present(parts: Sequence[Prefix | None]) -> tuple[list[int], list[Prefix]]:
    """Return the indices and values of the prefixes that are not None."""
    present = [(i, part) for i, part in enumerate(parts) if part is not None]
    return [i for i, _ in present], [part for _, part in present]


def _union(token_lists: Sequence[Rows]) -> Rows:
    """Return the distinct tokens of ascending lists, ascending; at least one list."""
    return token_lists[0] if len(token_lists) == 1 else np.unique(np.concatenate(token_lists))
