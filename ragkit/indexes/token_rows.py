"""Rows of tokens end to end: what the n-gram index and the trie are built over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.types import Rows

TokenSequence = Sequence[int] | NDArray[np.integer[Any]]
"""One row: token ids in reading order."""

_LARGEST = (1 << 31) - 1  # of a token, and of the number of tokens and rows together


@dataclass(frozen=True, slots=True, eq=False)
class TokenRows:
    """Rows of tokens, each followed by a separator that no token equals.

    Attributes:
        tokens: (tokens + rows,), of `token_type(vocab_size)`; may be memory-mapped.
        starts: int64 (rows + 1,), where each row begins; the last is the length of `tokens`.
        vocab_size: Tokens are 0 to vocab_size - 1; the separator is vocab_size, so that what ends
            sorts behind what goes on.
        tokenizer: The fingerprint of the tokenizer that made the tokens.
        granularity: What a row is: "document", "passage", "sentence", "entity", …
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
        """Lay rows end to end.

        Args:
            rows: Token ids, each 0 to vocab_size - 1; a row may be empty.
            vocab_size: At least 1.
            tokenizer: See the class.
            granularity: See the class.

        Raises:
            ValueError: A token is none of the vocabulary, or there are more than 2**31 - 1 of them.
        """
        kind = token_type(vocab_size)
        separator = np.full(1, vocab_size, dtype=kind)
        pieces: list[NDArray[np.integer[Any]]] = []
        for i, row in enumerate(rows):
            pieces += [_checked(row, i, vocab_size).astype(kind), separator]
        starts = np.zeros(len(pieces) // 2 + 1, dtype=np.int64)
        lengths = [len(piece) + 1 for piece in pieces[::2]]
        np.cumsum(lengths, dtype=np.int64, out=starts[1:])
        if starts[-1] > _LARGEST:
            raise ValueError(
                f"the rows hold {starts[-1]} tokens; expected at most {_LARGEST} in one index. "
                "Make several, and search them as one"
            )
        tokens = np.concatenate(pieces) if pieces else np.empty(0, dtype=kind)
        return cls(tokens, starts, vocab_size, tokenizer, granularity)

    @property
    def n_rows(self) -> int:
        """Rows, empty ones included."""
        return len(self.starts) - 1

    def lengths(self) -> Rows:
        """int64 (rows,): tokens in each row."""
        return np.diff(self.starts) - 1

    def row(self, i: int) -> Rows:
        """int64 (tokens,): one row.

        Raises:
            ValueError: There is no such row.
        """
        if not 0 <= i < self.n_rows:
            raise ValueError(f"row {i} does not exist; expected 0 to {self.n_rows - 1}")
        return self.tokens[self.starts[i] : self.starts[i + 1] - 1].astype(np.int64)

    def places(self, positions: Rows) -> tuple[Rows, Rows]:
        """The row of each position of `tokens`, and the offset in it; both int64 (n,)."""
        rows = np.searchsorted(self.starts, positions, side="right") - 1  # (n,)
        return rows, positions - self.starts[rows]


def token_type(vocab_size: int) -> np.dtype[Any]:
    """How tokens and the separator are stored: uint16 where they fit, else int32.

    Raises:
        ValueError: The size is not 1 to 2**31 - 1.
    """
    if not 1 <= vocab_size <= _LARGEST:
        raise ValueError(f"vocab_size is {vocab_size}; expected 1 to {_LARGEST}")
    return np.dtype(np.uint16 if vocab_size <= np.iinfo(np.uint16).max else np.int32)


def _checked(row: TokenSequence, i: int, vocab_size: int) -> NDArray[np.integer[Any]]:
    values = np.asarray(row)
    if values.ndim != 1 or (len(values) and values.dtype.kind not in "iu"):
        raise ValueError(
            f"row {i} is {values.dtype} {values.shape}; expected a sequence of token ids"
        )
    if len(values) and not (values.min() >= 0 and values.max() < vocab_size):
        wrong = values[(values < 0) | (values >= vocab_size)][0]
        raise ValueError(
            f"row {i} holds the token {wrong}; expected 0 to {vocab_size - 1}. Was it made by "
            "another tokenizer?"
        )
    return values
