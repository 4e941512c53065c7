"""Find files, and read a file together with the digest of the bytes read."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ragkit.digests import digest
from ragkit.errors import DocumentError
from ragkit.types import Loss

MAX_FILE_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file found under a root folder.

    Attributes:
        id: Path relative to the root with `/` separators, or the name of a single file, in Unicode
            NFC; control characters and undecodable bytes are escaped. If another file has this id,
            it begins with as many folders of the root's path as tell the two apart.
        path: Path of the file.
        root: Folder that was searched, or the folder of a single file.
    """

    id: str
    path: Path
    root: Path

    @property
    def location(self) -> Path:
        """Absolute path without links to folders: the same for each way to name the file."""
        return Path(os.path.realpath(self.path.parent)) / self.path.name


def find_files(paths: Sequence[Path | str]) -> tuple[list[SourceFile], list[Loss]]:
    """Find the files among `paths` and, sorted, in the folders among them.

    Skip, with a loss each: hidden files and folders below a root, links to folders, links that
    leave the root, files over 100 MB, anything but regular files, and unreadable files.

    Raises:
        DocumentError: A path does not exist, or is neither a file nor a folder.
    """
    if isinstance(paths, str | Path):
        raise TypeError(f"paths is {paths!r}, expected a sequence of paths: [{paths!r}]")
    files: dict[str, SourceFile] = {}
    losses: list[Loss] = []
    locations: set[Path] = set()
    for path in paths:
        for item in _walk(Path(path)):
            if isinstance(item, Loss):
                losses.append(item)
            elif item.location not in locations:
                locations.add(item.location)
                named = with_free_id(item, files)
                if named is None:
                    losses.append(_skipped(item.path, NO_FREE_ID))
                else:
                    files[named.id] = named
    return list(files.values()), losses


NO_FREE_ID = "its name differs from another's only in how it is encoded; rename one of them"


def with_free_id(file: SourceFile, taken: Container[str]) -> SourceFile | None:
    """Return the file with its shortest id that is not taken, or None if all are taken."""
    free = (name for name in possible_ids(file) if name not in taken)
    name = next(free, None)
    return None if name is None else replace(file, id=name)


def possible_ids(file: SourceFile) -> Iterator[str]:
    """Yield the ids that a file may get: its path below the root, then with folders before it.

    >>> list(possible_ids(SourceFile("d.md", Path("/a/b/c/d.md"), Path("/a/b"))))
    ['c/d.md', 'b/c/d.md', 'a/b/c/d.md']
    """
    parts = file.location.parts[1:]
    n_below = len(file.path.relative_to(file.root).parts)
    for start in range(len(parts) - n_below, -1, -1):
        yield file_id("/".join(parts[start:]))


def file_id(path: str) -> str:
    """Return a relative path as an id: in Unicode NFC, and printable."""
    return printable(unicodedata.normalize("NFC", path))


def printable(name: str) -> str:
    r"""Escape the control characters, line ends and undecodable bytes of a name.

    >>> print(printable("two\nlines\udcff.txt"))
    two\x0alines\xff.txt
    """
    return "".join(map(_escape_char, name))


def read_stable(path: Path, name: str) -> tuple[bytes, str]:
    """Return a file's bytes and their digest; read again if the file changes meanwhile.

    Raises:
        DocumentError: The file cannot be read, is over 100 MB, or changed during both reads.
    """
    for _ in range(2):
        try:
            data, unchanged = _read_once(path, name)
        except (OSError, ValueError) as error:
            raise DocumentError(f"{name}: cannot be read: {_reason(error)}") from error
        if unchanged:
            return data, digest(data)
    raise DocumentError(f"{name}: changed while it was read, twice; add it when it is complete")


def _read_once(path: Path, name: str) -> tuple[bytes, bool]:
    # Opening some devices has side effects, and opening a pipe waits for its writer.
    _require_regular(path.stat(), name)
    with open(path, "rb", opener=_open_nonblocking) as file:
        before = os.fstat(file.fileno())
        _require_regular(before, name)  # the path may have been replaced since
        data = file.read(MAX_FILE_BYTES + 1)
        after = os.fstat(file.fileno())
    if len(data) > MAX_FILE_BYTES:
        raise DocumentError(f"{name}: too big: the limit is {MAX_FILE_BYTES} bytes a file")
    states = {_file_state(before), _file_state(after), _file_state(path.stat())}
    return data, len(states) == 1 and len(data) == after.st_size


def _open_nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _require_regular(status: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise DocumentError(f"{name}: cannot be read: it is not a regular file")


def _file_state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _walk(path: Path) -> Iterator[SourceFile | Loss]:
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = _reason(error)
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            reason = "no such file or folder"
        raise DocumentError(f"{printable(str(path))}: {reason}") from error
    if stat.S_ISREG(mode):
        loss = _file_loss(path)
        yield loss or SourceFile(file_id(path.name), path, path.parent)
    elif stat.S_ISDIR(mode):
        yield from _walk_folder(path)
    else:
        raise DocumentError(f"{printable(str(path))}: it is neither a file nor a folder")


def _walk_folder(root: Path) -> Iterator[SourceFile | Loss]:
    real_root = Path(os.path.realpath(root))
    stack = [root]
    while stack:
        path = stack.pop()
        if path != root:
            try:
                loss = _below_root_loss(path, real_root)
            except OSError as error:  # the folder is not accessible, or the path is too long
                loss = _skipped(path, _reason(error))
            if loss:
                yield loss
                continue
            if not path.is_dir():
                yield SourceFile(file_id(path.relative_to(root).as_posix()), path, root)
                continue
        try:
            children = sorted(path.iterdir(), key=lambda child: os.fsencode(child.name))
        except OSError as error:
            yield _skipped(path, _reason(error), lost="the folder")
            continue
        stack.extend(reversed(children))


def _below_root_loss(path: Path, real_root: Path) -> Loss | None:
    """Return the loss for a path below a root that must be skipped, else None."""
    if path.name.startswith("."):
        lost = "the folder" if path.is_dir() else "the file"
        return _skipped(path, "it is hidden; pass its path to add it", lost=lost)
    if path.is_symlink():
        target = Path(os.path.realpath(path))
        if not target.is_relative_to(real_root):
            why = "the link leaves the folder; pass its target's path to add it"
            return _skipped(path, why, lost="the link")
        if path.is_dir():
            why = "the link's target is in the folder and is read there"
            return _skipped(path, why, lost="the link")
    return None if path.is_dir() else _file_loss(path)


def _file_loss(path: Path) -> Loss | None:
    """Return the loss for a file that is missing, not regular or too big, else None."""
    try:
        status = path.stat()
    except OSError as error:
        return _skipped(path, _reason(error))
    if not stat.S_ISREG(status.st_mode):
        return _skipped(path, "it is not a regular file")
    if status.st_size > MAX_FILE_BYTES:
        return _skipped(
            path, f"it has {status.st_size} bytes, the limit is {MAX_FILE_BYTES}; split it"
        )
    return None


def _skipped(path: Path, why: str, *, lost: str = "the file") -> Loss:
    return Loss("documents", printable(str(path)), lost, "nothing", printable(why))


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _escape_char(char: str) -> str:
    if unicodedata.category(char) not in {"Cc", "Cs", "Zl", "Zp"}:
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as a surrogate escape (PEP 383)
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
