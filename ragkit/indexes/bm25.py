"""BM25 over postings on disk, with statistics taken over all live rows at query time.

Source: Robertson and Zaragoza 2009, in the form of Lucene (idf never negative, no k1 + 1 in the
numerator). k1 = 1.5 and b = 0.5 were the best of seven pairs on NFCorpus' development queries over
200-token chunks (nDCG@10 0.286; Anserini's 0.9 and 0.4, meant for whole documents, 0.282).

A segment stores only what never changes: which rows hold a term, how often, and how long each row
is. Document count, document frequency and mean length belong to the whole collection as it is now,
so an index that has seen deletions and merges scores like one built afresh.
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

_KINDS = {
    "terms": np.uint8,
    "term_ends": np.int64,
    "posting_ends": np.int64,
    "rows": np.int32,
    "counts": np.int32,
    "lengths": np.int32,
}
POSTINGS_FILES = tuple(_KINDS)
"""Names of a segment's posting arrays, without `.npy`."""


class Postings:
    """Term → (rows, counts), for the rows of one segment; may be memory-mapped.

    Args:
        arrays: By name: `terms` uint8, the sorted terms' UTF-8 bytes end to end; `term_ends` and
            `posting_ends` int64 (terms,); `rows` int32, ascending in each posting; `counts` int32;
            `lengths` int32 (rows,), terms a row holds.
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
        """Index rows 0, 1, … by their terms."""
        builder = PostingsBuilder()
        for terms in term_lists:
            builder.add(terms)
        return builder.build()

    def save(self, folder: Path) -> list[Path]:
        """Write one `.npy` an array; returns the files."""
        files = []
        for name in _KINDS:
            files.append(folder / f"{name}.npy")
            np.save(files[-1], self._arrays[name], allow_pickle=False)
        return files

    @classmethod
    def load(cls, folder: Path) -> Postings:
        """Memory-map what `save` wrote.

        Raises:
            OSError: A file cannot be read.
            ValueError: The files do not fit together. Reads what grows with terms and rows;
                postings are checked as they are used.
        """
        self = cls({name: map_array(folder / f"{name}.npy", _KINDS[name], 1) for name in _KINDS})
        ends = ((self._term_ends, len(self._terms)), (self._posting_ends, len(self._rows)))
        for values, total in ends:
            last = int(values[-1]) if len(values) else 0
            if last != total or (np.diff(values, prepend=0) < 0).any():
                raise ValueError(
                    f"its terms or postings end at {last}; expected {total}, ascending"
                )
        n_terms, n_postings = len(self._term_ends), len(self._rows)
        if n_terms != len(self._posting_ends) or n_postings != len(self._counts):
            raise ValueError("its terms and postings differ in number")
        if len(self.lengths) and int(self.lengths.min()) < 0:
            raise ValueError(f"a row is {int(self.lengths.min())} terms long")
        return self

    @property
    def n_terms(self) -> int:
        """Distinct terms."""
        return len(self._term_ends)

    @property
    def n_rows(self) -> int:
        """Rows, empty ones included."""
        return len(self.lengths)

    def vocabulary(self) -> list[bytes]:
        """The terms in UTF-8, sorted."""
        return [self._term(i) for i in range(self.n_terms)]

    def sizes(self) -> NDArray[np.int64]:
        """int64 (terms,): in how many rows each term occurs."""
        return np.diff(self._posting_ends, prepend=0)

    def postings(self, first: int, last: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Rows and counts of the terms from number `first` to before `last`, end to end.

        Raises:
            CorruptCollection: A row is none of this segment's, or a count is not positive.
        """
        start = int(self._posting_ends[first - 1]) if first else 0
        end = int(self._posting_ends[last - 1]) if last else 0
        rows, counts = self._rows[start:end], self._counts[start:end]
        if start < end and not (rows.min() >= 0 and rows.max() < self.n_rows and counts.min() > 0):
            raise CorruptCollection(
                f"postings {start} to {end} point outside the {self.n_rows} rows of their segment, "
                "or count less than 1; `ragkit index repair` rebuilds it"
            )
        return rows, counts

    def find(self, term: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Rows that hold the term, ascending, and how often; both int32, maybe empty."""
        wanted = term.encode()
        i = bisect_left(range(self.n_terms), wanted, key=self._term)
        if i == self.n_terms or self._term(i) != wanted:
            nothing = np.empty(0, dtype=np.int32)
            return nothing, nothing
        return self.postings(i, i + 1)

    def _term(self, i: int) -> bytes:
        start = int(self._term_ends[i - 1]) if i else 0
        return bytes(self._terms[start : int(self._term_ends[i])])


def pack(
    terms: Sequence[str],
    term_ids: NDArray[np.int64],
    rows: NDArray[np.int64],
    counts: NDArray[np.int64],
    lengths: NDArray[np.int32],
) -> dict[str, NDArray[np.generic]]:
    """The arrays of `Postings`, from sorted terms and postings sorted by term, then row."""
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
    """Collects rows one by one; holds 8 bytes a posting and each distinct term once."""

    def __init__(self) -> None:
        self._vocabulary: dict[str, int] = {}
        self._term_ids = array("i")
        self._counts = array("i")
        self._distinct = array("i")
        self._lengths = array("i")

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, terms: Sequence[str]) -> None:
        """Append a row."""
        counted = Counter(terms)
        vocabulary = self._vocabulary
        self._term_ids.extend(vocabulary.setdefault(term, len(vocabulary)) for term in counted)
        self._counts.extend(counted.values())
        self._distinct.append(len(counted))
        self._lengths.append(len(terms))

    def build(self, target: Rows | None = None) -> Postings:
        """The index; `target` int64 (rows,) gives each added row its place."""
        lengths = np.array(self._lengths, dtype=np.int32)
        place = np.arange(len(lengths)) if target is None else target
        ordered = sorted(self._vocabulary, key=str.encode)
        new_id = np.empty(len(ordered), dtype=np.int64)
        new_id[[self._vocabulary[term] for term in ordered]] = np.arange(len(ordered))
        term_ids = new_id[np.array(self._term_ids, dtype=np.int64)]  # (postings,)
        rows = np.repeat(place, np.array(self._distinct, dtype=np.int64))  # (postings,)
        order = np.lexsort((rows, term_ids))
        counts = np.array(self._counts, dtype=np.int64)[order]
        placed = np.empty_like(lengths)
        placed[place] = lengths
        return Postings(pack(ordered, term_ids[order], rows[order], counts, placed))


class Statistics:
    """Document count, frequencies and mean length over the live rows of all segments.

    Args:
        segments: Each segment's postings and bool (rows,) of its live rows, None for all.
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
        """In how many live rows the term occurs."""
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
    idf(t) = ln(1 + (N - df + 1/2) / (df + 1/2)); a term counts as often as the query holds it.

    Args:
        postings: The rows.
        statistics: Over the whole collection; default: over these rows, all live.
        k1: Saturation of term frequency, >= 0.
        b: Strength of length normalisation, 0 to 1.

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
        """See `ragkit.types.TermIndex.search`; scores that round to 0 are no hits."""
        check_search(k, self._postings.n_rows, allowed)
        scores, rows = empty_result(len(term_lists), k)
        for i, terms in enumerate(term_lists):
            totals = np.zeros(self._postings.n_rows)
            for term, times in sorted(Counter(terms).items()):
                hit, weights = self._weights(term)
                totals[hit] += times * weights
            if allowed is not None:
                totals[~allowed] = 0.0
            found = np.flatnonzero(totals >= 0.5e-6)
            best = best_rows(totals[found], found, k)
            scores[i, : len(best[0])], rows[i, : len(best[1])] = best
        return scores, rows

    def explain(self, terms: Sequence[str], rows: Rows) -> list[dict[str, float]]:
        """What each query term adds to the scores of some rows, terms in alphabetical order."""
        shares: list[dict[str, float]] = [{} for _ in rows]
        for term, times in sorted(Counter(terms).items()):
            hit, weights = self._weights(term)
            places = np.searchsorted(hit, rows)  # (rows,)
            for share, row, place in zip(shares, rows, places, strict=True):
                if place < len(hit) and hit[place] == row:
                    share[term] = round(float(times * weights[place]), 6)
        return shares

    def _weights(self, term: str) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        rows, counts = self._postings.find(term)
        if len(rows) == 0:
            return rows, np.empty(0)
        n, frequency = self._statistics.n_rows, self._statistics.document_frequency(term)
        idf = math.log(1.0 + (n - frequency + 0.5) / (frequency + 0.5))
        mean = self._statistics.mean_length or 1.0
        length = self._postings.lengths[rows] / mean  # (hits,)
        tf = counts.astype(np.float64)  # (hits,)
        return rows, idf * tf / (tf + self._k1 * (1.0 - self._b + self._b * length))
