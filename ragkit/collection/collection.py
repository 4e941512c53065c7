"""Collections: documents, chunks and search indexes stored in one folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ragkit.chunking import Chunker
from ragkit.collection.context import OnProgress, WriterContext
from ragkit.collection.description import (
    FORMAT,
    Settings,
    check_fingerprint,
    check_not_upgrading,
    check_settings,
    describe,
    read_description,
    restore_description,
    synchronize_copy,
    to_json,
)
from ragkit.collection.ingest import AddReport
from ragkit.collection.reader import CollectionReader
from ragkit.collection.snapshot import Snapshot
from ragkit.collection.verify import VerifyReport
from ragkit.collection.writer import (
    CollectionWriter,
    acquire_write_lock,
    check_can_create,
    check_new,
    inputs_of_folder,
    inputs_of_items,
)
from ragkit.embedders import load_embedder
from ragkit.errors import CollectionError, CorruptCollection
from ragkit.indexes.segment import IndexSettings
from ragkit.indexes.terms import TermAnalyzer
from ragkit.llms import adapters
from ragkit.pipeline import Composable
from ragkit.retrievers.named import load_retriever
from ragkit.store.connect import database_errors
from ragkit.store.ledger import VectorLedger
from ragkit.store.reader import read_layout
from ragkit.store.store import Store
from ragkit.types import Chunk, Document, Embedder, RetrieverName, Source


class Collection:
    """A collection of documents on disk, searchable by vectors, terms and tokens.

    The first write creates the folder. One process can write at a time; any number of processes can
    read, and each of them sees only complete generations. Search results depend on the current
    content alone, not on the order in which documents were added, changed and deleted.

    Args:
        path: Folder of the collection.
        embedder: Name, or object with the Embedder protocol. For an existing collection it is
            checked against the stored fingerprint; it is needed only if no name resolves to it.
        settings: Settings of a new collection; an existing one uses its stored settings.
        device: Device for FAISS and "transformer:" embedders: "cpu" or "gpu".
        strict: Raise `LossError` at the first loss instead of recording it.

    Raises:
        FormatMismatch: The collection was written in another format version.
        EmbedderMismatch: The collection was built with another embedder.

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
        self._requested_settings = settings
        self.settings = settings or Settings()
        if name:
            self.settings = replace(self.settings, embedder=name)
        self.analyzer = TermAnalyzer(self.settings.language)
        self._description: dict[str, Any] | None = None
        self._opened: CollectionReader | None = None
        description = read_description(self.path)
        if description is not None:
            self._adopt(description)
            if isinstance(embedder, str) and embedder != self.settings.embedder:
                self._embedder = self._load_embedder(embedder)
            if self._embedder is not None:
                self._check_embedder(self._embedder)

    def _adopt(self, description: dict[str, Any]) -> None:
        """Use the settings stored in the description."""
        settings = Settings(**description["settings"])
        check_settings(self.path, settings, self._requested_settings)
        self.settings = settings
        self.analyzer = TermAnalyzer(settings.language)
        self._description = description

    @property
    def embedder(self) -> Embedder:
        """Embedder, loaded at first use and checked against the stored fingerprint."""
        if self._embedder is None:
            self._embedder = self._load_embedder(self.settings.embedder)
        self._check_embedder(self._embedder)
        return self._embedder

    def _load_embedder(self, name: str) -> Embedder:
        return load_embedder(name, device=self._torch_device)

    @property
    def _torch_device(self) -> str:
        return "cuda" if self._device == "gpu" else self._device

    def _check_embedder(self, embedder: Embedder) -> None:
        if self._description is not None:
            check_fingerprint(self.path, self._description, embedder)

    @property
    def _index_settings(self) -> IndexSettings:
        return IndexSettings(factory=self.settings.index, device=self._device)

    @property
    def _reader(self) -> CollectionReader:
        """Reader of the collection, opened at first use."""
        if self._opened is None:
            self._check_exists()
            self._opened = CollectionReader(self.path, self.settings, self._index_settings)
        return self._opened

    def _check_exists(self) -> None:
        if self._description is None:
            description = read_description(self.path)
            if description is not None:
                self._adopt(description)
        if self._description is None:
            check_not_upgrading(self.path)
            raise CollectionError(
                f"there is no collection at {str(self.path)!r}; "
                f"create one with: ragkit index add PATH --to {self.path}"
            )
        if not (self.path / "store.db").exists():
            raise CorruptCollection(
                f"{str(self.path)!r} has lost its store.db, which contains the documents; restore "
                "a backup, or delete the folder and rebuild the collection from the source files"
            )

    def snapshot(self) -> Snapshot:
        """Open the current generation for searching."""
        return self._reader.snapshot()

    @contextmanager
    def _writing(self, *, create: bool = False, wait: float = 0.0) -> Iterator[CollectionWriter]:
        """Acquire the write lock and yield a writer.

        The embedder is loaded by jobs that embed texts, and to create a collection.
        """
        if not create or self._description is not None:
            self._check_exists()
        else:
            check_can_create(self.path, self.settings)
        if create:
            embedder = self.embedder  # report a wrong name or model before anything is written
            if self._description is None:
                describe(self.settings, embedder, self._chunker(embedder))
        lock = acquire_write_lock(self.path, wait)
        try:
            with database_errors(self.path / "store.db"):
                store = Store(self.path / "store.db")
            try:  # the description is written second, so that it implies that the tables exist
                self._describe()
                assert self._description is not None
                synchronize_copy(self.path, store)
                embedder = self._description["embedder"]
                context = WriterContext(
                    store,
                    self.path / "segments",
                    VectorLedger(
                        self.path / "ledger",
                        store,
                        fingerprint=embedder["fingerprint"],
                        dim=embedder["dim"],
                    ),
                    self.analyzer,
                    self._index_settings,
                    load_embedder=lambda: self.embedder,
                    make_chunker=self._chunker,
                )
                yield CollectionWriter(context, self.settings, strict=self.strict)
            finally:
                with database_errors(self.path / "store.db"):
                    store.close()
        finally:
            lock.release()

    def _describe(self) -> None:
        """Write the description of a new collection; the caller has the write lock."""
        if self._description is None:  # another process may have created it meanwhile
            description = read_description(self.path)
            if description is not None:
                self._adopt(description)
                self._check_embedder(self.embedder)
            else:
                embedder = self.embedder
                self._description = describe(self.settings, embedder, self._chunker(embedder))
                restore_description(self.path, to_json(self._description))

    def _chunker(self, embedder: Embedder) -> Chunker:
        return Chunker(
            embedder.tokenizer, max_tokens=self.settings.chunk_tokens, overlap=self.settings.overlap
        )

    def add(
        self,
        items: str | Path | Document | Iterable[str | Path | Document],
        *,
        metadata: Mapping[str, Any] | None = None,
        raw_ids: bool = False,
        encoding: str = "",
        wait: float = 0.0,
        on_progress: OnProgress | None = None,
    ) -> AddReport:
        """Add files, folders and documents, skipping those that are unchanged.

        A file's document has the file's path below the added folder as id; if another file has this
        id, it begins with as many folders above as tell them apart. A file that is added again
        keeps its id. The documents of a changed file keep their ids and get new chunks. `add` never
        deletes a document; see `sync`. After an interruption, the same call resumes the work.

        Args:
            items: Paths, documents, or a mixture. A generator of documents is consumed lazily and
                never loaded into memory as a whole.
            metadata: Fields added to every document; they override the documents' own fields.
            raw_ids: Give records (CSV, JSON, JSON Lines) their own `_id` or `id` as it is, as
                evaluation corpora need it whose judgements name them. Otherwise it is FILE#ID.
            encoding: Encoding of text files, pages and mails that are not UTF-8 and declare none,
                for example "windows-1251"; guessed if empty.
            wait: Seconds to wait while another process or thread writes.
            on_progress: Called with a `Progress` after every step.

        Raises:
            CollectionError: An id belongs to another source: a document in memory and a file have
                the same, or with `raw_ids` two records. Nothing was written. (The documents of a
                generator are not known before; there, such a document fails.)
            DocumentError: A path does not exist. (A file that cannot be read is a loss.)
            Locked: Another process is still writing.
            LossError: `strict` is set and something was lost; committed batches remain.
            ValueError: `metadata` cannot be written as JSON, or `encoding` is unknown.
        """
        inputs = inputs_of_items(items, metadata, own=self.path, raw_ids=raw_ids, encoding=encoding)
        if self._description is None:
            check_new(inputs)
        with self._writing(create=True, wait=wait) as writer:
            return writer.add(inputs, on_progress)

    def sync(  # noqa: PLR0913 - the options of `add`, and `yes`
        self,
        path: str | Path,
        *,
        metadata: Mapping[str, Any] | None = None,
        raw_ids: bool = False,
        encoding: str = "",
        yes: bool = False,
        wait: float = 0.0,
        on_progress: OnProgress | None = None,
    ) -> AddReport:
        """Add a folder, and delete the documents of files that no longer exist in it.

        Args:
            path: Folder to synchronize with. Documents from elsewhere stay as they are.
            metadata: See `add`.
            raw_ids: See `add`.
            encoding: See `add`.
            yes: Allow more than half of the folder's documents to be deleted.
            wait: See `add`.
            on_progress: See `add`.

        Raises:
            CollectionError: More than half of the documents would be deleted and `yes` is not set;
                nothing was deleted.
        """
        inputs = inputs_of_folder(path, metadata, own=self.path, raw_ids=raw_ids, encoding=encoding)
        if self._description is None:
            check_new(inputs)
        with self._writing(create=True, wait=wait) as writer:
            return writer.sync(path, inputs, on_progress, yes=yes)

    def delete(self, ids: str | Iterable[str], *, wait: float = 0.0) -> list[str]:
        """Delete documents by id; return the ids that existed.

        Their text is removed from the store by the next write or `compact`: until then, readers may
        still use the previous generation.

        Args:
            ids: Ids of the documents.
            wait: See `add`; `compact`, `gc`, `repair`, `trust` and `use_adapter` have it too.
        """
        unique_ids = [ids] if isinstance(ids, str) else list(dict.fromkeys(ids))
        with self._writing(wait=wait) as writer:
            return writer.delete(unique_ids)

    def compact(self, *, wait: float = 0.0) -> None:
        """Merge all segments into one."""
        with self._writing(wait=wait) as writer:
            writer.compact()

    def gc(self, *, wait: float = 0.0) -> int:
        """Delete data that the last two generations do not use; return the number of segments."""
        with self._writing(wait=wait) as writer:
            return writer.gc()

    def verify(self) -> VerifyReport:
        """Check all digests on disk, and that store, ledger and segments are consistent."""
        reader = self._reader
        assert self._description is not None
        return reader.verify(self._description["embedder"])

    def repair(self, on_progress: OnProgress | None = None, *, wait: float = 0.0) -> int:
        """Rebuild the indexes from the store; return the number of texts embedded again."""
        with self._writing(wait=wait) as writer:
            return writer.repair(on_progress)

    def trust(self, *, wait: float = 0.0) -> int:
        """Sign the FAISS files that match their digests; return the number of files.

        Only signed files are opened, because a crafted file can attack FAISS's reader. Use this
        only for collections from a source that you trust.
        """
        with self._writing(wait=wait) as writer:
            return writer.trust()

    def digest(self) -> str:
        """Return a digest of documents, chunks and vectors, independent of their history."""
        return self._reader.digest()

    def identity(self) -> dict[str, Any]:
        """Return settings and a digest of the content; equal values give equal results."""
        return {"settings": asdict(self.settings), "content": self.digest()}

    def info(self) -> dict[str, Any]:
        """Return counts, generation, settings, fingerprints, and recent jobs with their losses."""
        store = self._reader.store
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
            "bytes": sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file()),
            "jobs": [
                {**job, "losses": [asdict(loss) for loss in store.job_losses(job["id"])]}
                for job in store.job_history(5)
            ],
        }

    def is_unfinished(self) -> bool:
        """Return True if an `add` or `sync` is running, or was interrupted and can be resumed."""
        return self._reader.store.is_unfinished()

    def document(self, doc_id: str) -> Document | None:
        """Return a document by id, or None if there is no such document."""
        store = self._reader.store
        row = store.document(doc_id, store.generation())
        if row is None:
            return None
        fields = json.loads(row.metadata)
        return Document(row.id, row.text, row.title, row.source, fields, read_layout(row.layout))

    def documents(self) -> list[dict[str, Any]]:
        """List id, title, state, reason and chunk count of all documents, including failed ones."""
        store = self._reader.store
        return store.listing(store.generation())

    def chunks(self) -> Iterator[Chunk]:
        """Yield the chunks of the generation that is current at the first step, by id."""
        yield from self._reader.store.iter_chunks()

    def retriever(
        self, name: RetrieverName = "hybrid", *, copies: bool = False, **options: Any
    ) -> Composable:
        """Create a retriever over this collection.

        Args:
            name: "dense", "bm25", "hybrid", "title" or "ngram".
            copies: Whether each of several chunks with the same text is a hit, as evaluation needs
                it. By default only the best one is, and names the others; see
                `DistinctRetriever`.
            options: For hybrid: see `HybridRetriever`. For title and ngram: `model`, a name or a
                `BeamModel`; `adapter`, a folder or "none" (default: the collection's adapter in
                `adapter/`, if it exists); and the options of `TitleRetriever` or `NgramRetriever`.
        """
        return load_retriever(
            name,
            self,
            options,
            copies=copies,
            device=self._torch_device,
            adapter_folder=self.path / "adapter",
        )

    @property
    def adapter(self) -> Path | None:
        """Folder of the collection's adapter for the retrievers title and ngram, or None."""
        return adapters.find_installed(self.path / "adapter")

    def use_adapter(self, folder: str | Path, *, wait: float = 0.0) -> None:
        """Copy an adapter into the collection, as default of the retrievers title and ngram.

        Args:
            folder: Adapter folder written by `ragkit train generative`.
            wait: See `add`.

        Raises:
            ModelError: The folder contains no such adapter.
            Locked: Another process is writing.
        """
        self._check_exists()
        lock = acquire_write_lock(self.path, wait)
        try:
            adapters.install(Path(folder), self.path / "adapter")
        finally:
            lock.release()

    @property
    def source(self) -> Source:
        """Path, generation and embedder fingerprint of the hits."""
        return Source(
            collection=str(self.path),
            generation=self._reader.store.generation(),
            embedder=self._description["embedder"]["fingerprint"] if self._description else None,
        )

    def attempts(self) -> Iterator[AbstractContextManager[Snapshot]]:
        """Yield snapshots until a search has succeeded in one; see `ragkit.types.ChunkIndex`."""
        return self._reader.attempts()

    def close(self) -> None:
        """Close the files."""
        if self._opened is not None:
            self._opened.close()
        self._opened = None

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
