"""Concatenated token rows, the input of the n-gram index and the trie."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.types import Rows

TokenSequence = Sequence[int] | NDArray[np.integer[Any]]
"""One row: token ids in reading order."""

_MAX_INT = (1 << 31) - 1  # largest token id, and largest number of tokens plus rows


@dataclass(frozen=True, slots=True, eq=False)
class TokenRows:
    """Concatenated rows of tokens, each followed by a separator.

    Attributes:
        tokens: (tokens + rows,) of `token_type(vocab_size)`; may be memory-mapped.
        starts: int64 (rows + 1,), start of each row; the last entry is the length of `tokens`.
        vocab_size: Tokens are 0 to vocab_size - 1. The separator is vocab_size, so that a row that
            ends sorts after one that continues.
        tokenizer: Fingerprint of the tokenizer.
        granularity: Unit of a row: "document", "passage", "sentence", "entity", …
    """

    tokens: NDArray[np.integer[Any]]
    starts: Rows
    vocab_size: int
    tokenizer: str = ""
    granularity: str = "passage"

    @classmethod
    def pack(
        cls,
        rows: Iterable[TokenSequence],
        vocab_size: int,
        *,
        tokenizer: str = "",
        granularity: str = "passage",
    ) -> TokenRows:
        """Concatenate rows.

        Args:
            rows: Token ids, each 0 to vocab_size - 1; a row may be empty.
            vocab_size: At least 1.
            tokenizer: See the class.
            granularity: See the class.

        Raises:
            ValueError: A token is outside the vocabulary, or there are more than 2**31 - 1 tokens.
        """
        dtype = token_type(vocab_size)
        separator = np.full(1, vocab_size, dtype=dtype)
        pieces: list[NDArray[np.integer[Any]]] = []
        for i, row in enumerate(rows):
            pieces += [_checked_row(row, i, vocab_size).astype(dtype), separator]
        starts = np.zeros(len(pieces) // 2 + 1, dtype=np.int64)
        lengths = [len(piece) + 1 for piece in pieces[::2]]
        np.cumsum(lengths, dtype=np.int64, out=starts[1:])
        if starts[-1] > _MAX_INT:
            raise ValueError(
                f"the rows have {starts[-1]} tokens; expected at most {_MAX_INT} per index. "
                "Build several indexes and search them as one"
            )
        tokens = np.concatenate(pieces) if pieces else np.empty(0, dtype=dtype)
        return cls(tokens, starts, vocab_size, tokenizer, granularity)

    @property
    def n_rows(self) -> int:
        """Number of rows, including empty ones."""
        return len(self.starts) - 1

    def lengths(self) -> Rows:
        """Return the number of tokens of each row, int64 (rows,)."""
        return np.diff(self.starts) - 1

    def row(self, i: int) -> Rows:
        """Return the tokens of one row, int64 (tokens,).

        Raises:
            ValueError: The row does not exist.
        """
        if not 0 <= i < self.n_rows:
            raise ValueError(f"row {i} does not exist; expected 0 to {self.n_rows - 1}")
        return self.tokens[self.starts[i] : self.starts[i + 1] - 1].astype(np.int64)

    def locate(self, positions: Rows) -> tuple[Rows, Rows]:
        """Convert positions in `tokens` to row numbers and offsets in the row, int64 (n,) each."""
        rows = np.searchsorted(self.starts, positions, side="right") - 1  # (n,)
        return rows, positions - self.starts[rows]


def token_type(vocab_size: int) -> np.dtype[Any]:
    """Return the dtype for tokens and separator: uint16 if they fit, else int32.

    Raises:
        ValueError: The size is outside 1 to 2**31 - 1.
    """
    if not 1 <= vocab_size <= _MAX_INT:
        raise ValueError(f"vocab_size is {vocab_size}; expected 1 to {_MAX_INT}")
    return np.dtype(np.uint16 if vocab_size <= np.iinfo(np.uint16).max else np.int32)


def _checked_row(row: TokenSequence, i: int, vocab_size: int) -> NDArray[np.integer[Any]]:
    values = np.asarray(row)
    if values.ndim != 1 or (len(values) and values.dtype.kind not in "iu"):
        raise ValueError(
            f"row {i} is {values.dtype} {values.shape}; expected a sequence of token ids"
        )
    if len(values) and not (values.min() >= 0 and values.max() < vocab_size):
        invalid = values[(values < 0) | (values >= vocab_size)][0]
        raise ValueError(
            f"row {i} contains the token {invalid}; expected 0 to {vocab_size - 1}. Check that it "
            "was made with the index's tokenizer"
        )
    return values
