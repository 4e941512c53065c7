"""The loop that writes replies, for every model whose next token's logits are known here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import ModelError
from ragkit.llms import DEFAULTS, check_request, exhaust
from ragkit.llms.constrain import JsonConstraint
from ragkit.llms.memory import Memory, Session
from ragkit.llms.sampling import ReplyText, choose
from ragkit.types import ChatOptions, Message, Reply, Usage

_CLOSING_TOKENS = 64  # what is left when a constrained reply must come to its end
_PREFIXES = 4  # of how many system messages what was read is kept

TokenMask = Callable[[Sequence[int]], NDArray[np.bool_]]
"""The tokens generated so far to bool (vocab_size,): which may come next."""


class Engine(Protocol):
    """What reads tokens and says what may follow them."""

    def new_cache(self) -> Any:
        """An empty cache: deep copies of it are caches, and `crop(-n)` forgets n tokens."""

    def read(self, tokens: Sequence[int], cache: Any) -> NDArray[np.float32]:
        """The logits of what follows, float32 (vocab_size,); the cache holds the tokens then."""


class GeneratingLLM(ABC):
    """Continues conversations one at a time; base of the models on this machine.

    Same input, same bytes out: a padded batch rounds differently from a single conversation, and
    one changed token changes all that follow. So conversations run one after another, at any
    temperature, and each with its own random generator: a reply does not depend on its
    neighbours.

    Attributes:
        name: As the model was asked for.
        context_window: The most tokens of prompt and reply together.
        vocab_size: The width of the logits.
        end_tokens: The ids that end a reply.
    """

    name: str
    context_window: int
    vocab_size: int
    end_tokens: frozenset[int]

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._vocabulary: Any = None  # of the grammars; made when one is first asked for
        self._prefixes: dict[tuple[int, ...], Memory] = {}

    @abstractmethod
    def tokens(self, conversation: Sequence[Message], *, reply: bool = True) -> list[int]:
        """The rendered conversation's tokens.

        Args:
            conversation: At least one message.
            reply: Whether they go up to where the assistant's next reply begins.
        """

    @abstractmethod
    def _decode(self, tokens: list[int]) -> str:
        """The text of tokens, control tokens left out."""

    @abstractmethod
    def _grammar_vocabulary(self) -> Any:
        """What `JsonConstraint` knows of the tokenizer."""

    def count_tokens(self, conversation: Sequence[Message]) -> int:
        """Exactly the tokens of the rendered conversation."""
        return len(self.tokens(conversation))

    def chat(
        self,
        conversations: Sequence[Sequence[Message]],
        options: ChatOptions = DEFAULTS,
        *,
        mask: TokenMask | None = None,
    ) -> list[Reply]:
        """One reply a conversation, generated one after another.

        `max_tokens` is capped by what the window has left; a reply that reaches either ends with
        "length". `completion_tokens` counts every generated token, the one that ends included.

        Args:
            conversations: Each with at least one message.
            options: How to generate, for all of them.
            mask: Which tokens may come next; must allow an end token somewhere.

        Raises:
            ValueError: A conversation does not fit into the window, or an option is out of range.
        """
        prompts = [self._checked_prompt(each, options) for each in conversations]
        return [exhaust(self._generate(prompt, options, mask)) for prompt in prompts]

    def stream(
        self,
        conversation: Sequence[Message],
        options: ChatOptions = DEFAULTS,
        *,
        mask: TokenMask | None = None,
    ) -> Generator[str, None, Reply]:
        """The text that `chat` returns, in pieces, then the whole reply as the generator's value.

        Between two pieces nothing runs: a generator that is closed has stopped.

        Raises:
            ValueError: As `chat`, and before the first piece.
        """
        return self._generate(self._checked_prompt(conversation, options), options, mask)

    def session(self) -> Session:
        """A conversation that grows: each reply reads only what was added since the last one."""
        return Session(self)

    def _checked_prompt(self, conversation: Sequence[Message], options: ChatOptions) -> list[int]:
        check_request(conversation, options)
        prompt = self.tokens(conversation)
        if len(prompt) >= self.context_window:
            raise ValueError(
                f"the conversation has {len(prompt)} tokens, and the window of {self.name!r} is "
                f"{self.context_window} with at least one for the reply. "
                "Ask a shorter question, pass fewer or shorter passages, or take a model with a "
                "longer window."
            )
        return prompt

    def _generate(
        self,
        prompt: list[int],
        options: ChatOptions,
        mask: TokenMask | None,
        memory: Memory | None = None,
    ) -> Generator[str, None, Reply]:
        text = ReplyText(options.stop)
        random = np.random.default_rng(options.seed)
        memory = memory or Memory(self._engine.new_cache())
        constraint = self._constraint(options.schema)
        generated: list[int] = []
        unread, finished = memory.keep(prompt), False
        room = min(options.max_tokens, self.context_window - len(prompt))
        while len(generated) < room and not finished:
            tokens = constraint.forced() if constraint else []
            if not tokens and not (constraint and constraint.finished):
                logits = self._read(unread, memory)  # (vocab_size,)
                if constraint:
                    closing = room - len(generated) <= _CLOSING_TOKENS
                    logits = self._masked(logits, constraint.allowed(closing=closing))
                if mask is not None:
                    logits = self._masked(logits, mask(tuple(generated)))
                tokens, unread = [choose(logits, options, random)], []
                if constraint:
                    constraint.accept(tokens)
            cut = len(tokens) > room - len(generated)  # what is forced may be long
            tokens = tokens[: room - len(generated)]
            unread = unread + tokens
            generated += tokens
            finished = not tokens or tokens[-1] in self.end_tokens
            if piece := text.grow_to(self._decode(generated)):
                yield piece
            complete = bool(constraint and constraint.finished and not cut)
            finished = finished or text.stopped or complete
        if not text.stopped and (piece := text.rest()):
            yield piece
        usage = Usage(len(prompt), len(generated))
        return Reply(text.released, "stop" if finished else "length", usage)

    def _read(self, tokens: Sequence[int], memory: Memory) -> NDArray[np.float32]:
        logits = self._engine.read(tokens, memory.cache)
        memory.tokens += tokens
        return logits

    def _constraint(self, schema: Mapping[str, Any] | None) -> JsonConstraint | None:
        if schema is None:
            return None
        if self._vocabulary is None:
            self._vocabulary = self._grammar_vocabulary()
        return JsonConstraint(self._vocabulary, schema, self.vocab_size)

    def _prefix(self, conversation: Sequence[Message]) -> Memory:
        """A copy of what the model remembers of the system message, which sessions share."""
        tokens = tuple(self.tokens(conversation[:1], reply=False))
        if tokens not in self._prefixes:
            memory = Memory(self._engine.new_cache())
            if conversation[0].role == "system" and tokens:
                self._read(tokens, memory)
            newest = list(self._prefixes.items())[1 - _PREFIXES :]
            self._prefixes = {**dict(newest), tokens: memory}
        return self._prefixes[tokens].copy()

    def _masked(
        self, logits: NDArray[np.float32], allowed: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        if allowed.shape != (self.vocab_size,):
            raise ValueError(
                f"the mask has shape {allowed.shape}; expected ({self.vocab_size},), a flag for "
                "each token of the vocabulary"
            )
        if not allowed.any():
            raise ModelError("the mask allows no token at all; it must allow an end token at least")
        return np.where(allowed, logits, np.float32(-np.inf))
