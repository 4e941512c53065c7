"""What a local model remembers of a conversation, so that each reply reads only what is new."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ragkit.types import LLM, ChatOptions, Message, Reply

if TYPE_CHECKING:
    from ragkit.llms.generating import GeneratingLLM


class Memory:
    """Keys and values of the tokens a model has read.

    Args:
        cache: Empty; see `ragkit.llms.generating.Engine`.

    Attributes:
        tokens: What the cache holds.
    """

    def __init__(self, cache: Any) -> None:
        self.cache = cache
        self.tokens: list[int] = []

    def keep(self, prompt: Sequence[int]) -> list[int]:
        """Forget what does not continue to the prompt; returns the prompt's unread end.

        At least one token is left to read, since its logits are wanted.
        """
        common = 0
        for mine, wanted in zip(self.tokens, prompt[:-1], strict=False):
            if mine != wanted:
                break
            common += 1
        if common < len(self.tokens):
            self.cache.crop(common - len(self.tokens))
            del self.tokens[common:]
        return list(prompt[common:])

    def copy(self) -> Memory:
        """Another one with the same content; neither changes the other."""
        twin = Memory(copy.deepcopy(self.cache))
        twin.tokens = list(self.tokens)
        return twin


class Session:
    """One growing conversation with a local model.

    The system message is read as a block of its own, then shared between sessions; what follows is
    read in the blocks it comes in. So the same sequence of calls gives the same bytes, whatever
    other sessions did before. (They may differ from those of `chat`, which reads a prompt
    in one block: sums are rounded in another order.)
    """

    def __init__(self, llm: GeneratingLLM) -> None:
        self._llm = llm
        self._memory: Memory | None = None

    def chat(self, conversation: Sequence[Message], options: ChatOptions) -> Reply:
        """The reply; see `chat`."""
        from ragkit.llms import exhaust

        prompt = self._llm._checked_prompt(conversation, options)
        if self._memory is None:
            self._memory = self._llm._prefix(conversation)
        return exhaust(self._llm._generate(prompt, options, None, self._memory))


class _Stateless:
    """The same calls for a model that keeps nothing between them."""

    def __init__(self, llm: LLM) -> None:
        self._llm = llm

    def chat(self, conversation: Sequence[Message], options: ChatOptions) -> Reply:
        return self._llm.chat([conversation], options)[0]


def open_session(llm: LLM) -> Session | _Stateless:
    """A session of any model: with memory if it has one."""
    start = getattr(llm, "session", None)
    session: Session | _Stateless = start() if callable(start) else _Stateless(llm)
    return session
