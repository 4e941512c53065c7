"""Beams of a model: several continuations of one prompt that grow side by side.

One interface for causal and encoder-decoder models, so that beam search and scoring know neither.
A prompt is read once; its continuations share it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ragkit import models
from ragkit.digests import file_digest, text_digest
from ragkit.errors import ModelError, require
from ragkit.llms import adapters
from ragkit.llms.local import LocalLLM, _no_progress_bars

ADAPTER_TASK = "generative retrieval"
LogProbs = NDArray[np.float32]


class Beams(Protocol):
    """Continuations of one prompt; begins with a single empty one."""

    def logprobs(self) -> LogProbs:
        """Natural-log probabilities of each beam's next token, float32 (beams, vocab_size).

        Over the whole vocabulary: nothing is masked.
        """

    def advance(self, parents: Sequence[int], tokens: Sequence[int]) -> None:
        """Replace the beams: beam i becomes beam parents[i] followed by tokens[i]."""


class BeamModel(Protocol):
    """A model whose continuations can be searched.

    Attributes:
        name: As it was loaded.
        vocab_size: The width of the log-probabilities.
        end_token: What ends a text.
        fingerprint: Of its tokenizer: token ids of another one mean nothing to it.
        identity: Equal for models that write alike: name, numbers and adapter.
    """

    name: str
    vocab_size: int
    end_token: int
    fingerprint: str
    identity: str

    def encode(self, text: str) -> list[int]:
        """The tokens of a text within others: no token is added for its beginning or end."""

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""

    def encode_prompt(self, prompt: str) -> list[int]:
        """The tokens that `begin` reads, those the model begins every text with included."""

    def begin(self, prompt: str) -> Beams:
        """One empty beam after the prompt."""


class CausalBeams:
    """A local causal model; see `BeamModel`.

    Args:
        llm: Its weights and tokenizer.
        adapter: A folder with an adapter for generative retrieval; it is merged into the weights.

    Raises:
        ModelError: The adapter is for another model.
    """

    def __init__(self, llm: LocalLLM, adapter: Path | None = None) -> None:
        self.name, self.vocab_size = llm.name, llm.vocab_size
        self.identity = _identity(llm.model, llm.name, adapter)
        self.end_token = int(llm.tokenizer.eos_token_id)
        self.fingerprint = tokenizer_fingerprint(llm.tokenizer)
        self.module, self.tokenizer = llm.model, llm.tokenizer
        self._llm = llm

    def encode(self, text: str) -> list[int]:
        """See `BeamModel`."""
        return self._llm._encode(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """See `BeamModel`."""
        return self._llm._decode(list(tokens))

    def encode_prompt(self, prompt: str) -> list[int]:
        """See `BeamModel`."""
        return self._llm._with_beginning(prompt)

    def begin(self, prompt: str) -> Beams:
        """One empty beam after the prompt.

        Raises:
            ValueError: The prompt has no token, or fills the window.
        """
        tokens = self.encode_prompt(prompt)
        if not 0 < len(tokens) < self._llm.context_window:
            raise ValueError(
                f"the prompt has {len(tokens)} tokens; expected 1 to "
                f"{self._llm.context_window - 1}, the window of {self.name!r}"
            )
        from transformers.cache_utils import DynamicCache

        cache = DynamicCache(config=self._llm.model.config)
        fixed = {"logits_to_keep": 1}
        beams = _TorchBeams(self._llm.model, cache, "input_ids", fixed, self._llm.context_window)
        beams.read(tokens)
        return beams


class Seq2SeqBeams:
    """An encoder-decoder model of transformers (BART, T5) from a folder; see `BeamModel`.

    Args:
        model: A name for `ragkit.models.resolve`: a folder with safetensors.
        dtype: The numbers it computes with: "float32" or "bfloat16".
        device: "cpu" or "cuda".
        adapter: As for `CausalBeams`.

    Raises:
        ModelError: The folder holds no such model, or the adapter is for another.
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
        transformers = require("transformers", extra="local")
        path = models.resolve(str(model))
        local = {"local_files_only": True, "trust_remote_code": False}
        try:
            with _no_progress_bars():
                self.module = transformers.AutoModelForSeq2SeqLM.from_pretrained(
                    path, dtype=getattr(torch, dtype), use_safetensors=True, **local
                )
            self.module.eval().to(device)
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(path, **local)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                f"the encoder-decoder model in {str(path)!r} cannot be loaded ({error}); expected "
                "config.json, tokenizer.json and *.safetensors in the format of transformers"
            ) from error
        self.name = str(model)
        self.identity = _identity(self.module, self.name, adapter)
        self.vocab_size = int(self.module.config.vocab_size)
        self.end_token = int(self.module.config.eos_token_id)
        self.fingerprint = tokenizer_fingerprint(self.tokenizer)
        # None: positions are relative, and texts of any length are read
        self._window: int | None = getattr(self.module.config, "max_position_embeddings", None)
        self._tokenizing = threading.Lock()

    def encode(self, text: str) -> list[int]:
        """See `BeamModel`."""
        with self._tokenizing:
            return list(self.tokenizer.encode(text, add_special_tokens=False, verbose=False))

    def decode(self, tokens: Sequence[int]) -> str:
        """See `BeamModel`."""
        with self._tokenizing:
            return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def encode_prompt(self, prompt: str) -> list[int]:
        """See `BeamModel`; cut to what the encoder's window takes."""
        longest = min(self._window, self.tokenizer.model_max_length) if self._window else None
        with self._tokenizing:
            return list(self.tokenizer.encode(prompt, truncation=True, max_length=longest))

    def begin(self, prompt: str) -> Beams:
        """One empty beam after the prompt, of which the encoder reads what its window takes.

        Raises:
            ValueError: The prompt has no token.
        """
        import torch
        from transformers.cache_utils import DynamicCache, EncoderDecoderCache

        tokens = self.encode_prompt(prompt)
        if not tokens:
            raise ValueError("the prompt has no token; expected at least 1")
        with torch.inference_mode():
            batch = torch.tensor([tokens], device=self.module.device)
            encoded = self.module.get_encoder()(input_ids=batch)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        fixed = {"encoder_outputs": encoded}
        beams = _TorchBeams(self.module, cache, "decoder_input_ids", fixed, self._window)
        beams.read([int(self.module.config.decoder_start_token_id)])
        return beams


