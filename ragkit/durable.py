"""Write files durably, and read files without trusting their kind or size."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ragkit.errors import CollectionError

_NO_SPACE = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, None}  # None: NumPy's error for a short write
_NO_PERMISSION = {errno.EACCES, errno.EPERM, errno.EROFS}
_NOT_SUPPORTED = {errno.ENOSYS, errno.EINVAL}
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # opening a named pipe would block until it has a writer


def sync_path(path: Path) -> None:
    """Flush a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """Create a folder and its parents, and flush their directory entries to the disk."""
    if path.is_dir():
        return
    missing = [path, *(parent for parent in path.parents if not parent.exists())]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_path(folder.parent)


def replace_text(path: Path, text: str) -> None:
    """Write a file under a temporary name, flush it, and rename it; for one writer at a time."""
    temporary = path.with_name(path.name + ".writing")
    temporary.unlink(missing_ok=True)  # left by a killed writer, or a symbolic link
    with temporary.open("x", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
    sync_path(temporary)
    os.replace(temporary, path)
    sync_path(path.parent)


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Write a folder under a temporary name; flush and rename it when the block ends.

    The previous folder is moved aside first and removed last, so that a complete folder exists at
    any moment; after an error it is moved back. For one writer at a time.
    """
    temporary, aside = folder.with_name(f"{folder.name}.writing"), _aside_path(folder)
    with disk_errors(folder):
        make_folder(folder.parent)
        if last_complete(folder) == aside:  # a process was killed between the two renames
            os.replace(aside, folder)
        for rest in (temporary, aside):
            remove_folder(rest)
        temporary.mkdir()
        try:
            yield temporary
            for path in [*temporary.rglob("*"), temporary]:
                sync_path(path)
            if os.path.lexists(folder):
                os.replace(folder, aside)
            os.replace(temporary, folder)
        except BaseException:
            if last_complete(folder) == aside:
                os.replace(aside, folder)
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_path(folder.parent)
        remove_folder(aside)


def exchange(first: Path, second: Path) -> bool:
    """Exchange the names of two folders in one step; return False if the system cannot do that."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # not Linux
        return False
    here = _AT_FDCWD
    if rename(here, os.fsencode(first), here, os.fsencode(second), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NOT_SUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(first))


def last_complete(folder: Path) -> Path:
    """Return the path of the last complete version of a folder written by `replace_folder`."""
    aside = _aside_path(folder)
    moved = not os.path.lexists(folder) and aside.is_dir() and not aside.is_symlink()
    return aside if moved else folder


def _aside_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.replaced")


def remove_folder(path: Path) -> None:
    """Remove a folder and its contents, or a file or link; do nothing if the path is missing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def open_no_follow(path: str, flags: int) -> int:
    """Open a file without following symbolic links; an `opener` for the built-in `open`."""
    return os.open(path, flags | _NO_FOLLOW, 0o666)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        OSError: The file does not exist or cannot be opened.
        ValueError: The path is not a regular file: reading a pipe or device might never end.
    """
    handle = os.open(path, os.O_RDONLY | _NO_WAIT)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError(f"{path.name} is not a regular file")
    return os.fdopen(handle, "rb")


def read_small(path: Path, limit: int) -> bytes:
    """Read a file of at most `limit` bytes.

    Raises:
        OSError: The file cannot be read.
        ValueError: The path is not a regular file, or the file is longer than the limit.
    """
    with open_regular(path) as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{path.name} is longer than the limit of {limit} bytes")
    return data


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an OSError inside the block into a `CollectionError` that says what to do.

    Args:
        path: The file or folder being written, for errors that carry no file name.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise CollectionError(
            f"{str(error.filename or path)!r} cannot be written: {reason}. Data committed before "
            f"is intact; {_remedy(error.errno)} and try again"
        ) from error


def _remedy(number: int | None) -> str:
    if number in _NO_SPACE:
        return "free space on the disk (see also quota and ulimit -f)"
    return "check its permissions" if number in _NO_PERMISSION else "check the path and the disk"
