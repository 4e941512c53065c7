"""Pairs of texts as token ids for the pair model: [CLS] first [SEP] second [SEP].

A second text that exceeds the window is read in several windows that overlap, so nothing of it is
left unread. Source of the windows: Devlin et al. 2019, section 4.2 (SQuAD), with a stride.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

WINDOW = 384
STRIDE = 128
FIRST_TOKENS = 96
"""Largest number of tokens of the first text; a longer one is truncated."""


@dataclass(frozen=True, slots=True)
class Window:
    """One window over a pair.

    Attributes:
        ids: Token ids, with the special tokens.
        n_first: Number of tokens up to and including the first [SEP]; the second text follows.
        offsets: (start, end) of each token of the second text, in code points of that text.
    """

    ids: tuple[int, ...]
    n_first: int
    offsets: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """A text's token ids without special tokens, and their (start, end) offsets."""

    ids: Sequence[int]
    offsets: Sequence[tuple[int, int]]


class PairTokenizer:
    """Tokenizer of pairs.

    Args:
        file: Path of a BERT `tokenizer.json`.
    """

    def __init__(self, file: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(file))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.cls, self.sep = (
            int(self._tokenizer.token_to_id(name) or 0) for name in ("[CLS]", "[SEP]")
        )

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Tokenize texts without special tokens."""
        if len(texts) == 1:  # starting threads for a batch takes longer than a short text
            encodings = [self._tokenizer.encode(texts[0], add_special_tokens=False)]
        else:
            encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [TokenizedText(encoding.ids, encoding.offsets) for encoding in encodings]

    def windows(
        self, first: TokenizedText, second: TokenizedText, window: int = WINDOW
    ) -> list[Window]:
        """Return the windows over a pair; each token of the second text is in at least one.

        Args:
            first: Question or statement.
            second: Passage.
            window: Largest number of tokens per window.
        """
        head = (self.cls, *first.ids[:FIRST_TOKENS], self.sep)
        room = window - len(head) - 1
        n, start = len(second.ids), 0
        windows = []
        while True:
            end = min(n, start + room)
            windows.append(
                Window(
                    (*head, *second.ids[start:end], self.sep),
                    len(head),
                    tuple(second.offsets[start:end]),
                )
            )
            if end == n:
                return windows
            start = end - min(STRIDE, room // 2)
