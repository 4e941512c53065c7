"""FAISS's reader trusts the bytes it reads, so only files written on this machine are opened.

Beside each file lies a MAC of its digest under a key that never leaves RAGKIT_HOME. A file from
elsewhere has none that fits, and its index is rebuilt from the `.npy` vectors instead; `--trust`
signs what is there.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from ragkit import models
from ragkit.digests import file_digest


def sign(file: Path) -> None:
    """Mark a file as written, or trusted, on this machine."""
    _mac_file(file).write_text(_mac(file))


def is_trusted(file: Path) -> bool:
    """Whether the file is one that `sign` has seen, unchanged."""
    try:
        return hmac.compare_digest(_mac_file(file).read_text(), _mac(file))
    except OSError:
        return False


def _mac_file(file: Path) -> Path:
    return file.with_name(file.name + ".mac")


def _mac(file: Path) -> str:
    return hmac.new(_key(), file_digest(file).encode(), hashlib.blake2b).hexdigest()


def _key() -> bytes:
    path = models.home() / "trust.key"
    try:
        return path.read_bytes()
    except FileNotFoundError:
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.touch(mode=0o600)
    temporary.write_bytes(secrets.token_bytes(32))
    try:
        os.link(temporary, path)  # fails if another process was first, whose key then counts
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    return path.read_bytes()
