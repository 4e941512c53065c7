"""A tiny pair model with random weights, on the tokenizer of the default embedder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from ragkit import models
from ragkit.pair.graph import TABLE, table_digest

WIDTH, LAYERS, INNER = 16, 2, 32


def tiny_base(folder: Path, seed: int = 0) -> Path:
    """Write a BERT encoder with random weights; return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(models.resolve("minilm") / "tokenizer.json", folder)
    config = {
        "model_type": "bert", "hidden_size": WIDTH, "num_hidden_layers": LAYERS,
        "num_attention_heads": 2, "intermediate_size": INNER, "hidden_act": "gelu",
        "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "type_vocab_size": 2,
        "vocab_size": 30522, "pad_token_id": 0, "architectures": ["BertModel"],
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    draw = np.random.default_rng(seed)
    shapes = {
        TABLE: (30522, WIDTH),
        "embeddings.position_embeddings.weight": (512, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        **_norm("embeddings.LayerNorm"),
    }
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}."
        for part in ("query", "key", "value"):
            shapes |= _linear(f"{name}attention.self.{part}", WIDTH, WIDTH)
        shapes |= _linear(f"{name}attention.output.dense", WIDTH, WIDTH)
        shapes |= _norm(f"{name}attention.output.LayerNorm")
        shapes |= _linear(f"{name}intermediate.dense", WIDTH, INNER)
        shapes |= _linear(f"{name}output.dense", INNER, WIDTH)
        shapes |= _norm(f"{name}output.LayerNorm")
    save_file(_random(shapes, draw), folder / "model.safetensors", {"format": "pt"})
    return folder


def tiny_pair(folder: Path, seed: int = 0) -> Path:
    """Write a base and a pair model with other weights than the base; return its folder."""
    base = tiny_base(folder / "base", seed)
    target = folder / "pair"
    target.mkdir(parents=True, exist_ok=True)
    other = tiny_base(folder / "other", seed + 1)
    from safetensors.numpy import load_file

    weights = {k: v for k, v in load_file(other / "model.safetensors").items() if k != TABLE}
    heads = {
        **_linear("span", WIDTH, 2), **_linear("pooler", WIDTH, WIDTH), **_linear("judge", WIDTH, 4)
    }  # fmt: skip
    weights |= _random(heads, np.random.default_rng(seed + 2))
    save_file(weights, target / "model.safetensors")
    about = {"base": str(base), "table_digest": table_digest(base)}
    (target / "ragkit.json").write_text(json.dumps(about))
    return target


def _linear(name: str, n_in: int, n_out: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)}


def _norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}


def _random(shapes: dict[str, tuple[int, ...]], draw: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        name: draw.normal(1.0 if "LayerNorm.weight" in name else 0.0, 0.3, shape).astype(np.float32)
        for name, shape in shapes.items()
    }
