"""Write access to a collection: its lock, the inputs of jobs, and the jobs."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import filelock

from ragkit.collection import maintenance
from ragkit.collection.context import OnProgress, WriterContext
from ragkit.collection.description import Settings, check_not_upgrading
from ragkit.collection.id_check import check_ids
from ragkit.collection.ingest import AddReport, IngestInputs, Ingestion
from ragkit.collection.plan import FilePlan, plan_files
from ragkit.collection.repair import repair
from ragkit.collection.snapshot import Snapshot
from ragkit.collection.sync import files_below, find_deleted, gone_files
from ragkit.documents import SourceFile, find_files
from ragkit.durable import disk_errors, make_folder
from ragkit.errors import CollectionError, DocumentError, Locked
from ragkit.indexes.segment import IndexSettings
from ragkit.losses import collect, report
from ragkit.types import Document, Loss

Items = str | Path | Document | Iterable[str | Path | Document]


def inputs_of_items(
    items: Items,
    metadata: Mapping[str, Any] | None,
    own: Path,
    *,
    raw_ids: bool = False,
    encoding: str = "",
) -> IngestInputs:
    """Collect the files and documents to add to the collection at `own`.

    Raises:
        DocumentError: A path does not exist, or the paths contain no readable file.
    """
    paths, documents = _split_items(items)
    files, skipped = find_files(paths) if paths else ([], [])
    files = _exclude_own(own, files)
    if paths and not files and not documents:
        names = ", ".join(repr(str(path)) for path in paths)
        reasons = [f"{loss.what}: {loss.why}" for loss in skipped[:3]]
        more = [f"and {len(skipped) - 3} more"] if len(skipped) > 3 else []
        why = f" (skipped: {'; '.join(reasons + more)})" if reasons else ""
        raise DocumentError(
            f"there is no file to read in {names}{why}; add files of a supported type"
        )
    return IngestInputs(files, skipped, documents, metadata or {}, raw_ids, encoding)


def check_new(inputs: IngestInputs) -> None:
    """Raise CollectionError if two inputs of a new collection have the same id."""
    plan = plan_files(inputs.files, [], inputs.file_key)
    check_ids(None, plan, inputs.documents, raw_ids=inputs.raw_ids)


def inputs_of_folder(
    path: str | Path,
    metadata: Mapping[str, Any] | None,
    own: Path,
    *,
    raw_ids: bool = False,
    encoding: str = "",
) -> IngestInputs:
    """Collect the files of a folder, possibly empty, to sync with the collection at `own`."""
    root = Path(path)
    if not root.is_dir():
        raise DocumentError(f"{str(path)!r} is not a folder; expected the folder to sync with")
    files, skipped = find_files([root])
    return IngestInputs(_exclude_own(own, files), skipped, (), metadata or {}, raw_ids, encoding)


class CollectionWriter:
    """Writes to a collection, for a process that has the write lock.

    Args:
        context: Parts of the collection.
        settings: Settings of the collection.
        strict: Raise `LossError` at the first loss instead of recording it.
    """

    def __init__(self, context: WriterContext, settings: Settings, *, strict: bool) -> None:
        self.context = context
        self._store = context.store
        self._bm25 = (settings.k1, settings.b)
        self._strict = strict

    def add(self, inputs: IngestInputs, on_progress: OnProgress | None) -> AddReport:
        """Add new and changed documents."""
        plan = self._plan(inputs)
        with self._job("add", inputs, plan, on_progress) as (ingestion, losses):
            added = ingestion.run()
        return replace(added, losses=tuple(losses), generation=self._store.generation())

    def sync(
        self, path: str | Path, inputs: IngestInputs, on_progress: OnProgress | None, *, yes: bool
    ) -> AddReport:
        """Add the files of a folder, and delete the documents of files that no longer exist."""
        below = files_below(self._store, Path(path))
        plan = self._plan(inputs, gone=gone_files(below))
        with self._job("sync", inputs, plan, on_progress) as (ingestion, losses):
            added = ingestion.run()
        deleted_ids, deleted_files, n_from_root = find_deleted(self._store, below, plan, ingestion)
        n_before = n_from_root - added.added
        if len(deleted_ids) * 2 > n_before and not yes:
            raise CollectionError(
                f"sync would delete {len(deleted_ids)} of {n_before} documents from {str(path)!r}; "
                "to allow this, pass yes=True (--yes)"
            )
        _, deleted = self._store.delete_documents(deleted_ids)
        self._store.delete_files(deleted_files)
        self._compact_tiers()
        return replace(
            added,
            losses=tuple(losses),
            deleted=len(deleted),
            generation=self._store.generation(),
        )

    def _plan(self, inputs: IngestInputs, *, gone: frozenset[str] = frozenset()) -> FilePlan:
        """Plan which files are read; refuse ids that belong to another source."""
        plan = plan_files(inputs.files, self._store.files(), inputs.file_key, gone=gone)
        check_ids(self._store, plan, inputs.documents, raw_ids=inputs.raw_ids)
        return plan

    @contextmanager
    def _job(
        self, kind: str, inputs: IngestInputs, plan: FilePlan, on_progress: OnProgress | None
    ) -> Iterator[tuple[Ingestion, list[Loss]]]:
        """Record a job and its losses in the store, then compact the collection."""
        job = self._store.start_job(kind)
        state = "failed"
        with collect(strict=self._strict) as losses:
            try:
                for loss in (*inputs.skipped, *plan.losses):
                    report(loss)
                ingestion = Ingestion(self.context, job, inputs, plan, on_progress)
                yield ingestion, losses
                state = "done"
            except KeyboardInterrupt:
                state = "interrupted"
                raise
            finally:
                self._store.end_job(job, state, losses)
        self._compact_tiers()

    def delete(self, ids: Sequence[str]) -> list[str]:
        """Delete documents by id; return the ids that existed."""
        _, deleted = self._store.delete_documents(ids)
        self._store.unstage(ids)
        self._compact_tiers()
        return sorted(deleted)

    def compact(self) -> None:
        """Merge all segments into one."""
        maintenance.compact(self.context, self._snapshot(), full=True)
        maintenance.collect_garbage(self.context)

    def gc(self) -> int:
        """Delete data that the last two generations do not use; return the number of segments."""
        return maintenance.collect_garbage(self.context)

    def repair(self, on_progress: OnProgress | None) -> int:
        """Rebuild the indexes from the store; return the number of texts embedded again."""
        n_embedded = repair(self.context, on_progress)
        maintenance.collect_garbage(self.context)
        return n_embedded

    def trust(self) -> int:
        """Sign the FAISS files that match their digests; return their number."""
        return maintenance.sign_indexes(self.context)

    def _compact_tiers(self) -> None:
        while not maintenance.is_compact(self._store.read_state()):
            if not maintenance.compact(self.context, self._snapshot()):
                break
        maintenance.collect_garbage(self.context)

    def _snapshot(self) -> Snapshot:
        return Snapshot(self._store, self.context.segments, IndexSettings(), self._bm25)


def acquire_write_lock(path: Path, wait: float = 0.0) -> filelock.BaseFileLock:
    """Create the folder of a collection and lock it; the caller releases the lock.

    Args:
        path: Folder of the collection.
        wait: Seconds to wait for another writer to finish.

    Raises:
        Locked: Another process or thread has the lock.
    """
    if not wait >= 0:
        raise ValueError(f"wait is {wait!r}; expected a number of seconds")
    with disk_errors(path):
        make_folder(path)
    if not os.access(path, os.W_OK):
        raise CollectionError(f"{str(path)!r} cannot be written; check its permissions")
    lock = filelock.FileLock(path / "lock", timeout=-1 if wait == math.inf else wait)
    with disk_errors(path / "lock"):
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise Locked(
                f"another process is writing to {str(path)!r}; try again when it has finished, or "
                "wait for it: wait=SECONDS (--wait SECONDS)"
            ) from error
    return lock


def check_can_create(path: Path, settings: Settings) -> None:
    """Raise if the folder contains other files, or if the index type is unknown."""
    check_not_upgrading(path)
    if settings.index != "exact":
        from ragkit.indexes.faiss import check_factory

        check_factory(settings.index)
    own = {
        "lock",
        "ledger",
        "segments",
        "tokens",
        "training",
        "adapter",
        "collection.json",
        "collection.json.writing",
    }
    entries = [entry.name for entry in path.iterdir()] if path.is_dir() else []
    others = [name for name in entries if name not in own and not name.startswith("store.db")]
    if others and not (path / "collection.json").exists():
        raise CollectionError(
            f"{str(path)!r} contains other files ({others[0]!r}, …); use an empty or new folder "
            "for the collection, for example notes.rag"
        )


def _exclude_own(own: Path, files: Sequence[SourceFile]) -> list[SourceFile]:
    """Exclude files of the collection itself, which may be inside the added folder."""
    root = own.resolve()
    return [file for file in files if root not in file.path.resolve().parents]


def _split_items(items: Items) -> tuple[list[Path], Iterable[Document]]:
    """Split items into paths and documents; a generator of documents is consumed later."""
    if isinstance(items, str | Path | Document):
        items = [items]
    if not isinstance(items, Sequence):
        items = iter(items)
        first = next(items, None)
        if isinstance(first, Document):
            return [], _only_documents(chain([first], items))
        items = [] if first is None else [first, *items]
    paths: list[Path] = []
    documents: list[Document] = []
    for item in items:
        if isinstance(item, Document):
            documents.append(item)
        elif isinstance(item, str | Path):
            if not str(item):
                raise ValueError("a path is empty; use '.' for the current folder")
            paths.append(Path(item))
        else:
            raise TypeError(f"cannot add {item!r}; expected a path or a Document")
    return paths, documents


def _only_documents(items: Iterable[object]) -> Iterator[Document]:
    for item in items:
        if not isinstance(item, Document):
            raise TypeError(
                f"cannot add {item!r} from a generator that started with documents; expected "
                "documents only (a list may contain paths as well)"
            )
        yield item
