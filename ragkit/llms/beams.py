"""Beams of a model: several continuations of one prompt that grow side by side.

One interface for causal and encoder-decoder models, so that beam search and scoring know neither.
A prompt is read once; its continuations share it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ragkit import models
from ragkit.errors import ModelError, require

if TYPE_CHECKING:
    from ragkit.llms.local import LocalLLM

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
    """

    name: str
    vocab_size: int
    end_token: int
    fingerprint: str

    def encode(self, text: str) -> list[int]:
        """The tokens of a text within others: no token is added for its beginning or end."""

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""

    def begin(self, prompt: str) -> Beams:
        """One empty beam after the prompt."""


class CausalBeams:
    """A local causal model; see `BeamModel`.

    Args:
        llm: Its weights and tokenizer.
    """

    def __init__(self, llm: LocalLLM) -> None:
        self.name, self.vocab_size = llm.name, llm.vocab_size
        self.end_token = int(llm.tokenizer.eos_token_id)
        self.fingerprint = tokenizer_fingerprint(llm.tokenizer)
        self._llm = llm

    def encode(self, text: str) -> list[int]:
        """See `BeamModel`."""
        return self._llm._encode(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """See `BeamModel`."""
        return self._llm._decode(list(tokens))

    def begin(self, prompt: str) -> Beams:
        """One empty beam after the prompt.

        Raises:
            ValueError: The prompt has no token, or fills the window.
        """
        tokens = self._llm._with_beginning(prompt)
        if not 0 < len(tokens) < self._llm.context_window:
            raise ValueError(
                f"the prompt has {len(tokens)} tokens; expected 1 to "
                f"{self._llm.context_window - 1}, the window of {self.name!r}"
            )
        from transformers.cache_utils import DynamicCache

        cache = DynamicCache(config=self._llm.model.config)
        step = {"input_ids": [tokens]}
        return _TorchBeams(self._llm.model, cache, step, "input_ids")


class Seq2SeqBeams:
    """An encoder-decoder model of transformers (BART, T5) from a folder; see `BeamModel`.

    Args:
        model: A name for `ragkit.models.resolve`: a folder with safetensors.
        dtype: The numbers it computes with: "float32" or "bfloat16".

    Raises:
        ModelError: The folder holds no such model.
    """

    def __init__(self, model: str | Path, *, dtype: str = "float32") -> None:
        torch = require("torch", extra="local")
        transformers = require("transformers", extra="local")
        path = models.resolve(str(model))
        local = {"local_files_only": True, "trust_remote_code": False}
        try:
            self.model = transformers.AutoModelForSeq2SeqLM.from_pretrained(
                path, dtype=getattr(torch, dtype), use_safetensors=True, **local
            ).eval()
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(path, **local)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                f"the encoder-decoder model in {str(path)!r} cannot be loaded ({error}); expected "
                "config.json, tokenizer.json and *.safetensors in the format of transformers"
            ) from error
        self.name = str(model)
        self.vocab_size = int(self.model.config.vocab_size)
        self.end_token = int(self.model.config.eos_token_id)
        self.fingerprint = tokenizer_fingerprint(self.tokenizer)
        self._tokenizing = threading.Lock()

    def encode(self, text: str) -> list[int]:
        """See `BeamModel`."""
        with self._tokenizing:
            return list(self.tokenizer.encode(text, add_special_tokens=False, verbose=False))

    def decode(self, tokens: Sequence[int]) -> str:
        """See `BeamModel`."""
        with self._tokenizing:
            return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def begin(self, prompt: str) -> Beams:
        """One empty beam after the prompt."""
        import torch
        from transformers.cache_utils import DynamicCache, EncoderDecoderCache

        with self._tokenizing:
            tokens = list(self.tokenizer.encode(prompt, truncation=True))
        with torch.inference_mode():
            encoded = self.model.get_encoder()(input_ids=torch.tensor([tokens]))
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        step = {
            "decoder_input_ids": [[int(self.model.config.decoder_start_token_id)]],
            "encoder_outputs": encoded,
        }
        return _TorchBeams(self.model, cache, step, "decoder_input_ids")


class _TorchBeams:
    """Beams as the rows of a batch, with their keys and values."""

    def __init__(self, model: Any, cache: Any, first: dict[str, Any], name: str) -> None:
        self._model, self._cache, self._name = model, cache, name
        self._fixed = {key: value for key, value in first.items() if key != name}
        self._last = self._forward(first[name])

    def _forward(self, tokens: Sequence[Sequence[int]]) -> LogProbs:
        import torch

        with torch.inference_mode():
            batch = torch.tensor(tokens, device=self._model.device)  # (beams, tokens)
            output = self._model(
                **{self._name: batch}, **self._fixed, past_key_values=self._cache, use_cache=True
            )
            found: LogProbs = output.logits[:, -1].float().log_softmax(-1).cpu().numpy()
            return found

    def logprobs(self) -> LogProbs:
        return self._last

    def advance(self, parents: Sequence[int], tokens: Sequence[int]) -> None:
        import torch

        n_before = len(self._last)
        if list(parents) != list(range(n_before)):
            rows = torch.tensor(list(parents), device=self._model.device)
            self._cache.batch_select_indices(rows)
            self._select_encoded(rows)
        self._last = self._forward([[token] for token in tokens])

    def _select_encoded(self, rows: Any) -> None:
        encoded = self._fixed.get("encoder_outputs")
        if encoded is not None:
            states = encoded.last_hidden_state
            keep = rows if len(states) == len(self._last) else rows * 0
            self._fixed["encoder_outputs"] = type(encoded)(last_hidden_state=states[keep])


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """A digest of a transformers tokenizer: its vocabulary, merges and normalisation."""
    from ragkit.digests import text_digest

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return text_digest(str(backend.to_str()))
    return text_digest(repr(sorted(tokenizer.get_vocab().items())))
