"""Adapter of Hugging Face tokenizers to the `Tokenizer` protocol."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Encoding
from tokenizers import Tokenizer as _FastTokenizer

from ragkit.losses import report
from ragkit.types import Loss


class HubTokenizer:
    """A Hugging Face tokenizer without truncation and padding.

    Args:
        file: Path of a `tokenizer.json`.
    """

    def __init__(self, file: Path) -> None:
        self._fast = _FastTokenizer.from_file(str(file))
        self._fast.no_truncation()
        self._fast.no_padding()

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Return each text's tokens as (start, end) code point offsets, without special tokens."""
        return [encoding.offsets for encoding in self._encode(texts, special=False)]

    def _encode(self, texts: Sequence[str], *, special: bool) -> list[Encoding]:
        if len(texts) == 1:  # starting threads for a batch takes longer than a short text
            return [self._fast.encode(texts[0], add_special_tokens=special)]
        return self._fast.encode_batch(list(texts), add_special_tokens=special)

    def ids(self, texts: Sequence[str], max_tokens: int) -> tuple[list[list[int]], list[int]]:
        """Tokenise texts with special tokens, and truncate each to `max_tokens`.

        A longer text is truncated before its last special token.

        Returns:
            The token ids of each text, and its length before truncation.
        """
        full = [encoding.ids for encoding in self._encode(texts, special=True)]
        truncated = [
            ids if len(ids) <= max_tokens else [*ids[: max_tokens - 1], ids[-1]] for ids in full
        ]
        return truncated, [len(ids) for ids in full]


def report_truncation(texts: Sequence[str], lengths: Sequence[int], max_tokens: int) -> None:
    """Report a `Loss` for each text that exceeds the model's maximum length."""
    for text, length in zip(texts, lengths, strict=True):
        if length > max_tokens:
            report(
                Loss(
                    stage="embedding",
                    what=repr(text[:60]),
                    lost=f"{length - max_tokens} tokens",
                    kept=f"{max_tokens} tokens",
                    why=f"the model reads {max_tokens} tokens; split the text or shorten its title",
                )
            )
