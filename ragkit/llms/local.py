"""Run local language models with transformers, in ragkit's generation loop."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ragkit import models
from ragkit.errors import ModelError, require
from ragkit.forks import ForkSafeLock, one_thread_after_fork
from ragkit.llms.adapters import merge_adapter
from ragkit.llms.chat import DEFAULTS, check_request
from ragkit.llms.constrain import vocabulary
from ragkit.llms.decoding import growing_cache, use_one_query_attention
from ragkit.llms.generating import GeneratingLLM
from ragkit.llms.gguf import as_folder
from ragkit.types import Message

Dtype = Literal["bfloat16", "float16", "float32"]


class LocalLLM(GeneratingLLM):
    """Language model of transformers that generates replies and scores continuations.

    The same input always gives the same bytes; see `GeneratingLLM`.

    Control tokens (`<|im_end|>`, …) in a message are encoded as plain text, so a retrieved passage
    cannot end its turn.

    bf16 is the default on processors with bf16 instructions: it is faster (SmolLM2 with 1400 tokens
    of prompt on a 2-core CPU with AVX-512: reading 820 against 480 tokens/s, writing 21 against 13)
    and takes half the memory. Next-token distributions differ from those of fp32 by a mean KL
    divergence of 0.0014 nats. On other processors, such as those with AVX2 only, reading is five
    times slower in bf16 than in fp32 (60 against 350 tokens/s), and fp32 is the default. Use
    float32 to compare log-probabilities.

    Args:
        model: A name for `ragkit.models.resolve`: a folder in the format of transformers
            (safetensors only; code in it is not run) or a GGUF file, which is converted once.
        device: "cpu" or "cuda".
        dtype: Floating-point type of the computation; None for a fast one on the device.
        adapter: Folder of an adapter for this model, merged into its weights. Check with
            `ragkit.llms.adapters.check_adapter` that it was trained for the task.

    Attributes:
        name: The argument `model`.
        adapter: The argument `adapter`.
        context_window: Maximum number of tokens of prompt and reply together.
        vocab_size: Length of the logits.
        end_tokens: Ids of the tokens that end a reply.
        model: The transformers model.
        tokenizer: The transformers tokenizer.

    Raises:
        ModelError: The model cannot be found or loaded, or the device is not available.
        MissingExtra: torch or transformers is not installed.

    >>> from ragkit.types import ChatOptions
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
        dtype: Dtype | None = None,
        adapter: Path | None = None,
    ) -> None:
        if dtype not in (None, "bfloat16", "float16", "float32"):
            raise ValueError(f"dtype is {dtype!r}; expected 'bfloat16', 'float16' or 'float32'")
        self._torch: Any = require("torch", extra="local")
        one_thread_after_fork("torch")
        with without_widgets():
            require("transformers", extra="local")
        self._device = _device(self._torch, device)
        dtype = dtype or _fast_dtype(self._torch, self._device)
        path = models.resolve(model)
        if path.is_file():
            if path.suffix.lower() != ".gguf":
                raise ModelError(f"{model!r} is a file; expected a model's folder or a .gguf file")
            path = as_folder(path)
        self.name, self.adapter = model, adapter
        self.model, self.tokenizer = _load(model, path, getattr(self._torch, dtype))
        if adapter is not None:
            merge_adapter(self.model, adapter)
        self.model.to(self._device)
        if self._device.type == "cpu":
            use_one_query_attention(self.model)
        super().__init__(_Transformer(self.model, self._torch))
        config = self.model.config.get_text_config()
        self.context_window = int(config.max_position_embeddings)
        self.vocab_size = int(config.vocab_size)
        self.end_tokens = _end_tokens(self.model, self.tokenizer)
        self._tokenizing = ForkSafeLock()  # encoding sets flags on the shared tokenizer

    def render(self, conversation: Sequence[Message]) -> str:
        """Return the prompt as text, up to the beginning of the assistant's reply.

        `chat` does not tokenise this text, because control tokens within a message cannot be
        distinguished from those of the template in it.
        """
        return str(self._fill_template(conversation, {"tokenize": False}))

    def tokens(self, conversation: Sequence[Message], *, reply: bool = True) -> list[int]:
        """See `GeneratingLLM.tokens`."""
        options = {"tokenize": True, "return_dict": False, "sanitize_control_tokens": True}
        return list(self._fill_template(conversation, {**options, "add_generation_prompt": reply}))

    def _fill_template(self, conversation: Sequence[Message], options: Mapping[str, bool]) -> Any:
        import jinja2

        check_request(conversation, DEFAULTS)
        if not self.tokenizer.chat_template:
            raise ModelError(
                f"{self.name!r} has no chat template: it is a base model and continues plain text "
                "only. Use its instruction-tuned version."
            )
        turns = [{"role": message.role, "content": message.content} for message in conversation]
        try:
            with self._tokenizing:
                return self.tokenizer.apply_chat_template(
                    turns, **{"add_generation_prompt": True, **options}
                )
        except jinja2.TemplateError as error:
            roles = ", ".join(message.role for message in conversation)
            raise ValueError(
                f"the chat template of {self.name!r} rejects turns of the roles {roles}: {error}"
            ) from error

    def encode(self, text: str) -> list[int]:
        """Tokenise a text, without special tokens at its beginning."""
        with self._tokenizing:
            return list(self.tokenizer.encode(text, add_special_tokens=False, verbose=False))

    def _decode(self, tokens: list[int]) -> str:
        with self._tokenizing:
            return str(
                self.tokenizer.decode(
                    tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
                )
            )

    def _grammar_vocabulary(self) -> Any:
        plain = copy(self.tokenizer.backend_tokenizer)
        plain.no_padding()
        plain.no_truncation()
        return vocabulary(plain.to_str(), self.vocab_size, self.tokenizer.eos_token_id)

    def logprobs(
        self, prompts: Sequence[str], continuations: Sequence[str]
    ) -> list[NDArray[np.float32]]:
        """Return the natural log-probability of each continuation token, float32 (tokens,) each.

        Prompt and continuation are tokenised separately, so that no token spans both: a
        continuation within a sentence begins with its space. A prompt is plain text (`render`
        makes one from a conversation). The model's beginning-of-text tokens are prepended if the
        prompt does not begin with them. The softmax is over the whole vocabulary, without a mask,
        at temperature 1.

        Raises:
            ValueError: The lists differ in length, a prompt is empty, or a pair does not fit into
                the context window.
        """
        if len(prompts) != len(continuations):
            raise ValueError(
                f"{len(prompts)} prompts and {len(continuations)} continuations; expected pairs"
            )
        pairs = [
            (self._with_beginning(prompt), self.encode(continuation))
            for prompt, continuation in zip(prompts, continuations, strict=True)
        ]
        for number, (prompt, continuation) in enumerate(pairs):
            if not prompt:
                raise ValueError(f"prompt {number} is empty; expected a text to continue")
            if len(prompt) + len(continuation) > self.context_window:
                raise ValueError(
                    f"prompt {number} has {len(prompt)} tokens and its continuation "
                    f"{len(continuation)}, but the window of {self.name!r} is "
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


class _Transformer:
    """`Engine` of a transformers model."""

    def __init__(self, model: Any, torch: Any) -> None:
        self._model, self._torch = model, torch

    def new_cache(self) -> Any:
        return growing_cache(self._model.config)

    def read(self, tokens: Sequence[int], cache: Any) -> NDArray[np.float32]:
        # Not around the generation loop: a generator would leave inference mode on when it yields.
        with self._torch.inference_mode():
            batch = self._torch.tensor([tokens], device=self._model.device)  # (1, tokens)
            output = self._model(input_ids=batch, cache=cache, use_cache=True, logits_to_keep=1)
            logits: NDArray[np.float32] = output.logits[0, -1].float().cpu().numpy()
            return logits


def _device(torch: Any, name: str) -> Any:
    kind = name.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"device is {name!r}; expected 'cpu', 'cuda' or 'cuda:1'")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            f"device is {name!r}, but torch {torch.__version__} finds no CUDA device. "
            "Use device='cpu', or install torch for CUDA on a machine with a GPU."
        )
    return torch.device(name)


def _fast_dtype(torch: Any, device: Any) -> Dtype:
    """Return bfloat16, or float32 on a CPU without bf16 matrix products in torch."""
    has_bf16 = device.type != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "bfloat16" if has_bf16 else "float32"


def _load(name: str, folder: Path, dtype: object) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        with _no_progress_bars():
            config = AutoConfig.from_pretrained(folder, **local)
            if not any("Causal" in a or "Generation" in a for a in config.architectures or ()):
                raise ModelError(
                    f"{name!r} is not a language model: its architecture is "
                    f"{', '.join(config.architectures or ['not specified'])}"
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
    """Suppress tqdm's warning about missing widgets in notebooks; no progress bar is shown."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")
        yield


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    with without_widgets():
        from transformers.utils import logging

    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    ends = getattr(model.generation_config, "eos_token_id", None)
    end_ids = ends if isinstance(ends, list) else [ends]
    return frozenset(int(end) for end in [*end_ids, tokenizer.eos_token_id] if end is not None)
