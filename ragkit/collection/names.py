"""Ids of files: each keeps its own, and no two share one."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import PurePath

from ragkit.digests import file_digest
from ragkit.documents import SourceFile
from ragkit.documents.files import NO_FREE_ID, with_free_id
from ragkit.store.rows import FileRow
from ragkit.types import Loss


def name_files(
    files: Sequence[SourceFile], known: Sequence[FileRow]
) -> tuple[dict[str, SourceFile], list[Loss]]:
    """Return the files by their ids in the collection, and the losses.

    A file that the collection knows keeps its id for ever. It is known if it is at the same place,
    or at the same place below a folder that was moved: the old folder does not exist any more, and
    the new one has the same name, or a file with the same content at the same place. Any other file
    gets the shortest id that no file has. A file for which none is left is a loss.
    """
    names = _KnownFiles(known)
    names.find_moves(files)
    taken = {row.id for row in known}
    named: dict[str, SourceFile] = {}
    losses: list[Loss] = []
    for file in files:
        row = names.find(file)
        new = with_free_id(file, taken) if row is None else replace(file, id=row.id)
        if new is None:
            losses.append(Loss("documents", file.id, "the file", "nothing", NO_FREE_ID))
            continue
        taken.add(new.id)
        named[new.id] = new
    return named, losses


def content_digest(file: SourceFile) -> str | None:
    """Return the digest of a file's bytes, or None if it cannot be read."""
    try:
        return file_digest(file.path)
    except OSError:
        return None  # `load_file` reports the error


class _KnownFiles:
    """Finds the row of a file in the collection."""

    def __init__(self, known: Sequence[FileRow]) -> None:
        self._found: set[str] = set()
        self._by_path: dict[str, list[FileRow]] = {}
        self._homeless: dict[str, list[FileRow]] = {}  # their folder is gone; by file name
        self._moves: set[tuple[str, PurePath]] = set()  # (old root, new root)
        exists = {root: os.path.isdir(root) for root in {row.root for row in known}}
        for row in known:
            self._by_path.setdefault(_normal(row.path), []).append(row)
            if not exists[row.root]:
                self._homeless.setdefault(_normal(PurePath(row.path).name), []).append(row)

    def find_moves(self, files: Sequence[SourceFile]) -> None:
        """Find out which folders were moved, from all files of a call."""
        for file in files if self._homeless else ():
            for row, root in self._candidates(file):
                same_name = root.name == _normal(PurePath(row.root).name)
                if same_name or (row.digest and row.content == content_digest(file)):
                    self._moves.add((row.root, root))

    def find(self, file: SourceFile) -> FileRow | None:
        """Return the row of a file that the collection knows; each row is returned once."""
        moved = (row for row, root in self._candidates(file) if (row.root, root) in self._moves)
        for row in (*self._at(str(file.location)), *moved):
            if row.id not in self._found:
                self._found.add(row.id)
                return row
        return None

    def _at(self, place: str) -> Iterator[FileRow]:
        rows = self._by_path.get(_normal(place), [])
        yield from (row for row in rows if row.path == place)
        # A name that is composed on one system may be decomposed on another.
        yield from (row for row in rows if row.path != place and _is_same_file(row.path, place))

    def _candidates(self, file: SourceFile) -> Iterator[tuple[FileRow, PurePath]]:
        """Yield files that may have been moved here, with the folder that their root would be."""
        parts = PurePath(_normal(str(file.location))).parts
        for row in self._homeless.get(parts[-1], []):
            below = PurePath(_normal(row.path)).relative_to(_normal(row.root)).parts
            if parts[-len(below) :] == below:
                yield row, PurePath(*parts[: -len(below)])


def _normal(path: str) -> str:
    return unicodedata.normalize("NFC", path)


def _is_same_file(known: str, place: str) -> bool:
    try:
        return os.path.samefile(known, place)
    except OSError:
        return not os.path.lexists(known)
