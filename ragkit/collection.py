"""A collection: a folder that holds documents, their chunks, and the indexes over them."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import filelock

from ragkit import maintenance
from ragkit.chunking import Chunker
from ragkit.documents import SourceFile, find_files
from ragkit.embedders import load_embedder
from ragkit.errors import (
    CollectionError,
    CorruptCollection,
    DocumentError,
    EmbedderMismatch,
    FormatMismatch,
    Locked,
)
from ragkit.indexes.segment import IndexSettings
from ragkit.indexes.terms import TermAnalyzer
from ragkit.ingest import AddReport, Ingestion, OnProgress, Parts
from ragkit.losses import collect, report
from ragkit.maintenance import VerifyReport
from ragkit.retrievers import Composable, DenseRetriever, HybridRetriever, LexicalRetriever
from ragkit.snapshot import Found, Snapshot
from ragkit.store import filters
from ragkit.store.ledger import Ledger
from ragkit.store.store import Store
from ragkit.types import Chunk, Document, Embedder, Source, Vectors, Where

FORMAT = 1
RetrieverName = Literal["dense", "bm25", "hybrid"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a collection is built with; fixed when it is made, stored in `collection.json`.

    Attributes:
        embedder: A name for `ragkit.embedders.load_embedder`.
        chunk_tokens: Most tokens of a chunk, by the embedder's tokenizer.
        overlap: Tokens of whole sentences repeated at most.
        language: Snowball language of the terms, or "none".
        index: "exact", or a FAISS factory string such as "HNSW32".
        k1: BM25's saturation.
        b: BM25's length normalisation.
    """

    embedder: str = "minilm"
    chunk_tokens: int = 200
    overlap: int = 0
    language: str = "english"
    index: str = "exact"
    k1: float = 1.5
    b: float = 0.5


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
        wanted = settings or Settings()
        self._description = _read_description(self.path)
        if self._description is None:
            self.settings = replace(wanted, embedder=name) if name else wanted
        else:
            self.settings = Settings(**self._description["settings"])
            if settings is not None and settings != self.settings:
                raise CollectionError(
                    f"{str(self.path)!r} was made with {self.settings}, not with {settings}; leave "
                    "settings out to open it, or build a new collection"
                )
            if name and name != self.settings.embedder:
                self._check_embedder(self._embedder or load_embedder(name))
        self._analyzer = TermAnalyzer(self.settings.language)
        self._store: Store | None = None
        self._snapshot: Snapshot | None = None

    # --- parts, made when they are first needed ---------------------------------------------------

    @property
    def embedder(self) -> Embedder:
        """The embedder, loaded at first use and checked against the collection's fingerprint."""
        if self._embedder is None:
            device = "cuda" if self._device == "gpu" else self._device
            self._embedder = load_embedder(self.settings.embedder, device=device)
        self._check_embedder(self._embedder)
        return self._embedder

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
            if self._description is None:
                self._description = _read_description(self.path)
            if self._description is None or not (self.path / "store.db").exists():
                raise CollectionError(
                    f"there is no collection at {str(self.path)!r}; "
                    f"make one with: ragkit index add PATH --to {self.path}"
                )
            self._store = Store(self.path / "store.db", read_only=True)
        return self._store

    def snapshot(self) -> Snapshot:
        """The current generation, opened for searching."""
        store = self._reading_store()
        for attempt in range(5):
            generation = store.generation()
            if self._snapshot is not None and self._snapshot.generation == generation:
                return self._snapshot
            bm25 = (self.settings.k1, self.settings.b)
            try:
                self._snapshot = Snapshot(
                    store, self.path / "segments", generation, self._index_settings, bm25
                )
            except (FileNotFoundError, CorruptCollection):
                # A writer may have gone two generations further while the files were opened.
                if store.generation() == generation or attempt == 4:
                    raise
        assert self._snapshot is not None
        return self._snapshot

    # --- writing ----------------------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[Parts]:
        embedder = self.embedder
        chunker = Chunker(
            embedder.tokenizer, max_tokens=self.settings.chunk_tokens, overlap=self.settings.overlap
        )
        self.path.mkdir(parents=True, exist_ok=True)
        if not os.access(self.path, os.W_OK):
            raise CollectionError(f"{str(self.path)!r} cannot be written; check its permissions")
        lock = filelock.FileLock(self.path / "lock", timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise Locked(
                f"another process is writing to {str(self.path)!r}; wait for it and try again"
            ) from error
        try:
            if self._description is None:
                self._description = _write_description(self.path, self.settings, embedder, chunker)
                self._check_embedder(embedder)
            store = Store(self.path / "store.db")
            try:
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
                store.close()
        finally:
            lock.release()

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
            items: Paths, documents, or a mixture.
            metadata: Fields for every document; they win over the documents' own.
            on_progress: Called with a `Progress` as work goes on.

        Raises:
            DocumentError: A path does not exist. (A file that cannot be read is a loss.)
            Locked: Another process is writing.
        """
        paths, documents = _sort(items)
        files, skipped = find_files(paths) if paths else ([], [])
        with collect(strict=self.strict) as losses:
            for loss in skipped:
                report(loss)
            with self._writing() as parts:
                added = self._run_job(parts, "add", files, documents, metadata, on_progress)[0]
        return replace(added, losses=tuple(losses))

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
        try:
            files, skipped = find_files([root])
        except DocumentError:
            if any(root.iterdir()):
                raise
            files, skipped = [], []
        with collect(strict=self.strict) as losses:
            for loss in skipped:
                report(loss)
            with self._writing() as parts:
                added, job = self._run_job(parts, "sync", files, (), metadata, on_progress)
                gone = _vanished(parts.store, root, files, job)
                n_before = len(gone) + len(files)
                if len(gone) * 2 > n_before and not yes:
                    raise CollectionError(
                        f"sync would delete {len(gone)} of {n_before} documents that came from "
                        f"{str(path)!r}; if that is meant, say yes=True (--yes)"
                    )
                generation, deleted = parts.store.kill_documents(gone)
                self._tidy(parts)
        return replace(added, deleted=len(deleted), generation=generation, losses=tuple(losses))

    def _run_job(
        self,
        parts: Parts,
        kind: str,
        files: Sequence[SourceFile],
        documents: Iterable[Document],
        metadata: Mapping[str, Any] | None,
        on_progress: OnProgress | None,
    ) -> tuple[AddReport, Ingestion]:
        job = parts.store.start_job(kind)
        ingestion = Ingestion(parts, job, metadata=metadata or {}, on_progress=on_progress)
        state = "failed"
        with collect() as losses:
            try:
                ingestion.add_files(files)
                ingestion.add_documents(documents)
                added = ingestion.finish()
                state = "done"
            except KeyboardInterrupt:
                state = "interrupted"
                raise
            finally:
                parts.store.end_job(job, state, losses)
        for loss in losses:
            report(loss)
        self._tidy(parts)
        return added, ingestion

    def delete(self, ids: str | Iterable[str]) -> list[str]:
        """Delete documents by id; returns the ids that were there.

        Their text is gone from the store after the second write that follows, or `gc`.
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
        while maintenance.compact(parts, self._snapshot_of(parts)):
            pass
        maintenance.collect_garbage(parts)

    def _snapshot_of(self, parts: Parts) -> Snapshot:
        bm25 = (self.settings.k1, self.settings.b)
        generation = parts.store.generation()
        return Snapshot(parts.store, parts.segments, generation, IndexSettings(), bm25)

    # --- checking ---------------------------------------------------------------------------------

    def verify(self) -> VerifyReport:
        """Re-read every digest on disk and check that store, ledger and segments agree."""
        store = self._reading_store()
        assert self._description is not None
        stored = self._description["embedder"]
        ledger = Ledger(
            self.path / "ledger", store, fingerprint=stored["fingerprint"], dim=stored["dim"]
        )
        try:
            snapshot: Snapshot | None = self.snapshot()
        except (CollectionError, OSError, ValueError):
            snapshot = None  # the segments' own digests tell what is wrong
        return maintenance.verify(store, self.path / "segments", ledger, snapshot)

    def repair(self, on_progress: OnProgress | None = None) -> int:
        """Build the indexes anew from the store; returns how many texts were embedded again."""
        with self._writing() as parts:
            n_embedded = maintenance.repair(parts, on_progress)
            maintenance.collect_garbage(parts)
            return n_embedded

    def digest(self) -> str:
        """A digest of documents, chunks and vectors, whatever the collection's history."""
        return maintenance.content_digest(self._reading_store(), self.snapshot())

    def info(self) -> dict[str, Any]:
        """Counts by state, generation, settings and fingerprints."""
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
            "jobs": store.job_history(5),
        }

    # --- reading ----------------------------------------------------------------------------------

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

    def retriever(self, name: RetrieverName = "hybrid", **options: Any) -> Composable:
        """A retriever over this collection.

        Args:
            name: "dense", "bm25" or "hybrid".
            options: For hybrid: see `HybridRetriever`.
        """
        if name == "dense":
            return DenseRetriever(self)
        if name == "bm25":
            return LexicalRetriever(self)
        if name == "hybrid":
            return HybridRetriever([DenseRetriever(self), LexicalRetriever(self)], **options)
        raise ValueError(f"no retriever named {name!r}; expected 'dense', 'bm25' or 'hybrid'")

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
        snapshot = self._checked_snapshot(where)
        return self._fetch(snapshot.search_vectors(vectors, k, where))

    def search_terms(
        self, queries: Sequence[str], k: int, where: Where | None
    ) -> list[list[tuple[Chunk, float]]]:
        """The k best chunks of each query by BM25."""
        snapshot = self._checked_snapshot(where)
        return self._fetch(snapshot.search_terms(self._analyzer.batch(queries), k, where))

    def explain_terms(self, query: str, chunk: Chunk) -> dict[str, float]:
        """What each term of the query adds to the chunk's BM25 score."""
        snapshot = self.snapshot()
        number = self._reading_store().chunk_number(chunk.id, snapshot.generation)
        return snapshot.explain_terms(self._analyzer.terms(query), number)

    def _checked_snapshot(self, where: Where | None) -> Snapshot:
        if where is not None:
            filters.check(where)
        return self.snapshot()

    def _fetch(self, found: Found) -> list[list[tuple[Chunk, float]]]:
        numbers = sorted({number for hits in found for number, _ in hits})
        chunks = self._reading_store().chunks(numbers)
        return [[(chunks[number], score) for number, score in hits] for hits in found]

    def close(self) -> None:
        """Let go of the files."""
        if self._store is not None:
            self._store.close()
        self._store = self._snapshot = None

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _sort(
    items: str | Path | Document | Iterable[str | Path | Document],
) -> tuple[list[Path], list[Document]]:
    if isinstance(items, str | Path | Document):
        items = [items]
    paths: list[Path] = []
    documents: list[Document] = []
    for item in items:
        if isinstance(item, Document):
            documents.append(item)
        elif isinstance(item, str | Path):
            paths.append(Path(item))
        else:
            raise TypeError(f"cannot add {item!r}; expected a path or a Document")
    return paths, documents


