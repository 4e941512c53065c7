"""SmolLM2 in NumPy: it is ready in a second, where torch and transformers take six.

A Llama's forward pass is a page of arithmetic. For short prompts that page is as fast on a CPU as
torch in the same numbers; what it saves is the start, most of what a command line waits for.

Source: Touvron et al. 2023 (norms before each part, SwiGLU), Su et al. 2021 (rotary positions, by
halves as transformers lays them out), Ainslie et al. 2023 (query heads that share keys and values).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ragkit import models
from ragkit.digests import text_digest
from ragkit.durable import read_small
from ragkit.errors import ModelError, require
from ragkit.llms import DEFAULTS, adapters, check_request, gguf
from ragkit.llms.constrain import vocabulary
from ragkit.llms.generating import GeneratingLLM
from ragkit.types import Message

if TYPE_CHECKING:
    from ragkit.llms.local import LocalLLM

Array = NDArray[np.float32]

_ROOM = 512  # tokens that a cache begins with
_JSON_BYTES = 1 << 20
_START, _END = "<|im_start|>", "<|im_end|>"
# What the arithmetic below takes for granted; other models are transformers' to load.
_EXPECTED: Mapping[str, Any] = {
    "model_type": "llama", "hidden_act": "silu", "attention_bias": False, "mlp_bias": False,
    "tie_word_embeddings": True,
}  # fmt: skip
# Of SmolLM2's chat template: turns in ChatML, and a system message of its own where there is none.
_TEMPLATE = "10deff9cbf67494c687db783aabee114"


class LlamaLLM(GeneratingLLM):
    """Continues conversations with a model like SmolLM2, in float32 on the CPU.

    It replies as `LocalLLM` in float32 does, but for sums that are rounded in another order.

    Args:
        model: A name for `ragkit.models.resolve`; see `reads`.
        adapter: A folder with an adapter for this model, merged into its weights.

    Attributes:
        adapter: As given.

    Raises:
        ModelError: The model cannot be found or read, or is one that `reads` is false for.
        MissingExtra: The packages for local models are not installed.
    """

    def __init__(self, model: str = "smollm2", *, adapter: Path | None = None) -> None:
        folder = _folder(model)
        if not _is_read(folder):
            raise ModelError(f"{model!r} is no Llama with SmolLM2's turns; load it with LocalLLM")
        tokenizers = require("tokenizers", extra="local")
        safetensors = require("safetensors", extra="local")
        try:
            config = _json(folder / "config.json")
            weights = adapters.read_tensors(folder / "model.safetensors")
            self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
            template = _template(folder)
        except (OSError, ValueError, safetensors.SafetensorError) as error:
            raise ModelError(f"the model {model!r} cannot be read ({error})") from error
        # A message cannot end its turn: what looks like a control token there is plain text.
        self._tokenizer.encode_special_tokens = True
        self._system = re.findall(rf"{re.escape(_START)}system\n(.*?){re.escape(_END)}", template)[
            0
        ]
        if adapter is not None:
            shapes = {name: weight.shape for name, weight in weights.items()}
            for name, change in adapters.changes(adapter, shapes):
                weights[name] = weights[name] + change
        super().__init__(Llama(config, weights))
        self.name, self.adapter = model, adapter
        self.context_window = int(config["max_position_embeddings"])
        self.vocab_size = int(config["vocab_size"])
        self._start, self._end = map(self._tokenizer.token_to_id, (_START, _END))
        ends = _json(folder / "generation_config.json").get("eos_token_id", [])
        self.end_tokens = frozenset([self._end, *(ends if isinstance(ends, list) else [ends])])

    def tokens(self, conversation: Sequence[Message], *, reply: bool = True) -> list[int]:
        """See `GeneratingLLM.tokens`."""
        check_request(conversation, DEFAULTS)
        turns = [(message.role, message.content) for message in conversation]
        if turns[0][0] != "system":
            turns.insert(0, ("system", self._system))
        after = self._encode("\n")
        found: list[int] = []
        for role, content in turns:
            found += [self._start, *self._encode(f"{role}\n{content}"), self._end, *after]
        return found + ([self._start, *self._encode("assistant\n")] if reply else [])

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _decode(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def _grammar_vocabulary(self) -> Any:
        return vocabulary(self._tokenizer.to_str(), self.vocab_size, self._end)


def reads(model: str) -> bool:
    """Whether `LlamaLLM` can read a model; one that is no folder yet is converted first.

    Raises:
        ModelError: The model cannot be found.
        MissingExtra: It must be converted, and the packages for that are not installed.
    """
    return _is_read(_folder(model))


def load_quickly(model: str, adapter: Path | None = None) -> LlamaLLM | LocalLLM:
    """The model in NumPy if it can be read so, else by transformers; for short prompts on the CPU.

    Raises:
        ModelError: The model or the adapter cannot be found or read.
        MissingExtra: The packages for local models are not installed.
    """
    if reads(model):
        return LlamaLLM(model, adapter=adapter)
    from ragkit.llms.local import LocalLLM

    return LocalLLM(model, adapter=adapter)


def _folder(model: str) -> Path:
    path = models.resolve(model)
    return gguf.as_folder(path) if path.suffix.lower() == ".gguf" else path


def _is_read(folder: Path) -> bool:
    try:
        config, template = _json(folder / "config.json"), _template(folder)
    except (OSError, ValueError):
        return False
    plain = all(config.get(key, value) == value for key, value in _EXPECTED.items())
    rotary = config.get("rope_parameters", {}).get("rope_type") == "default"
    whole = (folder / "model.safetensors").is_file()
    return plain and rotary and whole and text_digest(template) == _TEMPLATE


def _json(file: Path) -> dict[str, Any]:
    return dict(json.loads(read_small(file, _JSON_BYTES)))


def _template(folder: Path) -> str:
    return read_small(folder / "chat_template.jinja", _JSON_BYTES).decode()


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer's weights, those that multiply the same rows stacked."""

    attention_norm: Array  # (width,)
    query_key_value: Array  # ((heads + 2 * shared) * head, width)
    output: Array  # (width, heads * head)
    norm: Array  # (width,)
    gate_up: Array  # (2 * inner, width)
    down: Array  # (width, inner)


