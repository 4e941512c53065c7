"""Sorted suffixes of token rows, traversed token by token: the base of n-gram index and trie.

A prefix is the range of sorted suffixes that start with it. The n-gram index stores all suffixes of
each row, the trie only the full rows.
"""

from __future__ import annotations

import copy
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import CorruptCollection
from ragkit.indexes.live import LiveBits
from ragkit.indexes.ranking import check_search
from ragkit.indexes.suffix_array import Positions
from ragkit.indexes.token_rows import TokenRows
from ragkit.types import Mask, Rows

_FAN = 8  # subranges per step of the search for changes of the next token
_MAX_SCANNED = 1024  # suffixes up to which a linear scan is faster than the search
_BLOCK = 1 << 20  # suffixes checked against the mask at once


class Prefix(NamedTuple):
    """The range `low` to `high` - 1 of sorted suffixes that share their first `depth` tokens."""

    low: int
    high: int
    depth: int


class SortedSuffixes:
    """Sorted suffixes of token rows; base class of `NgramIndex` and `Trie`.

    Args:
        rows: The token rows.
        positions: uint32 (suffixes,): start of each suffix in `rows.tokens`, in sorted order.
        firsts: int32 (n,): the distinct first tokens, ascending; computed by default.
        first_ends: int64 (n,): end of each first token's range in `positions`.
    """

    kind = ""

    def __init__(
        self,
        rows: TokenRows,
        positions: Positions,
        firsts: NDArray[np.int32] | None = None,
        first_ends: Rows | None = None,
    ) -> None:
        if firsts is None or first_ends is None:
            counts = np.bincount(rows.tokens[positions], minlength=1)
            firsts = np.flatnonzero(counts).astype(np.int32)
            first_ends = np.cumsum(counts[firsts])
        self.rows = rows
        self.vocab_size = rows.vocab_size
        self.tokenizer = rows.tokenizer
        self.granularity = rows.granularity
        self._positions = positions
        self._firsts = firsts
        self._first_ends = first_ends
        # Reading single values is three times faster from a memoryview than from an array.
        self._token_at = rows.tokens.data
        self._position_at = positions.data
        self._allowed: Mask | None = None
        self._live: LiveBits | None = None
        self._root = firsts.astype(np.int64)
        self._root.flags.writeable = False
        self._n_tokens = len(rows.tokens) - rows.n_rows

    @property
    def n_tokens(self) -> int:
        """Number of tokens in allowed rows."""
        return self._n_tokens

    @property
    def n_rows(self) -> int:
        """Number of rows, allowed or not."""
        return self.rows.n_rows

    @property
    def nbytes(self) -> int:
        """Size of the arrays in bytes, including memory-mapped ones."""
        arrays = (self.rows.tokens, self.rows.starts, self._positions)
        total = sum(array.nbytes for array in (*arrays, self._firsts, self._first_ends))
        return int(total) + (self._live.nbytes if self._live else 0)

    def parts(self) -> tuple[TokenRows, Positions, NDArray[np.int32], Rows]:
        """Return the arguments of `__init__`, which are what is stored on disk."""
        return self.rows, self._positions, self._firsts, self._first_ends

    def restricted(self, allowed: Mask) -> Self:
        """Return a view that is restricted to some rows, with unchanged row numbers.

        Args:
            allowed: bool (rows,), not copied. Restricting a view intersects the masks.

        Raises:
            ValueError: The mask has the wrong shape or dtype.
        """
        check_search(1, self.n_rows, allowed)
        view = copy.copy(self)
        view._allowed = allowed if self._allowed is None else allowed & self._allowed
        rows = self.rows
        allowed_at = np.repeat(view._allowed, np.diff(rows.starts))  # (tokens + rows,)
        flags = np.empty(len(self._positions), dtype=np.bool_)
        for i in range(0, len(flags), _BLOCK):  # indexing converts the positions to int64
            block = slice(i, i + _BLOCK)
            flags[block] = self._gather(allowed_at, self._positions[block])
        view._live = LiveBits(flags)
        starts = np.concatenate([np.zeros(1, dtype=np.int64), self._first_ends[:-1]])
        has_live = view._live.counts(starts[: len(self._firsts)], self._first_ends) > 0
        view._root = self._firsts[has_live].astype(np.int64)
        view._root.flags.writeable = False
        view._n_tokens = int(rows.lengths()[view._allowed].sum())
        return view

    def start(self) -> Prefix:
        """Return the empty prefix."""
        return Prefix(0, len(self._positions), 0)

    def advance(self, state: Prefix, token: int) -> Prefix | None:
        """Return the prefix extended by a token, or None if it does not occur in allowed rows."""
        if not 0 <= token < self.vocab_size:
            return None
        low, high = self._first(token) if state.depth == 0 else self._narrow(state, token)
        longer = Prefix(low, high, state.depth + 1)
        return longer if low < high and self.count(longer) else None

    def find(self, ngram: Sequence[int]) -> Prefix | None:
        """Return the prefix of these tokens, or None if they do not occur in allowed rows."""
        state = self.start()
        for token in ngram:
            longer = self.advance(state, token)
            if longer is None:
                return None
            state = longer
        return state

    def token_counts(self) -> Rows:
        """Count the occurrences of each token in allowed rows, int64 (vocab_size,)."""
        starts = np.concatenate([np.zeros(1, dtype=np.int64), self._first_ends])[:-1]
        ends = np.asarray(self._first_ends, dtype=np.int64)
        counts = np.zeros(self.vocab_size, dtype=np.int64)
        counts[self._firsts] = (
            ends - starts if self._live is None else self._live.counts(starts, ends)
        )
        return counts

    def count(self, state: Prefix) -> int:
        """Count the occurrences of a prefix in allowed rows."""
        if self._live is None:
            return state.high - state.low
        return self._live.count(state.low, state.high)

    def successors(self, state: Prefix) -> Rows:
        """Return the distinct next tokens in allowed rows, ascending, int64 (n,)."""
        if state.depth == 0 or state.high - state.low > _MAX_SCANNED:
            return self.successors_of([state])[0]
        return self._scan(state)

    def successors_of(self, states: Sequence[Prefix]) -> list[Rows]:
        """Return the successors of each state, computed in one batch."""
        deep = [i for i, state in enumerate(states) if state.depth]
        successors = [self._root] * len(states)
        if deep:
            owners, tokens = self._batch_successors([states[i] for i in deep])
            cuts = np.searchsorted(owners, np.arange(1, len(deep)))
            for i, next_tokens in zip(deep, np.split(tokens, cuts), strict=True):
                successors[i] = next_tokens
        return successors

    def allowed_mask(self, states: Sequence[Prefix], vocab_size: int) -> Mask:
        """Return the successors of each state as a mask, bool (states, vocab_size).

        Args:
            states: The prefixes.
            vocab_size: Number of columns, at least the index's vocabulary size; models pad theirs.

        Raises:
            ValueError: vocab_size is smaller than the index's vocabulary.
        """
        mask = empty_mask(len(states), vocab_size, self.vocab_size)
        deep = [i for i, state in enumerate(states) if state.depth]
        owners, tokens = self._batch_successors([states[i] for i in deep])
        mask[np.array(deep, dtype=np.int64)[owners], tokens] = True
        for i, state in enumerate(states):
            if state.depth == 0:
                mask[i, self._root] = True
        return mask

    def locate(self, state: Prefix, limit: int | None = None) -> tuple[Rows, Rows]:
        """Return the occurrences of a prefix in allowed rows.

        Args:
            state: The prefix.
            limit: Maximum number of occurrences to return, the first ones; does not reduce the
                running time.

        Returns:
            Row and token offset of each occurrence, int64 (n,) each, in ascending order.
        """
        if limit is not None and limit < 0:
            raise ValueError(f"limit is {limit}; expected at least 0, or None")
        if self._live is None:
            positions = self._positions[state.low : state.high].astype(np.int64)
        else:
            indices = self._live.positions(state.low, state.high)
            positions = self._positions[indices].astype(np.int64)
        if limit is not None and limit < len(positions):
            positions = np.partition(positions, limit)[:limit]
        positions.sort()
        if len(positions) and positions[-1] >= len(self.rows.tokens):
            raise corrupt_suffixes(int(positions[-1]))
        return self.rows.locate(positions)

    def row(self, i: int) -> Rows:
        """Return the tokens of one row, allowed or not, int64 (tokens,)."""
        return self.rows.row(i)

    def _first(self, token: int) -> tuple[int, int]:
        """Return the range of suffixes that start with a token."""
        i = int(np.searchsorted(self._firsts, token))
        if i == len(self._firsts) or self._firsts[i] != token:
            return 0, 0
        return int(self._first_ends[i - 1]) if i else 0, int(self._first_ends[i])

    def _narrow(self, state: Prefix, token: int) -> tuple[int, int]:
        """Return the subrange of a prefix whose next token is this one."""
        tokens, positions, depth = self._token_at, self._position_at, state.depth

        def next_token(i: int) -> int:
            return int(tokens[positions[i] + depth])

        try:
            low = state.low + bisect_left(range(state.low, state.high), token, key=next_token)
            if low == state.high or next_token(low) != token:
                return low, low
            high = low + bisect_right(range(low, state.high), token, key=next_token)
        except IndexError as error:
            raise corrupt_suffixes(state.low) from error
        return low, high

    def _scan(self, state: Prefix) -> Rows:
        """Return the successors of a narrow range by a linear scan of its ascending next tokens."""
        indices: slice | Rows = slice(state.low, state.high)
        if self._live is not None:
            indices = self._live.positions(state.low, state.high)
        tokens: Rows = self._next_tokens(indices, state.depth).astype(np.int64)  # (occurrences,)
        if len(tokens) and ((tokens[1:] < tokens[:-1]).any() or tokens[-1] > self.vocab_size):
            raise corrupt_suffixes(state.low)
        keep = tokens < self.vocab_size
        keep[1:] &= tokens[1:] != tokens[:-1]
        return tokens[keep]

    def _batch_successors(self, states: Sequence[Prefix]) -> tuple[Rows, Rows]:
        """Return pairs of a state's index and a next token, sorted, as two int64 (n,) arrays.

        The next tokens of a range ascend, because its suffixes are sorted. Ranges are split
        repeatedly, and subranges whose first and last token are equal are dropped, so that d
        distinct tokens in a range of w suffixes cost O(d log w). All states are searched together.
        """
        low, high, depth = np.array(states, dtype=np.int64).reshape(-1, 3).T  # (states,) each
        owners = np.arange(len(states))
        edges = np.stack([low, high - 1], axis=1)  # (subranges, 2)
        starts, start_owners = [low], [owners]  # of the runs of equal next tokens
        steps = np.arange(_FAN + 1)
        while len(edges):
            width = edges[:, 1:] - edges[:, :1]
            grid = edges[:, :1] + width * steps // _FAN  # (subranges, fan + 1)
            tokens = self._next_tokens(grid, depth[owners][:, None])
            row, column = np.nonzero(tokens[:, 1:] != tokens[:, :-1])
            edges = np.stack([grid[row, column], grid[row, column + 1]], axis=1)
            owners = owners[row]
            is_boundary = edges[:, 1] - edges[:, 0] == 1
            starts.append(edges[is_boundary, 1])
            start_owners.append(owners[is_boundary])
            edges, owners = edges[~is_boundary], owners[~is_boundary]
        start, owner = np.concatenate(starts), np.concatenate(start_owners)  # (runs,)
        order = np.lexsort((start, owner))
        start, owner = start[order], owner[order]
        return self._live_runs(start, owner, depth, high)

    def _live_runs(self, start: Rows, owner: Rows, depth: Rows, high: Rows) -> tuple[Rows, Rows]:
        """Drop runs of separators and runs without an allowed row."""
        token = self._next_tokens(start, depth[owner]).astype(np.int64)  # (runs,)
        keep = token < self.vocab_size
        same_owner = owner[1:] == owner[:-1]
        if (token[1:] <= token[:-1])[same_owner].any() or (token > self.vocab_size).any():
            raise corrupt_suffixes(int(start[0]))
        if self._live is not None:
            ends = high[owner]
            ends[:-1][same_owner] = start[1:][same_owner]
            keep &= self._live.counts(start, ends) > 0
        return owner[keep], token[keep]

    def _next_tokens(self, indices: Rows | slice, depth: Rows | int) -> NDArray[Any]:
        return self._gather(self.rows.tokens, self._positions[indices].astype(np.int64) + depth)

    def _gather(self, values: NDArray[Any], positions: NDArray[Any]) -> NDArray[Any]:
        try:
            gathered: NDArray[Any] = values[positions]
            return gathered
        except IndexError as error:
            raise corrupt_suffixes(int(positions.max())) from error


def empty_mask(n_states: int, n_columns: int, vocab_size: int) -> Mask:
    """Return a mask of False, bool (states, columns).

    Raises:
        ValueError: There are fewer columns than tokens in the vocabulary.
    """
    if n_columns < vocab_size:
        raise ValueError(
            f"the mask would have {n_columns} columns; expected at least {vocab_size}, the index's "
            "vocabulary size. Check that the index was built with this model's tokenizer"
        )
    return np.zeros((n_states, n_columns), dtype=np.bool_)


def corrupt_suffixes(index: int) -> CorruptCollection:
    """Return the error for suffixes that are out of range or not sorted."""
    return CorruptCollection(
        f"the suffixes near {index} are outside the tokens or not sorted; "
        "run `ragkit index repair` to rebuild them"
    )
