"""A collection: a folder that holds documents, their chunks, and the indexes over them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeVar

import filelock

from ragkit import maintenance
from ragkit.chunking import Chunker
from ragkit.description import (
    FORMAT,
    Settings,
    keep_copy,
    read_description,
    write_description,
)
from ragkit.documents import SourceFile, find_files
from ragkit.durable import disk_errors, last_whole, make_folder
from ragkit.embedders import load_embedder
from ragkit.errors import (
    CollectionError,
    CorruptCollection,
    DocumentError,
    EmbedderMismatch,
    Locked,
)
from ragkit.indexes.segment import IndexSettings
from ragkit.indexes.terms import TermAnalyzer
from ragkit.indexes.token_layout import RowHit, TokenLayout, TokenSearch
from ragkit.ingest import AddReport, Ingestion, OnProgress, Parts, check_metadata
from ragkit.llms import adapters
from ragkit.llms.beams import BeamModel, load_beam_model
from ragkit.losses import collect, report
from ragkit.maintenance import VerifyReport
from ragkit.retrievers import (
    Composable,
    DenseRetriever,
    HybridRetriever,
    LexicalRetriever,
    NgramRetriever,
    TitleRetriever,
)
from ragkit.snapshot import Place, Snapshot
from ragkit.store import filters
from ragkit.store.connect import database_errors
from ragkit.store.ledger import Ledger
from ragkit.store.store import Store
from ragkit.sync import vanished
from ragkit.token_indexes import ChunkHit, TokenIndexes, best_chunks
from ragkit.types import (
    Chunk,
    Document,
    Embedder,
    Loss,
    Source,
    Vectors,
    Where,
)

RetrieverName = Literal["dense", "bm25", "hybrid", "title", "ngram"]
AnyPlace = TypeVar("AnyPlace", Place, ChunkHit)


@dataclass(frozen=True, slots=True)
class _Offer:
    """What a job is given: files, what was left out among them, documents, fields for all."""

    files: Sequence[SourceFile]
    skipped: Sequence[Loss]
    documents: Iterable[Document]
    metadata: Mapping[str, Any]

    def __post_init__(self) -> None:
        check_metadata(self.metadata)


class Collection:
    """Documents on disk, searchable by vectors and terms.

    The folder is made at the first write. One process writes at a time; any number read, and each
    reader sees whole generations only. Same input, same answers: what was added, changed and
    deleted before does not show.

    Args:
        path: The folder.
        embedder: A name, or an object with the Embedder protocol; for an existing collection only
            to check, or to supply one that no name resolves to.
        settings: For a new collection; an existing one keeps its own.
        device: Where FAISS and "transformer:" embedders run: "cpu" or "gpu".
        strict: Raise `LossError` at the first loss instead of recording it.

    Raises:
        FormatMismatch: Written by another format version.
        EmbedderMismatch: Built with another embedder.

    >>> import tempfile
    >>> from ragkit.testing import HashEmbedder
    >>> folder = tempfile.mkdtemp()
    >>> notes = Collection(f"{folder}/notes.rag", embedder=HashEmbedder())
    >>> notes.add(Document("gaas", "Gallium arsenide has a direct band gap.")).added
    1
    >>> notes.retriever("bm25").retrieve(["direct gap"])[0][0].chunk.doc_id
    'gaas'
    """

    def __init__(
        self,
        path: str | Path,
        *,
        embedder: str | Embedder | None = None,
        settings: Settings | None = None,
        device: str = "cpu",
        strict: bool = False,
    ) -> None:
        self.path = Path(path)
        self.strict = strict
        self._device = device
        self._embedder = None if embedder is None or isinstance(embedder, str) else embedder
        name = embedder if isinstance(embedder, str) else getattr(embedder, "name", None)
        self._wanted = settings
        self.settings = settings or Settings()
        if name:
            self.settings = replace(self.settings, embedder=name)
        self._analyzer = TermAnalyzer(self.settings.language)
        self._description: dict[str, Any] | None = None
        self._store: Store | None = None
        self._snapshot: Snapshot | None = None
        self._token_indexes = TokenIndexes(self.path / "tokens")
        description = read_description(self.path)
        if description is not None:
            self._adopt(description)
            if isinstance(embedder, str) and embedder != self.settings.embedder:
                self._embedder = self._load_embedder(embedder)
            if self._embedder is not None:
                self._check_embedder(self._embedder)

    def _adopt(self, description: dict[str, Any]) -> None:
        """Take the settings of the collection that is there."""
        settings = Settings(**description["settings"])
        wanted = self._wanted and replace(self._wanted, embedder=settings.embedder)
        if wanted is not None and wanted != settings:
            raise CollectionError(
                f"{str(self.path)!r} was made with {settings}, not with {self._wanted}; leave "
                "settings out to open it, or build a new collection"
            )
        self.settings = settings
        self._analyzer = TermAnalyzer(settings.language)
        self._description = description

    @property
    def embedder(self) -> Embedder:
        """The embedder, loaded at first use and checked against the collection's fingerprint."""
        if self._embedder is None:
            self._embedder = self._load_embedder(self.settings.embedder)
        self._check_embedder(self._embedder)
        return self._embedder

    def _load_embedder(self, name: str) -> Embedder:
        return load_embedder(name, device="cuda" if self._device == "gpu" else self._device)

    def _check_embedder(self, embedder: Embedder) -> None:
        if self._description is None:
            return
        stored = self._description["embedder"]
        if embedder.fingerprint != stored["fingerprint"]:
            raise EmbedderMismatch(
                f"{str(self.path)!r} was built with the embedder {stored['name']!r} (fingerprint "
                f"{stored['fingerprint'][:12]}), not with {embedder.name!r} "
                f"({embedder.fingerprint[:12]}); their vectors cannot be compared. Open it "
                "with the first, or build a new collection with the second."
            )

    @property
    def _index_settings(self) -> IndexSettings:
        return IndexSettings(factory=self.settings.index, device=self._device)

    def _reading_store(self) -> Store:
        if self._store is None:
            self._must_exist()
            self._store = Store(self.path / "store.db", read_only=True)
        return self._store

    def _must_exist(self) -> None:
        if self._description is None:
            description = read_description(self.path)
            if description is not None:
                self._adopt(description)
        if self._description is None:
            raise CollectionError(
                f"there is no collection at {str(self.path)!r}; "
                f"make one with: ragkit index add PATH --to {self.path}"
            )
        if not (self.path / "store.db").exists():
            raise CorruptCollection(
                f"{str(self.path)!r} has lost its store.db, which holds its documents; restore a "
                "copy, or remove the folder and build the collection again from its files"
            )

    def snapshot(self) -> Snapshot:
        """The current generation, opened for searching."""
        store = self._reading_store()
        snapshot, generation = self._snapshot, store.generation()
        while snapshot is None or snapshot.generation != generation:
            bm25 = (self.settings.k1, self.settings.b)
            try:
                snapshot = Snapshot(store, self.path / "segments", self._index_settings, bm25)
            except CorruptCollection:
                # A writer may have gone two generations further while the files were opened.
                if store.generation() == generation:
                    raise
            generation = store.generation()
        self._snapshot = snapshot
        return snapshot

    @contextmanager
    def _writing(self, *, create: bool = False) -> Iterator[Parts]:
        if not create or self._description is not None:
            self._must_exist()
        else:
            _check_new(self.path, self.settings)
        embedder = self.embedder
        chunker = self._chunker(embedder)
        lock = self._lock()
        try:
            with database_errors(self.path / "store.db"):
                store = Store(self.path / "store.db")
            try:  # the description comes second: where it is, the tables are
                if self._description is None:  # another process may have been first
                    found = read_description(self.path)
                    if found is not None:
                        self._adopt(found)
                        self._check_embedder(embedder)
                        chunker = self._chunker(embedder)
                    else:
                        self._description = write_description(
                            self.path, self.settings, embedder, chunker
                        )
                keep_copy(self.path, store)
                ledger = Ledger(
                    self.path / "ledger",
                    store,
                    fingerprint=embedder.fingerprint,
                    dim=embedder.dim,
                )
                segments = self.path / "segments"
                index = self._index_settings
                yield Parts(store, segments, embedder, chunker, self._analyzer, ledger, index)
            finally:
                with database_errors(self.path / "store.db"):
                    store.close()
        finally:
            lock.release()

    def _lock(self) -> filelock.BaseFileLock:
        """Make the folder, and be the one that writes to it."""
        with disk_errors(self.path):
            make_folder(self.path)
        if not os.access(self.path, os.W_OK):
            raise CollectionError(f"{str(self.path)!r} cannot be written; check its permissions")
        lock = filelock.FileLock(self.path / "lock", timeout=0)
        with disk_errors(self.path / "lock"):
            try:
                lock.acquire()
            except filelock.Timeout as error:
                raise Locked(
                    f"another process is writing to {str(self.path)!r}; wait for it and try again"
                ) from error
        return lock

    def _chunker(self, embedder: Embedder) -> Chunker:
        return Chunker(
            embedder.tokenizer, max_tokens=self.settings.chunk_tokens, overlap=self.settings.overlap
        )

    def add(
        self,
        items: str | Path | Document | Iterable[str | Path | Document],
        *,
        metadata: Mapping[str, Any] | None = None,
        on_progress: OnProgress | None = None,
    ) -> AddReport:
        """Add files, folders and documents; what is there already and unchanged is left alone.

        A file's documents keep their ids when it changes, and replace their chunks. Nothing is ever
        deleted by `add` (see `sync`). Interrupted at any point, the same call goes on.

        Args:
            items: Paths, documents, or a mixture. A generator of documents is read as it is
                worked through, and never held in memory.
            metadata: Fields for every document; they win over the documents' own.
            on_progress: Called with a `Progress` as work goes on.

        Raises:
            DocumentError: A path does not exist. (A file that cannot be read is a loss.)
            Locked: Another process is writing.
            LossError: `strict`, and something would have been lost; what was committed stays.
            ValueError: `metadata` cannot be written as JSON.
        """
        paths, documents = _sort(items)
        files, skipped = find_files(paths) if paths else ([], [])
        files = self._without_own(files)
        if paths and not files and not documents:
            where = ", ".join(repr(str(path)) for path in paths)
            reasons = [f"{loss.what}: {loss.why}" for loss in skipped[:3]]
            more = [f"and {len(skipped) - 3} more"] if len(skipped) > 3 else []
            why = f" (left out: {'; '.join(reasons + more)})" if reasons else ""
            raise DocumentError(
                f"there is no file to read in {where}{why}; add a folder that has some"
            )
        offer = _Offer(files, skipped, documents, metadata or {})
        with self._writing(create=True) as parts:
            added, _ = self._run_job(parts, "add", offer, on_progress)
            return replace(added, generation=parts.store.generation())

    def sync(
        self,
        path: str | Path,
        *,
        metadata: Mapping[str, Any] | None = None,
        yes: bool = False,
        on_progress: OnProgress | None = None,
    ) -> AddReport:
        """Add a folder, and delete what came from it before and is not in it any more.

        Args:
            path: The folder.
            metadata: As for `add`.
            yes: Allow more than half of the folder's documents to be deleted.
            on_progress: As for `add`.

        Raises:
            CollectionError: More than half would go, and `yes` is not set; nothing was deleted.
        """
        root = Path(path)
        if not root.is_dir():
            raise DocumentError(f"{str(path)!r} is not a folder; sync takes one")
        files, skipped = find_files([root])
        offer = _Offer(self._without_own(files), skipped, (), metadata or {})
        with self._writing(create=True) as parts:
            added, job = self._run_job(parts, "sync", offer, on_progress)
            gone, gone_files, n_from_root = vanished(parts.store, root, job)
            n_before = n_from_root - added.added
            if len(gone) * 2 > n_before and not yes:
                raise CollectionError(
                    f"sync would delete {len(gone)} of {n_before} documents that came from "
                    f"{str(path)!r}; if that is meant, say yes=True (--yes)"
                )
            _, deleted = parts.store.kill_documents(gone)
            parts.store.forget_files(gone_files)
            self._tidy(parts)
            return replace(added, deleted=len(deleted), generation=parts.store.generation())

    def _without_own(self, files: Sequence[SourceFile]) -> list[SourceFile]:
        """A collection inside the folder that is added to it does not index itself."""
        own = self.path.resolve()
        return [file for file in files if own not in file.path.resolve().parents]

    def _run_job(
        self, parts: Parts, kind: str, offer: _Offer, on_progress: OnProgress | None
    ) -> tuple[AddReport, Ingestion]:
        job = parts.store.start_job(kind)
        ingestion = Ingestion(parts, job, metadata=offer.metadata, on_progress=on_progress)
        state = "failed"
        with collect(strict=self.strict) as losses:
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
                parts.store.end_job(job, state, losses)
        self._tidy(parts)
        return replace(added, losses=tuple(losses)), ingestion

    def delete(self, ids: str | Iterable[str]) -> list[str]:
        """Delete documents by id; returns the ids that were there.

        Their text is gone from the store after the next write, or `compact`: until then a reader
        may still show the generation before.
        """
        wanted = [ids] if isinstance(ids, str) else list(dict.fromkeys(ids))
        with self._writing() as parts:
            _, deleted = parts.store.kill_documents(wanted)
            parts.store.unstage(wanted)
            self._tidy(parts)
        return sorted(deleted)

    def compact(self) -> None:
        """Merge all segments into one."""
        with self._writing() as parts:
            maintenance.compact(parts, self._snapshot_of(parts), full=True)
            maintenance.collect_garbage(parts)

    def gc(self) -> int:
        """Drop what the last two generations do not need; returns how many segments went."""
        with self._writing() as parts:
            return maintenance.collect_garbage(parts)

    def _tidy(self, parts: Parts) -> None:
        while not maintenance.is_tidy(parts.store.opening()):
            if not maintenance.compact(parts, self._snapshot_of(parts)):
                break
        maintenance.collect_garbage(parts)

    def _snapshot_of(self, parts: Parts) -> Snapshot:
        bm25 = (self.settings.k1, self.settings.b)
        return Snapshot(parts.store, parts.segments, IndexSettings(), bm25)

    def verify(self) -> VerifyReport:
        """Re-read every digest on disk and check that store, ledger and segments agree."""
        store = self._reading_store()
        assert self._description is not None
        stored = self._description["embedder"]
        ledger = Ledger(
            self.path / "ledger", store, fingerprint=stored["fingerprint"], dim=stored["dim"]
        )
        while True:
            try:
                snapshot: Snapshot | None = self.snapshot()
            except CollectionError:
                snapshot = None  # the segments' own digests tell what is wrong
            found = maintenance.verify(store, self.path / "segments", ledger, snapshot)
            if found.ok or snapshot is None or store.generation() == snapshot.generation:
                return found  # else a writer came between

    def repair(self, on_progress: OnProgress | None = None) -> int:
        """Build the indexes anew from the store; returns how many texts were embedded again."""
        with self._writing() as parts:
            n_embedded = maintenance.repair(parts, on_progress)
            maintenance.collect_garbage(parts)
            return n_embedded

    def trust(self) -> int:
        """Sign the FAISS files that match their digests, so that they are opened here.

        FAISS's reader can be attacked through its file: do this only for a collection whose origin
        you know. Returns how many files were signed.
        """
        with self._writing() as parts:
            return maintenance.sign_indexes(parts)

    def digest(self) -> str:
        """A digest of documents, chunks and vectors, whatever the collection's history."""
        store = self._reading_store()
        while True:
            snapshot = self.snapshot()
            try:
                found = maintenance.content_digest(store, snapshot)
            except CorruptCollection:
                if store.generation() == snapshot.generation:
                    raise
                continue
            if store.generation() - snapshot.generation < maintenance.KEPT_GENERATIONS:
                return found  # else writers were so quick that texts may have gone meanwhile

    def identity(self) -> dict[str, Any]:
        """Settings and a digest of the content: equal ones answer alike."""
        return {"settings": asdict(self.settings), "content": self.digest()}

    def info(self) -> dict[str, Any]:
        """Counts by state, generation, settings, fingerprints, the last jobs with their losses."""
        store = self._reading_store()
        snapshot = self.snapshot()
        assert self._description is not None
        return {
            "path": str(self.path),
            "format": FORMAT,
            "generation": snapshot.generation,
            **store.counts(snapshot.generation),
            "segments": [len(segment) for segment in snapshot.segments],
            "settings": asdict(self.settings),
            "embedder": dict(self._description["embedder"]),
            "bytes": sum(f.stat().st_size for f in self.path.rglob("*") if f.is_file()),
            "jobs": [
                {**job, "losses": [asdict(loss) for loss in store.job_losses(job["id"])]}
                for job in store.job_history(5)
            ],
        }

    def is_unfinished(self) -> bool:
        """Whether an `add` or `sync` is running, or was interrupted and may be gone on with."""
        return self._reading_store().is_unfinished()

    def document(self, doc_id: str) -> Document | None:
        """A live document, or None."""
        store = self._reading_store()
        row = store.document(doc_id, store.generation())
        if row is None:
            return None
        return Document(row.id, row.text, row.title, row.source, json.loads(row.metadata))

    def documents(self) -> list[dict[str, Any]]:
        """Id, title, state, reason and chunk count of every document, failed ones included."""
        store = self._reading_store()
        return store.listing(store.generation())

    def chunks(self) -> Iterator[Chunk]:
        """Every live chunk, by id; all of the generation there is when the first is asked for."""
        yield from self._reading_store().whole_chunks()

    def retriever(self, name: RetrieverName = "hybrid", **options: Any) -> Composable:
        """A retriever over this collection.

        Args:
            name: "dense", "bm25", "hybrid", "title" or "ngram".
            options: For hybrid: see `HybridRetriever`. For title and ngram: `model`, a name or a
                `BeamModel`; `adapter`, a folder or "none" (default: the collection's own, in
                `adapter/`, if it has one); and what `TitleRetriever` or `NgramRetriever` takes.
        """
        if name in ("title", "ngram"):
            return self._generative(name, **options)
        if options and name in ("dense", "bm25"):
            raise TypeError(f"{name!r} takes no options, but got {', '.join(sorted(options))}")
        if name == "dense":
            return DenseRetriever(self)
        if name == "bm25":
            return LexicalRetriever(self)
        if name == "hybrid":
            return HybridRetriever([DenseRetriever(self), LexicalRetriever(self)], **options)
        raise ValueError(
            f"no retriever named {name!r}; expected 'dense', 'bm25', 'hybrid', 'title' or 'ngram'"
        )

    def _generative(
        self,
        name: RetrieverName,
        *,
        model: str | BeamModel = "smollm2",
        adapter: str | Path | None = None,
        **options: Any,
    ) -> Composable:
        if isinstance(model, str):
            device = "cuda" if self._device == "gpu" else self._device
            chosen = self.adapter if adapter is None else adapter
            if str(chosen) == "none":
                chosen = None
            model = load_beam_model(model, adapter=chosen, device=device)
        elif adapter is not None:
            raise ValueError("adapter is for a model that is given by name; load it into yours")
        if name == "title":
            return TitleRetriever(self, model, **options)
        return NgramRetriever(self, model, **options)

    @property
    def adapter(self) -> Path | None:
        """The collection's own adapter for the retrievers title and ngram, if it has one."""
        own = last_whole(self.path / "adapter")
        return own if own.exists() else None  # a damaged one is no reason to search without

    def use_adapter(self, folder: str | Path) -> None:
        """Copy an adapter into the collection: title and ngram take it unless told otherwise.

        Args:
            folder: What `ragkit train generative` wrote.

        Raises:
            ModelError: It holds no such adapter.
            Locked: Another process is writing.
        """
        self._must_exist()
        lock = self._lock()
        try:
            adapters.install(Path(folder), self.path / "adapter")
        finally:
            lock.release()

    @property
    def source(self) -> Source:
        """Where hits come from."""
        return Source(
            collection=str(self.path),
            generation=self._reading_store().generation(),
            embedder=self._description["embedder"]["fingerprint"] if self._description else None,
        )

    def search_vectors(
        self, vectors: Vectors, k: int, where: Where | None
    ) -> list[list[tuple[Chunk, float]]]:
        """The k nearest chunks of each query vector."""
        _, found, chunks = self._search(lambda s: s.search_vectors(vectors, k, where), where)
        return [[(chunks[place.chunk], place.score) for place in places] for places in found]

    def search_terms(
        self, queries: Sequence[str], k: int, where: Where | None
    ) -> list[list[tuple[Chunk, float, dict[str, float]]]]:
        """The k best chunks of each query by BM25, with what each term added."""
        term_lists = self._analyzer.batch(queries)
        snapshot, found, chunks = self._search(
            lambda s: s.search_terms(term_lists, k, where), where
        )
        return [
            [
                (chunks[place.chunk], place.score, shares)
                for place, shares in zip(places, snapshot.explain_terms(terms, places), strict=True)
            ]
            for terms, places in zip(term_lists, found, strict=True)
        ]

    def search_tokens(
        self,
        layout: TokenLayout,
        search: TokenSearch,
        n_queries: int,
        k: int,
        where: Where | None,
    ) -> list[list[tuple[Chunk, RowHit]]]:
        """The k best chunks of each query by their best row; see `ChunkIndex`."""
        store, tokens = self._reading_store(), self._token_indexes

        def found(snapshot: Snapshot) -> list[list[ChunkHit]]:
            view = tokens.view(store, snapshot, layout, where)
            runs = [] if view is None else search(view.index, view.chunks)
            return [best_chunks(snapshot, view, run, k) for run in runs if view is not None]

        _, runs, chunks = self._search(found, where)
        return [[(chunks[hit.chunk], hit.row) for hit in run] for run in runs or [[]] * n_queries]

    def _search(
        self, search: Callable[[Snapshot], list[list[AnyPlace]]], where: Where | None
    ) -> tuple[Snapshot, list[list[AnyPlace]], dict[int, Chunk]]:
        if where is not None:
            filters.check(where)
        store = self._reading_store()
        while True:
            snapshot = self.snapshot()
            try:
                found = search(snapshot)
                numbers = sorted({place.chunk for places in found for place in places})
                chunks = store.chunks(numbers)
                if where is None and all(chunk.text for chunk in chunks.values()):
                    return snapshot, found, chunks
                if store.generation() - snapshot.generation < maintenance.KEPT_GENERATIONS:
                    return snapshot, found, chunks
            except CorruptCollection:
                if store.generation() - snapshot.generation < maintenance.KEPT_GENERATIONS:
                    raise
            # Writers were so quick that chunks, texts or the fields to filter by may be gone from
            # the store already: search what is there now.

    def close(self) -> None:
        """Let go of the files."""
        if self._store is not None:
            self._store.close()
        self._store = self._snapshot = None
        self._token_indexes = TokenIndexes(self.path / "tokens")

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_new(path: Path, settings: Settings) -> None:
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


def _sort(
    items: str | Path | Document | Iterable[str | Path | Document],
) -> tuple[list[Path], Iterable[Document]]:
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
