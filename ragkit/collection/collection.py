"""A collection: a folder that holds documents, their chunks, and the indexes over them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ragkit.chunking import Chunker
from ragkit.collection.description import (
    FORMAT,
    Settings,
    check_fingerprint,
    check_settings,
    keep_copy,
    read_description,
    write_description,
)
from ragkit.collection.ingest import AddReport, OnProgress, Parts
from ragkit.collection.maintenance import VerifyReport
from ragkit.collection.reader import AnyPlace, CollectionReader
from ragkit.collection.snapshot import Snapshot
from ragkit.collection.token_indexes import ChunkHit, best_chunks
from ragkit.collection.writer import CollectionWriter, Offer, check_new, writers_lock
from ragkit.embedders import load_embedder
from ragkit.errors import CollectionError, CorruptCollection
from ragkit.indexes.segment import IndexSettings
from ragkit.indexes.terms import TermAnalyzer
from ragkit.indexes.token_layout import RowHit, TokenLayout, TokenSearch
from ragkit.llms import adapters
from ragkit.retrievers import Composable
from ragkit.retrievers.named import RetrieverName, retriever_named
from ragkit.store import filters
from ragkit.store.connect import database_errors
from ragkit.store.ledger import Ledger
from ragkit.store.store import Store
from ragkit.types import Chunk, Document, Embedder, Source, Vectors, Where


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
        self._opened: CollectionReader | None = None
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
        check_settings(self.path, settings, self._wanted)
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
        """What reads the collection, opened at first use."""
        if self._opened is None:
            self._must_exist()
            self._opened = CollectionReader(self.path, self.settings, self._index_settings)
        return self._opened

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
        return self._reader.snapshot()

    @contextmanager
    def _writing(self, *, create: bool = False) -> Iterator[CollectionWriter]:
        if not create or self._description is not None:
            self._must_exist()
        else:
            check_new(self.path, self.settings)
        embedder = self.embedder
        chunker = self._chunker(embedder)
        lock = writers_lock(self.path)
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
                parts = Parts(store, segments, embedder, chunker, self._analyzer, ledger, index)
                yield CollectionWriter(parts, self.settings, strict=self.strict)
            finally:
                with database_errors(self.path / "store.db"):
                    store.close()
        finally:
            lock.release()

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
        offer = Offer.of_items(items, metadata, own=self.path)
        with self._writing(create=True) as writer:
            return writer.add(offer, on_progress)

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
        offer = Offer.of_folder(path, metadata, own=self.path)
        with self._writing(create=True) as writer:
            return writer.sync(path, offer, on_progress, yes=yes)

    def delete(self, ids: str | Iterable[str]) -> list[str]:
        """Delete documents by id; returns the ids that were there.

        Their text is gone from the store after the next write, or `compact`: until then a reader
        may still show the generation before.
        """
        wanted = [ids] if isinstance(ids, str) else list(dict.fromkeys(ids))
        with self._writing() as writer:
            return writer.delete(wanted)

    def compact(self) -> None:
        """Merge all segments into one."""
        with self._writing() as writer:
            writer.compact()

    def gc(self) -> int:
        """Drop what the last two generations do not need; returns how many segments went."""
        with self._writing() as writer:
            return writer.gc()

    def verify(self) -> VerifyReport:
        """Re-read every digest on disk and check that store, ledger and segments agree."""
        reader = self._reader
        assert self._description is not None
        return reader.verify(self._description["embedder"])

    def repair(self, on_progress: OnProgress | None = None) -> int:
        """Build the indexes anew from the store; returns how many texts were embedded again."""
        with self._writing() as writer:
            return writer.repair(on_progress)

    def trust(self) -> int:
        """Sign the FAISS files that match their digests, so that they are opened here.

        FAISS's reader can be attacked through its file: do this only for a collection whose origin
        you know. Returns how many files were signed.
        """
        with self._writing() as writer:
            return writer.trust()

    def digest(self) -> str:
        """A digest of documents, chunks and vectors, whatever the collection's history."""
        return self._reader.digest()

    def identity(self) -> dict[str, Any]:
        """Settings and a digest of the content: equal ones answer alike."""
        return {"settings": asdict(self.settings), "content": self.digest()}

    def info(self) -> dict[str, Any]:
        """Counts by state, generation, settings, fingerprints, the last jobs with their losses."""
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
            "bytes": sum(f.stat().st_size for f in self.path.rglob("*") if f.is_file()),
            "jobs": [
                {**job, "losses": [asdict(loss) for loss in store.job_losses(job["id"])]}
                for job in store.job_history(5)
            ],
        }

    def is_unfinished(self) -> bool:
        """Whether an `add` or `sync` is running, or was interrupted and may be gone on with."""
        return self._reader.store.is_unfinished()

    def document(self, doc_id: str) -> Document | None:
        """A live document, or None."""
        store = self._reader.store
        row = store.document(doc_id, store.generation())
        if row is None:
            return None
        return Document(row.id, row.text, row.title, row.source, json.loads(row.metadata))

    def documents(self) -> list[dict[str, Any]]:
        """Id, title, state, reason and chunk count of every document, failed ones included."""
        store = self._reader.store
        return store.listing(store.generation())

    def chunks(self) -> Iterator[Chunk]:
        """Every live chunk, by id; all of the generation there is when the first is asked for."""
        yield from self._reader.store.whole_chunks()

    def retriever(self, name: RetrieverName = "hybrid", **options: Any) -> Composable:
        """A retriever over this collection.

        Args:
            name: "dense", "bm25", "hybrid", "title" or "ngram".
            options: For hybrid: see `HybridRetriever`. For title and ngram: `model`, a name or a
                `BeamModel`; `adapter`, a folder or "none" (default: the collection's own, in
                `adapter/`, if it has one); and what `TitleRetriever` or `NgramRetriever` takes.
        """
        return retriever_named(
            name, self, options, device=self._torch_device, adapter_folder=self.path / "adapter"
        )

    @property
    def adapter(self) -> Path | None:
        """The collection's own adapter for the retrievers title and ngram, if it has one."""
        return adapters.installed(self.path / "adapter")

    def use_adapter(self, folder: str | Path) -> None:
        """Copy an adapter into the collection: title and ngram take it unless told otherwise.

        Args:
            folder: What `ragkit train generative` wrote.

        Raises:
            ModelError: It holds no such adapter.
            Locked: Another process is writing.
        """
        self._must_exist()
        lock = writers_lock(self.path)
        try:
            adapters.install(Path(folder), self.path / "adapter")
        finally:
            lock.release()

    @property
    def source(self) -> Source:
        """Where hits come from."""
        return Source(
            collection=str(self.path),
            generation=self._reader.store.generation(),
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
        reader = self._reader

        def found(snapshot: Snapshot) -> list[list[ChunkHit]]:
            view = reader.token_indexes.view(reader.store, snapshot, layout, where)
            runs = [] if view is None else search(view.index, view.chunks)
            return [best_chunks(snapshot, view, run, k) for run in runs if view is not None]

        _, runs, chunks = self._search(found, where)
        return [[(chunks[hit.chunk], hit.row) for hit in run] for run in runs or [[]] * n_queries]

    def _search(
        self, find: Callable[[Snapshot], list[list[AnyPlace]]], where: Where | None
    ) -> tuple[Snapshot, list[list[AnyPlace]], dict[int, Chunk]]:
        if where is not None:
            filters.check(where)
        return self._reader.search(find, where)

    def close(self) -> None:
        """Let go of the files."""
        if self._opened is not None:
            self._opened.close()
        self._opened = None

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
