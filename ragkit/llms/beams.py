"""Beams of a model: several continuations of one prompt that grow side by side.

One interface for causal and encoder-decoder models, so that beam search and scoring know neither.
A prompt is read once; its continuations share it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ragkit import models
from ragkit.digests import file_digest, text_digest
from ragkit.durable import read_small
from ragkit.errors import ModelError, require
from ragkit.llms import adapters
from ragkit.llms.local import LocalLLM, _no_progress_bars
from ragkit.llms.soft_prompts import Prompts, model_inputs, read_prompts, split_vectors

_ROOM = 32  # tokens of an identifier
_LONGEST_PROMPT = 512  # every beam holds a copy of it
_CONFIG_BYTES = 1 << 20
ADAPTER_TASK = "generative retrieval"
LogProbs = NDArray[np.float32]


class Beams(Protocol):
    """Continuations of some prompts; begins with an empty one of each."""

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
        prompt_window: The longest prompt of a search, in tokens; None for any.
        identity: Equal for models that write alike: name, numbers, adapter and prompts.
        prompts: What it is asked with, by unit; see `ragkit.retrievers.rows.prompt_for`.
    """

    name: str
    vocab_size: int
    end_token: int
    fingerprint: str
    prompt_window: int | None
    identity: str
    prompts: Mapping[str, str]

    def encode(self, text: str) -> list[int]:
        """The tokens of a text within others: no token is added for its beginning or end."""

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""

    def encode_prompt(self, prompt: str) -> list[int]:
        """The tokens that `begin` reads, those the model begins every text with included."""

    def begin(self, *prompts: str) -> Beams:
        """One empty beam after each prompt, in one batch."""


class _Asked:
    """A model of transformers, and what it is asked with."""

    module: Any
    vocab_size: int
    identity: str
    prompts: Mapping[str, str]
    vectors: Any  # float32 (vectors, width), or None

    def __init__(self, module: Any, name: str, adapter: Path | None) -> None:
        prompts = read_prompts(adapter or models.resolve(name))  # before a weight is changed
        self._weights = _identity(module, name, adapter)
        self.module = module
        self.ask_with(prompts)

    def ask_with(self, prompts: Prompts) -> None:
        """Ask with other prompts from now on; the identity follows."""
        self.prompts, self.vectors = prompts.templates, prompts.vectors
        if self.vectors is not None:
            self.vectors = self.vectors.to(self.module.device)
        self.identity = f"{self._weights}{prompts.identity}"


