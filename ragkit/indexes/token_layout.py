"""Description of a collection's token index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ragkit.digests import text_digest
from ragkit.types import Chunk

Tokenize = Callable[[Chunk, str], list[tuple[int, Sequence[int]]]]
"""Splits a chunk and its text into rows: character offset in the document, and tokens."""


@dataclass(frozen=True, slots=True)
class TokenLayout:
    """Specification of a token index over a collection's chunks or documents.

    Attributes:
        kind: "ngrams" (any n-gram of a row) or "trie" (full rows).
        granularity: Unit of a row: "passage", "sentence", "document", "entity", "title".
        scope: "chunk" if every chunk has rows; "document" if the first chunk of each document has
            the rows of the full document.
        needs_text: True to pass the document's full text to `tokenize`, False to pass the chunk's.
        tokenizer: Fingerprint of the tokenizer.
        vocab_size: Vocabulary size of the model; models with one tokenizer may differ.
        end_token: Id of the end-of-text token; models with one tokenizer may differ.
        version: Version of `tokenize`; increase it when the rows change.
        tokenize: Function that makes the rows.
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
        """Folder name of the index; equal names imply equal rows."""
        tokens = text_digest(f"{self.tokenizer} {self.vocab_size} {self.end_token}")
        return f"{self.kind}-{self.granularity}-v{self.version}-{tokens[:16]}"
