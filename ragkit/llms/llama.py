"""Run SmolLM2 in NumPy: it loads in a second, where torch and transformers take six.

For short prompts on a CPU the forward pass is as fast as torch's in the same floating-point type.
What it saves is the start, which is most of the latency of a command line.

Source: Touvron et al. 2023 (pre-normalisation, SwiGLU), Su et al. 2021 (rotary positions, by halves
as transformers lays them out), Ainslie et al. 2023 (grouped-query attention).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit import models
from ragkit.digests import text_digest
from ragkit.durable import read_small
from ragkit.errors import ModelError, check_installed
from ragkit.llms.adapters import read_tensors, weight_deltas
from ragkit.llms.chat import DEFAULTS, check_request
from ragkit.llms.constrain import vocabulary
from ragkit.llms.generating import GeneratingLLM
from ragkit.llms.gguf import as_folder
from ragkit.types import Message

Array = NDArray[np.float32]

_INITIAL_CAPACITY = 512  # tokens of a new cache
_JSON_BYTES = 1 << 20
_START, _END = "<|im_start|>", "<|im_end|>"
# What the forward pass below assumes; `LocalLLM` loads other models.
_EXPECTED: Mapping[str, Any] = {
    "model_type": "llama", "hidden_act": "silu", "attention_bias": False, "mlp_bias": False,
    "tie_word_embeddings": True,
}  # fmt: skip
# Digest of SmolLM2's chat template: ChatML, with a default system message. `tokens` implements it.
_TEMPLATE_DIGEST = "10deff9cbf67494c687db783aabee114"


class LlamaLLM(GeneratingLLM):
    """Language model like SmolLM2 in float32 on the CPU, without torch and transformers.

    Replies are those of `LocalLLM` in float32, except that sums are rounded in another order.

    Args:
        model: A name for `ragkit.models.resolve`; see `supports`.
        adapter: Folder of an adapter for this model, merged into its weights.

    Attributes:
        adapter: The argument `adapter`.

    Raises:
        ModelError: The model cannot be found or read, or `supports` returns False for it.
        MissingExtra: The model must be converted and gguf is not installed.
    """

    def __init__(self, model: str = "smollm2", *, adapter: Path | None = None) -> None:
        from safetensors import SafetensorError
        from tokenizers import Tokenizer

        folder = _folder(model)
        if not _is_supported(folder):
            raise ModelError(
                f"{model!r} is not a Llama with SmolLM2's chat template; load it with LocalLLM"
            )
        try:
            config = _read_json(folder / "config.json")
            weights = read_tensors(folder / "model.safetensors")
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            template = _read_template(folder)
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelError(f"the model {model!r} cannot be read ({error})") from error
        # Control tokens in a message are encoded as plain text, so that it cannot end its turn.
        self._tokenizer.encode_special_tokens = True
        system_turn = rf"{re.escape(_START)}system\n(.*?){re.escape(_END)}"
        self._default_system = re.findall(system_turn, template)[0]
        if adapter is not None:
            shapes = {name: weight.shape for name, weight in weights.items()}
            for name, delta in weight_deltas(adapter, shapes):
                weights[name] = weights[name] + delta
        super().__init__(Llama(config, weights))
        self.name, self.adapter = model, adapter
        self.context_window = int(config["max_position_embeddings"])
        self.vocab_size = int(config["vocab_size"])
        self._start, self._end = map(self._token_id, (_START, _END))
        ends = _read_json(folder / "generation_config.json").get("eos_token_id", [])
        self.end_tokens = frozenset([self._end, *(ends if isinstance(ends, list) else [ends])])

    def tokens(self, conversation: Sequence[Message], *, reply: bool = True) -> list[int]:
        """See `GeneratingLLM.tokens`."""
        check_request(conversation, DEFAULTS)
        turns = [(message.role, message.content) for message in conversation]
        if turns[0][0] != "system":
            turns.insert(0, ("system", self._default_system))
        separator = self._encode("\n")
        tokens: list[int] = []
        for role, content in turns:
            tokens += [self._start, *self._encode(f"{role}\n{content}"), self._end, *separator]
        return tokens + ([self._start, *self._encode("assistant\n")] if reply else [])

    def _token_id(self, token: str) -> int:
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise ModelError(f"the tokenizer of {self.name!r} has no token {token!r}")
        return number

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _decode(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def _grammar_vocabulary(self) -> Any:
        return vocabulary(self._tokenizer.to_str(), self.vocab_size, self._end)


def supports(model: str) -> bool:
    """Return True if `LlamaLLM` can load the model; a GGUF file is converted first.

    Raises:
        ModelError: The model cannot be found or converted.
        MissingExtra: The model must be converted and the packages for that are not installed.
    """
    return _is_supported(_folder(model))


def check_packages(model: str) -> None:
    """Check that the packages of `load_fast_llm` and of JSON schemas are installed.

    Nothing is loaded or converted, so a GGUF file is assumed to be of a supported model.

    Raises:
        ModelError: The model cannot be found.
        MissingExtra: A package is not installed.
    """
    path = models.resolve(model)
    if path.suffix.lower() == ".gguf":
        check_installed("gguf", extra="agent")
    elif not _is_supported(path):
        check_installed("torch", "transformers", extra="local")
    check_installed("llguidance", extra="agent")


def _folder(model: str) -> Path:
    path = models.resolve(model)
    return as_folder(path) if path.suffix.lower() == ".gguf" else path


def _is_supported(folder: Path) -> bool:
    try:
        config, template = _read_json(folder / "config.json"), _read_template(folder)
    except (OSError, ValueError):
        return False
    matches = all(config.get(key, value) == value for key, value in _EXPECTED.items())
    plain_rotary = config.get("rope_parameters", {}).get("rope_type") == "default"
    has_weights = (folder / "model.safetensors").is_file()  # not in several files
    known_template = text_digest(template) == _TEMPLATE_DIGEST
    return matches and plain_rotary and has_weights and known_template


def _read_json(file: Path) -> dict[str, Any]:
    return dict(json.loads(read_small(file, _JSON_BYTES)))


def _read_template(folder: Path) -> str:
    return read_small(folder / "chat_template.jinja", _JSON_BYTES).decode()


@dataclass(frozen=True, slots=True)
class _Layer:
    """Weights of a layer; those that multiply the same input are stacked."""

    attention_norm: Array  # (width,)
    query_key_value: Array  # ((heads + 2 * key heads) * head, width)
    output: Array  # (width, heads * head)
    norm: Array  # (width,)
    gate_up: Array  # (2 * inner, width)
    down: Array  # (width, inner)


class Llama:
    """Llama as an `Engine`.

    Args:
        config: The model's `config.json`.
        weights: float32 by name in transformers. Entries that are stacked are removed, so that the
            weights are not in memory twice.

    Raises:
        ModelError: Weights are missing or have the wrong shape.
    """

    def __init__(self, config: Mapping[str, Any], weights: dict[str, Array]) -> None:
        self._n_heads = config["num_attention_heads"]
        self._n_key_heads = config["num_key_value_heads"]
        self._n_layers, self._head = config["num_hidden_layers"], config["head_dim"]
        self._epsilon = config["rms_norm_eps"]
        powers = np.arange(0, self._head, 2, dtype=np.float32) / self._head
        self._frequencies = 1 / np.float32(config["rope_parameters"]["rope_theta"]) ** powers
        shapes = _shapes(config)
        wrong = [name for name, shape in shapes.items() if _shape(weights, name) != shape]
        if wrong:
            raise ModelError(
                f"the model's weights {wrong[0]} have shape {_shape(weights, wrong[0])}; "
                f"config.json expects {shapes[wrong[0]]}"
            )
        self._embeddings = weights["model.embed_tokens.weight"]  # (vocab_size, width)
        self._norm = weights["model.norm.weight"]
        self._layers = [_layer(weights, f"model.layers.{i}.") for i in range(self._n_layers)]

    def new_cache(self) -> _Cache:
        """See `Engine`."""
        shape = (2, self._n_layers, self._n_key_heads, _INITIAL_CAPACITY, self._head)
        return _Cache(np.empty(shape, np.float32))

    def read(self, tokens: Sequence[int], cache: _Cache) -> Array:
        """See `Engine`."""
        start, end = cache.grow(len(tokens))
        angles = np.arange(start, end, dtype=np.float32)[:, None] * self._frequencies
        rotation = np.cos(angles)[:, None], np.sin(angles)[:, None]  # (tokens, 1, head / 2)
        x = self._embeddings[list(tokens)]  # (tokens, width)
        for n, layer in enumerate(self._layers):
            normed = self._rms_norm(x, layer.attention_norm)
            x += self._attend(normed, layer, rotation, cache.layer(n))
            gate, up = np.split(self._rms_norm(x, layer.norm) @ layer.gate_up.T, 2, axis=1)
            with np.errstate(over="ignore"):  # far below 0 the gate is 0, as it should be
                x += (gate / (1 + np.exp(-gate)) * up) @ layer.down.T
        logits: Array = self._embeddings @ self._rms_norm(x[-1:], self._norm)[0]
        return logits

    def _rms_norm(self, x: Array, weight: Array) -> Array:
        mean = np.mean(x * x, axis=1, keepdims=True)  # (tokens, 1)
        normed: Array = x / np.sqrt(mean + np.float32(self._epsilon)) * weight
        return normed

    def _attend(
        self, x: Array, layer: _Layer, rotation: tuple[Array, Array], cached: tuple[Array, Array]
    ) -> Array:
        n, n_key_heads = len(x), self._n_key_heads
        heads = (x @ layer.query_key_value.T).reshape(n, -1, self._head)
        rotated = _rotate(heads[:, : self._n_heads + n_key_heads], *rotation)
        keys, values = cached  # (key heads, tokens so far, head), the new tokens last
        keys[:, -n:] = rotated[:, self._n_heads :].swapaxes(0, 1)
        values[:, -n:] = heads[:, self._n_heads + n_key_heads :].swapaxes(0, 1)
        queries = rotated[:, : self._n_heads].reshape(n, n_key_heads, -1, self._head)
        queries = queries.transpose(1, 2, 0, 3)  # (key heads, queries per key, tokens, head)
        rows: Array = queries.reshape(n_key_heads, -1, self._head) * np.float32(self._head**-0.5)
        weights = (rows @ keys.swapaxes(1, 2)).reshape(*queries.shape[:3], -1)
        if n > 1:
            future = ~np.tri(n, weights.shape[-1], weights.shape[-1] - n, dtype=bool)
            weights[:, :, future] = -np.inf
        weights -= weights.max(axis=-1, keepdims=True)
        np.exp(weights, out=weights)
        weights /= weights.sum(axis=-1, keepdims=True)
        mixed = weights.reshape(n_key_heads, -1, weights.shape[-1]) @ values
        mixed = mixed.reshape(queries.shape).transpose(2, 0, 1, 3).reshape(n, -1)
        return np.asarray(mixed @ layer.output.T, np.float32)


class _Cache:
    """Keys and values, float32 (2, layers, key heads, capacity, head)."""

    def __init__(self, buffer: Array, length: int = 0) -> None:
        self._buffer, self._length = buffer, length

    def grow(self, n: int) -> tuple[int, int]:
        """Add n tokens, and return the position of the first and the end (exclusive)."""
        start, self._length = self._length, self._length + n
        if self._length > self._buffer.shape[3]:
            old = self._buffer
            self._buffer = np.empty((*old.shape[:3], 2 * self._length, old.shape[4]), np.float32)
            self._buffer[:, :, :, :start] = old[:, :, :, :start]
        return start, self._length

    def layer(self, n: int) -> tuple[Array, Array]:
        """Return a layer's keys and values of all tokens so far."""
        keys, values = self._buffer[:, n, :, : self._length]
        return keys, values

    def crop(self, n: int) -> None:
        """Remove the last -n tokens."""
        self._length += n

    def __deepcopy__(self, _: object) -> _Cache:
        return _Cache(self._buffer.copy(), self._length)


