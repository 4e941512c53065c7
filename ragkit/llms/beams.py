"""Batched beams over causal and encoder-decoder models, behind one interface.

Beam search and scoring use only this interface. Each prompt is read once; its continuations share
the cached keys and values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ragkit import models
from ragkit.digests import file_digest, text_digest
from ragkit.durable import read_small
from ragkit.errors import ModelError, require
from ragkit.forks import ForkSafeLock, one_thread_after_fork
from ragkit.llms.adapters import check_adapter, merge_adapter
from ragkit.llms.local import LocalLLM, _no_progress_bars
from ragkit.llms.soft_prompts import Prompts, model_inputs, read_prompts, split_vectors

_RESERVED_TOKENS = 32  # left for an identifier after the longest prompt
_MAX_PROMPT_TOKENS = 512  # every beam has a copy of the prompt's keys and values
_CONFIG_BYTES = 1 << 20
ADAPTER_TASK = "generative retrieval"
LogProbs = NDArray[np.float32]


class Beams(Protocol):
    """A batch of continuations, initially one empty continuation per prompt."""

    def logprobs(self) -> LogProbs:
        """Return the natural-log probabilities of each beam's next token.

        Returns:
            float32 (beams, vocab_size), normalised over the whole vocabulary without a mask.
        """

    def advance(self, parents: Sequence[int], tokens: Sequence[int]) -> None:
        """Replace the beams: beam i becomes beam parents[i] followed by tokens[i]."""


class BeamModel(Protocol):
    """A model for constrained beam search.

    Attributes:
        name: Name that the model was loaded by.
        vocab_size: Width of the log-probabilities.
        end_token: Id of the end-of-text token.
        fingerprint: Fingerprint of the tokenizer; token ids are only valid for this tokenizer.
        prompt_window: Maximum prompt length of a search in tokens; None for no limit.
        identity: Name, dtype, adapter and prompts; equal for models with the same outputs.
        prompts: Prompt template by unit; see `ragkit.retrievers.rows.prompt_for`.
    """

    name: str
    vocab_size: int
    end_token: int
    fingerprint: str
    prompt_window: int | None
    identity: str
    prompts: Mapping[str, str]

    def encode(self, text: str) -> list[int]:
        """Tokenise a text without adding special tokens."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Decode tokens to text."""

    def encode_prompt(self, prompt: str) -> list[int]:
        """Tokenise a prompt as `begin` reads it, with the model's special tokens."""

    def begin(self, *prompts: str) -> Beams:
        """Read the prompts in one batch and return one empty beam for each."""


class _PromptedModel:
    """A transformers model with its prompt templates."""

    module: Any
    vocab_size: int
    identity: str
    prompts: Mapping[str, str]
    vectors: Any  # float32 (vectors, width), or None

    def __init__(self, module: Any, name: str, adapter: Path | None) -> None:
        prompts = read_prompts(adapter or models.resolve(name))  # may fail: before weights change
        self._weights = _merge_and_identify(module, name, adapter)
        self.module = module
        self.set_prompts(prompts)

    def set_prompts(self, prompts: Prompts) -> None:
        """Replace the prompts, and update the identity."""
        self.prompts, self.vectors = prompts.templates, prompts.vectors
        if self.vectors is not None:
            self.vectors = self.vectors.to(self.module.device)
        self.identity = f"{self._weights}{prompts.identity}"


