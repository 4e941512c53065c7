"""Suffix array construction over token rows.

Prefix doubling (Manber and Myers 1993) that sorts only the still unresolved groups in each round
(Larsson and Sadakane 2007). The first round compares as many tokens as fit into 64 bits. A suffix
ends with its row, and equal suffixes are ordered by position, so the result depends only on the
rows. Complexity O(n log n log r), with r the length of the longest n-gram that occurs twice.

pydivsufsort on the bytes of the tokens needs a half to a fifth of the time (see
`benchmarks/token_index.py` for ours). It is not used because it orders equal suffixes by the rows
that follow, and would be another compiled dependency for a step that takes seconds, once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ragkit.indexes.token_rows import TokenRows

Positions = NDArray[np.uint32]


def suffix_array(rows: TokenRows) -> Positions:
    """Sort the positions of `rows.tokens`, without separators, by their suffixes.

    Suffixes are compared up to the end of their row, where a suffix that ends sorts after one that
    continues; ties are broken by position.

    Returns:
        uint32 (tokens,), positions in sorted order.
    """
    n, width = len(rows.tokens), 64 // rows.vocab_size.bit_length()
    n_left = _tokens_left(rows)  # (n,)
    key = _packed_tokens(rows, n_left, width)  # (n,)
    order = np.argsort(key, kind="stable").astype(np.int32)  # (n,)
    key = key[order]
    # Suffixes that end within the key are equal and already in order of position.
    is_start = _group_boundaries(key) | (n_left[order] < width)  # (n,)
    del key, n_left
    rank = np.empty(n, dtype=np.int32)  # of each position: index in `order` where its group starts
    rank[order] = _group_starts(is_start)
    tied = np.flatnonzero(_has_ties(is_start)).astype(np.int32)  # indices in `order`
    while len(tied):
        members = order[tied]
        # Members of a group agree in their first `width` tokens and continue after them.
        pairs = rank[members].astype(np.uint64) << np.uint64(32) | rank[members + width].astype(
            np.uint64
        )
        pair_order = np.argsort(pairs)
        members, is_start = members[pair_order], _group_boundaries(pairs[pair_order])
        order[tied] = members
        rank[members] = tied[_group_starts(is_start)]
        tied = tied[_has_ties(is_start)]
        width *= 2
    return order[: n - rows.n_rows].astype(np.uint32)


def _tokens_left(rows: TokenRows) -> NDArray[np.int32]:
    """Count the tokens from each position to the end of its row, int32 (n,)."""
    ends = np.repeat(rows.starts[1:] - 1, np.diff(rows.starts))  # (n,)
    return (ends - np.arange(len(ends))).astype(np.int32)


def _packed_tokens(rows: TokenRows, n_left: NDArray[np.int32], width: int) -> NDArray[np.uint64]:
    """Pack the `width` tokens from each position into uint64 (n,), padded with separators."""
    bits, n = np.uint64(rows.vocab_size.bit_length()), len(rows.tokens)
    key = rows.tokens.astype(np.uint64)
    for i in range(1, min(width, n)):
        key <<= bits
        following = np.full(n, rows.vocab_size, dtype=rows.tokens.dtype)
        in_row = n_left[: n - i] >= i
        np.copyto(following[: n - i], rows.tokens[i:], where=in_row)
        key |= following.astype(np.uint64)
    return key


def _group_boundaries(values: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Mark the values that differ from the value before, bool (n,)."""
    is_start = np.ones(len(values), dtype=np.bool_)
    np.not_equal(values[1:], values[:-1], out=is_start[1:])
    return is_start


def _group_starts(is_start: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the start of each element's group, int32 (n,)."""
    indices = np.arange(len(is_start), dtype=np.int32)
    return np.maximum.accumulate(np.where(is_start, indices, np.int32(0)))


def _has_ties(is_start: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the elements whose group has other members, bool (n,)."""
    has_ties: NDArray[np.bool_] = ~(is_start & np.append(is_start[1:], True))
    return has_ties
