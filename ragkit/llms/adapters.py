"""Low-rank adapters, added to a model's weights when it is loaded.

Source: Hu et al. 2022, LoRA: W + alpha / rank * B A. The format is peft's, and peft is not needed
to read it. `ragkit.json` beside it says what it was trained for:

    {"format": 1, "base": "smollm2", "base_fingerprint": "…", "task": "generative", …}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ragkit import models
from ragkit.durable import read_small
from ragkit.errors import FormatMismatch, ModelError

FORMAT = 1
_JSON_BYTES = 1 << 20
_WEIGHT_FILES = ("*.safetensors", "config.json", "tokenizer.json")
# What peft can do beyond W + alpha / rank * B A.
_REFUSED = (
    "use_dora", "use_rslora", "lora_bias", "modules_to_save", "alpha_pattern", "rank_pattern",
    "fan_in_fan_out", "layer_replication", "trainable_token_indices", "alora_invocation_tokens",
)  # fmt: skip


def base_fingerprint(name: str) -> str:
    """A digest of a local model's weights and tokenizer: 32 hex digits.

    Raises:
        ModelError: There is no such model.
    """
    path = models.resolve(name)
    files = [path] if path.is_file() else sorted(f for p in _WEIGHT_FILES for f in path.glob(p))
    return models.fingerprint(files, {})


def read_about(folder: Path) -> dict[str, Any]:
    """`ragkit.json` of an adapter.

    Raises:
        ModelError: There is none, or it is no such file.
        FormatMismatch: It was written by another version.
    """
    try:
        about = json.loads(read_small(folder / "ragkit.json", _JSON_BYTES))
        if about["format"] != FORMAT:
            raise FormatMismatch(
                f"the adapter {str(folder)!r} has format {about['format']!r}; this version reads "
                f"{FORMAT}. Train it again, or use the ragkit that wrote it"
            )
        if not all(isinstance(about[key], str) for key in ("base", "base_fingerprint", "task")):
            raise ValueError("its base or task is no text")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(
            f"{str(folder)!r} holds no adapter of ragkit's ({error}); expected the folder that "
            "training wrote, with ragkit.json, adapter_config.json and adapter_model.safetensors"
        ) from error
    return dict(about)


def check_adapter(folder: Path, base: str, task: str) -> dict[str, Any]:
    """`read_about`, and whether the adapter is for this base and task.

    Raises:
        ModelError: It is not.
    """
    about = read_about(folder)
    if about["task"] != task:
        raise ModelError(
            f"the adapter {str(folder)!r} was trained for {about['task']!r}, not for {task!r}"
        )
    if about["base_fingerprint"] != base_fingerprint(base):
        raise ModelError(
            f"the adapter {str(folder)!r} was trained on {about['base']!r} (fingerprint "
            f"{about['base_fingerprint'][:12]}), and {base!r} has other weights "
            f"({base_fingerprint(base)[:12]}). Take the model it was trained on, or train it again"
        )
    return about


def merge(model: Any, folder: Path) -> None:
    """Add an adapter to the weights of a transformers model.

    Raises:
        ModelError: The adapter cannot be read, or does not fit the model.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = json.loads(read_small(folder / "adapter_config.json", _JSON_BYTES))
        scale = _scale(config)
        tensors = load_file(folder / "adapter_model.safetensors")
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise ModelError(f"the adapter {str(folder)!r} cannot be read ({error})") from error
    weights = dict(model.named_parameters())
    pairs = _pairs(tensors)
    if not pairs:
        raise ModelError(f"the adapter {str(folder)!r} holds no weights; train it again")
    with torch.no_grad():
        for name, (a, b) in pairs.items():
            weight = weights.get(f"{name}.weight")
            if weight is None or weight.shape != (b.shape[0], a.shape[1]):
                raise ModelError(
                    f"the adapter {str(folder)!r} changes {name!r} with factors "
                    f"{tuple(b.shape)} and {tuple(a.shape)}, which the model does not have so; it "
                    "belongs to another model"
                )
            change = scale * (b.float() @ a.float())
            weight.copy_((weight.float() + change.to(weight.device)).to(weight.dtype))


def _scale(config: Mapping[str, Any]) -> float:
    strange = [name for name in _REFUSED if config.get(name)]
    if config.get("peft_type") != "LORA" or strange or config.get("bias", "none") != "none":
        raise ValueError(
            f"it is of the kind {config.get('peft_type')!r} with {', '.join(strange) or 'a bias'}; "
            "only plain LoRA is read"
        )
    return float(config["lora_alpha"]) / int(config["r"])


def _pairs(tensors: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """(A, B) by the name of the layer they change."""
    first = ".lora_A.weight"
    found = {}
    for name, a in tensors.items():
        if name.endswith(first):
            layer = name.removesuffix(first)
            b = tensors.get(f"{layer}.lora_B.weight")
            if b is not None and a.ndim == b.ndim == 2 and a.shape[0] == b.shape[1]:
                found[layer.removeprefix("base_model.model.")] = (a, b)
    return found
