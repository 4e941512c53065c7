"""Bit vector with constant-time rank, for counting live entries in ranges.

Source: Jacobson 1989, "Space-efficient static trees and graphs", with one level of counts: a 32-bit
count for each word of 64 bits, or 1.5 bits per entry.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ragkit.types import Mask, Rows

_WORD = 64


class LiveBits:
    """A bit vector that counts the ones before any position in constant time.

    Args:
        flags: bool (n,), n < 2**32.

    >>> bits = LiveBits(np.array([True, False, True]))
    >>> bits.count(0, 3), bits.positions(1, 3).tolist()
    (2, [2])
    """

    def __init__(self, flags: Mask) -> None:
        packed = np.packbits(flags, bitorder="little")
        # One word more than needed, so that the position after the last bit has a word too.
        padded = np.zeros((len(flags) // _WORD + 1) * 8, dtype=np.uint8)
        padded[: len(packed)] = packed
        self._words: NDArray[np.uint64] = padded.view("<u8")
        self._before = np.zeros(len(self._words), dtype=np.uint32)  # ones before each word
        np.cumsum(np.bitwise_count(self._words[:-1]), dtype=np.uint32, out=self._before[1:])

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return int(self._words.nbytes + self._before.nbytes)

    def count(self, low: int, high: int) -> int:
        """Count the ones in the range `low` to `high` - 1."""
        return self._rank(high) - self._rank(low)

    def counts(self, low: Rows, high: Rows) -> Rows:
        """Count the ones in each range; bounds and result are int64 (n,)."""
        return self._ranks(high) - self._ranks(low)

    def positions(self, low: int, high: int) -> Rows:
        """Return the positions of the ones in `low` to `high` - 1, ascending, int64 (n,)."""
        first = low // _WORD
        words = self._words[first : high // _WORD + 1]
        bits = np.unpackbits(words.view(np.uint8), bitorder="little")
        in_range = bits[low - first * _WORD : high - first * _WORD]
        return np.flatnonzero(in_range) + low

    def _rank(self, position: int) -> int:
        word = position // _WORD
        below = int(self._words[word]) & ((1 << position % _WORD) - 1)
        return int(self._before[word]) + below.bit_count()

    def _ranks(self, positions: Rows) -> Rows:
        words = positions // _WORD  # (n,)
        mask = (np.uint64(1) << (positions % _WORD).astype(np.uint64)) - np.uint64(1)  # (n,)
        ones = np.bitwise_count(self._words[words] & mask)
        return self._before[words].astype(np.int64) + ones
