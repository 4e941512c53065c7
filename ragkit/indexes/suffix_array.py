"""Suffix arrays of token rows: all that follows any place, in order.

Prefix doubling (Manber and Myers 1993), where a round sorts only what is still tied (Larsson and
Sadakane 2007). The first round compares as many tokens as fit into 64 bits. A suffix ends with its
row, and suffixes that read the same are ordered by position, so the result depends on nothing but
the rows. O(n log n log r), with r the longest n-gram that occurs twice.

Sorting the bytes of the tokens by pydivsufsort takes a half to a fifth of the time (see
`benchmarks/token_index.py` for ours), but orders equal suffixes by what follows their rows, and
would be one more compiled package for what takes seconds and is done once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ragkit.indexes.token_rows import TokenRows

Positions = NDArray[np.uint32]


def suffix_array(rows: TokenRows) -> Positions:
    """uint32 (tokens,): the positions of `rows.tokens` but its separators, by what follows them.

    Compared up to the end of the row, where what ends comes after what goes on; ties by position.
    """
    n, width = len(rows.tokens), 64 // rows.vocab_size.bit_length()
    left = _left_in_row(rows)  # (n,)
    key = _first_tokens(rows, left, width)  # (n,)
    order = np.argsort(key, kind="stable").astype(np.int32)  # (n,)
    key = key[order]
    # What ended within the key reads the same as its neighbours for ever: position has decided.
    begins = _begins(key) | (left[order] < width)  # (n,)
    del key, left
    rank = np.empty(n, dtype=np.int32)  # of each position: where its group begins in the order
    rank[order] = _group_starts(begins)
    tied = np.flatnonzero(_shared(begins)).astype(np.int32)  # places in the order
    while len(tied):
        members = order[tied]
        # Members of a group agree in `width` tokens and go on after them.
        pairs = rank[members].astype(np.uint64) << np.uint64(32) | rank[members + width].astype(
            np.uint64
        )
        again = np.argsort(pairs)
        members, begins = members[again], _begins(pairs[again])
        order[tied] = members
        rank[members] = tied[_group_starts(begins)]
        tied = tied[_shared(begins)]
        width *= 2
    return order[: n - rows.n_rows].astype(np.uint32)


def _left_in_row(rows: TokenRows) -> NDArray[np.int32]:
    """int32 (n,): tokens from each position to the end of its row."""
    ends = np.repeat(rows.starts[1:] - 1, np.diff(rows.starts))  # (n,)
    return (ends - np.arange(len(ends))).astype(np.int32)


def _first_tokens(rows: TokenRows, left: NDArray[np.int32], width: int) -> NDArray[np.uint64]:
    """uint64 (n,): the `width` tokens from each position, separators after the end of its row."""
    bits, n = np.uint64(rows.vocab_size.bit_length()), len(rows.tokens)
    key = rows.tokens.astype(np.uint64)
    for i in range(1, min(width, n)):
        key <<= bits
        following = np.full(n, rows.vocab_size, dtype=rows.tokens.dtype)
        inside = left[: n - i] >= i
        np.copyto(following[: n - i], rows.tokens[i:], where=inside)
        key |= following.astype(np.uint64)
    return key


def _begins(values: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """bool (n,): whether a value differs from the one before."""
    begins = np.ones(len(values), dtype=np.bool_)
    np.not_equal(values[1:], values[:-1], out=begins[1:])
    return begins


def _group_starts(begins: NDArray[np.bool_]) -> NDArray[np.int32]:
    """int32 (n,): where the group of each place begins."""
    places = np.arange(len(begins), dtype=np.int32)
    return np.maximum.accumulate(np.where(begins, places, np.int32(0)))


def _shared(begins: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """bool (n,): whether a place's group has other members."""
    shared: NDArray[np.bool_] = ~(begins & np.append(begins[1:], True))
    return shared
