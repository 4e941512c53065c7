"""Read, validate, install and merge low-rank adapters.

Source: Hu et al. 2022, LoRA: W + alpha / rank * B A. The file format is peft's, but reading it does
not need peft. A `ragkit.json` beside the weights records the base model and the task:

    {"format": 1, "base": "smollm2", "base_fingerprint": "…", "task": "generative", …}
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit import models
from ragkit.durable import last_complete, open_regular, read_small, replace_folder
from ragkit.errors import FormatMismatch, ModelError

FORMAT = 1
_JSON_BYTES = 1 << 20
MAX_RANK = 1024  # above this the factors would be as large as the weights they change
_REQUIRED_FILES = ("ragkit.json", "adapter_config.json", "adapter_model.safetensors")
FILES = (*_REQUIRED_FILES, "prompts.safetensors", "README.md")
_MAX_DELTA = 1e38  # largest change of one weight that fits float32
_WEIGHT_FILES = ("*.safetensors", "config.json", "tokenizer.json")
# Everything that parsing an arbitrary file as our JSON can raise.
_PARSE_ERRORS = (
    OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip
_DTYPES = {"float32", "bfloat16", "float16"}
# Options of peft that compute something other than W + alpha / rank * B A.
_UNSUPPORTED = (
    "use_dora", "use_rslora", "lora_bias", "modules_to_save", "alpha_pattern", "rank_pattern",
    "fan_in_fan_out", "layer_replication", "trainable_token_indices", "alora_invocation_tokens",
    "target_parameters", "use_qalora", "use_bdlora", "arrow_config", "kasa_config", "velora_config",
    "monteclora_config",
)  # fmt: skip
# Initialisations that leave the base weights alone; others (PiSSA, OLoRA, …) change them.
_PLAIN_INITS = (True, False, "gaussian")


def base_fingerprint(name: str) -> str:
    """Return the digest of a local model's weights and tokenizer as 32 hex digits.

    Raises:
        ModelError: The model cannot be found.
    """
    path = models.resolve(name)
    files = [path] if path.is_file() else sorted(f for p in _WEIGHT_FILES for f in path.glob(p))
    return models.fingerprint(files, {})


def read_metadata(folder: Path) -> dict[str, Any]:
    """Read an adapter's `ragkit.json`.

    Raises:
        ModelError: The file is missing or invalid.
        FormatMismatch: The file has another format version.
    """
    try:
        metadata = json.loads(read_small(folder / "ragkit.json", _JSON_BYTES))
        if metadata["format"] != FORMAT:
            raise FormatMismatch(
                f"the adapter {str(folder)!r} has format {metadata['format']!r}; this version "
                f"reads {FORMAT}. Train it again, or use the ragkit version that wrote it"
            )
        if not all(isinstance(metadata[key], str) for key in ("base", "base_fingerprint", "task")):
            raise ValueError("its base or task is not a string")
    except _PARSE_ERRORS as error:
        raise ModelError(
            f"{str(folder)!r} is not a ragkit adapter ({error}); expected a folder written by "
            "training, with ragkit.json, adapter_config.json and adapter_model.safetensors"
        ) from error
    return dict(metadata)


def check_adapter(folder: Path, base: str, task: str) -> dict[str, Any]:
    """Read an adapter's metadata and check that it was trained for this base model and task.

    Raises:
        ModelError: The metadata cannot be read, or names another task or base model.
    """
    metadata = read_metadata(folder)
    if metadata["task"] != task:
        raise ModelError(
            f"the adapter {str(folder)!r} was trained for {metadata['task']!r:.60}, not for "
            f"{task!r}"
        )
    if metadata["base_fingerprint"] != base_fingerprint(base):
        raise ModelError(
            f"the adapter {str(folder)!r} was trained on {metadata['base']!r:.60} (fingerprint "
            f"{metadata['base_fingerprint'][:12]!r}), but {base!r} has other weights "
            f"({base_fingerprint(base)[:12]}). Use the model it was trained on, or train it again"
        )
    return metadata


def find_installed(folder: Path) -> Path | None:
    """Return the folder of an installed adapter, or None if none was installed."""
    path = last_complete(folder)
    return path if path.exists() else None  # a damaged adapter must raise when it is read


def install(source: Path, target: Path) -> None:
    """Copy an adapter to another folder, replacing the adapter there.

    Raises:
        ModelError: The source is not a complete ragkit adapter.
        CollectionError: The target cannot be written.
    """
    read_metadata(source)
    missing = [name for name in _REQUIRED_FILES if not (source / name).is_file()]
    if missing:
        raise ModelError(
            f"the adapter {str(source)!r} is incomplete: {missing[0]} is missing; expected the "
            "folder adapter/ that training wrote"
        )
    with replace_folder(target) as temporary:
        for name in FILES:
            if (source / name).is_file():
                shutil.copyfile(source / name, temporary / name)


def check_output_folder(folder: Path) -> None:
    """Check that training may write its result to a folder, replacing its content.

    Raises:
        ModelError: The folder contains something other than a training result.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "ragkit.json").is_file():
        raise ModelError(
            f"{str(folder)!r} contains files that training did not write, which would be deleted; "
            "choose another output folder"
        )