class Llama:
    """The model as an `Engine`.

    Args:
        config: Its `config.json`.
        weights: By transformers' names, float32; the entries of stacked ones are taken out.

    Raises:
        ModelError: Weights are missing, or of another shape.
    """

    def __init__(self, config: Mapping[str, Any], weights: dict[str, Array]) -> None:
        self._n_heads, self._n_shared = config["num_attention_heads"], config["num_key_value_heads"]
        self._n_layers, self._head = config["num_hidden_layers"], config["head_dim"]
        self._epsilon = config["rms_norm_eps"]
        powers = np.arange(0, self._head, 2, dtype=np.float32) / self._head
        self._frequencies = 1 / np.float32(config["rope_parameters"]["rope_theta"]) ** powers
        shapes = _shapes(config)
        wrong = [name for name, shape in shapes.items() if _shape(weights, name) != shape]
        if wrong:
            raise ModelError(
                f"the model's weights {wrong[0]} are {_shape(weights, wrong[0])}; its "
                f"config.json says {shapes[wrong[0]]}"
            )
        self._embeddings = weights["model.embed_tokens.weight"]  # (vocab_size, width)
        self._norm = weights["model.norm.weight"]
        self._layers = [_layer(weights, f"model.layers.{i}.") for i in range(self._n_layers)]

    def new_cache(self) -> _Cache:
        """See `Engine`."""
        return _Cache(np.empty((2, self._n_layers, self._n_shared, _ROOM, self._head), np.float32))

    def read(self, tokens: Sequence[int], cache: _Cache) -> Array:
        """See `Engine`."""
        start, end = cache.grow(len(tokens))
        angles = np.arange(start, end, dtype=np.float32)[:, None] * self._frequencies
        turn = np.cos(angles)[:, None], np.sin(angles)[:, None]  # (tokens, 1, head / 2)
        x = self._embeddings[list(tokens)]  # (tokens, width)
        for n, layer in enumerate(self._layers):
            x += self._attend(self._normed(x, layer.attention_norm), layer, turn, cache.layer(n))
            gate, up = np.split(self._normed(x, layer.norm) @ layer.gate_up.T, 2, axis=1)
            with np.errstate(over="ignore"):  # of a gate far below 0: it is closed
                x += (gate / (1 + np.exp(-gate)) * up) @ layer.down.T
        last: Array = self._embeddings @ self._normed(x[-1:], self._norm)[0]
        return last

    def _normed(self, x: Array, weight: Array) -> Array:
        mean = np.mean(x * x, axis=1, keepdims=True)  # (tokens, 1)
        normed: Array = x / np.sqrt(mean + np.float32(self._epsilon)) * weight
        return normed

    def _attend(
        self, x: Array, layer: _Layer, turn: tuple[Array, Array], held: tuple[Array, Array]
    ) -> Array:
        n, shared = len(x), self._n_shared
        heads = (x @ layer.query_key_value.T).reshape(n, -1, self._head)
        turned = _turned(heads[:, : self._n_heads + shared], *turn)
        keys, values = held  # (shared, tokens so far, head), the new ones last
        keys[:, -n:] = turned[:, self._n_heads :].swapaxes(0, 1)
        values[:, -n:] = heads[:, self._n_heads + shared :].swapaxes(0, 1)
        queries = turned[:, : self._n_heads].reshape(n, shared, -1, self._head)
        queries = queries.transpose(1, 2, 0, 3)  # (shared, queries of each, tokens, head)
        rows: Array = queries.reshape(shared, -1, self._head) * np.float32(self._head**-0.5)
        weights = (rows @ keys.swapaxes(1, 2)).reshape(*queries.shape[:3], -1)
        if n > 1:
            later = ~np.tri(n, weights.shape[-1], weights.shape[-1] - n, dtype=bool)
            weights[:, :, later] = -np.inf
        weights -= weights.max(axis=-1, keepdims=True)
        np.exp(weights, out=weights)
        weights /= weights.sum(axis=-1, keepdims=True)
        found = weights.reshape(shared, -1, weights.shape[-1]) @ values
        found = found.reshape(queries.shape).transpose(2, 0, 1, 3).reshape(n, -1)
        return np.asarray(found @ layer.output.T, np.float32)


