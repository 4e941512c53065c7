"""A language model on this machine, through transformers and a generation loop of our own."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ragkit import models
from ragkit.errors import ModelError, require
from ragkit.llms import DEFAULTS, Dtype, adapters, check_request, decoding, exhaust, gguf
from ragkit.llms.constrain import JsonConstraint, vocabulary
from ragkit.llms.memory import Memory, Session
from ragkit.llms.sampling import ReplyText, choose
from ragkit.types import ChatOptions, Message, Reply, Usage

if TYPE_CHECKING:
    import torch

_CLOSING_TOKENS = 64  # what is left when a constrained reply must come to its end

TokenMask = Callable[[Sequence[int]], NDArray[np.bool_]]
"""The tokens generated so far to bool (vocab_size,): which may come next."""


class LocalLLM:
    """Continues conversations and reads probabilities, one conversation at a time.

    Same input, same bytes out: a padded batch rounds differently from a single conversation, and
    one changed token changes all that follow. So conversations run one after another, at any
    temperature, and each with its own random generator: a reply does not depend on its
    neighbours.

    Control tokens (`<|im_end|>`, …) that appear in a message are read as plain text: a retrieved
    passage cannot end its turn.

    bf16 is the default since it is faster (SmolLM2 after 1400 tokens of prompt on a 2-core CPU with
    AVX-512: reading 820 against 480 tokens/s, writing 21 against 13) and takes half the memory;
    next-token distributions differ from fp32's by a mean KL divergence of 0.0014 nats. Take
    float32 where log-probabilities are compared.

    Args:
        model: A name for `ragkit.models.resolve`: a folder in the format of transformers
            (safetensors only, no code from it is run) or a GGUF file, which is converted once.
        device: "cpu" or "cuda".
        dtype: The numbers it computes with.
        adapter: A folder with an adapter for this model, merged into its weights; what it was
            trained for is the caller's to check (`ragkit.llms.adapters.check_adapter`).

    Attributes:
        name: As given.
        context_window: The most tokens of prompt and reply together.
        vocab_size: The width of the logits.
        end_tokens: The ids that end a reply.
        model: The transformers model.
        tokenizer: The transformers tokenizer.

    Raises:
        ModelError: The model cannot be found or loaded, or the device is not there.
        MissingExtra: torch and transformers are not installed.

    >>> llm = LocalLLM("smollm2")
    >>> question = [Message("user", "What is the capital of France?")]
    >>> llm.chat([question], ChatOptions(max_tokens=16))[0].text
    'The capital of France is Paris.'
    """

    def __init__(
        self,
        model: str = "smollm2",
        *,
        device: str = "cpu",
        dtype: Dtype = "bfloat16",
        adapter: Path | None = None,
    ) -> None:
        if dtype not in ("bfloat16", "float16", "float32"):
            raise ValueError(f"dtype is {dtype!r}; expected 'bfloat16', 'float16' or 'float32'")
        self._torch: Any = require("torch", extra="local")
        with without_widgets():
            require("transformers", extra="local")
        self._device = _device(self._torch, device)
        path = models.resolve(model)
        if path.is_file():
            if path.suffix.lower() != ".gguf":
                raise ModelError(f"{model!r} is a file; expected a model's folder or a .gguf file")
            path = gguf.as_folder(path)
        self.name = model
        self.model, self.tokenizer = _load(model, path, getattr(self._torch, dtype))
        if adapter is not None:
            adapters.merge(self.model, adapter)
        self.model.to(self._device)
        if self._device.type == "cpu":
            decoding.use_one_query_attention(self.model)
        config = self.model.config.get_text_config()
        self.context_window = int(config.max_position_embeddings)
        self.vocab_size = int(config.vocab_size)
        self.end_tokens = _end_tokens(self.model, self.tokenizer)
        self._vocabulary: Any = None  # of the grammars; made when one is first asked for
        self._prefixes: dict[tuple[int, ...], Memory] = {}
        self._tokenizing = threading.Lock()  # encoding sets flags on the shared tokenizer

    def render(self, conversation: Sequence[Message]) -> str:
        """The prompt as text, up to where the assistant's reply begins.

        `chat` tokenises the conversation itself: here control tokens within a message can no
        longer be told from the template's own.
        """
        return str(self._fill_template(conversation, {"tokenize": False}))

    def count_tokens(self, conversation: Sequence[Message]) -> int:
        """Exactly the tokens of the rendered conversation."""
        return len(self.tokens(conversation))

    def tokens(self, conversation: Sequence[Message], *, reply: bool = True) -> list[int]:
        """The rendered conversation's tokens.

        Args:
            conversation: At least one message.
            reply: Whether they go up to where the assistant's next reply begins.
        """
        how = {"tokenize": True, "return_dict": False, "sanitize_control_tokens": True}
        return list(self._fill_template(conversation, {**how, "add_generation_prompt": reply}))

    def _fill_template(self, conversation: Sequence[Message], how: Mapping[str, bool]) -> Any:
        import jinja2

        check_request(conversation, DEFAULTS)
        if not self.tokenizer.chat_template:
            raise ModelError(
                f"{self.name!r} has no chat template: it is a base model and continues plain text "
                "only. Take its instruction-tuned version."
            )
        turns = [{"role": message.role, "content": message.content} for message in conversation]
        try:
            with self._tokenizing:
                return self.tokenizer.apply_chat_template(
                    turns, **{"add_generation_prompt": True, **how}
                )
        except jinja2.TemplateError as error:
            roles = ", ".join(message.role for message in conversation)
            raise ValueError(
                f"the chat template of {self.name!r} refuses turns of the roles {roles}: {error}"
            ) from error

    def encode(self, text: str) -> list[int]:
        """A text's tokens, without those that begin every text."""
        with self._tokenizing:
            return list(self.tokenizer.encode(text, add_special_tokens=False, verbose=False))

    def _decode(self, tokens: list[int]) -> str:
        with self._tokenizing:
            return str(
                self.tokenizer.decode(
                    tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
                )
            )

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
        random = self._torch.Generator().manual_seed(options.seed)
        memory = memory or Memory(decoding.growing_cache(self.model.config))
        constraint = self._constraint(options.schema)
        generated: list[int] = []
        unread, finished = memory.keep(prompt), False
        room = min(options.max_tokens, self.context_window - len(prompt))
        while len(generated) < room and not finished:
            tokens = constraint.forced() if constraint else []
            if not tokens and not (constraint and constraint.finished):
                logits = self._next_logits(unread, memory)  # (vocab_size,)
                if constraint:
                    closing = room - len(generated) <= _CLOSING_TOKENS
                    logits = self._masked(logits, constraint.allowed(closing=closing))
                if mask is not None:
                    logits = self._masked(logits, mask(tuple(generated)))
                tokens, unread = [choose(self._torch, logits, options, random)], []
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

    def _constraint(self, schema: Mapping[str, Any] | None) -> JsonConstraint | None:
        if schema is None:
            return None
        if self._vocabulary is None:
            self._vocabulary = vocabulary(self.tokenizer, self.vocab_size)
        return JsonConstraint(self._vocabulary, schema, self.vocab_size)

    def session(self) -> Session:
        """A conversation that grows: each reply reads only what was added since the last one."""
        return Session(self)

    def _prefix(self, conversation: Sequence[Message]) -> Memory:
        """A copy of what the model remembers of the system message, which sessions share."""
        tokens = tuple(self.tokens(conversation[:1], reply=False))
        if tokens not in self._prefixes:
            memory = Memory(decoding.growing_cache(self.model.config))
            if conversation[0].role == "system" and tokens:
                self._next_logits(list(tokens), memory)
            self._prefixes = {**dict(list(self._prefixes.items())[-3:]), tokens: memory}
        return self._prefixes[tokens].copy()

    def _next_logits(self, tokens: list[int], memory: Memory) -> torch.Tensor:
        # Not around the loop: a generator would leave inference mode on between its pieces.
        with self._torch.inference_mode():
            batch = self._torch.tensor([tokens], device=self._device)  # (1, tokens)
            output = self.model(
                input_ids=batch, cache=memory.cache, use_cache=True, logits_to_keep=1
            )
            memory.tokens += tokens
            return output.logits[0, -1].float().cpu()

    def _masked(self, logits: torch.Tensor, allowed: NDArray[np.bool_]) -> torch.Tensor:
        if allowed.shape != (self.vocab_size,):
            raise ValueError(
                f"the mask has shape {allowed.shape}; expected ({self.vocab_size},), a flag for "
                "each token of the vocabulary"
            )
        if not allowed.any():
            raise ModelError("the mask allows no token at all; it must allow an end token at least")
        forbidden = self._torch.from_numpy(~allowed)
        return logits.masked_fill(forbidden, -self._torch.inf)

    def logprobs(
        self, prompts: Sequence[str], continuations: Sequence[str]
    ) -> list[NDArray[np.float32]]:
        """Natural-log probability of each continuation token, float32 (tokens,) each.

        Prompt and continuation are tokenised apart, so no token straddles the joint: a
        continuation within a sentence begins with its space. A prompt is taken as it is
        (`render` makes one of a conversation), after the tokens the model begins every text with,
        if it has such and the prompt does not begin with them. The softmax is over the whole
        vocabulary, no mask, temperature 1.

        Raises:
            ValueError: The lists differ in length, a prompt has no token, or a pair does not fit
                into the window.
        """
        if len(prompts) != len(continuations):
            raise ValueError(
                f"{len(prompts)} prompts and {len(continuations)} continuations; expected pairs"
            )
        pairs = [
            (self._with_beginning(prompt), self.encode(continuation))
            for prompt, continuation in zip(prompts, continuations, strict=True)
        ]
        for at, (prompt, continuation) in enumerate(pairs):
            if not prompt:
                raise ValueError(f"prompt {at} is empty: there is nothing to continue")
            if len(prompt) + len(continuation) > self.context_window:
                raise ValueError(
                    f"prompt {at} has {len(prompt)} tokens and its continuation "
                    f"{len(continuation)}, and the window of {self.name!r} is "
                    f"{self.context_window}. Shorten the prompt."
                )
        return [self._score(prompt, continuation) for prompt, continuation in pairs]

    def _with_beginning(self, prompt: str) -> list[int]:
        with self._tokenizing:
            beginning = list(self.tokenizer.encode(""))
        beginning = [token for token in beginning if token not in self.end_tokens]
        tokens = self.encode(prompt)
        return tokens if tokens[: len(beginning)] == beginning else beginning + tokens

    def _score(self, prompt: list[int], continuation: list[int]) -> NDArray[np.float32]:
        if not continuation:
            return np.empty(0, dtype=np.float32)
        with self._torch.inference_mode():
            batch = self._torch.tensor([prompt + continuation], device=self._device)  # (1, n)
            output = self.model(
                input_ids=batch, use_cache=False, logits_to_keep=len(continuation) + 1
            )
            logps = output.logits[0, :-1].float().log_softmax(-1)  # (continuation, vocab_size)
            chosen = logps.gather(-1, batch[0, len(prompt) :, None])[:, 0]
            scores: NDArray[np.float32] = chosen.cpu().numpy()
            return scores