class CausalBeams(_PromptedModel):
    """A local causal `BeamModel`.

    Args:
        llm: Provides weights and tokenizer.
        adapter: Folder of an adapter for generative retrieval, which is merged into the weights.

    Raises:
        ModelError: The adapter was trained on another model.
    """

    def __init__(self, llm: LocalLLM, adapter: Path | None = None) -> None:
        super().__init__(llm.model, llm.name, adapter)
        self.name, self.vocab_size = llm.name, llm.vocab_size
        self.end_token = int(llm.tokenizer.eos_token_id)
        self.fingerprint = tokenizer_fingerprint(llm.tokenizer)
        self.prompt_window: int | None = min(
            _MAX_PROMPT_TOKENS, max(1, llm.context_window - _RESERVED_TOKENS)
        )
        self.tokenizer = llm.tokenizer
        self._llm = llm

    def encode(self, text: str) -> list[int]:
        """See `BeamModel`."""
        return self._llm.encode(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """See `BeamModel`."""
        return self._llm._decode(list(tokens))

    def encode_prompt(self, prompt: str) -> list[int]:
        """See `BeamModel`; trained vector j is encoded as the token vocab_size + j."""
        first, *rest = split_vectors(prompt)
        tokens = self._llm._with_beginning(str(first))
        for part in rest:
            tokens += [self.vocab_size + part] if isinstance(part, int) else self.encode(part)
        return tokens

    def begin(self, *prompts: str) -> Beams:
        """Read the prompts, left-padded to one length, and return one empty beam for each.

        Raises:
            ValueError: A prompt is empty, or fills the context window.
            ModelError: A prompt uses a trained vector that the model does not have.
        """
        import torch
        from transformers.cache_utils import DynamicCache

        encoded_prompts = [self.encode_prompt(prompt) for prompt in prompts]
        _check_lengths(encoded_prompts, self._llm.context_window - 1, self.name)
        cache = DynamicCache(config=self.module.config)
        beams = _TorchBeams(self.module, cache, "input_ids", self._llm.context_window)
        beams.fixed["logits_to_keep"] = 1
        batch, mask = _padded(encoded_prompts, self.module.device, left=True)
        if mask is not None:
            beams.mask = mask
        with torch.inference_mode():
            beams.prefill(model_inputs(self.module, batch, self.vectors))
        return beams


class Seq2SeqBeams(_PromptedModel):
    """An encoder-decoder `BeamModel` (BART, T5) loaded with transformers.

    Args:
        model: Name for `ragkit.models.resolve` of a folder with safetensors.
        dtype: Floating-point type of the computation: "float32" or "bfloat16".
        device: "cpu" or "cuda".
        adapter: Folder of an adapter; see `CausalBeams`.

    Raises:
        ModelError: The model cannot be loaded, or the adapter was trained on another model.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        dtype: str = "float32",
        device: str = "cpu",
        adapter: Path | None = None,
    ) -> None:
        if dtype not in ("bfloat16", "float32"):
            raise ValueError(f"dtype is {dtype!r}; expected 'bfloat16' or 'float32'")
        torch = require("torch", extra="local")
        one_thread_after_fork("torch")
        transformers = require("transformers", extra="local")
        path = models.resolve(str(model))
        local = {"local_files_only": True, "trust_remote_code": False}
        try:
            with _no_progress_bars():
                module = transformers.AutoModelForSeq2SeqLM.from_pretrained(
                    path, dtype=getattr(torch, dtype), use_safetensors=True, **local
                )
            module.eval().to(device)
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(path, **local)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                f"the encoder-decoder model in {str(path)!r} cannot be loaded ({error}); expected "
                "config.json, tokenizer.json and *.safetensors in the format of transformers"
            ) from error
        self.name = str(model)
        super().__init__(module, self.name, adapter)
        self.vocab_size = int(self.module.config.vocab_size)
        self.end_token = int(self.module.config.eos_token_id)
        self.fingerprint = tokenizer_fingerprint(self.tokenizer)
        # None for relative positions, which do not limit the length
        self._window: int | None = getattr(self.module.config, "max_position_embeddings", None)
        self.prompt_window = self._window
        self._tokenizing = ForkSafeLock()

    def encode(self, text: str) -> list[int]:
        """See `BeamModel`."""
        with self._tokenizing:
            return list(self.tokenizer.encode(text, add_special_tokens=False, verbose=False))

    def decode(self, tokens: Sequence[int]) -> str:
        """See `BeamModel`."""
        with self._tokenizing:
            return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def encode_prompt(self, prompt: str) -> list[int]:
        """See `BeamModel`; trained vector j is encoded as the token vocab_size + j."""
        first, *rest = split_vectors(prompt)
        with self._tokenizing:
            probe = self.tokenizer("a", return_special_tokens_mask=True)
        special = [bool(flag) for flag in probe["special_tokens_mask"]]
        ids, n_suffix = list(probe["input_ids"]), special[::-1].index(False)
        tokens = ids[: special.index(False)]
        for part in (first, *rest):
            tokens += [self.vocab_size + part] if isinstance(part, int) else self.encode(part)
        return [*tokens, *ids[len(ids) - n_suffix :]]

    def begin(self, *prompts: str) -> Beams:
        """Encode the prompts in one batch and return one empty beam for each.

        Raises:
            ValueError: A prompt is empty, or longer than the encoder's window.
            ModelError: A prompt uses a trained vector that the model does not have.
        """
        import torch
        from transformers.cache_utils import DynamicCache, EncoderDecoderCache

        encoded_prompts = [self.encode_prompt(prompt) for prompt in prompts]
        _check_lengths(encoded_prompts, self.prompt_window, self.name)
        batch, mask = _padded(encoded_prompts, self.module.device, left=False)
        masked = {} if mask is None else {"attention_mask": mask}
        with torch.inference_mode():
            encoder = self.module.get_encoder()
            encoded = encoder(**model_inputs(encoder, batch, self.vectors), **masked)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        beams = _TorchBeams(self.module, cache, "decoder_input_ids", self._window)
        beams.by_row = {"encoder_outputs": encoded, **masked}
        start = int(self.module.config.decoder_start_token_id)
        start_tokens = torch.full((len(prompts), 1), start, device=self.module.device)
        beams.prefill({"decoder_input_ids": start_tokens})
        return beams


class _TorchBeams:
    """Beams as the rows of a batch that share one key-value cache.

    Args:
        model: The transformers model.
        cache: An empty cache for the model.
        name: Name of the model's argument for further tokens, (beams, 1).
        window: Maximum number of positions; None for no limit.

    Attributes:
        fixed: Model arguments that do not depend on the beams.
        by_row: Model arguments with one row per beam: tensors, or the encoder's output.
        mask: int64 (beams, positions), 0 at padding; None without padding.
    """

    def __init__(self, model: Any, cache: Any, name: str, window: int | None) -> None:
        self._model, self._cache, self._name, self._window = model, cache, name, window
        self.fixed: dict[str, Any] = {}
        self.by_row: dict[str, Any] = {}
        self.mask: Any = None
        self._last: LogProbs = np.empty((0, 0), dtype=np.float32)

    def prefill(self, inputs: Mapping[str, Any]) -> None:
        """Read the prompts, passed as model arguments of shape (beams, tokens, …)."""
        self._forward(inputs)

    def logprobs(self) -> LogProbs:
        return self._last

    def advance(self, parents: Sequence[int], tokens: Sequence[int]) -> None:
        import torch

        if self._cache.get_seq_length() == self._window:
            raise ValueError(
                f"the beams fill the model's context window of {self._window} tokens; "
                "shorten the prompt, or lower max_tokens of the search"
            )
        if list(parents) != list(range(len(self._last))):
            self._select(parents)
        if self.mask is not None:
            self.mask = torch.nn.functional.pad(self.mask, (0, 1), value=1)
        batch = torch.tensor([[token] for token in tokens], device=self._model.device)
        self._forward({self._name: batch})

    def _select(self, parents: Sequence[int]) -> None:
        """Copy each parent's keys, values and mask to its beams."""
        import torch

        rows = torch.tensor(list(parents), device=self._model.device)
        self._cache.batch_select_indices(rows)
        self.by_row = {name: _selected(value, rows) for name, value in self.by_row.items()}
        self.mask = None if self.mask is None else self.mask[rows]

    def _forward(self, inputs: Mapping[str, Any]) -> None:
        import torch

        masked = {}
        if self.mask is not None:
            n = next(iter(inputs.values())).shape[1]
            positions = (self.mask.cumsum(-1) - 1).clamp(min=0)[:, -n:]
            masked = {"attention_mask": self.mask, "position_ids": positions}
        with torch.inference_mode():
            output = self._model(
                **inputs, **self.fixed, **self.by_row, **masked,
                cache=self._cache, use_cache=True,
            )  # fmt: skip
            self._last = output.logits[:, -1].float().log_softmax(-1).cpu().numpy()


def _check_lengths(prompts: Sequence[Sequence[int]], max_tokens: int | None, name: str) -> None:
    for tokens in prompts:
        if not 0 < len(tokens) <= (max_tokens or len(tokens)):
            raise ValueError(
                f"the prompt has {len(tokens)} tokens; expected 1 to {max_tokens or 'any number'}, "
                f"the window of {name!r}"
            )


def _padded(rows: Sequence[Sequence[int]], device: Any, *, left: bool) -> tuple[Any, Any]:
    """Pad rows to one length with 0.

    Returns:
        int64 (rows, longest), and its mask with 0 at padding; None if all rows have one length.
    """
    import torch

    width = max(map(len, rows))
    pads = [[0] * (width - len(row)) for row in rows]
    padded = [[*p, *row] if left else [*row, *p] for row, p in zip(rows, pads, strict=True)]
    batch = torch.tensor(padded, device=device)
    if not any(pads):
        return batch, None
    ones = [[1] * len(row) for row in rows]
    mask = [[*p, *one] if left else [*one, *p] for one, p in zip(ones, pads, strict=True)]
    return batch, torch.tensor(mask, device=device)


def _selected(value: Any, rows: Any) -> Any:
    """Select rows of a tensor or of the encoder's output."""
    if hasattr(value, "last_hidden_state"):
        return type(value)(last_hidden_state=value.last_hidden_state[rows])
    return value[rows]


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Return a digest of a transformers tokenizer: its vocabulary, merges and normalisation.

    Truncation and padding are left out, because each call sets them.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return text_digest(repr(sorted(tokenizer.get_vocab().items())))
    state = {**json.loads(backend.to_str()), "truncation": None, "padding": None}
    return text_digest(json.dumps(state))


def load_beam_model(
    name: str, *, adapter: str | Path | None = None, device: str = "cpu"
) -> BeamModel:
    """Load a causal or an encoder-decoder model for beam search, as its config.json says.

    Args:
        name: `smollm2`, a path, or `hf:ORG/NAME`.
        adapter: Adapter folder written by `ragkit train generative`.
        device: "cpu" or "cuda".

    Raises:
        ModelError: The model cannot be found, or the adapter was trained on another model.
        MissingExtra: The packages for local models are not installed.
    """
    folder = None if adapter is None else Path(adapter)
    if folder is not None:
        check_adapter(folder, name, ADAPTER_TASK)
    path = models.resolve(name)
    if _is_encoder_decoder(path):
        return Seq2SeqBeams(name, adapter=folder, device=device)
    return CausalBeams(LocalLLM(name, device=device), folder)


def _is_encoder_decoder(path: Path) -> bool:
    file = path / "config.json"
    if not file.is_file():
        return False
    try:
        return bool(json.loads(read_small(file, _CONFIG_BYTES))["is_encoder_decoder"])
    except KeyError:
        return False
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"{str(file)!r} cannot be read ({error})") from error


def _merge_and_identify(model: Any, name: str, adapter: Path | None) -> str:
    """Merge the adapter into the weights, if any; return name, dtype and adapter digests."""
    dtype = str(model.dtype).removeprefix("torch.")
    if adapter is None:
        return f"{name} {dtype}"
    merge_adapter(model, adapter)
    files = ("adapter_model.safetensors", "adapter_config.json")
    return " + ".join([f"{name} {dtype}", *(file_digest(adapter / file) for file in files)])
