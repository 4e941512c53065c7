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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from ragkit.durable import disk_errors, make_folder, open_regular, read_small, sync_path
from ragkit.errors import FormatMismatch, Locked, ModelError

if TYPE_CHECKING:
    import torch

FORMAT = 1
_STATE_BYTES = 1 << 24
_NAME = re.compile(r"checkpoint-([0-9]+)")
_SYSTEM_ERROR = re.compile(r"\(os error ([0-9]+)\)")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What `read_checkpoint` found.

    Attributes:
        path: Its folder.
        state: What was given, as JSON returns it.
        parameters: By name.
        optimizer: Tensors by name.
    """

    path: Path
    state: dict[str, Any]
    parameters: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Be the only one that writes to a run's folder, which is made.

    Raises:
        Locked: Another process trains there.
    """
    with disk_errors(folder):
        make_folder(folder)
        lock = filelock.FileLock(folder / "lock", timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise Locked(
                f"another process trains in {str(folder)!r}; wait for it, or take another folder"
            ) from error
    try:
        yield
    finally:
        lock.release()


def write_checkpoint(
    folder: Path,
    step: int,
    state: Mapping[str, Any],
    parameters: Mapping[str, torch.Tensor],
    optimizer: Mapping[str, torch.Tensor],
) -> None:
    """Write a checkpoint in one step, and remove those before it.

    Raises:
        CollectionError: It cannot be written; those before it are whole.
    """
    temporary = folder / "checkpoint-writing"
    with disk_errors(folder):
        make_folder(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            for name, tensors in (("parameters", parameters), ("optimizer", optimizer)):
                save_tensors(tensors, temporary / f"{name}.safetensors")
            text = json.dumps({"format": FORMAT, **state}, indent=1, sort_keys=True)
            (temporary / "state.json").write_text(text, encoding="utf-8")
            for file in [*temporary.iterdir(), temporary]:
                sync_path(file)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)  # a full disk is not filled further
            raise
        target = folder / f"checkpoint-{step}"
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
        sync_path(folder)
        remove_debris(folder)


def remove_debris(folder: Path) -> None:
    """Remove what nobody reads: checkpoints before the latest, and one half written."""
    for path in [*_checkpoints(folder)[:-1], folder / "checkpoint-writing"]:
        shutil.rmtree(path, ignore_errors=True)


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors as safetensors.

    Raises:
        OSError: They cannot be written.
    """
    from safetensors.torch import save_file

    plain = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    with system_errors(path):
        save_file(plain, path)


@contextmanager
def system_errors(path: Path) -> Iterator[None]:
    """Raise OSError where safetensors has an error of its own for what the system said."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        found = _SYSTEM_ERROR.search(str(error))
        if found is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number), str(path)) from error


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The latest checkpoint of a run, or None if there is none.

    Raises:
        ModelError: It cannot be read.
        FormatMismatch: It was written by another version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = _checkpoints(folder)
    except OSError as error:
        raise ModelError(f"{str(folder)!r} cannot be read ({error})") from error
    if not found:
        return None
    latest = found[-1]
    try:
        state = json.loads(read_small(latest / "state.json", _STATE_BYTES))
        if state.pop("format") != FORMAT:
            raise FormatMismatch(
                f"{str(latest)!r} was written by another version; remove it, or go on with that"
            )
        files = [latest / f"{name}.safetensors" for name in ("parameters", "optimizer")]
        for file in files:
            open_regular(file).close()
        parameters, optimizer = map(load_file, files)
    except (*_UNREADABLE, SafetensorError) as error:
        raise unusable(latest, error) from error
    return Checkpoint(latest, state, parameters, optimizer)


# What reading a file as JSON of a certain kind raises, whatever it holds.
_UNREADABLE = (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError)


def unusable(checkpoint: Path, why: object) -> ModelError:
    """What is raised where a checkpoint is damaged."""
    return ModelError(
        f"the checkpoint {str(checkpoint)!r} cannot be read ({why}); remove it to begin anew"
    )


def _checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints, the latest last."""
    if not folder.is_dir():
        return []
    named = [(found, path) for path in folder.iterdir() if (found := _NAME.fullmatch(path.name))]
    return [path for found, path in sorted(named, key=lambda each: int(each[0][1]))]