def _vanished(store: Store, root: Path, files: Sequence[SourceFile], job: Ingestion) -> list[str]:
    """Live documents that came from a root and that it does not give any more."""
    present = {file.id for file in files}
    from_root = store.files_of_root(str(root.resolve()))
    gone = []
    for doc_id, _, file in store.live_documents(store.generation()):
        if file not in from_root and file not in present:
            continue
        if file not in present or (file in job.read_files and doc_id not in job.offered):
            gone.append(doc_id)
    return gone


def _read_description(path: Path) -> dict[str, Any] | None:
    file = path / "collection.json"
    try:
        text = file.read_text()
    except FileNotFoundError:
        if path.exists() and not path.is_dir():
            raise CollectionError(f"{str(path)!r} is a file; a collection is a folder") from None
        return None
    try:
        value = json.loads(text)
        found = value["format"]
        if found != FORMAT:
            raise FormatMismatch(
                f"{str(path)!r} has format version {found!r}; this ragkit reads {FORMAT}. "
                "Build it again from its files, or use the ragkit that wrote it."
            )
        known = set(Settings.__dataclass_fields__)
        value["settings"] = {k: v for k, v in value["settings"].items() if k in known}
        fingerprint, dim = value["embedder"]["fingerprint"], value["embedder"]["dim"]
        if not isinstance(fingerprint, str) or not fingerprint.isalnum():
            raise ValueError(f"the embedder's fingerprint is {fingerprint!r}")
        if not isinstance(dim, int) or not 0 < dim <= 1 << 16:
            raise ValueError(f"the embedder's dimension is {dim!r}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptCollection(
            f"{str(file)!r} cannot be read: {error}. It is not the file that ragkit wrote."
        ) from error
    return dict(value)


def _write_description(
    path: Path, settings: Settings, embedder: Embedder, chunker: Chunker
) -> dict[str, Any]:
    existing = _read_description(path)  # another process may have been first
    if existing is not None:
        return existing
    description = {
        "format": FORMAT,
        "settings": asdict(settings),
        "chunker": chunker.settings,
        "embedder": {
            "name": embedder.name,
            "fingerprint": embedder.fingerprint,
            "dim": embedder.dim,
        },
    }
    handle, temporary = tempfile.mkstemp(dir=path)
    with os.fdopen(handle, "w") as stream:
        json.dump(description, stream, indent=1, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path / "collection.json")
    return description