class _TorchBeams:
    """Beams as the rows of a batch, with their keys and values.

    Args:
        model: The transformers model.
        cache: An empty cache for it.
        name: The argument that takes tokens.
        fixed: Its other arguments.
        window: The most positions it can tell apart; None for any number.
    """

    def __init__(
        self, model: Any, cache: Any, name: str, fixed: dict[str, Any], window: int | None
    ) -> None:
        self._model, self._cache, self._name, self._fixed = model, cache, name, fixed
        self._window = window
        self._last: LogProbs = np.empty((1, 0), dtype=np.float32)

    def read(self, tokens: Sequence[int]) -> None:
        """What the single beam begins with."""
        self._forward([tokens])

    def logprobs(self) -> LogProbs:
        return self._last

    def advance(self, parents: Sequence[int], tokens: Sequence[int]) -> None:
        import torch

        if self._cache.get_seq_length() == self._window:
            raise ValueError(
                f"the beams fill the model's window of {self._window} tokens; "
                "shorten the prompt, or search for fewer tokens"
            )
        if list(parents) != list(range(len(self._last))):
            rows = torch.tensor(list(parents), device=self._model.device)
            self._cache.batch_select_indices(rows)
            if "encoder_outputs" in self._fixed:
                encoded = self._fixed["encoder_outputs"]  # (beams, prompt, width)
                selected = type(encoded)(last_hidden_state=encoded.last_hidden_state[rows])
                self._fixed["encoder_outputs"] = selected
        self._forward([[token] for token in tokens])

    def _forward(self, tokens: Sequence[Sequence[int]]) -> None:
        import torch

        with torch.inference_mode():
            batch = torch.tensor(tokens, device=self._model.device)  # (beams, tokens)
            output = self._model(
                **{self._name: batch}, **self._fixed, past_key_values=self._cache, use_cache=True
            )
            self._last = output.logits[:, -1].float().log_softmax(-1).cpu().numpy()


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """A digest of a transformers tokenizer: its vocabulary, merges and normalisation.

    Not of truncation and padding, which each call sets anew.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return text_digest(repr(sorted(tokenizer.get_vocab().items())))
    state = {**json.loads(backend.to_str()), "truncation": None, "padding": None}
    return text_digest(json.dumps(state))


def load_beam_model(
    name: str, *, adapter: str | Path | None = None, device: str = "cpu"
) -> BeamModel:
    """A model that writes identifiers, causal or encoder-decoder as its folder says.

    Args:
        name: `smollm2`, a path, or `hf:ORG/NAME`.
        adapter: A folder that `ragkit train generative` wrote.
        device: "cpu" or "cuda".

    Raises:
        ModelError: There is no such model, or the adapter is for another.
        MissingExtra: The packages for local models are not installed.
    """
    folder = None if adapter is None else Path(adapter)
    if folder is not None:
        adapters.check_adapter(folder, name, ADAPTER_TASK)
    path = models.resolve(name)
    config = path / "config.json"
    if config.is_file() and json.loads(config.read_text()).get("is_encoder_decoder"):
        return Seq2SeqBeams(name, adapter=folder, device=device)
    return CausalBeams(LocalLLM(name, device=device), folder)


def _identity(model: Any, name: str, adapter: Path | None) -> str:
    """Merge an adapter, if there is one; what the model is called then."""
    numbers = str(model.dtype).removeprefix("torch.")
    if adapter is None:
        return f"{name} {numbers}"
    adapters.merge(model, adapter)
    return f"{name} {numbers} + {file_digest(adapter / 'adapter_model.safetensors')}"
