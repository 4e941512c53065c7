"""Low-rank adapters, added to a model's weights when it is loaded.

Source: Hu et al. 2022, LoRA: W + alpha / rank * B A. The format is peft's, and peft is not needed
to read it. `ragkit.json` beside it says what it was trained for:

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
from ragkit.durable import last_whole, open_regular, read_small, replaced
from ragkit.errors import FormatMismatch, ModelError

FORMAT = 1
_JSON_BYTES = 1 << 20
MAX_RANK = 1024  # what is larger is no adapter: its product would be as large as a model
_NEEDED = ("ragkit.json", "adapter_config.json", "adapter_model.safetensors")
FILES = (*_NEEDED, "prompts.safetensors", "README.md")
_LARGEST = 1e38  # of a change to a weight: float32 holds it
_WEIGHT_FILES = ("*.safetensors", "config.json", "tokenizer.json")
# What reading a file as JSON of a certain kind raises, whatever it holds.
_UNREADABLE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip
_TYPES = {"float32", "bfloat16", "float16"}
# What peft can do beyond W + alpha / rank * B A.
_REFUSED = (
    "use_dora", "use_rslora", "lora_bias", "modules_to_save", "alpha_pattern", "rank_pattern",
    "fan_in_fan_out", "layer_replication", "trainable_token_indices", "alora_invocation_tokens",
    "target_parameters", "use_qalora", "use_bdlora", "arrow_config", "kasa_config", "velora_config",
    "monteclora_config",
)  # fmt: skip
# Where the factors begin; the others (PiSSA, OLoRA, …) change the base's own weights as well.
_PLAIN_STARTS = (True, False, "gaussian")


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
    except _UNREADABLE as error:
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
            f"the adapter {str(folder)!r} was trained for {about['task']!r:.60}, not for {task!r}"
        )
    if about["base_fingerprint"] != base_fingerprint(base):
        raise ModelError(
            f"the adapter {str(folder)!r} was trained on {about['base']!r:.60} (fingerprint "
            f"{about['base_fingerprint'][:12]!r}), and {base!r} has other weights "
            f"({base_fingerprint(base)[:12]}). Take the model it was trained on, or train it again"
        )
    return about


def installed(folder: Path) -> Path | None:
    """Where the adapter is that was installed as a folder; None if there is none."""
    own = last_whole(folder)
    return own if own.exists() else None  # a damaged one is no reason to search without


def install(source: Path, target: Path) -> None:
    """Copy an adapter to another folder, in place of what is there.

    Raises:
        ModelError: The source holds no adapter of ragkit's, or part of one.
        CollectionError: The target cannot be written.
    """
    read_about(source)
    missing = [name for name in _NEEDED if not (source / name).is_file()]
    if missing:
        raise ModelError(
            f"{str(source)!r} holds no whole adapter: {missing[0]} is missing; expected the folder "
            "adapter/ that training wrote"
        )
    with replaced(target) as temporary:
        for name in FILES:
            if (source / name).is_file():
                shutil.copyfile(source / name, temporary / name)


def check_place(folder: Path) -> None:
    """Whether training may put its result in the place of a folder.

    Raises:
        ModelError: It holds something else, which would be lost.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "ragkit.json").is_file():
        raise ModelError(
            f"{str(folder)!r} holds other things than what training writes, and would be replaced; "
            "give the training another folder"
        )


def write_about(folder: Path, about: Mapping[str, Any]) -> None:
    """Write `ragkit.json`."""
    (folder / "ragkit.json").write_text(about_text(about), encoding="utf-8")


def about_text(about: Mapping[str, Any]) -> str:
    """`ragkit.json`'s text."""
    return json.dumps({**about, "format": FORMAT}, indent=1, sort_keys=True) + "\n"


def merge(model: Any, folder: Path) -> None:
    """Add an adapter to the weights of a transformers model.

    Raises:
        ModelError: The adapter cannot be read, or does not fit the model.
    """
    import torch

    weights = dict(model.named_parameters())
    with torch.no_grad():
        for name, change in changes(folder, {n: tuple(w.shape) for n, w in weights.items()}):
            weight = weights[name]
            added = torch.from_numpy(change).to(weight.device)
            weight.copy_((weight.float() + added).to(weight.dtype))


