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
    the new one has the same name or the file the same content. Any other file gets the shortest id
    that no file has. A file for which none is left is a loss.
    """
    names = _KnownFiles(known)
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
        return file_digest(file.path) if file.path.is_file() else None  # a pipe would block
    except OSError:
        return None  # `load_file` reports the error


class _KnownFiles:
    """Finds the row of a file in the collection."""

    def __init__(self, known: Sequence[FileRow]) -> None:
        self._found: set[str] = set()
        self._by_path: dict[str, list[FileRow]] = {}
        self._homeless: dict[str, list[FileRow]] = {}  # their folder is gone; by file name
        exists = {root: os.path.isdir(root) for root in {row.root for row in known}}
        for row in known:
            self._by_path.setdefault(_normal(row.path), []).append(row)
            if not exists[row.root] and PurePath(row.path).is_relative_to(row.root):
                self._homeless.setdefault(_normal(PurePath(row.path).name), []).append(row)

    def find(self, file: SourceFile) -> FileRow | None:
        """Return the row of a file that the collection knows; each row is returned once."""
        for rows in (self._at(str(file.location)), self._moved(file)):
            for row in rows:
                if row.id not in self._found:
                    self._found.add(row.id)
                    return row
        return None

    def _at(self, place: str) -> Iterator[FileRow]:
        rows = self._by_path.get(_normal(place), [])
        yield from (row for row in rows if row.path == place)
        # A name that is composed on one system may be decomposed on another.
        yield from (row for row in rows if row.path != place and _is_same_file(row.path, place))

    def _moved(self, file: SourceFile) -> Iterator[FileRow]:
        """Yield the rows of files that were moved here with their folder."""
        parts = PurePath(_normal(str(file.location))).parts
        same_place = [
            (row, parts[: -len(below)])
            for row in self._homeless.get(parts[-1], [])
            for below in [_below_root(row)]
            if parts[-len(below) :] == below
        ]
        for row, root in same_place:
            if root[-1] == _normal(PurePath(row.root).name):
                yield row
        for row, _ in same_place:
            if row.digest and row.content == content_digest(file):
                yield row


def _below_root(row: FileRow) -> tuple[str, ...]:
    return PurePath(_normal(row.path)).relative_to(_normal(row.root)).parts


def _normal(path: str) -> str:
    return unicodedata.normalize("NFC", path)


def _is_same_file(known: str, place: str) -> bool:
    try:
        return os.path.samefile(known, place)
    except (OSError, ValueError):
        return not os.path.lexists(known)
