"""Chat sessions: one growing conversation, cached between calls where the model supports it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ragkit.types import LLM, ChatOptions, Message, Reply


class ChatSession(Protocol):
    """One growing conversation with a model."""

    def chat(self, conversation: Sequence[Message], options: ChatOptions) -> Reply:
        """Return the reply to a conversation that continues the previous one."""


class _StatelessSession:
    """A session of a model without a cache: each call sends the whole conversation."""

    def __init__(self, llm: LLM) -> None:
        self._llm = llm

    def chat(self, conversation: Sequence[Message], options: ChatOptions) -> Reply:
        return self._llm.chat([conversation], options)[0]


def open_session(llm: LLM) -> ChatSession:
    """Open a session of any model: a cached one if the model has `session()`."""
    start = getattr(llm, "session", None)
    session: ChatSession = start() if callable(start) else _StatelessSession(llm)
    return session
