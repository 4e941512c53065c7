"""Sorted suffixes of token rows, walked token by token.

A prefix is a range of the sorted suffixes that begin with it. The n-gram index keeps all suffixes
of the rows, the trie only whole rows; everything else they share.
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

_FAN = 8  # parts a range is cut into to find where its next token changes
_SCANNED = 1024  # suffixes that are sooner looked at one by one
_BLOCK = 1 << 20  # suffixes marked as allowed at once


class Prefix(NamedTuple):
    """The sorted suffixes from `low` to before `high`; they share their first `depth` tokens."""

    low: int
    high: int
    depth: int


class SortedSuffixes:
    """Some suffixes of token rows, sorted: what `NgramIndex` and `Trie` have in common.

    Args:
        rows: The rows.
        positions: uint32 (suffixes,): where in `rows.tokens` each begins, in order.
        firsts: int32 (n,): the distinct first tokens, ascending; counted if not given.
        first_ends: int64 (n,): where in `positions` each one's suffixes end.
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
        # Single values of a memoryview are read three times as fast as those of an array.
        self._token_at = rows.tokens.data
        self._position_at = positions.data
        self._allowed: Mask | None = None
        self._live: LiveBits | None = None
        self._root = firsts.astype(np.int64)
        self._root.flags.writeable = False
        self._n_tokens = len(rows.tokens) - rows.n_rows

    @property
    def n_tokens(self) -> int:
        """Tokens of the allowed rows."""
        return self._n_tokens

    @property
    def n_rows(self) -> int:
        """Rows, whether allowed or not."""
        return self.rows.n_rows

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays, mapped ones included."""
        arrays = (self.rows.tokens, self.rows.starts, self._positions)
        total = sum(array.nbytes for array in (*arrays, self._firsts, self._first_ends))
        return int(total) + (self._live.nbytes if self._live else 0)

    def parts(self) -> tuple[TokenRows, Positions, NDArray[np.int32], Rows]:
        """What `__init__` takes: all that is stored of it."""
        return self.rows, self._positions, self._firsts, self._first_ends

    def restricted(self, allowed: Mask) -> Self:
        """A view that holds only some of the rows; they keep their numbers.

        Args:
            allowed: bool (rows,), not copied. A view of a view allows what both allow.

        Raises:
            ValueError: The mask does not fit.
        """
        check_search(1, self.n_rows, allowed)
        view = copy.copy(self)
        view._allowed = allowed if self._allowed is None else allowed & self._allowed
        rows = self.rows
        by_position = np.repeat(view._allowed, np.diff(rows.starts))  # (tokens + rows,)
        flags = np.empty(len(self._positions), dtype=np.bool_)
        for i in range(0, len(flags), _BLOCK):  # indexing makes an int64 of each position
            block = slice(i, i + _BLOCK)
            flags[block] = self._gather(by_position, self._positions[block])
        view._live = LiveBits(flags)
        starts = np.concatenate([np.zeros(1, dtype=np.int64), self._first_ends[:-1]])
        alive = view._live.counts(starts[: len(self._firsts)], self._first_ends) > 0
        view._root = self._firsts[alive].astype(np.int64)
        view._root.flags.writeable = False
        view._n_tokens = int(rows.lengths()[view._allowed].sum())
        return view

    def start(self) -> Prefix:
        """The empty prefix."""
        return Prefix(0, len(self._positions), 0)

    def advance(self, state: Prefix, token: int) -> Prefix | None:
        """The prefix one token longer, or None if no allowed row holds it."""
        if not 0 <= token < self.vocab_size:
            return None
        low, high = self._first(token) if state.depth == 0 else self._narrow(state, token)
        longer = Prefix(low, high, state.depth + 1)
        return longer if low < high and self.count(longer) else None

    def find(self, ngram: Sequence[int]) -> Prefix | None:
        """The prefix of these tokens, or None if no allowed row holds it."""
        state = self.start()
        for token in ngram:
            longer = self.advance(state, token)
            if longer is None:
                return None
            state = longer
        return state

    def token_counts(self) -> Rows:
        """int64 (vocab_size,): occurrences of every prefix of one token in allowed rows."""
        starts = np.concatenate([np.zeros(1, dtype=np.int64), self._first_ends])[:-1]
        ends = np.asarray(self._first_ends, dtype=np.int64)
        counts = np.zeros(self.vocab_size, dtype=np.int64)
        counts[self._firsts] = (
            ends - starts if self._live is None else self._live.counts(starts, ends)
        )
        return counts

    def count(self, state: Prefix) -> int:
        """Occurrences in allowed rows."""
        if self._live is None:
            return state.high - state.low
        return self._live.count(state.low, state.high)

    def successors(self, state: Prefix) -> Rows:
        """int64 (n,): the distinct tokens that follow in allowed rows, ascending."""
        if state.depth == 0 or state.high - state.low > _SCANNED:
            return self.successors_of([state])[0]
        return self._scan(state)

    def successors_of(self, states: Sequence[Prefix]) -> list[Rows]:
        """`successors` of each state, all found at once."""
        deep = [i for i, state in enumerate(states) if state.depth]
        found = [self._root] * len(states)
        if deep:
            owners, tokens = self._followers([states[i] for i in deep])
            cuts = np.searchsorted(owners, np.arange(1, len(deep)))
            for i, some in zip(deep, np.split(tokens, cuts), strict=True):
                found[i] = some
        return found

    def allowed_mask(self, states: Sequence[Prefix], vocab_size: int) -> Mask:
        """bool (states, vocab_size): the successors of each state.

        Args:
            states: The prefixes.
            vocab_size: Columns, at least the index's own; models pad theirs.

        Raises:
            ValueError: There are fewer columns than tokens.
        """
        mask = empty_mask(len(states), vocab_size, self.vocab_size)
        deep = [i for i, state in enumerate(states) if state.depth]
        owners, tokens = self._followers([states[i] for i in deep])
        mask[np.array(deep, dtype=np.int64)[owners], tokens] = True
        for i, state in enumerate(states):
            if state.depth == 0:
                mask[i, self._root] = True
        return mask

    def locate(self, state: Prefix, limit: int | None = None) -> tuple[Rows, Rows]:
        """Where the prefix occurs in allowed rows.

        Args:
            state: The prefix.
            limit: At most this many, the first ones; all are looked at nonetheless.

        Returns:
            Rows and the offsets of the first token in them, int64 (n,) each, in this order.
        """
        if limit is not None and limit < 0:
            raise ValueError(f"limit is {limit}; expected at least 0, or None")
        if self._live is None:
            positions = self._positions[state.low : state.high].astype(np.int64)
        else:
            places = self._live.places(state.low, state.high)
            positions = self._positions[places].astype(np.int64)
        if limit is not None and limit < len(positions):
            positions = np.partition(positions, limit)[:limit]
        positions.sort()
        if len(positions) and positions[-1] >= len(self.rows.tokens):
            raise damaged(int(positions[-1]))
        return self.rows.places(positions)

    def row(self, i: int) -> Rows:
        """int64 (tokens,): one row, whether allowed or not."""
        return self.rows.row(i)

    def _first(self, token: int) -> tuple[int, int]:
        i = int(np.searchsorted(self._firsts, token))
        if i == len(self._firsts) or self._firsts[i] != token:
            return 0, 0
        return int(self._first_ends[i - 1]) if i else 0, int(self._first_ends[i])

    def _narrow(self, state: Prefix, token: int) -> tuple[int, int]:
        """The part of a range whose next token is this one."""
        tokens, positions, depth = self._token_at, self._position_at, state.depth

        def following(place: int) -> int:
            return int(tokens[positions[place] + depth])

        try:
            places = range(state.low, state.high)
            low = state.low + bisect_left(places, token, key=following)
            if low == state.high or following(low) != token:
                return low, low
            high = low + bisect_right(range(low, state.high), token, key=following)
        except IndexError as error:
            raise damaged(state.low) from error
        return low, high

    def _scan(self, state: Prefix) -> Rows:
        """`successors` of a narrow range; its next tokens ascend."""
        places: slice | Rows = slice(state.low, state.high)
        if self._live is not None:
            places = self._live.places(state.low, state.high)
        tokens: Rows = self._following(places, state.depth).astype(np.int64)  # (occurrences,)
        if len(tokens) and ((tokens[1:] < tokens[:-1]).any() or tokens[-1] > self.vocab_size):
            raise damaged(state.low)
        keep = tokens < self.vocab_size
        keep[1:] &= tokens[1:] != tokens[:-1]
        return tokens[keep]

    def _followers(self, states: Sequence[Prefix]) -> tuple[Rows, Rows]:
        """Which state (ascending) is followed by which token (ascending in each); int64 (n,).

        Sorted suffixes make the next tokens of a range ascend. Ranges are cut into parts, and parts
        that begin and end with the same token are left alone, so that d distinct tokens of a range
        of w suffixes cost O(d log w), for all states together.
        """
        low, high, depth = np.array(states, dtype=np.int64).reshape(-1, 3).T  # (states,) each
        owners = np.arange(len(states))
        edges = np.stack([low, high - 1], axis=1)  # (parts, 2)
        begins, begin_owners = [low], [owners]
        steps = np.arange(_FAN + 1)
        while len(edges):
            width = edges[:, 1:] - edges[:, :1]
            grid = edges[:, :1] + width * steps // _FAN  # (parts, fan + 1)
            tokens = self._following(grid, depth[owners][:, None])
            part, cell = np.nonzero(tokens[:, 1:] != tokens[:, :-1])
            edges = np.stack([grid[part, cell], grid[part, cell + 1]], axis=1)
            owners = owners[part]
            narrow = edges[:, 1] - edges[:, 0] == 1
            begins.append(edges[narrow, 1])
            begin_owners.append(owners[narrow])
            edges, owners = edges[~narrow], owners[~narrow]
        place, owner = np.concatenate(begins), np.concatenate(begin_owners)  # (runs,)
        order = np.lexsort((place, owner))
        place, owner = place[order], owner[order]
        return self._usable(place, owner, depth, high)

    def _usable(self, place: Rows, owner: Rows, depth: Rows, high: Rows) -> tuple[Rows, Rows]:
        """Drop the runs that are separators or hold no allowed row."""
        token = self._following(place, depth[owner]).astype(np.int64)  # (runs,)
        keep = token < self.vocab_size
        same = owner[1:] == owner[:-1]
        if (token[1:] <= token[:-1])[same].any() or (token > self.vocab_size).any():
            raise damaged(int(place[0]))
        if self._live is not None:
            ends = high[owner]
            ends[:-1][same] = place[1:][same]
            keep &= self._live.counts(place, ends) > 0
        return owner[keep], token[keep]

    def _following(self, places: Rows | slice, depth: Rows | int) -> NDArray[Any]:
        return self._gather(self.rows.tokens, self._positions[places].astype(np.int64) + depth)

    def _gather(self, values: NDArray[Any], positions: NDArray[Any]) -> NDArray[Any]:
        try:
            found: NDArray[Any] = values[positions]
            return found
        except IndexError as error:
            raise damaged(int(positions.max())) from error


def empty_mask(n_states: int, n_columns: int, vocab_size: int) -> Mask:
    """bool (states, columns) of False, or a ValueError if the columns are too few."""
    if n_columns < vocab_size:
        raise ValueError(
            f"the mask would have {n_columns} columns; expected at least {vocab_size}, the index's "
            "vocabulary. Was the index built with another tokenizer?"
        )
    return np.zeros((n_states, n_columns), dtype=np.bool_)


def damaged(place: int) -> CorruptCollection:
    """The error for sorted suffixes that are none."""
    return CorruptCollection(
        f"the suffixes near {place} point outside the tokens or are not in order; "
        "`ragkit index repair` rebuilds them"
    )
