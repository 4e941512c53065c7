"""Sampling of the next token, and incremental text of a reply with stop strings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ragkit.types import ChatOptions


class ReplyText:
    """The growing text of one reply, released as soon as it is final.

    An incomplete character at the end and a possible beginning of a stop string are buffered.

    Attributes:
        released: Text released so far.
        stopped: True once a stop string has occurred.
    """

    def __init__(self, stop_strings: Sequence[str]) -> None:
        self._stop_strings = stop_strings
        self._text = ""
        self.released = ""
        self.stopped = False

    def update(self, text: str) -> str:
        """Set the full text generated so far and return the part that is newly final."""
        self._text = text.rstrip("\N{REPLACEMENT CHARACTER}")
        offsets = [i for stop in self._stop_strings if (i := self._text.find(stop)) >= 0]
        self.stopped = bool(offsets)
        return self._release(min(offsets) if offsets else len(self._text) - self._n_buffered())

    def flush(self) -> str:
        """Return the buffered text at the end of a reply that no stop string ended."""
        return self._release(len(self._text))

    def _n_buffered(self) -> int:
        longest = max(map(len, self._stop_strings), default=0) - 1
        for n in range(min(longest, len(self._text)), 0, -1):
            suffix = self._text[-n:]
            if any(len(stop) > n and stop.startswith(suffix) for stop in self._stop_strings):
                return n
        return 0

    def _release(self, end: int) -> str:
        piece = self._text[len(self.released) : end]
        self.released += piece
        return piece


def sample_token(
    logits: NDArray[np.float32], options: ChatOptions, random: np.random.Generator
) -> int:
    """Choose the next token: greedily at temperature 0 (ties by id), else by nucleus sampling.

    Source: Holtzman et al. 2020, section 3.1: samples from the smallest set of the most probable
    tokens whose total probability reaches top_p.

    Args:
        logits: float32 (vocab_size,); -inf for tokens that are not allowed.
        options: Temperature and top_p.
        random: Random number generator.
    """
    if options.temperature == 0:
        return int(logits.argmax())
    allowed = np.flatnonzero(logits != -np.inf)  # (allowed,): few with a grammar
    scaled = (logits[allowed].astype(np.float64) - logits[allowed].max()) / options.temperature
    probabilities = np.exp(scaled)
    probabilities /= probabilities.sum()
    if options.top_p < 1:
        order = np.argsort(-probabilities, kind="stable")
        before = np.cumsum(probabilities[order]) - probabilities[order]
        probabilities[order[before >= options.top_p]] = 0
        probabilities /= probabilities.sum()
    return int(random.choice(allowed, p=probabilities))
