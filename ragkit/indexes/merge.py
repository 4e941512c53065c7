"""Merge of postings term by term, in memory independent of the number of postings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ragkit.indexes.arrays import write_array
from ragkit.indexes.bm25 import Postings
from ragkit.types import Rows

_BLOCK = 1 << 20  # postings in memory at once, unless a single term has more


class MergedPostings:
    """The merged postings of several segments, written term by term by `save`.

    Memory holds the distinct terms, 8 bytes per row, and one block of postings.

    Args:
        parts: Postings of each segment.
        targets: For each segment, int64 (rows,): the new row number of each row, -1 to drop it. The
            new row numbers together are 0 … n - 1.
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
        self._sizes = self._count(len(terms))  # (terms,): postings of live rows
        self._read_sizes = np.zeros(len(terms), dtype=np.int64)  # (terms,): of all rows
        for part, ids in zip(parts, self._ids, strict=True):
            self._read_sizes[ids] += part.document_frequencies()
        self._terms = [term for term, size in zip(terms, self._sizes, strict=True) if size]

    def save(self, folder: Path) -> None:
        """Write the same files as `Postings.save`."""
        sizes = self._sizes[self._sizes > 0]
        n_postings = int(sizes.sum())
        joined = np.frombuffer(b"".join(self._terms), dtype=np.uint8)
        term_ends = np.cumsum([len(term) for term in self._terms], dtype=np.int64)
        lengths = np.zeros(self._n_rows, dtype=np.int32)
        for part, target in zip(self._parts, self._targets, strict=True):
            lengths[target[target >= 0]] = part.lengths[target >= 0]
        in_memory: dict[str, NDArray[np.generic]] = {
            "terms": joined,
            "term_ends": term_ends,
            "posting_ends": np.cumsum(sizes, dtype=np.int64),
            "lengths": lengths,
        }
        for name, array in in_memory.items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        rows = (rows for rows, _ in self._blocks())
        write_array(folder / "rows.npy", rows, np.int32, (n_postings,))
        counts = (counts for _, counts in self._blocks())
        write_array(folder / "counts.npy", counts, np.int32, (n_postings,))

    def _count(self, n_terms: int) -> NDArray[np.int64]:
        """Count the postings of live rows for each term, int64 (terms,)."""
        sizes = np.zeros(n_terms, dtype=np.int64)
        for part, target, ids in zip(self._parts, self._targets, self._ids, strict=True):
            for first, last in _term_ranges(part.document_frequencies()):
                rows, _ = part.postings(first, last)
                live = np.concatenate([[0], np.cumsum(target[rows] >= 0)])
                ends = np.concatenate([[0], np.cumsum(part.document_frequencies()[first:last])])
                sizes[ids[first:last]] += np.diff(live[ends])
        return sizes

    def _blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int32]]]:
        """Yield (rows, counts) of consecutive terms, sorted by term, then row."""
        for first, last in _term_ranges(self._read_sizes):
            terms, rows, counts = [], [], []
            for part, target, ids in zip(self._parts, self._targets, self._ids, strict=True):
                low, high = np.searchsorted(ids, [first, last]).tolist()
                old_rows, old_counts = part.postings(low, high)
                new_rows = target[old_rows]  # (postings,)
                live = new_rows >= 0
                terms.append(np.repeat(ids[low:high], part.document_frequencies()[low:high])[live])
                rows.append(new_rows[live])
                counts.append(old_counts[live])
            joined = np.concatenate(rows)
            order = np.lexsort((joined, np.concatenate(terms)))
            yield joined[order], np.concatenate(counts)[order]


def _term_ranges(sizes: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Split the terms into ranges of at most `_BLOCK` postings, with at least one term each."""
    ends = np.cumsum(sizes)
    first = 0
    while first < len(sizes):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + _BLOCK, side="right")))
        yield first, last
        first = last
