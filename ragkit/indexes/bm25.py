"""BM25 over postings on disk, with statistics of all live rows computed at query time.

Source: Robertson and Zaragoza 2009, in the form of Lucene (idf never negative, no k1 + 1 in the
numerator). k1 = 1.5 and b = 0.5 were the best of seven pairs on NFCorpus' development queries over
200-token chunks (nDCG@10 0.286; Anserini's 0.9 and 0.4, meant for full documents, 0.282).

A segment stores only immutable data: the rows of each term, term frequencies and row lengths.
Document count, document frequency and mean length are those of the current collection, so that
scores after deletions and merges equal those of a rebuilt index.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import CorruptCollection
from ragkit.indexes.arrays import map_array
from ragkit.indexes.ranking import best_rows, check_search, empty_result
from ragkit.types import Mask, Rows, Scores

_DTYPES = {
    "terms": np.uint8,
    "term_ends": np.int64,
    "posting_ends": np.int64,
    "rows": np.int32,
    "counts": np.int32,
    "lengths": np.int32,
}
POSTINGS_FILES = tuple(_DTYPES)
"""Names of a segment's posting arrays, without `.npy`."""


class Postings:
    """Inverted index of one segment: term → (rows, counts). May be memory-mapped.

    Args:
        arrays: Arrays by name: `terms` uint8, the UTF-8 bytes of the sorted terms, concatenated;
            `term_ends` and `posting_ends` int64 (terms,); `rows` int32, ascending for each term;
            `counts` int32; `lengths` int32 (rows,), the number of terms of each row.

    Attributes:
        lengths: int32 (rows,), the number of terms of each row.
    """

    def __init__(self, arrays: dict[str, NDArray[np.generic]]) -> None:
        self._arrays = arrays
        self._terms = memoryview(np.asarray(arrays["terms"]).data)
        self._term_ends: NDArray[np.int64] = arrays["term_ends"]  # type: ignore[assignment]
        self._posting_ends: NDArray[np.int64] = arrays["posting_ends"]  # type: ignore[assignment]
        self._rows: NDArray[np.int32] = arrays["rows"]  # type: ignore[assignment]
        self._counts: NDArray[np.int32] = arrays["counts"]  # type: ignore[assignment]
        self.lengths: NDArray[np.int32] = arrays["lengths"]  # type: ignore[assignment]

    @classmethod
    def build(cls, term_lists: Sequence[Sequence[str]]) -> Postings:
        """Build an index of rows 0, 1, … from the terms of each row."""
        builder = PostingsBuilder()
        for terms in term_lists:
            builder.add(terms)
        return builder.build()

    def save(self, folder: Path) -> list[Path]:
        """Write one `.npy` file per array and return the paths."""
        files = []
        for name in _DTYPES:
            files.append(folder / f"{name}.npy")
            np.save(files[-1], self._arrays[name], allow_pickle=False)
        return files

    @classmethod
    def load(cls, folder: Path) -> Postings:
        """Memory-map an index written by `save`.

        Terms and row lengths are validated here, postings when they are read.

        Raises:
            OSError: A file cannot be read.
            ValueError: The files are inconsistent.
        """
        self = cls({name: map_array(folder / f"{name}.npy", _DTYPES[name], 1) for name in _DTYPES})
        ends = ((self._term_ends, len(self._terms)), (self._posting_ends, len(self._rows)))
        for values, total in ends:
            last = int(values[-1]) if len(values) else 0
            if last != total or (np.diff(values, prepend=0) < 0).any():
                raise ValueError(
                    f"its terms or postings end at {last}; expected ascending ends up to {total}"
                )
        n_terms, n_postings = len(self._term_ends), len(self._rows)
        if n_terms != len(self._posting_ends) or n_postings != len(self._counts):
            raise ValueError("its numbers of terms and postings do not match")
        if len(self.lengths) and int(self.lengths.min()) < 0:
            raise ValueError(f"a row has length {int(self.lengths.min())}; expected at least 0")
        return self

    @property
    def n_terms(self) -> int:
        """Number of distinct terms."""
        return len(self._term_ends)

    @property
    def n_rows(self) -> int:
        """Number of rows, including empty ones."""
        return len(self.lengths)

    def vocabulary(self) -> list[bytes]:
        """Return the terms in UTF-8, sorted."""
        return [self._term(i) for i in range(self.n_terms)]

    def document_frequencies(self) -> NDArray[np.int64]:
        """Return the number of rows of each term, int64 (terms,)."""
        return np.diff(self._posting_ends, prepend=0)

    def postings(self, first: int, last: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the concatenated rows and counts of the terms `first` to `last` - 1.

        Raises:
            CorruptCollection: A row is out of range, or a count is not positive.
        """
        start = int(self._posting_ends[first - 1]) if first else 0
        end = int(self._posting_ends[last - 1]) if last else 0
        rows, counts = self._rows[start:end], self._counts[start:end]
        if start < end and not (rows.min() >= 0 and rows.max() < self.n_rows and counts.min() > 0):
            raise CorruptCollection(
                f"postings {start} to {end} have rows outside 0 to {self.n_rows - 1} or counts "
                "below 1; run `ragkit index repair` to rebuild the segment"
            )
        return rows, counts

    def find(self, term: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the rows of a term, ascending, and its count in each; both int32."""
        encoded = term.encode()
        i = bisect_left(range(self.n_terms), encoded, key=self._term)
        if i == self.n_terms or self._term(i) != encoded:
            empty = np.empty(0, dtype=np.int32)
            return empty, empty
        return self.postings(i, i + 1)

    def _term(self, i: int) -> bytes:
        start = int(self._term_ends[i - 1]) if i else 0
        return bytes(self._terms[start : int(self._term_ends[i])])


def _pack_postings(
    terms: Sequence[str],
    term_ids: NDArray[np.int64],
    rows: NDArray[np.int64],
    counts: NDArray[np.int64],
    lengths: NDArray[np.int32],
) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of `Postings` for sorted terms, and postings sorted by term, then row."""
    encoded = [term.encode() for term in terms]
    sizes = np.bincount(term_ids, minlength=len(terms))  # (terms,)
    return {
        "terms": np.frombuffer(b"".join(encoded), dtype=np.uint8),
        "term_ends": np.cumsum([len(term) for term in encoded], dtype=np.int64),
        "posting_ends": np.cumsum(sizes, dtype=np.int64),
        "rows": rows.astype(np.int32),
        "counts": counts.astype(np.int32),
        "lengths": lengths,
    }


class PostingsBuilder:
    """Builds postings row by row, with 8 bytes per posting and one copy of each term in memory."""

    def __init__(self) -> None:
        self._vocabulary: dict[str, int] = {}
        self._term_ids = array("i")
        self._counts = array("i")
        self._n_distinct = array("i")  # distinct terms of each row
        self._lengths = array("i")

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, terms: Sequence[str]) -> None:
        """Append a row with these terms."""
        term_counts = Counter(terms)
        vocabulary = self._vocabulary
        self._term_ids.extend(vocabulary.setdefault(term, len(vocabulary)) for term in term_counts)
        self._counts.extend(term_counts.values())
        self._n_distinct.append(len(term_counts))
        self._lengths.append(len(terms))

    def build(self, target: Rows | None = None) -> Postings:
        """Build the index.

        Args:
            target: int64 (rows,), the final row number of each added row; default: 0, 1, …
        """
        lengths = np.array(self._lengths, dtype=np.int32)
        row_numbers = np.arange(len(lengths)) if target is None else target
        sorted_terms = sorted(self._vocabulary, key=str.encode)
        new_id = np.empty(len(sorted_terms), dtype=np.int64)
        new_id[[self._vocabulary[term] for term in sorted_terms]] = np.arange(len(sorted_terms))
        term_ids = new_id[np.array(self._term_ids, dtype=np.int64)]  # (postings,)
        rows = np.repeat(row_numbers, np.array(self._n_distinct, dtype=np.int64))  # (postings,)
        order = np.lexsort((rows, term_ids))
        counts = np.array(self._counts, dtype=np.int64)[order]
        row_lengths = np.empty_like(lengths)
        row_lengths[row_numbers] = lengths
        return Postings(
            _pack_postings(sorted_terms, term_ids[order], rows[order], counts, row_lengths)
        )


class Statistics:
    """Document count, document frequencies and mean length over the live rows of all segments.

    Args:
        segments: Postings of each segment, with the mask of its live rows, bool (rows,), or None if
            all are live.

    Attributes:
        n_rows: Number of live rows.
        mean_length: Mean number of terms of a live row.
    """

    def __init__(self, segments: Sequence[tuple[Postings, Mask | None]]) -> None:
        self._segments = segments
        self._frequencies: dict[str, int] = {}
        self.n_rows = 0
        total = 0
        for postings, live in segments:
            lengths = postings.lengths if live is None else postings.lengths[live]
            self.n_rows += len(lengths)
            total += int(lengths.sum(dtype=np.int64))
        self.mean_length = total / self.n_rows if self.n_rows else 0.0

    def document_frequency(self, term: str) -> int:
        """Return the number of live rows that contain the term."""
        if term not in self._frequencies:
            count = 0
            for postings, live in self._segments:
                rows, _ = postings.find(term)
                count += len(rows) if live is None else int(live[rows].sum())
            self._frequencies[term] = count
        return self._frequencies[term]


class BM25Index:
    """BM25 over one segment's rows.

    score(q, d) = Σ_t n_q(t) · idf(t) · tf / (tf + k1 · (1 - b + b · |d| / mean |d|)),
    idf(t) = ln(1 + (N - df + 1/2) / (df + 1/2)); n_q(t) is the count of the term in the query.

    Args:
        postings: Postings of the segment.
        statistics: Statistics of the whole collection; default: of these rows, all live.
        k1: Term frequency saturation, >= 0.
        b: Length normalisation, 0 to 1.

    >>> index = BM25Index(Postings.build([["band", "gap"], ["lattice"]]))
    >>> index.search([["gap"]], k=2)[1].tolist()
    [[0, -1]]
    """

    def __init__(
        self,
        postings: Postings,
        *,
        statistics: Statistics | None = None,
        k1: float = 1.5,
        b: float = 0.5,
    ) -> None:
        if k1 < 0 or not 0 <= b <= 1:
            raise ValueError(f"k1 is {k1} and b is {b}; expected k1 >= 0 and 0 <= b <= 1")
        self._postings = postings
        self._statistics = statistics or Statistics([(postings, None)])
        self._k1 = k1
        self._b = b

    def search(
        self, term_lists: Sequence[Sequence[str]], k: int, *, allowed: Mask | None = None
    ) -> tuple[Scores, Rows]:
        """See `ragkit.types.TermIndex.search`; rows whose score rounds to 0 are not returned."""
        check_search(k, self._postings.n_rows, allowed)
        scores, rows = empty_result(len(term_lists), k)
        for i, terms in enumerate(term_lists):
            totals = np.zeros(self._postings.n_rows)
            for term, query_count in sorted(Counter(terms).items()):
                term_rows, weights = self._weights(term)
                totals[term_rows] += query_count * weights
            if allowed is not None:
                totals[~allowed] = 0.0
            matches = np.flatnonzero(totals >= 0.5e-6)
            best = best_rows(totals[matches], matches, k)
            scores[i, : len(best[0])], rows[i, : len(best[1])] = best
        return scores, rows

    def explain(self, terms: Sequence[str], rows: Rows) -> list[dict[str, float]]:
        """Return the contribution of each query term to the scores of rows, by term, sorted."""
        contributions: list[dict[str, float]] = [{} for _ in rows]
        for term, query_count in sorted(Counter(terms).items()):
            term_rows, weights = self._weights(term)
            positions = np.searchsorted(term_rows, rows)  # (rows,)
            for by_term, row, i in zip(contributions, rows, positions, strict=True):
                if i < len(term_rows) and term_rows[i] == row:
                    by_term[term] = round(float(query_count * weights[i]), 6)
        return contributions

    def _weights(self, term: str) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Return the rows of a term, and its weight in each for one occurrence in the query."""
        rows, counts = self._postings.find(term)
        if len(rows) == 0:
            return rows, np.empty(0)
        n, frequency = self._statistics.n_rows, self._statistics.document_frequency(term)
        idf = math.log(1.0 + (n - frequency + 0.5) / (frequency + 0.5))
        mean = self._statistics.mean_length or 1.0
        length = self._postings.lengths[rows] / mean  # (hits,)
        tf = counts.astype(np.float64)  # (hits,)
        return rows, idf * tf / (tf + self._k1 * (1.0 - self._b + self._b * length))
