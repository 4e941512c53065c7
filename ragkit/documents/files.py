"""Finding files, and reading one so that its digest is the digest of what was read."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ragkit.digests import digest
from ragkit.errors import DocumentError
from ragkit.types import Loss

MAX_FILE_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file found under a root.

    Attributes:
        id: The path relative to the root with `/`, or a single file's name; control characters
            and undecodable bytes are written as escapes.
        path: Where it is.
        root: The folder that was searched, or the single file's folder.
    """

    id: str
    path: Path
    root: Path


def find_files(paths: Sequence[Path | str]) -> tuple[list[SourceFile], list[Loss]]:
    """The files among `paths` and, sorted, in the folders among them; and what was left out.

    Left out with a loss: hidden files and folders below a root, links to folders, links that leave
    the root, files over 100 MB, what is no regular file, what cannot be read, and a second file
    with the same id.

    Raises:
        DocumentError: A path does not exist, or is neither file nor folder.
    """
    if isinstance(paths, str | Path):
        raise TypeError(f"paths is {paths!r}, expected a sequence of paths: [{paths!r}]")
    found: list[SourceFile] = []
    losses: list[Loss] = []
    places: dict[str, Path] = {}
    for given in paths:
        for item in _walk(Path(given)):
            if isinstance(item, Loss):
                losses.append(item)
                continue
            real = Path(os.path.realpath(item.path))
            if item.id not in places:
                places[item.id] = real
                found.append(item)
            elif places[item.id] != real:
                why = f"{places[item.id]} has the id {item.id!r}; add both from their common folder"
                losses.append(_skipped(item.path, why))
    return found, losses


def printable(name: str) -> str:
    r"""The name with control characters, line ends and undecodable bytes as escapes.

    >>> print(printable("two\nlines\udcff.txt"))
    two\x0alines\xff.txt
    """
    return "".join(map(_printable, name))


def read_stable(path: Path, name: str) -> tuple[bytes, str]:
    """A file's bytes and their digest, taken while the file did not change.

    Raises:
        DocumentError: It cannot be read, is over 100 MB, or changed twice while it was read.
    """
    for _ in range(2):
        try:
            data, same = _read(path, name)
        except (OSError, ValueError) as error:
            raise DocumentError(f"{name}: cannot be read: {_reason(error)}") from error
        if same:
            return data, digest(data)
    raise DocumentError(f"{name}: changed while it was read, twice; add it when it is complete")


def _read(path: Path, name: str) -> tuple[bytes, bool]:
    # Some devices act when they are opened, and a pipe would wait for its writer.
    _expect_file(path.stat(), name)
    with open(path, "rb", opener=_open) as file:
        before = os.fstat(file.fileno())
        _expect_file(before, name)  # it may have been replaced meanwhile
        data = file.read(MAX_FILE_BYTES + 1)
        after = os.fstat(file.fileno())
    if len(data) > MAX_FILE_BYTES:
        raise DocumentError(f"{name}: too big: files up to {MAX_FILE_BYTES} bytes are read")
    states = {_state(before), _state(after), _state(path.stat())}
    return data, len(states) == 1 and len(data) == after.st_size


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _expect_file(status: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise DocumentError(f"{name}: cannot be read: a regular file was expected")


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _walk(given: Path) -> Iterator[SourceFile | Loss]:
    try:
        mode = given.stat().st_mode
    except (OSError, ValueError) as error:
        reason = _reason(error)
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            reason = "no such file or folder"
        raise DocumentError(f"{printable(str(given))}: {reason}") from error
    if stat.S_ISREG(mode):
        loss = _why_not(given)
        yield loss or SourceFile(printable(given.name), given, given.parent)
    elif stat.S_ISDIR(mode):
        yield from _walk_folder(given)
    else:
        raise DocumentError(f"{printable(str(given))}: a file or a folder was expected")


def _walk_folder(root: Path) -> Iterator[SourceFile | Loss]:
    real_root = Path(os.path.realpath(root))
    stack = [root]
    while stack:
        path = stack.pop()
        if path != root:
            try:
                loss = _why_not_below(path, real_root)
            except OSError as error:  # its folder cannot be entered, or the path is too long
                loss = _skipped(path, _reason(error))
            if loss:
                yield loss
                continue
            if not path.is_dir():
                yield SourceFile(printable(path.relative_to(root).as_posix()), path, root)
                continue
        try:
            children = sorted(path.iterdir(), key=lambda child: os.fsencode(child.name))
        except OSError as error:
            yield _skipped(path, _reason(error), lost="the folder")
            continue
        stack.extend(reversed(children))


def _why_not_below(path: Path, real_root: Path) -> Loss | None:
    """The loss of a path below a root, if it is not to be read."""
    if path.name.startswith("."):
        lost = "the folder" if path.is_dir() else "the file"
        return _skipped(path, "it is hidden; name it to add it", lost=lost)
    if path.is_symlink():
        target = Path(os.path.realpath(path))
        if not target.is_relative_to(real_root):
            return _skipped(
                path, "the link leaves the folder; add its target by name", lost="the link"
            )
        if path.is_dir():
            why = "the link's target is in the folder, where it is read by its own name"
            return _skipped(path, why, lost="the link")
    return None if path.is_dir() else _why_not(path)


def _why_not(path: Path) -> Loss | None:
    """The loss of a file that is missing, special or too big."""
    try:
        status = path.stat()
    except OSError as error:
        return _skipped(path, _reason(error))
    if not stat.S_ISREG(status.st_mode):
        return _skipped(path, "it is no regular file")
    if status.st_size > MAX_FILE_BYTES:
        return _skipped(path, f"it has {status.st_size} bytes, over {MAX_FILE_BYTES}; split it")
    return None


def _skipped(path: Path, why: str, *, lost: str = "the file") -> Loss:
    return Loss("documents", printable(str(path)), lost, "nothing", printable(why))


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _printable(char: str) -> str:
    if unicodedata.category(char) not in {"Cc", "Cs", "Zl", "Zp"}:
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8, as Python's file names carry it
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
