"""One reply as it grows: the next token, and the text that is final."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ragkit.types import ChatOptions


class ReplyText:
    """Releases the growing text of a reply as far as it is final.

    Held back are an unfinished character at the end and what may become a stop string.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._text = ""
        self.released = ""
        self.stopped = False

    def grow_to(self, text: str) -> str:
        """The next piece, given all of the text so far."""
        self._text = text.rstrip("\N{REPLACEMENT CHARACTER}")
        found = [at for stop in self._stops if (at := self._text.find(stop)) >= 0]
        self.stopped = bool(found)
        return self._release(min(found) if found else len(self._text) - self._n_held())

    def rest(self) -> str:
        """The last piece: what was held back and turned out to be no stop string."""
        return self._release(len(self._text))

    def _n_held(self) -> int:
        longest = max(map(len, self._stops), default=0) - 1
        for n in range(min(longest, len(self._text)), 0, -1):
            end = self._text[-n:]
            if any(len(stop) > n and stop.startswith(end) for stop in self._stops):
                return n
        return 0

    def _release(self, end: int) -> str:
        piece = self._text[len(self.released) : end]
        self.released += piece
        return piece


def choose(logits: NDArray[np.float32], options: ChatOptions, random: np.random.Generator) -> int:
    """The next token: the likeliest (the lowest id of equals), or one drawn at a temperature.

    Source: nucleus sampling, Holtzman et al. 2020, section 3.1: the smallest set of the likeliest
    tokens whose probability reaches top_p.

    Args:
        logits: float32 (vocab_size,); -inf where a token is not allowed.
        options: Temperature and top_p.
        random: Draws.
    """
    if options.temperature == 0:
        return int(logits.argmax())
    open_ = np.flatnonzero(logits != -np.inf)  # (allowed,): a grammar leaves few
    scaled = (logits[open_].astype(np.float64) - logits[open_].max()) / options.temperature
    chances = np.exp(scaled)
    chances /= chances.sum()
    if options.top_p < 1:
        order = np.argsort(-chances, kind="stable")
        before = np.cumsum(chances[order]) - chances[order]
        chances[order[before >= options.top_p]] = 0
        chances /= chances.sum()
    return int(random.choice(open_, p=chances))
