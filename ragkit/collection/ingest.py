"""Files and documents into a collection, so that a kill at any point loses at most one batch.

Each document is pending, then parsed (its text and chunks are in the store), embedded (its vectors
are in the ledger) and indexed (a segment holds it and a generation shows it); or failed, with the
reason. Only the last step changes what readers see, in one transaction. After a kill the same call
goes on: texts whose vectors are in the ledger are not embedded again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ragkit.chunking import Chunker
from ragkit.digests import digest, file_digest, text_digest
from ragkit.documents import SourceFile, load_file
from ragkit.errors import DocumentError
from ragkit.indexes.bm25 import PostingsBuilder
from ragkit.indexes.segment import IndexSettings, write_segment
from ragkit.indexes.terms import TermAnalyzer
from ragkit.losses import report
from ragkit.store.ledger import Ledger
from ragkit.store.rows import ChunkRow, DocumentRow, FileRow
from ragkit.store.store import Store
from ragkit.types import Chunk, Document, Embedder, Loss

LOADER_VERSION = 2  # raise it when loaders extract something else; files are then read again
BATCH_CHUNKS = 256  # embedded between two flushes of the ledger: what a kill can cost
BATCH_DOCUMENTS = 256
BATCH_CHARACTERS = 1 << 21  # of documents held at once, if there is more than one
SEGMENT_CHUNKS = 16_384  # indexed and committed at once

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

Metadata = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long job is: `done` of `total` files or documents (total 0: unknown)."""

    stage: Literal["files", "documents", "compacting", "repairing"]
    done: int
    total: int
    item: str = ""


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class AddReport:
    """What an `add` or `sync` did. Counts are documents unless they say otherwise."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    deleted: int = 0
    failed: int = 0
    n_chunks: int = 0
    n_embedded: int = 0
    n_reused: int = 0
    generation: int = 0
    losses: tuple[Loss, ...] = ()


@dataclass(frozen=True, slots=True)
class Parts:
    """What ingestion works with."""

    store: Store
    segments: Path
    embedder: Embedder
    chunker: Chunker
    analyzer: TermAnalyzer
    ledger: Ledger
    index: IndexSettings


class Ingestion:
    """One job: offer files and documents, then `finish`.

    Args:
        parts: The collection's parts.
        job: The job's number in the store.
        metadata: Fields added to every document.
        on_progress: Called after every file and every batch of documents.
    """

    def __init__(
        self, parts: Parts, job: int, *, metadata: Metadata, on_progress: OnProgress | None
    ) -> None:
        self._parts = parts
        self._job = job
        self._metadata = dict(metadata)
        self._on_progress = on_progress or (lambda progress: None)
        self._next_document, self._next_chunk = parts.store.next_numbers()
        self._buffer: list[tuple[Document, str]] = []
        self._buffered = 0  # characters
        self._seen: set[str] = set()
        self._finished: list[FileRow] = []
        self._staged = _Staged()
        counted = ("added", "changed", "unchanged", "failed", "n_chunks", "n_embedded", "n_reused")
        self._counts: dict[str, Any] = dict.fromkeys(counted, 0)
        self._uncommitted = 0
        self._skipped: set[str] = set()  # files that are unchanged
        self._placeholders: list[str] = []  # files whose own rows go when their documents come
        self.generation = parts.store.generation()
        self.read_files: set[str] = set()
        self.offered: set[str] = self._seen

    def add_files(self, files: Sequence[SourceFile]) -> None:
        """Read files and offer their documents; unchanged files are skipped by their digest."""
        known = self._parts.store.complete_files([file.id for file in files])
        moved: list[FileRow] = []
        fresh: list[SourceFile] = []
        for file in files:
            if file.id in known and known[file.id].digest == self._read_key(file):
                row = _file_row(file, known[file.id].digest)
                if row != known[file.id]:
                    moved.append(row)
                self._counts["unchanged"] += 1
                self._seen.add(file.id)
                self._skipped.add(file.id)
            else:
                fresh.append(file)
                self._report_replaced(file, known.get(file.id))
        pending = [self._row(Document(file.id, ""), file.id, "pending") for file in fresh]
        self._parts.store.note_files([*moved, *(_file_row(file, "") for file in fresh)])
        self._parts.store.stage(pending, replaces=[row.id for row in pending])
        for i, file in enumerate(fresh):
            self._add_file(file)
            self._on_progress(Progress("files", i + 1, len(fresh), file.id))

    def _report_replaced(self, file: SourceFile, before: FileRow | None) -> None:
        """A file of another folder with the same id loses its documents: say so."""
        if before is None or before.root == _file_row(file, "").root:
            return
        if (Path(before.root) / file.id).exists():  # else the folder was moved
            report(
                Loss("documents", file.id, f"the documents of {before.root}/{file.id}",
                     f"those of {file.path}",
                     "both have this id; add them from their common folder")
            )  # fmt: skip

    def add_documents(self, documents: Iterable[Document]) -> None:
        """Offer documents that are in memory."""
        for i, document in enumerate(documents):
            self._offer(document, file="")
            if i % BATCH_DOCUMENTS == 0:
                self._on_progress(Progress("documents", i, 0, document.id))

    def finish(self) -> AddReport:
        """Commit what is left."""
        self._process()
        self._commit()
        # A file that once gave more documents is read again until `sync` has deleted those.
        owned = self._parts.store.documents_of_files(sorted(self.read_files))
        unfinished = {file for doc_id, file in owned if doc_id not in self.offered}
        self._parts.store.read_again(sorted(unfinished))
        return AddReport(**self._counts, generation=self.generation)

    def _read_key(self, file: SourceFile) -> str | None:
        try:
            return self._file_key(file_digest(file.path))
        except OSError:
            return None  # `load_file` will say why

    def _file_key(self, content: str) -> str:
        """Digest of everything that decides a file's documents."""
        return digest(f"{LOADER_VERSION} {content} {_dump(self._metadata)}".encode())

    def _add_file(self, file: SourceFile) -> None:
        try:
            result = load_file(file)
        except DocumentError as error:
            self._fail(file.id, file.id, str(error))
            return
        self.read_files.add(file.id)
        for loss in result.losses:
            report(loss)
        self._placeholders.append(file.id)
        for document in result.documents:
            self._offer(document, file=file.id)
        self._finished.append(_file_row(file, self._file_key(result.digest)))

    def _offer(self, document: Document, file: str) -> None:
        problem = _problem(document)
        if problem:
            self._fail(storable(str(document.id or "(no id)")), file, problem)
            return
        if document.id in self._seen:
            self._drop_twin(document.id, file)
            return
        self._seen.add(document.id)
        text = storable(document.text)
        if text != document.text:
            report(
                Loss("documents", document.id, "NUL or surrogate characters",
                     "U+FFFD in their places", "they cannot be stored as UTF-8 text")
            )  # fmt: skip
        fields = {**document.metadata, **self._metadata}
        self._buffer.append((replace(document, text=text, metadata=fields), file))
        self._buffered += len(text)
        if len(self._buffer) >= BATCH_DOCUMENTS or self._buffered >= BATCH_CHARACTERS:
            self._process()

    def _drop_twin(self, doc_id: str, file: str) -> None:
        self._counts["failed"] += 1
        report(
            Loss("documents", f"{doc_id} of {file}" if file else doc_id, "the document",
                 "the first one with this id", "two documents have the same id; give each its own")
        )  # fmt: skip

    def _fail(self, doc_id: str, file: str, reason: str) -> None:
        self._counts["failed"] += 1
        report(Loss("documents", doc_id, "the document", "nothing", reason))
        if doc_id in self._seen:
            return  # another one with this id was fine
        self._seen.add(doc_id)
        row = self._row(Document(doc_id, ""), file, "failed", reason)
        self._parts.store.stage([row], replaces=[doc_id])

    def _row(
        self, document: Document, file: str, state: str, reason: str | None = None
    ) -> DocumentRow:
        row = DocumentRow(
            seq=self._next_document,
            id=document.id,
            file=file,
            source=storable(document.source) or document.id,
            title=storable(document.title),
            text=document.text,
            metadata=_dump(document.metadata),
            digest=text_digest(document.text),
            state=state,
            job=self._job,
            reason=reason,
        )
        self._next_document += 1
        return row

    def _process(self) -> None:
        """Chunk, store and embed the buffered documents; commit when a segment is full."""
        buffer, self._buffer, self._buffered = self._buffer, [], 0
        live = self._parts.store.live_versions([document.id for document, _ in buffer])
        rows: list[DocumentRow] = []
        new_chunks: list[ChunkRow] = []
        for document, file in buffer:
            row = self._row(document, file, "parsed")
            version = live.get(document.id)
            if version and version[:4] == (row.digest, row.title, row.metadata, row.source):
                self._counts["unchanged"] += 1
                continue
            if version and version[4] != file and version[4] in self._skipped:
                self._drop_twin(document.id, file)
                continue
            if version and file and version[4] and version[4] != file:
                report(
                    Loss("documents", f"{document.id} of {version[4]}", "the document",
                         f"the one of {file}", "both have this id; give each its own")
                )  # fmt: skip
            self._counts["changed" if version else "added"] += 1
            rows.append(row)
            for chunk in self._parts.chunker.chunk(document):
                new_chunks.append(self._chunk_row(chunk, row))
        replaces = [*self._placeholders, *(document.id for document, _ in buffer)]
        self._parts.store.stage(rows, new_chunks, replaces=replaces)
        self._placeholders = []
        self._uncommitted += len(rows)
        titles = {row.seq: row.title for row in rows}
        for start in range(0, len(new_chunks), BATCH_CHUNKS):
            self._embed(new_chunks[start : start + BATCH_CHUNKS], titles)
        if rows:
            self._parts.store.mark_embedded(self._job)
        self._counts["n_chunks"] += len(new_chunks)
        if len(self._staged) >= SEGMENT_CHUNKS:
            self._commit()

    def _chunk_row(self, chunk: Chunk, row: DocumentRow) -> ChunkRow:
        fields = {key: value for key, value in chunk.metadata.items() if _can_be_filtered(value)}
        embedded = indexed_text(row.title, chunk.text)
        result = ChunkRow(
            seq=self._next_chunk,
            document=row.seq,
            id=chunk.id,
            start=chunk.start,
            end=chunk.end,
            text=chunk.text,
            metadata=_dump(fields),
            key=bytes.fromhex(text_digest(embedded)),
        )
        self._next_chunk += 1
        return result

    def _embed(self, batch: Sequence[ChunkRow], titles: Mapping[int, str]) -> None:
        texts = {c.key: indexed_text(titles[c.document], c.text) for c in batch}
        rows, n_new = ensure_embedded(self._parts, texts)
        self._counts["n_embedded"] += n_new
        self._counts["n_reused"] += len(texts) - n_new
        self._parts.store.count_embedded(self._job, n_new, len(texts) - n_new)
        for chunk in batch:
            terms = self._parts.analyzer.terms(texts[chunk.key])
            self._staged.add(chunk.id, chunk.seq, rows[chunk.key], terms)

    def _commit(self) -> None:
        segment = self._staged.write(self._parts) if len(self._staged) else None
        if self._uncommitted:
            self.generation = self._parts.store.commit_generation(
                self._job, segment, self._finished
            )
        else:
            self._parts.store.note_files(self._finished)
        self._staged = _Staged()
        self._uncommitted = 0
        self._finished = []


