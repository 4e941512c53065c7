"""Writes that survive a power failure, and reads of files that may be anything."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ragkit.errors import CollectionError

_NO_SPACE = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, None}  # None: NumPy's short write
_NO_PERMISSION = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # opening a named pipe would wait for its other end


def sync_path(path: Path) -> None:
    """Flush a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """Make a folder and its parents; its own entry is on the disk when this returns."""
    if path.is_dir():
        return
    missing = [path, *(parent for parent in path.parents if not parent.exists())]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_path(folder.parent)


def replace_text(path: Path, text: str) -> None:
    """Write a file under another name, flush it, and rename it; one writer at a time."""
    temporary = path.with_name(path.name + ".writing")
    temporary.unlink(missing_ok=True)  # of a writer that was killed, or a link to something else
    with temporary.open("x", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
    sync_path(temporary)
    os.replace(temporary, path)
    sync_path(path.parent)


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Write a folder under another name; at the end of the block it is flushed and renamed.

    What was there before is put aside first and removed afterwards, so that one of the two is
    whole at any moment, and is in its place again after an error. One writer at a time.
    """
    temporary, aside = folder.with_name(f"{folder.name}.writing"), _aside(folder)
    with disk_errors(folder):
        make_folder(folder.parent)
        if last_whole(folder) == aside:  # a process was killed between two renames
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
            if last_whole(folder) == aside:
                os.replace(aside, folder)
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_path(folder.parent)
        remove_folder(aside)


def last_whole(folder: Path) -> Path:
    """Where a folder is that `replaced` writes: beside its place while or after it is replaced."""
    aside = _aside(folder)
    moved = not os.path.lexists(folder) and aside.is_dir() and not aside.is_symlink()
    return aside if moved else folder


def _aside(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.replaced")


def remove_folder(path: Path) -> None:
    """Remove a folder with all that is in it, or a file or link of that name; or do nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def open_own(path: str, flags: int) -> int:
    """An `opener` for `open` that refuses links: only what lies there itself is written."""
    return os.open(path, flags | _NO_FOLLOW, 0o666)


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read.

    Raises:
        OSError: There is none.
        ValueError: It is no regular file: reading a pipe or device might never end.
    """
    handle = os.open(path, os.O_RDONLY | _NO_WAIT)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError(f"{path.name} is no regular file")
    return os.fdopen(handle, "rb")


def read_small(path: Path, limit: int) -> bytes:
    """The bytes of a file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no regular file, or longer than the limit.
    """
    with open_regular(path) as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{path.name} is longer than the {limit} bytes that are read of it")
    return data


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """The operating system's errors while something is written, in our words.

    Args:
        path: What is written, for errors that name no file.
    """
    try:
        yield
    except OSError as error:
        said = error.strerror or str(error)
        raise CollectionError(
            f"{str(error.filename or path)!r} cannot be written: {said}. What was committed "
            f"before is whole; {_remedy(error.errno)} and do the same again"
        ) from error


def _remedy(number: int | None) -> str:
    if number in _NO_SPACE:
        return "free space on the disk (see also quota and ulimit -f)"
    return "check its permissions" if number in _NO_PERMISSION else "check the path and the disk"
