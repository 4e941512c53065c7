"""Upgrade of a collection from an older format version: a new one is built beside it."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import numpy as np

from ragkit.collection.collection import Collection
from ragkit.collection.context import OnProgress, batched
from ragkit.collection.description import (
    FORMAT,
    OLD_FORMAT,
    Settings,
    new_place,
    old_place,
    read_any_format,
)
from ragkit.collection.ingest import AddReport, IngestInputs
from ragkit.collection.metadata import Metadata, to_json
from ragkit.collection.names import content_digest
from ragkit.collection.plan import is_missing
from ragkit.collection.writer import CollectionWriter, acquire_write_lock
from ragkit.digests import digest, text_digest
from ragkit.documents import SourceFile, load_file
from ragkit.documents.files import file_id
from ragkit.durable import disk_errors, exchange, make_folder, remove_folder, sync_path
from ragkit.errors import (
    CollectionError,
    CorruptCollection,
    DocumentError,
    EmbedderMismatch,
    FormatMismatch,
)
from ragkit.store.connect import connect, damaged_error, database_errors
from ragkit.store.log import log_fault
from ragkit.store.rows import FileRow
from ragkit.types import Document, Embedder, Loss

_OLD_LOADER = 2  # LOADER_VERSION of the old format
_MAX_FIELDS = 12  # of which subsets are tried
_LIVE = "FROM documents WHERE born IS NOT NULL AND died IS NULL ORDER BY seq"
_LEDGER_BATCH = 4096  # vectors
_MARK = "upgraded"  # file in an old collection that may be removed
_REBUILT = ("collection.json", "ledger", "lock", "segments", "tokens", _MARK)


@dataclass(frozen=True, slots=True)
class UpgradeReport:
    """Result of `upgrade`.

    Attributes:
        upgraded: False if the collection has the current format already.
        n_read: Documents that were read from their files again.
        n_kept: Documents that were kept as they are stored: from memory, or of files that are gone
            or cannot be read.
        n_failed: Documents and files that could not be read again.
        n_chunks: Chunks.
        n_embedded: Texts that were embedded.
        n_reused: Texts whose vectors were taken from the old collection.
        losses: Losses of reading the files.
    """

    upgraded: bool
    n_read: int = 0
    n_kept: int = 0
    n_failed: int = 0
    n_chunks: int = 0
    n_embedded: int = 0
    n_reused: int = 0
    losses: tuple[Loss, ...] = ()


def upgrade(
    path: str | Path,
    *,
    embedder: str | Embedder | None = None,
    raw_ids: bool = False,
    wait: float = 0.0,
    on_progress: OnProgress | None = None,
) -> UpgradeReport:
    """Upgrade a collection to the current format.

    The new collection is built beside the old one, from the files that exist and the stored texts
    of all other documents, and checked. Then it takes the old one's place, and the old one is
    removed. Vectors of texts that stay the same are not computed again. If the process is killed,
    the collection is the old one or the new one; the same call starts again, or removes what is
    left.

    Args:
        path: Folder of the collection.
        embedder: Needed only if the name of the collection's embedder does not resolve to it.
        raw_ids: See `Collection.add`: records keep the ids that they had in format 1.
        wait: See `Collection.add`.
        on_progress: See `Collection.add`.

    Raises:
        CollectionError: There is no collection, or it cannot be rebuilt; it stays as it is.
        EmbedderMismatch: The embedder is not the collection's.
        FormatMismatch: No upgrade from its format exists.
    """
    path = Path(os.path.realpath(path))
    places = _Places(path)
    places.recover()
    if not (path / "store.db").exists():
        raise CollectionError(f"there is no collection at {str(path)!r}")
    lock = acquire_write_lock(path, wait)
    try:
        description = read_any_format(path) or {"format": None}
        if description["format"] == FORMAT:
            places.remove_rests()
            return UpgradeReport(upgraded=False)
        if description["format"] != OLD_FORMAT:
            raise FormatMismatch(
                f"{str(path)!r} has format version {str(description['format'])[:40]}; only format "
                f"{OLD_FORMAT} can be upgraded"
            )
        if places.old.exists():
            raise CollectionError(f"there is a {str(places.old)!r} already; give it another name")
        places.remove_rests()
        try:
            with _OldCollection(path, description) as old:
                inputs = IngestInputs(raw_ids=raw_ids)
                report = _build(old, places.new, embedder, inputs, on_progress)
        except BaseException:
            with suppress(CollectionError):
                places.remove_rests()
            raise
        places.swap()
        places.remove_rests()
    finally:
        lock.release()
    return report


class _Places:
    """Folders of an upgrade: of the collection, the new one and the old one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.new, self.old = new_place(path), old_place(path)

    def recover(self) -> None:
        """Complete an exchange that was interrupted between its two steps."""
        if not self.path.exists() and self.old.is_dir() and self.new.is_dir():
            with disk_errors(self.path):
                self.new.rename(self.path)

    def swap(self) -> None:
        """Put the new collection in the place of the old one."""
        with disk_errors(self.path):
            (self.path / _MARK).touch()
            if exchange(self.path, self.new):
                self.new.rename(self.old)
            else:  # `recover` completes it
                self.path.rename(self.old)
                self.new.rename(self.path)
            sync_path(self.path.parent)

    def remove_rests(self) -> None:
        """Remove the old collection, or an unfinished new one."""
        with disk_errors(self.path):
            if (self.old / _MARK).exists():
                remove_folder(self.new)
                self.old.rename(self.new)  # what has the name of the old one is always whole
            remove_folder(self.new)


