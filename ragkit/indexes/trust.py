"""FAISS's reader trusts the bytes it reads, so only files written on this machine are opened.

Beside each file lies a MAC of its digest under a key that never leaves RAGKIT_HOME. A file from
elsewhere has none that fits, and its index is rebuilt from the `.npy` vectors instead; `ragkit
index trust` signs what is there.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import tempfile
from pathlib import Path

from ragkit import models
from ragkit.digests import file_digest
from ragkit.durable import disk_errors, read_small

_KEY_BYTES = 32
_MAC_BYTES = 256  # twice what is written


def sign(file: Path) -> None:
    """Mark a file as written, or trusted, on this machine."""
    target = _mac_file(file)
    with disk_errors(target):
        target.unlink(missing_ok=True)  # it may be a link to something else
        target.write_bytes(_mac(file))


def is_trusted(file: Path) -> bool:
    """Whether the file is one that `sign` has seen, unchanged."""
    try:
        return hmac.compare_digest(read_small(_mac_file(file), _MAC_BYTES), _mac(file))
    except (OSError, ValueError):  # there is none, or it is none of ours
        return False


def _mac_file(file: Path) -> Path:
    return file.with_name(file.name + ".mac")


def _mac(file: Path) -> bytes:
    mac = hmac.new(_key(), file_digest(file).encode(), hashlib.blake2b)
    return mac.hexdigest().encode()


def _key() -> bytes:
    path = models.home() / "trust.key"
    for _ in range(2):
        try:
            key = path.read_bytes()
        except FileNotFoundError:
            _make_key(path)
            continue
        if len(key) == _KEY_BYTES:
            return key
        path.unlink()  # a power failure cut it short; what it signed is not trusted any more
        _make_key(path)
    return path.read_bytes()


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
    with os.fdopen(handle, "wb") as stream:
        stream.write(secrets.token_bytes(_KEY_BYTES))
    try:
        os.link(temporary, path)  # fails if another process was first, whose key then counts
    except FileExistsError:
        pass
    finally:
        os.unlink(temporary)
