"""Writes that survive a power failure."""

from __future__ import annotations

import os
from pathlib import Path


def sync_path(path: Path) -> None:
    """Flush a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_text(path: Path, text: str) -> None:
    """Write a file under another name, flush it, and rename it; one writer at a time."""
    temporary = path.with_name(path.name + ".writing")
    temporary.write_text(text)
    sync_path(temporary)
    os.replace(temporary, path)
    sync_path(path.parent)