@dataclass(frozen=True, slots=True)
class _OldFile:
    """A file of the old collection.

    Attributes:
        row: Its row, with its new id and its old digest.
        old_id: Its old id.
        n_documents: Number of its documents.
        metadata: Metadata that all of its documents have in common.
    """

    row: FileRow
    old_id: str
    n_documents: int
    metadata: Metadata

    @property
    def source(self) -> SourceFile:
        return SourceFile(self.row.id, Path(self.row.path), Path(self.row.root))


class _OldCollection:
    """Reads a collection of format 1, with plain SQL, as later tables differ."""

    def __init__(self, path: Path, description: Mapping[str, Any]) -> None:
        self.path = path
        try:
            known = Settings.__dataclass_fields__
            stored = {key: value for key, value in description["settings"].items() if key in known}
            self.settings = Settings(**stored)
            self.fingerprint = str(description["embedder"]["fingerprint"])
            self.dim = int(description["embedder"]["dim"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CorruptCollection(
                f"collection.json of {str(path)!r} is damaged: {error}"
            ) from error
        self.database = path / "store.db"
        with database_errors(self.database):
            self._connection = connect(self.database, read_only=True)
            self._check()

    def __enter__(self) -> _OldCollection:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def _check(self) -> None:
        query = "SELECT name FROM sqlite_schema WHERE type = 'table'"
        tables = {name for (name,) in self._rows(query, kinds=(str,))}
        fault = log_fault(self.database)
        if not {"documents", "files", "ledger"} <= tables:
            fault = "a table is missing"
        for (line,) in self._rows("PRAGMA integrity_check(1)", kinds=(str,)):
            fault = fault or (line if line != "ok" else None)
        if fault:
            raise damaged_error(self.database, fault)

    def _rows(self, statement: str, *values: Any, kinds: tuple[type, ...]) -> Iterator[Any]:
        """Iterate over rows whose values have the expected types."""
        with database_errors(self.database), closing(self._connection.cursor()) as cursor:
            for row in cursor.execute(statement, values):
                if tuple(map(type, row)) != kinds:
                    raise damaged_error(self.database, f"{row!r:.60} has other types")
                yield row

    def files(self) -> list[_OldFile]:
        """Return the files that have documents, and those that could not be read."""
        common: dict[str, tuple[int, dict[str, Any]]] = {}
        for file, text in self._rows(f"SELECT file, metadata {_LIVE}", kinds=(str, str)):
            n_before, fields = common.get(file, (0, {}))
            own = self._fields(text)
            if n_before:
                own = {key: own[key] for key in fields if own.get(key, self) == fields[key]}
            common[file] = (n_before + 1, own)
        query = "SELECT id, root, digest FROM files ORDER BY id"
        return [
            _OldFile(FileRow(file_id(name), root, f"{root}/{name}", key), name, *of_file)
            for name, root, key in self._rows(query, kinds=(str,) * 3)
            for of_file in [common.get(name, (0, {}))]
        ]

    def documents(self, old_files: Mapping[str, str]) -> Iterator[tuple[Document, str]]:
        """Iterate over the documents of some files, with these files' new ids by the old ones.

        Raises:
            CorruptCollection: A text does not match its digest.
        """
        query = f"SELECT id, file, source, title, text, metadata, digest {_LIVE}"
        for doc_id, file, source, title, text, fields, key in self._rows(query, kinds=(str,) * 7):
            if file not in old_files:
                continue
            if text_digest(text) != key:
                raise damaged_error(self.database, f"the text of {doc_id!r} has changed")
            yield Document(doc_id, text, title, source, self._fields(fields)), old_files[file]

    def _fields(self, text: str) -> dict[str, Any]:
        try:
            return dict(json.loads(text))
        except (ValueError, TypeError, RecursionError) as error:
            raise damaged_error(self.database, f"metadata is {text!r:.60}: {error}") from error

    def vectors(self) -> Iterator[tuple[bytes, Any]]:
        """Iterate over the keys and vectors, float32 (dim,), that are intact."""

        file = self.path / "ledger" / f"{self.fingerprint}-passage.f32"
        if not file.is_file() or file.stat().st_size < 4 * self.dim:
            return
        n_rows = file.stat().st_size // (4 * self.dim)
        vectors = np.memmap(file, dtype="<f4", mode="r", shape=(n_rows, self.dim))
        query = (
            "SELECT key, row, checksum FROM ledger "
            "WHERE fingerprint = ? AND role = 'passage' ORDER BY row"
        )
        kinds = (bytes, int, int)
        for key, row, checksum in self._rows(query, self.fingerprint, kinds=kinds):
            if 0 <= row < n_rows and zlib.crc32(vectors[row].tobytes()) == checksum:
                yield key, vectors[row]


def _build(
    old: _OldCollection,
    target: Path,
    embedder: str | Embedder | None,
    inputs: IngestInputs,
    on_progress: OnProgress | None,
) -> UpgradeReport:
    """Build the new collection and check it."""
    with Collection(target, embedder=embedder, settings=old.settings) as new:
        if new.embedder.fingerprint != old.fingerprint:
            raise EmbedderMismatch(
                f"{str(old.path)!r} was built with the embedder {old.settings.embedder!r} "
                f"(fingerprint {old.fingerprint[:12]}), not with {new.embedder.name!r} "
                f"({new.embedder.fingerprint[:12]}); pass the first one"
            )
        with new._writing(create=True) as writer:
            for batch in batched(old.vectors(), _LEDGER_BATCH):
                rows = np.stack([vector for _, vector in batch])  # (batch, dim)
                writer.context.ledger.append([key for key, _ in batch], rows)
            files = old.files()
            reports = _read_again(writer, files, inputs, on_progress)
            kept = _keep(writer, old, files, on_progress)
            losses = _shrunken_files(writer, files)
        faults = new.verify().faults
        if faults:
            raise CorruptCollection(f"the new collection is faulty: {faults[0]}")
    _copy_others(old.path, target)
    return UpgradeReport(
        upgraded=True,
        n_read=sum(report.added for report in reports),
        n_kept=kept.added,
        n_failed=sum(report.failed for report in reports),
        n_chunks=sum(report.n_chunks for report in (*reports, kept)),
        n_embedded=sum(report.n_embedded for report in (*reports, kept)),
        n_reused=sum(report.n_reused for report in (*reports, kept)),
        losses=(*chain.from_iterable(report.losses for report in reports), *losses),
    )


def _read_again(
    writer: CollectionWriter,
    files: Sequence[_OldFile],
    inputs: IngestInputs,
    on_progress: OnProgress | None,
) -> list[AddReport]:
    """Read the files that exist, each with the metadata that its documents were given."""
    groups: dict[str, tuple[Metadata, list[SourceFile]]] = {}
    existing = [file for file in files if not is_missing(file.row.path)]
    for file, metadata in _with_given_metadata(existing):
        groups.setdefault(to_json(metadata), (metadata, []))[1].append(file.source)
    return [
        writer.add(replace(inputs, files=sources, metadata=metadata), on_progress)
        for metadata, sources in groups.values()
    ]


def _with_given_metadata(files: Sequence[_OldFile]) -> Iterator[tuple[_OldFile, Metadata]]:
    """Yield each file with the metadata that was passed to `add`.

    It is stored only as part of the documents' metadata and of the file's key, which tells whether
    a guess is right. For a file that has changed since, which has another key, it is that of the
    other files of its folder, or else what its documents have in common and its content lacks.
    """
    of_roots: dict[str, dict[str, Metadata]] = {}
    unknown: list[_OldFile] = []
    for file in files:
        known = of_roots.setdefault(file.row.root, {})
        metadata = _given_metadata(file, list(known.values()))
        if metadata is None:
            unknown.append(file)
        else:
            known[to_json(metadata)] = metadata
            yield file, metadata
    for file in unknown:
        candidates = list(of_roots[file.row.root].values())
        yield file, candidates[0] if len(candidates) == 1 else _foreign_fields(file)


def _given_metadata(file: _OldFile, likely: Sequence[Metadata]) -> Metadata | None:
    content = content_digest(file.source)
    fields = sorted(file.metadata.items())[:_MAX_FIELDS]
    sizes = range(len(fields) + 1)
    subsets = (dict(subset) for size in sizes for subset in combinations(fields, size))
    for metadata in chain(likely, subsets):
        if digest(f"{_OLD_LOADER} {content} {to_json(metadata)}".encode()) == file.row.digest:
            return metadata
    return None


def _foreign_fields(file: _OldFile) -> Metadata:
    try:
        documents = load_file(file.source).documents
    except DocumentError:
        return {}
    own = {key for document in documents for key in document.metadata}
    return {key: value for key, value in file.metadata.items() if key not in own}


def _keep(
    writer: CollectionWriter,
    old: _OldCollection,
    files: Sequence[_OldFile],
    on_progress: OnProgress | None,
) -> AddReport:
    """Keep the stored documents of files that gave none, and those from memory."""
    store = writer.context.store
    read = {file for _, file in store.documents_of_files([file.row.id for file in files])}
    kept = [file for file in files if file.n_documents and file.row.id not in read]
    store.record_files([replace(file.row, digest="") for file in kept])
    names = {"": "", **{file.old_id: file.row.id for file in kept}}
    report = writer.add(IngestInputs(stored=old.documents(names)), on_progress)
    if report.failed:
        raise CollectionError(
            f"{report.losses[-1].what} cannot be kept: {report.losses[-1].why}. The collection "
            "stays as it is; delete the document with the ragkit that wrote it"
        )
    return report


def _shrunken_files(writer: CollectionWriter, files: Sequence[_OldFile]) -> list[Loss]:
    """Return a loss for each file that has fewer documents than before."""
    ids = [file.row.id for file in files]
    n_now = Counter(file for _, file in writer.context.store.documents_of_files(ids))
    return [
        Loss("documents", file.row.id, f"{file.n_documents - n_now[file.row.id]} documents",
             f"{n_now[file.row.id]} documents", "the file has changed since it was added")
        for file in files if n_now[file.row.id] < file.n_documents
    ]  # fmt: skip


def _copy_others(source: Path, target: Path) -> None:
    """Copy what an upgrade does not change, such as an adapter."""
    with disk_errors(target):
        make_folder(target)
        for item in sorted(source.iterdir()):
            if item.name in _REBUILT or item.name.startswith("store.db"):
                continue
            if item.is_dir() and not item.is_symlink():
                shutil.copytree(item, target / item.name, symlinks=True)
            else:
                shutil.copy2(item, target / item.name, follow_symlinks=False)
        for item in (*target.rglob("*"), target):
            if not item.is_symlink():
                sync_path(item)
