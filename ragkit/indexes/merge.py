"""Postings of several segments as one, so that memory does not grow with what is merged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ragkit.indexes.arrays import write_array
from ragkit.indexes.bm25 import Postings
from ragkit.types import Rows

_BLOCK = 1 << 20  # postings in memory at once, if no single term has more


class MergedPostings:
    """What `Postings` of the merged rows would be; `save` writes it term by term.

    In memory are the distinct terms, 8 bytes a row, and a block of postings.

    Args:
        parts: The indexes.
        targets: For each, int64 (rows,): the new row of every old one, -1 to drop it. All new rows
            together are 0 … n - 1.
    """

    def __init__(self, parts: Sequence[Postings], targets: Sequence[Rows]) -> None:
        self._parts = parts
        self._targets = targets
        self._n_rows = sum(int((target >= 0).sum()) for target in targets)
        vocabularies = [part.vocabulary() for part in parts]
        terms = sorted(set().union(*vocabularies))
        number = {term: i for i, term in enumerate(terms)}
        self._ids = [
            np.array([number[term] for term in vocabulary], dtype=np.int64)  # (terms of the part,)
            for vocabulary in vocabularies
        ]
        self._sizes = self._count(len(terms))  # (terms,): postings that live on
        self._read_sizes = np.zeros(len(terms), dtype=np.int64)  # (terms,): dead ones too
        for part, ids in zip(parts, self._ids, strict=True):
            self._read_sizes[ids] += part.sizes()
        self._terms = [term for term, size in zip(terms, self._sizes, strict=True) if size]

    def save(self, folder: Path) -> None:
        """Write the files of `Postings.save`."""
        sizes = self._sizes[self._sizes > 0]
        n_postings = int(sizes.sum())
        joined = np.frombuffer(b"".join(self._terms), dtype=np.uint8)
        term_ends = np.cumsum([len(term) for term in self._terms], dtype=np.int64)
        lengths = np.zeros(self._n_rows, dtype=np.int32)
        for part, target in zip(self._parts, self._targets, strict=True):
            lengths[target[target >= 0]] = part.lengths[target >= 0]
        small: dict[str, NDArray[np.generic]] = {
            "terms": joined,
            "term_ends": term_ends,
            "posting_ends": np.cumsum(sizes, dtype=np.int64),
            "lengths": lengths,
        }
        for name, array in small.items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        rows = (rows for rows, _ in self._blocks())
        write_array(folder / "rows.npy", rows, np.int32, (n_postings,))
        counts = (counts for _, counts in self._blocks())
        write_array(folder / "counts.npy", counts, np.int32, (n_postings,))

    def _count(self, n_terms: int) -> NDArray[np.int64]:
        sizes = np.zeros(n_terms, dtype=np.int64)
        for part, target, ids in zip(self._parts, self._targets, self._ids, strict=True):
            for first, last in _cuts(part.sizes()):
                rows, _ = part.postings(first, last)
                live = np.concatenate([[0], np.cumsum(target[rows] >= 0)])
                ends = np.concatenate([[0], np.cumsum(part.sizes()[first:last])])
                sizes[ids[first:last]] += np.diff(live[ends])
        return sizes

    def _blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int32]]]:
        """(rows, counts) of some terms, sorted by term, then row."""
        for first, last in _cuts(self._read_sizes):
            terms, rows, counts = [], [], []
            for part, target, ids in zip(self._parts, self._targets, self._ids, strict=True):
                low, high = np.searchsorted(ids, [first, last]).tolist()
                old, times = part.postings(low, high)
                new = target[old]  # (postings,)
                live = new >= 0
                terms.append(np.repeat(ids[low:high], part.sizes()[low:high])[live])
                rows.append(new[live])
                counts.append(times[live])
            joined = np.concatenate(rows)
            order = np.lexsort((joined, np.concatenate(terms)))
            yield joined[order], np.concatenate(counts)[order]


def _cuts(sizes: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Ranges of terms with about `_BLOCK` postings together, at least one term each."""
    ends = np.cumsum(sizes)
    first = 0
    while first < len(sizes):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + _BLOCK, side="right")))
        yield first, last
        first = last
