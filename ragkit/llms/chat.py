"""Default options, request validation and stream draining, shared by all chat models."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from ragkit.types import ChatOptions, Message, Reply

DEFAULTS = ChatOptions()


def check_request(conversation: Sequence[Message], options: ChatOptions) -> None:
    """Validate a conversation and its options before any work is done.

    Raises:
        ValueError: The conversation is empty, or an option is out of range.
    """
    if not conversation:
        raise ValueError("the conversation is empty; expected at least one message")
    if options.max_tokens < 1:
        raise ValueError(f"max_tokens is {options.max_tokens}; expected at least 1")
    if not options.temperature >= 0:
        raise ValueError(f"temperature is {options.temperature}; expected 0 (greedy) or more")
    if not 0 < options.top_p <= 1:
        raise ValueError(f"top_p is {options.top_p}; expected more than 0 and at most 1")
    if "" in options.stop:
        raise ValueError("a stop string is empty, which would stop at once; leave it out")


def exhaust(stream: Generator[str, None, Reply]) -> Reply:
    """Run a stream to its end and return its reply."""
    while True:
        try:
            next(stream)
        except StopIteration as end:
            reply: Reply = end.value
            return reply
