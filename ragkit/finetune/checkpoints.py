"""Checkpoints of a training run: tensors as safetensors, counters as JSON, written atomically.

    checkpoint-<step>/
      parameters.safetensors    trained parameters
      optimizer.safetensors     AdamW's two moments per parameter, and the random state
      state.json                format, recipe digest, and counters

A checkpoint is written under a temporary name, flushed and renamed; then older ones are removed.
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
    """A checkpoint read from disk.

    Attributes:
        path: Folder of the checkpoint.
        state: The JSON state passed to `write_checkpoint`.
        parameters: Trained parameters, by name.
        optimizer: Optimizer tensors, by name.
    """

    path: Path
    state: dict[str, Any]
    parameters: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Create a run's folder and hold its lock, so that only one process writes to it.

    Raises:
        Locked: Another process is training in this folder.
    """
    with disk_errors(folder):
        make_folder(folder)
        lock = filelock.FileLock(folder / "lock", timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise Locked(
                f"another process trains in {str(folder)!r}; wait for it, or use another folder"
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
    """Write a checkpoint atomically, then remove older ones.

    Raises:
        CollectionError: The checkpoint cannot be written; older ones stay intact.
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
            shutil.rmtree(temporary, ignore_errors=True)  # do not leave a full disk fuller
            raise
        target = folder / f"checkpoint-{step}"
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
        sync_path(folder)
        remove_stale_checkpoints(folder)


def remove_stale_checkpoints(folder: Path) -> None:
    """Remove checkpoints older than the latest, and one that was only partly written."""
    for path in [*_checkpoints(folder)[:-1], folder / "checkpoint-writing"]:
        shutil.rmtree(path, ignore_errors=True)


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors as safetensors.

    Raises:
        OSError: The file cannot be written.
    """
    from safetensors.torch import save_file

    plain = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    with as_os_errors(path):
        save_file(plain, path)


@contextmanager
def as_os_errors(path: Path) -> Iterator[None]:
    """Convert a SafetensorError that reports a system error into the OSError it stands for."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        match = _SYSTEM_ERROR.search(str(error))
        if match is None:
            raise
        number = int(match[1])
        raise OSError(number, os.strerror(number), str(path)) from error


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the latest checkpoint of a run; return None if there is none.

    Raises:
        ModelError: The checkpoint cannot be read.
        FormatMismatch: It was written by another version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        checkpoints = _checkpoints(folder)
    except OSError as error:
        raise ModelError(f"{str(folder)!r} cannot be read ({error})") from error
    if not checkpoints:
        return None
    latest = checkpoints[-1]
    try:
        state = json.loads(read_small(latest / "state.json", _STATE_BYTES))
        if state.pop("format") != FORMAT:
            raise FormatMismatch(
                f"{str(latest)!r} was written by another version; remove it, or resume with that "
                "version"
            )
        files = [latest / f"{name}.safetensors" for name in ("parameters", "optimizer")]
        for file in files:
            open_regular(file).close()
        parameters, optimizer = map(load_file, files)
    except (*_READ_ERRORS, SafetensorError) as error:
        raise unreadable_checkpoint(latest, error) from error
    return Checkpoint(latest, state, parameters, optimizer)


# Everything that reading a damaged checkpoint can raise.
_READ_ERRORS = (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError)


def unreadable_checkpoint(checkpoint: Path, why: object) -> ModelError:
    """Return the error to raise for a damaged checkpoint."""
    return ModelError(
        f"the checkpoint {str(checkpoint)!r} cannot be read ({why}); remove it to start again"
    )


def _checkpoints(folder: Path) -> list[Path]:
    """Return the paths of complete checkpoints, the latest last."""
    if not folder.is_dir():
        return []
    steps = [
        (int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))
    ]
    return [path for _, path in sorted(steps, key=lambda item: item[0])]