class _Staged:
    """Chunks that are embedded and wait for their segment."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._chunks: list[int] = []
        self._rows: list[int] = []
        self._postings = PostingsBuilder()

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, chunk_id: str, chunk: int, row: int, terms: Sequence[str]) -> None:
        self._ids.append(chunk_id)
        self._chunks.append(chunk)
        self._rows.append(row)
        self._postings.add(terms)

    def write(self, parts: Parts) -> tuple[str, int]:
        """Write the segment, rows sorted by chunk id; returns its digest and row count."""
        order = np.array(sorted(range(len(self._ids)), key=self._ids.__getitem__), dtype=np.int64)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        chunks = np.array(self._chunks, dtype=np.int64)[order]
        rows = np.array(self._rows, dtype=np.int64)[order]
        vectors = parts.ledger.vectors()
        postings = self._postings.build(place)
        name = write_segment(
            parts.segments, chunks, lambda part: vectors[rows[part]], postings, parts.index
        )
        return name, len(chunks)


def ensure_embedded(parts: Parts, texts: Mapping[bytes, str]) -> tuple[dict[bytes, int], int]:
    """The ledger rows of some texts, by key; embeds those that are new, and says how many."""
    rows = parts.ledger.find(list(texts))
    missing = [key for key in texts if key not in rows]
    if missing:
        vectors = parts.embedder.embed_passages([texts[key] for key in missing])
        rows |= parts.ledger.append(missing, vectors)
    return rows, len(missing)


def indexed_text(title: str, text: str) -> str:
    """What is embedded and indexed by terms: title, newline, chunk text."""
    return f"{title}\n{text}" if title else text


def _file_row(file: SourceFile, key: str) -> FileRow:
    return FileRow(file.id, str(file.root.resolve()), key)


def storable(text: str) -> str:
    """The text with NUL and lone surrogates replaced; offsets stay."""
    return _UNSTORABLE.sub("\ufffd", text)


def check_metadata(metadata: Metadata) -> None:
    """Raise ValueError for fields that cannot be written as JSON."""
    try:
        _dump(metadata)
    except ValueError as error:
        raise ValueError(f"metadata is {metadata!r}: {error}") from error


def _problem(document: Document) -> str | None:
    if not isinstance(document.id, str) or not document.id:
        return f"its id is {document.id!r}; expected a text that is not empty"
    if storable(document.id) != document.id:
        return f"its id {document.id!r} holds NUL or a lone surrogate, which cannot be stored"
    if not isinstance(document.title, str) or not isinstance(document.source, str):
        return f"its title is {document.title!r}, its source {document.source!r}; expected texts"
    if not isinstance(document.text, str) or not document.text.strip():
        return "it has no text"
    try:
        _dump(document.metadata)
    except ValueError as error:
        return str(error)
    return None


def _dump(fields: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(_storable(fields), sort_keys=True, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"its metadata cannot be written as JSON: {error}") from error
    return text


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {_storable(key): _storable(item) for key, item in value.items()}
    return [_storable(item) for item in value] if isinstance(value, list | tuple) else value


def _can_be_filtered(value: object) -> bool:
    """Text, numbers, booleans, null, and lists of them; the rest stays with the document."""
    if isinstance(value, list | tuple):
        return all(item is None or isinstance(item, str | int | float) for item in value)
    return value is None or isinstance(value, str | int | float)
