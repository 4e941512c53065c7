"""Where a training run stands, on disk: arrays as safetensors, the rest as JSON, never half of it.

    checkpoint-<step>/
      parameters.safetensors    what is trained
      optimizer.safetensors     its two moments a parameter, and the random state
      state.json                format, recipe, and counters

A checkpoint is written under another name, flushed and renamed; then the one before is removed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragkit.durable import disk_errors, make_folder, read_small, sync_path
from ragkit.errors import FormatMismatch, ModelError

if TYPE_CHECKING:
    import torch

FORMAT = 1
_STATE_BYTES = 1 << 24
_NAME = re.compile(r"checkpoint-([0-9]+)")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What `read_checkpoint` found.

    Attributes:
        state: Counters, as they were given.
        parameters: By name.
        optimizer: Tensors by name.
    """

    state: dict[str, Any]
    parameters: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]


def write_checkpoint(
    folder: Path,
    step: int,
    state: Mapping[str, Any],
    parameters: Mapping[str, torch.Tensor],
    optimizer: Mapping[str, torch.Tensor],
) -> None:
    """Write a checkpoint in one step, and remove those before it."""
    from safetensors.torch import save_file

    temporary = folder / "checkpoint-writing"
    with disk_errors(folder):
        make_folder(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        for name, tensors in (("parameters", parameters), ("optimizer", optimizer)):
            plain = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
            save_file(plain, temporary / f"{name}.safetensors")
        text = json.dumps({"format": FORMAT, **state}, indent=1, sort_keys=True)
        (temporary / "state.json").write_text(text, encoding="utf-8")
        for file in [*temporary.iterdir(), temporary]:
            sync_path(file)
        target = folder / f"checkpoint-{step}"
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
        sync_path(folder)
        for earlier in _checkpoints(folder):
            if earlier != target:
                shutil.rmtree(earlier, ignore_errors=True)


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The latest checkpoint of a run, or None if there is none.

    Raises:
        ModelError: It cannot be read.
        FormatMismatch: It was written by another version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    found = _checkpoints(folder)
    if not found:
        return None
    latest = found[-1]
    try:
        state = json.loads(read_small(latest / "state.json", _STATE_BYTES))
        if state.pop("format") != FORMAT:
            raise FormatMismatch(
                f"{str(latest)!r} was written by another version; remove it, or go on with that"
            )
        parameters = load_file(latest / "parameters.safetensors")
        optimizer = load_file(latest / "optimizer.safetensors")
    except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
        raise ModelError(
            f"the checkpoint {str(latest)!r} cannot be read ({error}); remove it to begin anew"
        ) from error
    return Checkpoint(state, parameters, optimizer)


def _checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints, the latest last."""
    if not folder.is_dir():
        return []
    named = [(found, path) for path in folder.iterdir() if (found := _NAME.fullmatch(path.name))]
    return [path for found, path in sorted(named, key=lambda each: int(each[0][1]))]
