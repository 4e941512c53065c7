"""Writes to a collection: the lock, what is offered to it, and the jobs that are done under it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import filelock

from ragkit.collection import maintenance
from ragkit.collection.description import Settings
from ragkit.collection.ingest import AddReport, Ingestion, OnProgress, Parts, check_metadata
from ragkit.collection.snapshot import Snapshot
from ragkit.collection.sync import vanished
from ragkit.documents import SourceFile, find_files
from ragkit.durable import disk_errors, make_folder
from ragkit.errors import CollectionError, DocumentError, Locked
from ragkit.indexes.segment import IndexSettings
from ragkit.losses import collect, report
from ragkit.types import Document, Loss

Items = str | Path | Document | Iterable[str | Path | Document]


@dataclass(frozen=True, slots=True)
class Offer:
    """What a job is given: files, what was left out among them, documents, fields for all."""

    files: Sequence[SourceFile]
    skipped: Sequence[Loss]
    documents: Iterable[Document]
    metadata: Mapping[str, Any]

    def __post_init__(self) -> None:
        check_metadata(self.metadata)

    @classmethod
    def of_items(cls, items: Items, metadata: Mapping[str, Any] | None, own: Path) -> Offer:
        """Paths and documents for the collection that is at `own`; a path must hold some file."""
        paths, documents = _sort(items)
        files, skipped = find_files(paths) if paths else ([], [])
        files = _without(own, files)
        if paths and not files and not documents:
            where = ", ".join(repr(str(path)) for path in paths)
            reasons = [f"{loss.what}: {loss.why}" for loss in skipped[:3]]
            more = [f"and {len(skipped) - 3} more"] if len(skipped) > 3 else []
            why = f" (left out: {'; '.join(reasons + more)})" if reasons else ""
            raise DocumentError(
                f"there is no file to read in {where}{why}; add a folder that has some"
            )
        return cls(files, skipped, documents, metadata or {})

    @classmethod
    def of_folder(cls, path: str | Path, metadata: Mapping[str, Any] | None, own: Path) -> Offer:
        """A folder's files for the collection that is at `own`; there may be none."""
        root = Path(path)
        if not root.is_dir():
            raise DocumentError(f"{str(path)!r} is not a folder; sync takes one")
        files, skipped = find_files([root])
        return cls(_without(own, files), skipped, (), metadata or {})


class CollectionWriter:
    """Writes to a collection whose lock is held.

    Args:
        parts: The collection's parts.
        settings: What it was built with.
        strict: Raise `LossError` at the first loss instead of recording it.
    """

    def __init__(self, parts: Parts, settings: Settings, *, strict: bool) -> None:
        self.parts = parts
        self._bm25 = (settings.k1, settings.b)
        self._strict = strict

    def add(self, offer: Offer, on_progress: OnProgress | None) -> AddReport:
        """Add what is new or has changed."""
        added, _ = self._run_job("add", offer, on_progress)
        return replace(added, generation=self.parts.store.generation())

    def sync(
        self, path: str | Path, offer: Offer, on_progress: OnProgress | None, *, yes: bool
    ) -> AddReport:
        """Add a folder's files, and delete what came from it and is not in it any more."""
        store = self.parts.store
        added, job = self._run_job("sync", offer, on_progress)
        gone, gone_files, n_from_root = vanished(store, Path(path), job)
        n_before = n_from_root - added.added
        if len(gone) * 2 > n_before and not yes:
            raise CollectionError(
                f"sync would delete {len(gone)} of {n_before} documents that came from "
                f"{str(path)!r}; if that is meant, say yes=True (--yes)"
            )
        _, deleted = store.kill_documents(gone)
        store.forget_files(gone_files)
        self._tidy()
        return replace(added, deleted=len(deleted), generation=store.generation())

    def _run_job(
        self, kind: str, offer: Offer, on_progress: OnProgress | None
    ) -> tuple[AddReport, Ingestion]:
        store = self.parts.store
        job = store.start_job(kind)
        ingestion = Ingestion(self.parts, job, metadata=offer.metadata, on_progress=on_progress)
        state = "failed"
        with collect(strict=self._strict) as losses:
            try:
                for loss in offer.skipped:
                    report(loss)
                ingestion.add_files(offer.files)
                ingestion.add_documents(offer.documents)
                added = ingestion.finish()
                state = "done"
            except KeyboardInterrupt:
                state = "interrupted"
                raise
            finally:
                store.end_job(job, state, losses)
        self._tidy()
        return replace(added, losses=tuple(losses)), ingestion

    def delete(self, ids: Sequence[str]) -> list[str]:
        """Delete documents by id; returns the ids that were there."""
        _, deleted = self.parts.store.kill_documents(ids)
        self.parts.store.unstage(ids)
        self._tidy()
        return sorted(deleted)

    def compact(self) -> None:
        """Merge all segments into one."""
        maintenance.compact(self.parts, self._snapshot(), full=True)
        maintenance.collect_garbage(self.parts)

    def gc(self) -> int:
        """Drop what the last two generations do not need; returns how many segments went."""
        return maintenance.collect_garbage(self.parts)

    def repair(self, on_progress: OnProgress | None) -> int:
        """Build the indexes anew from the store; returns how many texts were embedded again."""
        n_embedded = maintenance.repair(self.parts, on_progress)
        maintenance.collect_garbage(self.parts)
        return n_embedded

    def trust(self) -> int:
        """Sign the FAISS files that match their digests; returns how many."""
        return maintenance.sign_indexes(self.parts)

    def _tidy(self) -> None:
        while not maintenance.is_tidy(self.parts.store.opening()):
            if not maintenance.compact(self.parts, self._snapshot()):
                break
        maintenance.collect_garbage(self.parts)

    def _snapshot(self) -> Snapshot:
        return Snapshot(self.parts.store, self.parts.segments, IndexSettings(), self._bm25)


def writers_lock(path: Path) -> filelock.BaseFileLock:
    """Make the folder, and be the one that writes to it; whoever calls this releases the lock."""
    with disk_errors(path):
        make_folder(path)
    if not os.access(path, os.W_OK):
        raise CollectionError(f"{str(path)!r} cannot be written; check its permissions")
    lock = filelock.FileLock(path / "lock", timeout=0)
    with disk_errors(path / "lock"):
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise Locked(
                f"another process is writing to {str(path)!r}; wait for it and try again"
            ) from error
    return lock


def check_new(path: Path, settings: Settings) -> None:
    """Raise where a collection cannot be made: among other files, or with an unknown index."""
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
            f"{str(path)!r} holds other things ({others[0]!r}, …); give the collection a folder of "
            "its own, for example notes.rag"
        )


def _without(own: Path, files: Sequence[SourceFile]) -> list[SourceFile]:
    """A collection inside the folder that is added to it does not index itself."""
    root = own.resolve()
    return [file for file in files if root not in file.path.resolve().parents]


def _sort(items: Items) -> tuple[list[Path], Iterable[Document]]:
    """Paths and documents. A generator of documents is not read yet: it may be endless."""
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
                raise ValueError("a path is empty; '.' is the folder you are in")
            paths.append(Path(item))
        else:
            raise TypeError(f"cannot add {item!r}; expected a path or a Document")
    return paths, documents


def _only_documents(items: Iterable[object]) -> Iterator[Document]:
    for item in items:
        if not isinstance(item, Document):
            raise TypeError(
                f"cannot add {item!r} from a generator that began with documents; it must hold "
                "documents only (a list may hold paths as well)"
            )
        yield item