def _device(torch: Any, name: str) -> Any:
    kind = name.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"device is {name!r}; expected 'cpu', 'cuda' or 'cuda:1'")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            f"device is {name!r}, and torch {torch.__version__} sees no CUDA device. "
            "Take device='cpu', or install torch for CUDA on a machine with a GPU."
        )
    return torch.device(name)


def _load(name: str, folder: Path, dtype: object) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        with _no_progress_bars():
            config = AutoConfig.from_pretrained(folder, **local)
            if not any("Causal" in a or "Generation" in a for a in config.architectures or ()):
                raise ModelError(
                    f"{name!r} is no language model: its architecture is "
                    f"{', '.join(config.architectures or ['not given'])}"
                )
            tokenizer = AutoTokenizer.from_pretrained(folder, **local)
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, **local
            )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(
            f"the model {name!r} in {str(folder)!r} cannot be loaded ({error}). Expected "
            "config.json, tokenizer.json and *.safetensors in the format of transformers."
        ) from error
    return model.eval(), tokenizer


@contextlib.contextmanager
def without_widgets() -> Iterator[None]:
    """In a notebook tqdm warns where it has no widget for a bar; there will be no bar."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")
        yield


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    with without_widgets():
        from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    ends = getattr(model.generation_config, "eos_token_id", None)
    listed = ends if isinstance(ends, list) else [ends]
    return frozenset(int(end) for end in [*listed, tokenizer.eos_token_id] if end is not None)
