"""Digests of bytes, texts and files: BLAKE2b, 16 bytes, as 32 hex digits."""

from __future__ import annotations

import hashlib
from pathlib import Path


def digest(data: bytes) -> str:
    """Return the digest of bytes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def text_digest(text: str) -> str:
    """Return the digest of a text's UTF-8 bytes."""
    return digest(text.encode())


def file_digest(path: Path | str) -> str:
    """Return the digest of a file's bytes, read in blocks."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
