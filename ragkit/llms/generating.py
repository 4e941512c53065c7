"""The generation loop and cached sessions of local models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import ModelError
from ragkit.llms.chat import DEFAULTS, check_request, exhaust
from ragkit.llms.constrain import JsonConstraint
from ragkit.llms.kv_cache import KVCache
from ragkit.llms.sampling import ReplyText, sample_token
from ragkit.types import ChatOptions, Message, Reply, Usage

_CLOSING_TOKENS = 64  # remaining tokens at which a constrained reply starts to close
_MAX_CACHED_PREFIXES = 4  # system messages whose keys and values are cached

TokenMask = Callable[[Sequence[int]], NDArray[np.bool_]]
"""Maps the tokens generated so far to bool (vocab_size,): True for allowed next tokens."""


class Engine(Protocol):
    """A causal model's forward pass."""

    def new_cache(self) -> Any:
        """Return an empty cache that can be deep-copied; `crop(-n)` drops its last n tokens."""

    def read(self, tokens: Sequence[int], cache: Any) -> NDArray[np.float32]:
        """Append tokens to the cache and return the next token's logits, float32 (vocab_size,)."""


class GeneratingLLM(ABC):
    """Base class of local models, which generate one reply at a time.

    Replies are reproducible at any temperature. Conversations run one after another, because a
    padded batch rounds differently from a single conversation and one changed token changes all
    that follow. Each conversation has its own random generator, so that a reply does not depend on
    the others.

    Attributes:
        name: Name that the model was loaded by.
        context_window: Maximum number of tokens of prompt and reply together.
        vocab_size: Width of the logits.
        end_tokens: Ids of the tokens that end a reply.
    """

    name: str
    context_window: int
    vocab_size: int
    end_tokens: frozenset[int]

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._vocabulary: Any = None  # for grammars; built on first use
        self._prefixes: dict[tuple[int, ...], KVCache] = {}

    @abstractmethod
    def tokens(self, conversation: Sequence[Message], *, reply: bool = True) -> list[int]:
        """Render a conversation with the chat template and tokenise it.

        Args:
            conversation: At least one message.
            reply: Append the tokens that begin the assistant's next reply.
        """

    @abstractmethod
    def _decode(self, tokens: list[int]) -> str:
        """Decode tokens to text, without control tokens."""

    @abstractmethod
    def _grammar_vocabulary(self) -> Any:
        """Return the tokenizer in the form that `JsonConstraint` takes."""

    def count_tokens(self, conversation: Sequence[Message]) -> int:
        """Return the exact number of tokens of the rendered conversation."""
        return len(self.tokens(conversation))

    def chat(
        self,
        conversations: Sequence[Sequence[Message]],
        options: ChatOptions = DEFAULTS,
        *,
        mask: TokenMask | None = None,
    ) -> list[Reply]:
        """Generate one reply per conversation, one after another.

        `max_tokens` is capped by the space left in the context window; a reply that reaches either
        limit ends with "length". `completion_tokens` counts every generated token, including the
        end token.

        Args:
            conversations: Each with at least one message.
            options: Generation options for all conversations.
            mask: Restricts the next token; must allow an end token at some point.

        Raises:
            ValueError: A conversation exceeds the context window, or an option is out of range.
        """
        prompts = [self._checked_prompt(conversation, options) for conversation in conversations]
        return [exhaust(self._generate(prompt, options, mask)) for prompt in prompts]

    def stream(
        self,
        conversation: Sequence[Message],
        options: ChatOptions = DEFAULTS,
        *,
        mask: TokenMask | None = None,
    ) -> Generator[str, None, Reply]:
        """Yield the text that `chat` returns in pieces; the generator's value is the full reply.

        Nothing runs between two pieces, so closing the generator stops the generation.

        Raises:
            ValueError: See `chat`; raised by the call, before the first piece.
        """
        return self._generate(self._checked_prompt(conversation, options), options, mask)

    def session(self) -> Session:
        """Open a session for one growing conversation; each call reads only the new messages."""
        return Session(self)

    def _checked_prompt(self, conversation: Sequence[Message], options: ChatOptions) -> list[int]:
        check_request(conversation, options)
        prompt = self.tokens(conversation)
        if len(prompt) >= self.context_window:
            raise ValueError(
                f"the conversation has {len(prompt)} tokens, and the context window of "
                f"{self.name!r} is {self.context_window}, including at least one for the reply. "
                "Ask a shorter question, pass fewer or shorter passages, or use a model with a "
                "longer context window."
            )
        return prompt

    def _generate(
        self,
        prompt: list[int],
        options: ChatOptions,
        mask: TokenMask | None,
        cache: KVCache | None = None,
    ) -> Generator[str, None, Reply]:
        text = ReplyText(options.stop)
        random = np.random.default_rng(options.seed)
        cache = cache or KVCache(self._engine.new_cache())
        constraint = self._constraint(options.schema)
        generated: list[int] = []
        unread, finished = cache.truncate(prompt), False
        max_tokens = min(options.max_tokens, self.context_window - len(prompt))
        while len(generated) < max_tokens and not finished:
            tokens = constraint.forced() if constraint else []
            if not tokens and not (constraint and constraint.finished):
                logits = self._read(unread, cache)  # (vocab_size,)
                if constraint:
                    closing = max_tokens - len(generated) <= _CLOSING_TOKENS
                    logits = self._masked(logits, constraint.allowed(closing=closing))
                if mask is not None:
                    logits = self._masked(logits, mask(tuple(generated)))
                tokens, unread = [sample_token(logits, options, random)], []
                if constraint:
                    constraint.accept(tokens)
            cut = len(tokens) > max_tokens - len(generated)  # forced tokens may be many
            tokens = tokens[: max_tokens - len(generated)]
            unread = unread + tokens
            generated += tokens
            finished = not tokens or tokens[-1] in self.end_tokens
            if piece := text.update(self._decode(generated)):
                yield piece
            complete = bool(constraint and constraint.finished and not cut)
            finished = finished or text.stopped or complete
        if not text.stopped and (piece := text.flush()):
            yield piece
        usage = Usage(len(prompt), len(generated))
        return Reply(text.released, "stop" if finished else "length", usage)

    def _read(self, tokens: Sequence[int], cache: KVCache) -> NDArray[np.float32]:
        logits = self._engine.read(tokens, cache.cache)
        cache.tokens += tokens
        return logits

    def _constraint(self, schema: Mapping[str, Any] | None) -> JsonConstraint | None:
        if schema is None:
            return None
        if self._vocabulary is None:
            self._vocabulary = self._grammar_vocabulary()
        return JsonConstraint(self._vocabulary, schema, self.vocab_size)

    def _prefix(self, conversation: Sequence[Message]) -> KVCache:
        """Return a copy of the system message's cache, which sessions share."""
        tokens = tuple(self.tokens(conversation[:1], reply=False))
        if tokens not in self._prefixes:
            cache = KVCache(self._engine.new_cache())
            if conversation[0].role == "system" and tokens:
                self._read(tokens, cache)
            newest = list(self._prefixes.items())[1 - _MAX_CACHED_PREFIXES :]
            self._prefixes = {**dict(newest), tokens: cache}
        return self._prefixes[tokens].copy()

    def _masked(
        self, logits: NDArray[np.float32], allowed: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        if allowed.shape != (self.vocab_size,):
            raise ValueError(
                f"the mask has shape {allowed.shape}; expected ({self.vocab_size},), one flag per "
                "token of the vocabulary"
            )
        if not allowed.any():
            raise ModelError("the mask allows no token; it must allow at least an end token")
        return np.where(allowed, logits, np.float32(-np.inf))


class Session:
    """One growing conversation with a local model; implements `ragkit.llms.session.ChatSession`.

    The system message is read in one block and shared between sessions; later messages are read in
    the blocks in which they arrive. The same sequence of calls therefore gives the same bytes,
    whatever other sessions did before. (Replies may differ from those of `GeneratingLLM.chat`,
    which reads the prompt in one block, because sums are rounded in another order.)
    """

    def __init__(self, llm: GeneratingLLM) -> None:
        self._llm = llm
        self._cache: KVCache | None = None

    def chat(self, conversation: Sequence[Message], options: ChatOptions) -> Reply:
        """Return the reply to a conversation that continues the previous one."""
        prompt = self._llm._checked_prompt(conversation, options)
        if self._cache is None:
            self._cache = self._llm._prefix(conversation)
        return exhaust(self._llm._generate(prompt, options, None, self._cache))