def write_metadata(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Write an adapter's `ragkit.json`."""
    (folder / "ragkit.json").write_text(metadata_text(metadata), encoding="utf-8")


def metadata_text(metadata: Mapping[str, Any]) -> str:
    """Serialise an adapter's metadata as the text of `ragkit.json`."""
    return json.dumps({**metadata, "format": FORMAT}, indent=1, sort_keys=True) + "\n"


def merge_adapter(model: Any, folder: Path) -> None:
    """Add an adapter to the weights of a transformers model, in place.

    Raises:
        ModelError: The adapter cannot be read, or does not fit the model.
    """
    import torch

    weights = dict(model.named_parameters())
    with torch.no_grad():
        for name, delta in weight_deltas(folder, {n: tuple(w.shape) for n, w in weights.items()}):
            weight = weights[name]
            device_delta = torch.from_numpy(delta).to(weight.device)
            weight.copy_((weight.float() + device_delta).to(weight.dtype))


def weight_deltas(
    folder: Path, shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Compute the change of each weight that an adapter modifies.

    Args:
        folder: The adapter's folder.
        shapes: The shape of each of the model's weights, by name.

    Returns:
        (name, delta) pairs; each delta is float32 and has the weight's shape.

    Raises:
        ModelError: The adapter cannot be read or does not fit the model. Raised before the first
            pair is computed.
    """
    from safetensors import SafetensorError

    file = folder / "adapter_model.safetensors"
    try:
        config = json.loads(read_small(folder / "adapter_config.json", _JSON_BYTES))
        scale, rank = _scale(config)
        open_regular(file).close()
        pairs = _pairs(read_tensors(file), rank)
    except (*_PARSE_ERRORS, SafetensorError) as error:
        raise ModelError(f"the adapter {str(folder)!r} cannot be read ({error})") from error
    for layer, (a, b) in pairs.items():
        if shapes.get(f"{layer}.weight") != (b.shape[0], a.shape[1]):
            raise ModelError(
                f"the adapter {str(folder)!r} changes {layer!r} with factors of shapes {b.shape} "
                f"and {a.shape}, which do not fit the model; use the model it was trained on"
            )
        bound = abs(scale) * rank * float(np.abs(a).max()) * float(np.abs(b).max())
        if not bound < _MAX_DELTA:
            raise ModelError(
                f"the adapter {str(folder)!r} changes {layer!r} by NaN or by values too "
                "large for float32; train it again, or restore the folder as training wrote it"
            )
    return ((f"{layer}.weight", np.float32(scale) * (b @ a)) for layer, (a, b) in pairs.items())


def read_tensors(file: Path) -> dict[str, NDArray[np.float32]]:
    """Read a safetensors file of floating-point tensors and convert them to float32.

    Raises:
        OSError: The file cannot be opened.
        SafetensorError: The file is not valid safetensors.
        ValueError: A tensor has another dtype.
    """
    import ml_dtypes  # noqa: F401 - registers bfloat16 with NumPy
    from safetensors.numpy import load_file

    return {name: _as_float32(name, tensor) for name, tensor in load_file(file).items()}


def _as_float32(name: str, tensor: NDArray[Any]) -> NDArray[np.float32]:
    dtype = tensor.dtype.name
    if dtype not in _DTYPES:
        raise ValueError(f"{name} has dtype {dtype}; expected {', '.join(sorted(_DTYPES))}")
    if dtype == "bfloat16":  # the upper half of a float32
        wide = tensor.view(np.uint16).astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    return tensor.astype(np.float32, copy=False)


def _scale(config: Mapping[str, Any]) -> tuple[float, int]:
    """Return alpha / rank and the rank."""
    kind = config["peft_type"]
    if kind != "LORA":
        raise ValueError(f"its peft_type is {kind!r}; only 'LORA' is supported")
    unsupported = [name for name in _UNSUPPORTED if config.get(name)]
    unsupported += ["bias"] if config.get("bias", "none") != "none" else []
    init = config.get("init_lora_weights", True)
    unsupported += [] if init in _PLAIN_INITS else [f"init_lora_weights={init!r}"]
    if unsupported:
        raise ValueError(f"it uses {', '.join(unsupported)}; only plain LoRA is supported")
    alpha, rank = float(config["lora_alpha"]), int(config["r"])
    if not math.isfinite(alpha) or not 1 <= rank <= MAX_RANK:
        raise ValueError(
            f"lora_alpha is {alpha} and r is {rank}; expected a finite number, and 1 to {MAX_RANK}"
        )
    return alpha / rank, rank


def _pairs(
    tensors: Mapping[str, NDArray[np.float32]], rank: int
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Group the factors into (A, B) pairs by the layer that they change.

    Raises:
        ValueError: There are no factors, other tensors, or factors of the wrong shape.
    """
    suffix_a, suffix_b = ".lora_A.weight", ".lora_B.weight"
    layers = [name.removesuffix(suffix_a) for name in tensors if name.endswith(suffix_a)]
    expected = {f"{layer}{suffix}" for layer in layers for suffix in (suffix_a, suffix_b)}
    unexpected = set(tensors) - expected
    if unexpected or not layers:
        raise ValueError(
            f"it contains {min(unexpected, default='no tensors')}; expected LoRA factors only"
        )
    pairs = {}
    for layer in layers:
        a, b = tensors[f"{layer}{suffix_a}"], tensors[f"{layer}{suffix_b}"]
        if (a.ndim, b.ndim) != (2, 2) or (a.shape[0], b.shape[1]) != (rank, rank):
            raise ValueError(
                f"the factors of {layer} have shapes {tuple(b.shape)} and {tuple(a.shape)}; "
                f"expected rank {rank}"
            )
        pairs[layer.removeprefix("base_model.model.")] = (a, b)
    return pairs
