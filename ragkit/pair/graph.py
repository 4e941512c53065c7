"""The pair model as an ONNX graph, and its weights in int8."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ragkit.digests import digest
from ragkit.embedders.bert_graph import BertGraph, write_int8
from ragkit.errors import ModelError, require

TABLE = "embeddings.word_embeddings.weight"
"""The base's token embeddings; they are not trained, and not part of the weights."""

_SCALE = ".scale"

Weights = Mapping[str, NDArray[np.float32]]


def table_digest(base: Path) -> str:
    """Return the digest of a base model's token embeddings."""
    return digest(np.ascontiguousarray(_base_table(base)).tobytes())


def pack(weights: Weights, target: Path) -> None:
    """Write weights: matrices in int8 with a scale for each output channel, the rest in float16.

    Args:
        weights: The trained arrays by name, without the token embeddings.
        target: The file `model.safetensors`.
    """
    safetensors = require("safetensors.numpy", extra="local")
    packed: dict[str, NDArray[np.generic]] = {}
    for name, array in weights.items():
        if array.ndim == 2 and not name.startswith("embeddings."):
            scale = np.abs(array).max(axis=1, keepdims=True) / 127  # (out, 1)
            scale = np.where(scale > 0, scale, 1).astype(np.float32)
            packed[name] = np.rint(array / scale).astype(np.int8)  # (out, in)
            packed[name + _SCALE] = scale
        else:
            packed[name] = array.astype(np.float16)
    safetensors.save_file(packed, target)


def unpack(file: Path) -> dict[str, NDArray[np.float32]]:
    """Read weights that `pack` or a training run wrote, as float32.

    Raises:
        ModelError: The file cannot be read, or a number in it is not finite.
    """
    safetensors = require("safetensors.numpy", extra="local")
    try:
        packed = safetensors.load_file(file)
    except Exception as error:
        raise ModelError(f"{str(file)!r} cannot be read ({error}); install ragkit again") from error
    weights = {}
    for name, array in packed.items():
        if name.endswith(_SCALE):
            continue
        scale = packed.get(name + _SCALE, np.float32(1))
        weights[name] = (array.astype(np.float32) * scale).astype(np.float32)
        if not np.isfinite(weights[name]).all():
            raise ModelError(f"{str(file)!r}: {name} has values that are not finite")
    return weights


def write_graph(base: Path, weights: Weights, target: Path, *, precision: str) -> None:
    """Write the graph: `input_ids`, `segments` and `mask` to `spans` and `judged`.

    The inputs are int32 (batch, tokens). `spans` is float32 (batch, tokens, 2), the logits of the
    first and the last token of an answer; `judged` is float32 (batch, 4), the logits of relevance
    and of supported, contradicted and unknown.

    Args:
        base: Folder of the encoder that the model was trained from.
        weights: The trained arrays.
        target: Folder for `model.onnx`.
        precision: "int8" or "fp32".
    """
    onnx = require("onnx", extra="local")
    config = json.loads((base / "config.json").read_text())
    graph = BertGraph(onnx, config, {**weights, TABLE: _base_table(base)})
    hidden = graph.encode("segments")
    graph.linear(hidden, "span", "spans")
    pooled = graph.linear(graph.first_token(hidden, "first"), "pooler", "pooled")
    graph.linear(graph.node("Tanh", [pooled], "active"), "judge", "judged")
    model = graph.model(
        ("input_ids", "segments", "mask"),
        {"spans": ["batch", "tokens", "2"], "judged": ["batch", "4"]},
    )
    if precision == "fp32":
        onnx.save(model, str(target / "model.onnx"))
        return
    onnx.save(model, str(target / "fp32.onnx"))
    heads = [f"{name}.weight.out" for name in ("span", "pooler", "judge")]
    write_int8(target / "fp32.onnx", target / "model.onnx", keep=heads)
    (target / "fp32.onnx").unlink()


def _base_table(base: Path) -> NDArray[np.float32]:
    safetensors = require("safetensors", extra="local")
    with safetensors.safe_open(base / "model.safetensors", framework="numpy") as file:
        for name in (TABLE, f"bert.{TABLE}"):
            if name in file.keys():  # noqa: SIM118  the file is no mapping
                return np.asarray(file.get_tensor(name), dtype=np.float32)
    raise ModelError(f"{str(base)!r} has no token embeddings; expected a BERT model")