class CausalBeams(_Asked):
    """A local causal model; see `BeamModel`.

    Args:
        llm: Its weights and tokenizer.
        adapter: A folder with an adapter for generative retrieval; it is merged into the weights.

    Raises:
        ModelError: The adapter is for another model.
    """

    def __init__(self, llm: LocalLLM, adapter: Path | None = None) -> None:
        super().__init__(llm.model, llm.name, adapter)
        self.name, self.vocab_size = llm.name, llm.vocab_size
        self.end_token = int(llm.tokenizer.eos_token_id)
        self.fingerprint = tokenizer_fingerprint(llm.tokenizer)
        self.prompt_window: int | None = min(_LONGEST_PROMPT, max(1, llm.context_window - _ROOM))
        self.tokenizer = llm.tokenizer
        self._llm = llm

    def encode(self, text: str) -> list[int]:
        """See `BeamModel`."""
        return self._llm.encode(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """See `BeamModel`."""
        return self._llm._decode(list(tokens))

    def encode_prompt(self, prompt: str) -> list[int]:
        """See `BeamModel`; a trained vector j is the token vocab_size + j."""
        first, *rest = split_vectors(prompt)
        tokens = self._llm._with_beginning(str(first))
        for each in rest:
            tokens += [self.vocab_size + each] if isinstance(each, int) else self.encode(each)
        return tokens

    def begin(self, *prompts: str) -> Beams:
        """One empty beam after each prompt; shorter ones are padded on the left.

        Raises:
            ValueError: A prompt has no token, or fills the window.
            ModelError: A prompt holds a trained vector that the model does not have.
        """
        import torch
        from transformers.cache_utils import DynamicCache

        read = [self.encode_prompt(prompt) for prompt in prompts]
        _check_lengths(read, self._llm.context_window - 1, self.name)
        cache = DynamicCache(config=self.module.config)
        beams = _TorchBeams(self.module, cache, "input_ids", self._llm.context_window)
        beams.fixed["logits_to_keep"] = 1
        batch, mask = _padded(read, self.module.device, left=True)
        if mask is not None:
            beams.mask = mask
        with torch.inference_mode():
            beams.read(model_inputs(self.module, batch, self.vectors))
        return beams


class Seq2SeqBeams(_Asked):
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
        # None: positions are relative, and texts of any length are read
        self._window: int | None = getattr(self.module.config, "max_position_embeddings", None)
        self.prompt_window = self._window
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
        """See `BeamModel`; a trained vector j is the token vocab_size + j."""
        first, *rest = split_vectors(prompt)
        with self._tokenizing:
            probe = self.tokenizer("a", return_special_tokens_mask=True)
        special = [bool(each) for each in probe["special_tokens_mask"]]
        ids, end = list(probe["input_ids"]), special[::-1].index(False)
        tokens = ids[: special.index(False)]
        for each in (first, *rest):
            tokens += [self.vocab_size + each] if isinstance(each, int) else self.encode(each)
        return [*tokens, *ids[len(ids) - end :]]

    def begin(self, *prompts: str) -> Beams:
        """One empty beam after each prompt.

        Raises:
            ValueError: A prompt has no token, or more than the encoder's window.
            ModelError: A prompt holds a trained vector that the model does not have.
        """
        import torch
        from transformers.cache_utils import DynamicCache, EncoderDecoderCache

        read = [self.encode_prompt(prompt) for prompt in prompts]
        _check_lengths(read, self.prompt_window, self.name)
        batch, mask = _padded(read, self.module.device, left=False)
        seen = {} if mask is None else {"attention_mask": mask}
        with torch.inference_mode():
            encoder = self.module.get_encoder()
            encoded = encoder(**model_inputs(encoder, batch, self.vectors), **seen)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        beams = _TorchBeams(self.module, cache, "decoder_input_ids", self._window)
        beams.by_row = {"encoder_outputs": encoded, **seen}
        start = int(self.module.config.decoder_start_token_id)
        begun = torch.full((len(read), 1), start, device=self.module.device)
        beams.read({"decoder_input_ids": begun})
        return beams


class _TorchBeams:
    """Beams as the rows of a batch, with their keys and values.

    Args:
        model: The transformers model.
        cache: An empty cache for it.
        name: The argument that takes further tokens, (beams, 1).
        window: The most positions it can tell apart; None for any number.

    Attributes:
        fixed: Other arguments of the model.
        by_row: Those that have a row a beam: tensors, or the encoder's output.
        mask: int64 (beams, positions), 0 where a prompt was padded; None if none was.
    """

    def __init__(self, model: Any, cache: Any, name: str, window: int | None) -> None:
        self._model, self._cache, self._name, self._window = model, cache, name, window
        self.fixed: dict[str, Any] = {}
        self.by_row: dict[str, Any] = {}
        self.mask: Any = None
        self._last: LogProbs = np.empty((0, 0), dtype=np.float32)

    def read(self, inputs: Mapping[str, Any]) -> None:
        """What the beams begin with: the arguments that hold it, (beams, tokens)."""
        self._forward(inputs)

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
            self._select(parents)
        if self.mask is not None:
            self.mask = torch.nn.functional.pad(self.mask, (0, 1), value=1)
        batch = torch.tensor([[token] for token in tokens], device=self._model.device)
        self._forward({self._name: batch})

    def _select(self, parents: Sequence[int]) -> None:
        """Every beam goes on from its parent's keys and values."""
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
            places = (self.mask.cumsum(-1) - 1).clamp(min=0)[:, -n:]
            masked = {"attention_mask": self.mask, "position_ids": places}
        with torch.inference_mode():
            output = self._model(
                **inputs, **self.fixed, **self.by_row, **masked,
                cache=self._cache, use_cache=True,
            )  # fmt: skip
            self._last = output.logits[:, -1].float().log_softmax(-1).cpu().numpy()


def _check_lengths(prompts: Sequence[Sequence[int]], longest: int | None, name: str) -> None:
    for tokens in prompts:
        if not 0 < len(tokens) <= (longest or len(tokens)):
            raise ValueError(
                f"the prompt has {len(tokens)} tokens; expected 1 to {longest or 'any number'}, "
                f"the window of {name!r}"
            )


def _padded(rows: Sequence[Sequence[int]], device: Any, *, left: bool) -> tuple[Any, Any]:
    """int64 (rows, longest), and 1 where it is no padding; None if nothing was padded."""
    import torch

    width = max(map(len, rows))
    pads = [[0] * (width - len(row)) for row in rows]
    full = [[*p, *row] if left else [*row, *p] for row, p in zip(rows, pads, strict=True)]
    batch = torch.tensor(full, device=device)
    if not any(pads):
        return batch, None
    ones = [[1] * len(row) for row in rows]
    mask = [[*p, *one] if left else [*one, *p] for one, p in zip(ones, pads, strict=True)]
    return batch, torch.tensor(mask, device=device)


def _selected(value: Any, rows: Any) -> Any:
    """Some rows of a tensor, or of the encoder's output."""
    if hasattr(value, "last_hidden_state"):
        return type(value)(last_hidden_state=value.last_hidden_state[rows])
    return value[rows]


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


def _identity(model: Any, name: str, adapter: Path | None) -> str:
    """Merge an adapter, if there is one; what the model is called then."""
    numbers = str(model.dtype).removeprefix("torch.")
    if adapter is None:
        return f"{name} {numbers}"
    adapters.merge(model, adapter)
    files = ("adapter_model.safetensors", "adapter_config.json")
    return " + ".join([f"{name} {numbers}", *(file_digest(adapter / file) for file in files)])
