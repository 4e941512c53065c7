"""Every n-gram of a corpus: where it occurs, how often, and what can follow it.

Source: Manber and Myers 1993 for the suffix array. It answers what the FM-index of SEAL (Bevilacqua
et al. 2022) answers, at 6 bytes a token instead of 2 or 3, without a library.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ragkit.indexes.prefixes import SortedSuffixes
from ragkit.indexes.suffix_array import suffix_array
from ragkit.indexes.token_files import read_suffixes, write_suffixes
from ragkit.indexes.token_rows import TokenRows, TokenSequence
from ragkit.indexes.token_segments import SegmentedSuffixes


class NgramIndex(SortedSuffixes):
    """All n-grams of token rows; none crosses from one row into the next.

    A `ragkit.types.TokenIndex` whose prefixes may begin anywhere in a row. Six bytes a token where
    the vocabulary is below 65,536, else eight.

    >>> index = NgramIndex.build([[5, 3, 5, 3], [3, 7]], vocab_size=8)
    >>> state = index.find([3])
    >>> index.count(state), index.successors(state).tolist()
    (3, [5, 7])
    >>> [places.tolist() for places in index.locate(state)]
    [[0, 0, 1], [1, 3, 0]]
    """

    kind = "ngrams"

    @classmethod
    def build(
        cls,
        rows: Iterable[TokenSequence],
        vocab_size: int,
        *,
        tokenizer: str = "",
        granularity: str = "passage",
    ) -> NgramIndex:
        """Sort the suffixes of some rows, in memory: about 50 bytes a token while it runs.

        Args:
            rows: Token ids, each 0 to vocab_size - 1; a row may be empty.
            vocab_size: Tokens the tokenizer knows.
            tokenizer: Its fingerprint; `load` refuses another.
            granularity: What a row is: "document", "passage", "sentence", "entity", …

        Raises:
            ValueError: A token is none of the vocabulary, or there are more than 2**31 - 1 of them.
        """
        packed = TokenRows.pack(rows, vocab_size, tokenizer=tokenizer, granularity=granularity)
        return cls(packed, suffix_array(packed))

    def save(self, folder: Path) -> list[Path]:
        """Write the index, without a restriction, into a folder; returns the files."""
        return write_suffixes(self, folder)

    @classmethod
    def load(cls, folder: Path, *, tokenizer: str) -> NgramIndex:
        """Memory-map what `save` wrote.

        Reads what grows with rows and vocabulary; suffixes are checked as they are used.

        Args:
            folder: Where it lies.
            tokenizer: The fingerprint of the tokenizer that will be used.

        Raises:
            CollectionError: It was built with another tokenizer, or cannot be read.
        """
        return cls(*read_suffixes(folder, cls.kind, tokenizer))


class SegmentedNgramIndex(SegmentedSuffixes[NgramIndex]):
    """Several n-gram indexes, or views of them, as one; see `SegmentedSuffixes`.

    >>> parts = [NgramIndex.build([[1, 2]], 4), NgramIndex.build([[1, 3], [1, 2]], 4)]
    >>> index = SegmentedNgramIndex(parts)
    >>> state = index.find([1])
    >>> index.count(state), index.successors(state).tolist()
    (3, [2, 3])
    >>> index.locate(state)[0].tolist()
    [0, 1, 2]
    """
