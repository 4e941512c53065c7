"""Which entries of a sorted array are live, and how many of them in any range.

Source: Jacobson 1989, "Space-efficient static trees and graphs", with one level of counts: 64 bits
and a count of 32 make 1.5 bits an entry.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ragkit.types import Mask, Rows

_WORD = 64


class LiveBits:
    """A bit vector that counts its ones up to any place in constant time.

    Args:
        flags: bool (n,), n < 2**32.

    >>> bits = LiveBits(np.array([True, False, True]))
    >>> bits.count(0, 3), bits.places(1, 3).tolist()
    (2, [2])
    """

    def __init__(self, flags: Mask) -> None:
        packed = np.packbits(flags, bitorder="little")
        # One word more than needed, so that the count before any place has a word to begin from.
        padded = np.zeros((len(flags) // _WORD + 1) * 8, dtype=np.uint8)
        padded[: len(packed)] = packed
        self._words: NDArray[np.uint64] = padded.view("<u8")
        self._before = np.zeros(len(self._words), dtype=np.uint32)
        np.cumsum(np.bitwise_count(self._words[:-1]), dtype=np.uint32, out=self._before[1:])

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return int(self._words.nbytes + self._before.nbytes)

    def count(self, low: int, high: int) -> int:
        """Ones from `low` to before `high`."""
        return self._rank(high) - self._rank(low)

    def counts(self, low: Rows, high: Rows) -> Rows:
        """int64 (n,): ones of each range, given int64 (n,) bounds."""
        return self._ranks(high) - self._ranks(low)

    def places(self, low: int, high: int) -> Rows:
        """int64 (n,): where the ones from `low` to before `high` are, ascending."""
        first = low // _WORD
        words = self._words[first : high // _WORD + 1]
        bits = np.unpackbits(words.view(np.uint8), bitorder="little")
        inside = bits[low - first * _WORD : high - first * _WORD]
        return np.flatnonzero(inside) + low

    def _rank(self, place: int) -> int:
        word = place // _WORD
        below = int(self._words[word]) & ((1 << place % _WORD) - 1)
        return int(self._before[word]) + below.bit_count()

    def _ranks(self, places: Rows) -> Rows:
        words = places // _WORD  # (n,)
        below = (np.uint64(1) << (places % _WORD).astype(np.uint64)) - np.uint64(1)  # (n,)
        ones = np.bitwise_count(self._words[words] & below)
        return self._before[words].astype(np.int64) + ones
