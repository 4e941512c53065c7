"""Prefix trie over titles or other identifiers, for constrained decoding.

Source: De Cao et al. 2021, "Autoregressive entity retrieval" (GENRE). The trie is stored as its
sorted identifiers: a node is a range of identifiers, so that no pointers are needed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ragkit.indexes.prefixes import Prefix, SortedSuffixes, corrupt_suffixes
from ragkit.indexes.token_files import read_suffixes, write_suffixes
from ragkit.indexes.token_rows import TokenRows, TokenSequence
from ragkit.indexes.token_segments import Prefixes, SegmentedSuffixes
from ragkit.types import Rows

_MAX_LENGTH = 64


class Trie(SortedSuffixes):
    """Prefix trie of identifiers.

    A `ragkit.types.TokenIndex` whose prefixes start at the beginning of an identifier. Each row is
    one identifier, and its row number is the id; equal identifiers have several ids.

    >>> trie = Trie.build([[4, 2], [4, 3], [4, 2]], vocab_size=10, end_token=9)
    >>> state = trie.find([4, 2, 9])
    >>> trie.is_end(state), trie.ids(state).tolist()
    (True, [0, 2])
    """

    kind = "trie"

    @classmethod
    def build(
        cls,
        identifiers: Iterable[TokenSequence],
        vocab_size: int,
        *,
        end_token: int | None = None,
        max_length: int | None = _MAX_LENGTH,
        tokenizer: str = "",
    ) -> Trie:
        """Build a trie.

        Args:
            identifiers: Token ids, each 0 to vocab_size - 1; at least one token each.
            vocab_size: Vocabulary size of the tokenizer.
            end_token: Token appended to each identifier; None appends nothing.
            max_length: Maximum length of an identifier without the end token, because a decoder
                with this limit could not finish a longer one; None for no limit.
            tokenizer: Fingerprint of the tokenizer; `load` checks it.

        Raises:
            ValueError: An identifier is empty or too long, or a token is outside the vocabulary.
        """
        end = [] if end_token is None else [end_token]
        rows = (
            [*_checked_identifier(identifier, i, max_length), *end]
            for i, identifier in enumerate(identifiers)
        )
        packed = TokenRows.pack(rows, vocab_size, tokenizer=tokenizer, granularity="identifier")
        return cls(packed, _sorted_rows(packed))

    def save(self, folder: Path) -> list[Path]:
        """Write the unrestricted trie to a folder and return the paths."""
        return write_suffixes(self, folder)

    @classmethod
    def load(cls, folder: Path, *, tokenizer: str) -> Trie:
        """Memory-map a trie written by `save`; see `NgramIndex.load`.

        Raises:
            CollectionError: The trie was built with another tokenizer, or cannot be read.
        """
        return cls(*read_suffixes(folder, cls.kind, tokenizer))

    def is_end(self, state: Prefix) -> bool:
        """Return True if the prefix is a complete identifier of an allowed row."""
        return self.count(self._complete(state)) > 0

    def ids(self, state: Prefix) -> Rows:
        """Return the allowed rows whose identifier is this prefix, ascending, int64 (n,)."""
        return self.locate(self._complete(state))[0]

    def _complete(self, state: Prefix) -> Prefix:
        """Return the subrange of identifiers that end after the prefix; separators sort last."""
        tokens, positions = self._token_at, self._position_at

        def next_token(i: int) -> int:
            return int(tokens[positions[i] + state.depth])

        try:
            indices = range(state.low, state.high)
            low = state.low + bisect_left(indices, self.vocab_size, key=next_token)
        except IndexError as error:
            raise corrupt_suffixes(state.low) from error
        return Prefix(low, state.high, state.depth)


class SegmentedTrie(SegmentedSuffixes[Trie]):
    """Several tries, or restricted views of them, as one; see `SegmentedSuffixes`."""

    def is_end(self, state: Prefixes) -> bool:
        """Return True if the prefix is a complete identifier of an allowed row."""
        return any(segment.is_end(part) for segment, part in self._parts(state))

    def ids(self, state: Prefixes) -> Rows:
        """Return the allowed rows whose identifier is this prefix, ascending, int64 (n,)."""
        ids = [np.empty(0, dtype=np.int64)]
        for segment, part, first in zip(self.segments, state, self._offsets, strict=False):
            if part is not None:
                ids.append(segment.ids(part) + first)
        return np.concatenate(ids)


def _checked_identifier(identifier: TokenSequence, i: int, max_length: int | None) -> TokenSequence:
    if len(identifier) == 0:
        raise ValueError(f"identifier {i} is empty; expected at least one token")
    if max_length is not None and len(identifier) > max_length:
        raise ValueError(
            f"identifier {i} has {len(identifier)} tokens; expected at most {max_length}. Shorten "
            "it, or pass max_length=None to allow identifiers of any length"
        )
    return identifier


def _sorted_rows(rows: TokenRows) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    """Return the row starts sorted by the rows' tokens, ties by row number, uint32 (rows,)."""
    size = 4  # bytes per token
    data = rows.tokens.astype(">u4").tobytes()  # big-endian, so that bytes sort like tokens
    bounds = (rows.starts * size).tolist()
    order = sorted(range(rows.n_rows), key=lambda i: data[bounds[i] : bounds[i + 1]])
    return rows.starts[order].astype(np.uint32)
