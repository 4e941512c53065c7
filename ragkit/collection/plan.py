"""Which files of a call are read, and under which ids."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ragkit.collection.names import content_digest, name_files
from ragkit.documents import SourceFile
from ragkit.store.rows import FileRow
from ragkit.types import Loss


@dataclass(frozen=True, slots=True)
class FilePlan:
    """Files of a call.

    Attributes:
        rows: Row of each file, by id; without a digest.
        changed: Files that are read.
        unchanged: Ids of the other files.
        moved: Rows of unchanged files that are at another place than before.
        released: Ids of files whose documents may pass to other files: those that are read, or
            will be deleted.
        losses: Files that have no id.
    """

    rows: dict[str, FileRow]
    changed: list[SourceFile]
    unchanged: list[str]
    moved: list[FileRow]
    released: frozenset[str]
    losses: list[Loss]


def plan_files(
    files: Sequence[SourceFile],
    known: Sequence[FileRow],
    file_key: Callable[[str], str],
    *,
    gone: frozenset[str] = frozenset(),
) -> FilePlan:
    """Plan which files are read: those whose content, or the way to read it, is new.

    Args:
        files: Files of the call.
        known: Files of the collection.
        file_key: Returns the digest of a file's row for the digest of its content.
        gone: Ids of files that will be deleted.
    """
    named, losses = name_files(files, known)
    before = {row.id: row for row in known}
    rows: dict[str, FileRow] = {}
    changed: list[SourceFile] = []
    unchanged: list[str] = []
    moved: list[FileRow] = []
    for name, file in named.items():
        old = before.get(name)
        rows[name] = _row(file, old)
        content = content_digest(file) if old and old.digest else None
        if old is None or content is None or file_key(content) != old.digest:
            changed.append(file)
            continue
        unchanged.append(name)
        row = replace(rows[name], digest=old.digest)
        if row != old:
            moved.append(row)
    released = gone | {file.id for file in changed}
    return FilePlan(rows, changed, unchanged, moved, released, losses)


def _row(file: SourceFile, old: FileRow | None) -> FileRow:
    place = str(file.location)
    if old is not None and old.path == place:
        return replace(old, digest="")  # keeps its root, which may be a folder above
    return FileRow(file.id, os.path.realpath(file.root), place, "")


def is_missing(path: str | Path) -> bool:
    """Return True if there is nothing at a path; False if that cannot be found out."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False