class _Cache:
    """Keys and values, float32 (2, layers, heads that share, room, head)."""

    def __init__(self, held: Array, length: int = 0) -> None:
        self._held, self._length = held, length

    def grow(self, n: int) -> tuple[int, int]:
        """Room for n tokens more: their first and last place, the last excluded."""
        start, self._length = self._length, self._length + n
        if self._length > self._held.shape[3]:
            old = self._held
            self._held = np.empty((*old.shape[:3], 2 * self._length, old.shape[4]), np.float32)
            self._held[:, :, :, :start] = old[:, :, :, :start]
        return start, self._length

    def layer(self, n: int) -> tuple[Array, Array]:
        """A layer's keys and values of all tokens so far."""
        keys, values = self._held[:, n, :, : self._length]
        return keys, values

    def crop(self, n: int) -> None:
        """Forget the last -n tokens."""
        self._length += n

    def __deepcopy__(self, _: object) -> _Cache:
        return _Cache(self._held.copy(), self._length)


def _turned(x: Array, cos: Array, sin: Array) -> Array:
    """Heads, (tokens, heads, head), turned by their places' angles."""
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def _layer(weights: dict[str, Array], prefix: str) -> _Layer:
    def stacked(*names: str) -> Array:
        parts = [weights.pop(f"{prefix}{name}.weight") for name in names]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    attention = "self_attn."
    return _Layer(
        stacked("input_layernorm"),
        stacked(*(f"{attention}{each}_proj" for each in "qkv")),
        stacked(f"{attention}o_proj"),
        stacked("post_attention_layernorm"),
        stacked("mlp.gate_proj", "mlp.up_proj"),
        stacked("mlp.down_proj"),
    )


def _shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The weights that a configuration asks for."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    head, shared = config["head_dim"], config["num_key_value_heads"] * config["head_dim"]
    all_heads = config["num_attention_heads"] * head
    layer = {
        "input_layernorm": (width,), "post_attention_layernorm": (width,),
        "self_attn.q_proj": (all_heads, width), "self_attn.k_proj": (shared, width),
        "self_attn.v_proj": (shared, width), "self_attn.o_proj": (width, all_heads),
        "mlp.gate_proj": (inner, width), "mlp.up_proj": (inner, width),
        "mlp.down_proj": (width, inner),
    }  # fmt: skip
    found: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], width), "model.norm.weight": (width,),
    }  # fmt: skip
    for n in range(config["num_hidden_layers"]):
        found |= {f"model.layers.{n}.{name}.weight": shape for name, shape in layer.items()}
    return found


def _shape(weights: Mapping[str, Array], name: str) -> tuple[int, ...] | None:
    return weights[name].shape if name in weights else None
