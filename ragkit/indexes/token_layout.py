"""Which rows of tokens an index over a collection holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ragkit.digests import text_digest
from ragkit.types import Chunk, Rows, TokenIndex

Tokenize = Callable[[Chunk, str], list[tuple[int, Sequence[int]]]]
"""A chunk and a text to rows: where in the document each one's text begins, and its tokens."""


class RowHit(NamedTuple):
    """A row that was found.

    Attributes:
        row: Its number.
        score: Higher is better.
        start: Where in its document the row's text begins; the collection fills it in.
        detail: What made the score.
    """

    row: int
    score: float
    start: int = 0
    detail: Any = None


TokenSearch = Callable[[TokenIndex, Rows], list[list[RowHit]]]
"""An index and each row's chunk, int64 (rows,), to the rows found for each query."""


@dataclass(frozen=True, slots=True)
class TokenLayout:
    """A token index over a collection's chunks or documents.

    Attributes:
        kind: "ngrams" (any n-gram of a row) or "trie" (whole rows).
        granularity: What a row is: "passage", "sentence", "document", "entity", "title".
        scope: "chunk": every chunk has rows; "document": the first chunk of each document, for all
            of it.
        needs_text: `tokenize` is given the document's whole text, and else the chunk's.
        tokenizer: The fingerprint of the tokenizer.
        vocab_size: Tokens the model knows; models of one tokenizer may differ.
        end_token: What ends a text; likewise.
        version: Of what `tokenize` does.
        tokenize: Makes the rows.
    """

    kind: Literal["ngrams", "trie"]
    granularity: str
    scope: Literal["chunk", "document"]
    needs_text: bool
    tokenizer: str
    vocab_size: int
    end_token: int
    version: int
    tokenize: Tokenize

    @property
    def name(self) -> str:
        """Names it on disk: equal ones hold the same rows."""
        tokens = text_digest(f"{self.tokenizer} {self.vocab_size} {self.end_token}")
        return f"{self.kind}-{self.granularity}-v{self.version}-{tokens[:16]}"
