"""A key-value cache that remembers its tokens, so that each prompt reads only what is new."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any


class KVCache:
    """The keys and values of the tokens that a model has read, with those tokens.

    Args:
        cache: An empty engine cache; see `ragkit.llms.generating.Engine`.

    Attributes:
        tokens: The cached tokens, in order.
    """

    def __init__(self, cache: Any) -> None:
        self.cache = cache
        self.tokens: list[int] = []

    def truncate(self, prompt: Sequence[int]) -> list[int]:
        """Truncate the cache to its common prefix with the prompt; return the uncached tokens.

        The prompt's last token is never cached, because the model has to read at least one token
        to return logits.
        """
        n_common = 0
        for cached, token in zip(self.tokens, prompt[:-1], strict=False):
            if cached != token:
                break
            n_common += 1
        if n_common < len(self.tokens):
            self.cache.crop(n_common - len(self.tokens))
            del self.tokens[n_common:]
        return list(prompt[n_common:])

    def copy(self) -> KVCache:
        """Return an independent copy."""
        duplicate = KVCache(copy.deepcopy(self.cache))
        duplicate.tokens = list(self.tokens)
        return duplicate