def _rotate(x: Array, cos: Array, sin: Array) -> Array:
    """Rotate heads, (tokens, heads, head), by the angles of their positions."""
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def _layer(weights: dict[str, Array], prefix: str) -> _Layer:
    def stacked(*names: str) -> Array:
        parts = [weights.pop(f"{prefix}{name}.weight") for name in names]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    attention = "self_attn."
    return _Layer(
        stacked("input_layernorm"),
        stacked(*(f"{attention}{letter}_proj" for letter in "qkv")),
        stacked(f"{attention}o_proj"),
        stacked("post_attention_layernorm"),
        stacked("mlp.gate_proj", "mlp.up_proj"),
        stacked("mlp.down_proj"),
    )


def _shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights by name, from the configuration."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    head = config["head_dim"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    layer = {
        "input_layernorm": (width,), "post_attention_layernorm": (width,),
        "self_attn.q_proj": (queries, width), "self_attn.k_proj": (keys, width),
        "self_attn.v_proj": (keys, width), "self_attn.o_proj": (width, queries),
        "mlp.gate_proj": (inner, width), "mlp.up_proj": (inner, width),
        "mlp.down_proj": (width, inner),
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], width), "model.norm.weight": (width,),
    }  # fmt: skip
    for n in range(config["num_hidden_layers"]):
        shapes |= {f"model.layers.{n}.{name}.weight": shape for name, shape in layer.items()}
    return shapes


def _shape(weights: Mapping[str, Array], name: str) -> tuple[int, ...] | None:
    return weights[name].shape if name in weights else None