def changes(
    folder: Path, shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """What an adapter adds to each weight that it changes: (name, float32 of the weight's shape).

    Args:
        folder: The adapter's.
        shapes: Of the model's weights, by name.

    Raises:
        ModelError: The adapter cannot be read, or does not fit; before the first change.
    """
    from safetensors import SafetensorError

    file = folder / "adapter_model.safetensors"
    try:
        config = json.loads(read_small(folder / "adapter_config.json", _JSON_BYTES))
        scale, rank = _scale(config)
        open_regular(file).close()
        pairs = _pairs(read_tensors(file), rank)
    except (*_UNREADABLE, SafetensorError) as error:
        raise ModelError(f"the adapter {str(folder)!r} cannot be read ({error})") from error
    for layer, (a, b) in pairs.items():
        if shapes.get(f"{layer}.weight") != (b.shape[0], a.shape[1]):
            raise ModelError(
                f"the adapter {str(folder)!r} changes {layer!r} with factors {b.shape} and "
                f"{a.shape}, which the model does not have so; it belongs to another model"
            )
        most = abs(scale) * rank * float(np.abs(a).max()) * float(np.abs(b).max())
        if not most < _LARGEST:
            raise ModelError(
                f"the adapter {str(folder)!r} changes {layer!r} by no numbers, or by endless ones; "
                "train it again, or restore the folder as training wrote it"
            )
    return ((f"{layer}.weight", np.float32(scale) * (b @ a)) for layer, (a, b) in pairs.items())


def read_tensors(file: Path) -> dict[str, NDArray[np.float32]]:
    """The tensors of a safetensors file of floating-point numbers, as float32.

    Raises:
        OSError: It cannot be opened.
        SafetensorError: It is no such file.
        ValueError: It holds other numbers.
    """
    import ml_dtypes  # noqa: F401 - from then on NumPy knows bfloat16
    from safetensors.numpy import load_file

    return {name: _as_float32(name, tensor) for name, tensor in load_file(file).items()}


def _as_float32(name: str, tensor: NDArray[Any]) -> NDArray[np.float32]:
    kind = tensor.dtype.name
    if kind not in _TYPES:
        raise ValueError(f"{name} is of {kind}; expected {', '.join(sorted(_TYPES))}")
    if kind == "bfloat16":  # float32's upper half
        wide = tensor.view(np.uint16).astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    return tensor.astype(np.float32, copy=False)


def _scale(config: Mapping[str, Any]) -> tuple[float, int]:
    """alpha / rank, and the rank."""
    kind = config["peft_type"]
    if kind != "LORA":
        raise ValueError(f"it is of the kind {kind!r}; only LoRA is read")
    strange = [name for name in _REFUSED if config.get(name)]
    strange += ["bias"] if config.get("bias", "none") != "none" else []
    begun = config.get("init_lora_weights", True)
    strange += [] if begun in _PLAIN_STARTS else [f"init_lora_weights={begun!r}"]
    if strange:
        raise ValueError(f"it has {', '.join(strange)}; only plain LoRA is read")
    alpha, rank = float(config["lora_alpha"]), int(config["r"])
    if not math.isfinite(alpha) or not 1 <= rank <= MAX_RANK:
        raise ValueError(
            f"lora_alpha is {alpha} and r {rank}; expected a number, and 1 to {MAX_RANK}"
        )
    return alpha / rank, rank


def _pairs(
    tensors: Mapping[str, NDArray[np.float32]], rank: int
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """(A, B) by the name of the layer they change.

    Raises:
        ValueError: There are none, or there is something else.
    """
    first, second = ".lora_A.weight", ".lora_B.weight"
    layers = [name.removesuffix(first) for name in tensors if name.endswith(first)]
    strange = set(tensors) - {f"{layer}{factor}" for layer in layers for factor in (first, second)}
    if strange or not layers:
        raise ValueError(f"it holds {min(strange, default='no weights')}; expected LoRA's factors")
    found = {}
    for layer in layers:
        a, b = tensors[f"{layer}{first}"], tensors[f"{layer}{second}"]
        if (a.ndim, b.ndim) != (2, 2) or (a.shape[0], b.shape[1]) != (rank, rank):
            raise ValueError(
                f"the factors of {layer} are {tuple(b.shape)} and {tuple(a.shape)}; expected rank "
                f"{rank}"
            )
        found[layer.removeprefix("base_model.model.")] = (a, b)
    return found
