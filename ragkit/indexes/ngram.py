"""N-gram index over token rows: occurrences, counts and successors of any n-gram.

Source: Manber and Myers 1993 for the suffix array. It supports the queries of SEAL's FM-index
(Bevilacqua et al. 2022) at 6 bytes per token instead of 2 or 3, without a compiled library.
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
    """Index of all n-grams within token rows; n-grams do not cross rows.

    A `ragkit.types.TokenIndex` whose prefixes may start anywhere in a row. It needs six bytes per
    token for vocabularies below 65,536, else eight.

    >>> index = NgramIndex.build([[5, 3, 5, 3], [3, 7]], vocab_size=8)
    >>> state = index.find([3])
    >>> index.count(state), index.successors(state).tolist()
    (3, [5, 7])
    >>> [array.tolist() for array in index.locate(state)]
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
        """Build the index in memory, using about 50 bytes per token.

        Args:
            rows: Token ids, each 0 to vocab_size - 1; a row may be empty.
            vocab_size: Vocabulary size of the tokenizer.
            tokenizer: Fingerprint of the tokenizer; `load` checks it.
            granularity: Unit of a row: "document", "passage", "sentence", "entity", …

        Raises:
            ValueError: A token is outside the vocabulary, or there are more than 2**31 - 1 tokens.
        """
        packed = TokenRows.pack(rows, vocab_size, tokenizer=tokenizer, granularity=granularity)
        return cls(packed, suffix_array(packed))

    def save(self, folder: Path) -> list[Path]:
        """Write the unrestricted index to a folder and return the paths."""
        return write_suffixes(self, folder)

    @classmethod
    def load(cls, folder: Path, *, tokenizer: str) -> NgramIndex:
        """Memory-map an index written by `save`.

        Rows and vocabulary are validated here, suffixes when they are used.

        Args:
            folder: The folder of the index.
            tokenizer: Expected fingerprint of the tokenizer.

        Raises:
            CollectionError: The index was built with another tokenizer, or cannot be read.
        """
        return cls(*read_suffixes(folder, cls.kind, tokenizer))


class SegmentedNgramIndex(SegmentedSuffixes[NgramIndex]):
    """Several n-gram indexes, or restricted views of them, as one; see `SegmentedSuffixes`.

    >>> parts = [NgramIndex.build([[1, 2]], 4), NgramIndex.build([[1, 3], [1, 2]], 4)]
    >>> index = SegmentedNgramIndex(parts)
    >>> state = index.find([1])
    >>> index.count(state), index.successors(state).tolist()
    (3, [2, 3])
    >>> index.locate(state)[0].tolist()
    [0, 1, 2]
    """
