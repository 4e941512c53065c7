"""Signatures of FAISS files, because FAISS's reader does not validate what it reads.

Each file is stored with a MAC of its digest under a key that never leaves RAGKIT_HOME. The MAC of a
file from another machine does not verify, and its index is rebuilt from the `.npy` vectors;
`ragkit index trust` signs existing files.
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
_MAX_MAC_BYTES = 256  # twice the size of a MAC


def sign(file: Path) -> None:
    """Write the MAC of a file, which marks it as trusted on this machine."""
    target = _mac_file(file)
    with disk_errors(target):
        target.unlink(missing_ok=True)  # it may be a symbolic link
        target.write_bytes(_mac(file))


def is_trusted(file: Path) -> bool:
    """Return True if the file is unchanged since it was signed on this machine."""
    try:
        return hmac.compare_digest(read_small(_mac_file(file), _MAX_MAC_BYTES), _mac(file))
    except (OSError, ValueError):  # missing or malformed
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
        path.unlink()  # truncated by a power failure; its signatures become invalid
        _make_key(path)
    return path.read_bytes()


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
    with os.fdopen(handle, "wb") as stream:
        stream.write(secrets.token_bytes(_KEY_BYTES))
    try:
        os.link(temporary, path)  # fails if another process created the key first
    except FileExistsError:
        pass
    finally:
        os.unlink(temporary)
