"""Titles, or any identifiers, token by token: what constrained decoding walks along.

Source: De Cao et al. 2021, "Autoregressive entity retrieval" (GENRE). The trie is kept as its
sorted identifiers: a node is the range of those below it, and no pointers are stored.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ragkit.indexes.prefixes import Prefix, SortedSuffixes, damaged
from ragkit.indexes.token_files import read_suffixes, write_suffixes
from ragkit.indexes.token_rows import TokenRows, TokenSequence
from ragkit.indexes.token_segments import Prefixes, SegmentedSuffixes
from ragkit.types import Rows

_MAX_LENGTH = 64


class Trie(SortedSuffixes):
    """Identifiers by their prefixes.

    A `ragkit.types.TokenIndex` whose prefixes begin where an identifier begins. A row is one
    identifier, its number the id; identifiers that read the same keep all their ids.

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
        """Sort identifiers.

        Args:
            identifiers: Token ids, each 0 to vocab_size - 1; at least one token each.
            vocab_size: Tokens the tokenizer knows.
            end_token: Appended to each identifier; None appends nothing.
            max_length: Longer identifiers are refused, as a decoder with this limit would never
                finish them; None takes any. The end token is not counted.
            tokenizer: Its fingerprint; `load` refuses another.

        Raises:
            ValueError: An identifier is empty or too long, or a token none of the vocabulary.
        """
        end = [] if end_token is None else [end_token]
        rows = (
            [*_checked(identifier, i, max_length), *end] for i, identifier in enumerate(identifiers)
        )
        packed = TokenRows.pack(rows, vocab_size, tokenizer=tokenizer, granularity="identifier")
        return cls(packed, _sorted_rows(packed))

    def save(self, folder: Path) -> list[Path]:
        """Write the trie, without a restriction, into a folder; returns the files."""
        return write_suffixes(self, folder)

    @classmethod
    def load(cls, folder: Path, *, tokenizer: str) -> Trie:
        """Memory-map what `save` wrote; see `NgramIndex.load`.

        Raises:
            CollectionError: It was built with another tokenizer, or cannot be read.
        """
        return cls(*read_suffixes(folder, cls.kind, tokenizer))

    def is_end(self, state: Prefix) -> bool:
        """Whether the prefix is a whole identifier, of an allowed row."""
        return self.count(self._ended(state)) > 0

    def ids(self, state: Prefix) -> Rows:
        """int64 (n,): the allowed rows whose identifier is this prefix, ascending."""
        return self.locate(self._ended(state))[0]

    def _ended(self, state: Prefix) -> Prefix:
        """The part of a prefix where nothing follows; separators sort last."""
        tokens, positions = self._token_at, self._position_at

        def following(place: int) -> int:
            return int(tokens[positions[place] + state.depth])

        try:
            places = range(state.low, state.high)
            low = state.low + bisect_left(places, self.vocab_size, key=following)
        except IndexError as error:
            raise damaged(state.low) from error
        return Prefix(low, state.high, state.depth)


class SegmentedTrie(SegmentedSuffixes[Trie]):
    """Several tries, or views of them, as one; see `SegmentedSuffixes`."""

    def is_end(self, state: Prefixes) -> bool:
        """Whether the prefix is a whole identifier, of an allowed row."""
        return any(segment.is_end(part) for segment, part in self._parts(state))

    def ids(self, state: Prefixes) -> Rows:
        """int64 (n,): the allowed rows whose identifier is this prefix, ascending."""
        found = [np.empty(0, dtype=np.int64)]
        for segment, part, first in zip(self.segments, state, self._offsets, strict=False):
            if part is not None:
                found.append(segment.ids(part) + first)
        return np.concatenate(found)


def _checked(identifier: TokenSequence, i: int, max_length: int | None) -> TokenSequence:
    if len(identifier) == 0:
        raise ValueError(f"identifier {i} is empty; expected at least one token")
    if max_length is not None and len(identifier) > max_length:
        raise ValueError(
            f"identifier {i} has {len(identifier)} tokens; expected at most {max_length}. Shorten "
            "it, or pass max_length=None to take identifiers of any length"
        )
    return identifier


def _sorted_rows(rows: TokenRows) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    """uint32 (rows,): where rows begin, by their tokens; equal ones by their number."""
    size = 4  # bytes a token
    text = rows.tokens.astype(">u4").tobytes()  # most significant first: bytes sort like tokens
    bounds = (rows.starts * size).tolist()
    order = sorted(range(rows.n_rows), key=lambda i: text[bounds[i] : bounds[i + 1]])
    return rows.starts[order].astype(np.uint32)
