"""Resumable ingestion: adds files and documents to a collection in batches.

The state of a document is first "pending", then "parsed" (its text and chunks are in the store),
"embedded" (its vectors are in the ledger) and "indexed" (it is part of a segment and a generation);
or "failed", with a reason. Only the last transition is visible to readers; it is one transaction.
If the process is killed, at most one batch of work is lost, and the same call resumes: texts whose
vectors are in the ledger are not embedded again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ragkit.collection.context import (
    BATCH_CHUNKS,
    SEGMENT_CHUNKS,
    OnProgress,
    Progress,
    WriterContext,
    batched,
    ensure_embedded,
    indexed_text,
    ledger_key,
)
from ragkit.digests import digest, file_digest, text_digest
from ragkit.documents import SourceFile, load_file
from ragkit.errors import DocumentError
from ragkit.indexes.bm25 import PostingsBuilder
from ragkit.indexes.segment import write_segment
from ragkit.layout import fault, pack
from ragkit.losses import report
from ragkit.store.rows import ChunkRow, DocumentRow, FileRow
from ragkit.types import Chunk, Document, Loss

LOADER_VERSION = 2  # increment when loaders extract different text: files are then read again
BATCH_DOCUMENTS = 256
BATCH_CHARACTERS = 1 << 21  # bounds the memory of a batch; one document may be longer

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

Metadata = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AddReport:
    """Result of `add` or `sync`. Counts without a unit in their name are documents."""

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
class IngestInputs:
    """Inputs of an ingestion job.

    Attributes:
        files: Files to read.
        skipped: Losses of the file search.
        documents: Documents in memory, or a generator.
        metadata: Fields added to every document.
    """

    files: Sequence[SourceFile]
    skipped: Sequence[Loss]
    documents: Iterable[Document]
    metadata: Metadata

    def __post_init__(self) -> None:
        check_metadata(self.metadata)


class Ingestion:
    """One job that adds documents to a collection.

    Args:
        context: Parts of the collection.
        job: Number of the job in the store.
        metadata: Fields added to every document.
        on_progress: Called after every file and every batch of documents.
    """

    def __init__(
        self,
        context: WriterContext,
        job: int,
        *,
        metadata: Metadata,
        on_progress: OnProgress | None,
    ) -> None:
        self._context = context
        self._store = context.store
        self._embedder = context.load_embedder()
        self._chunker = context.make_chunker(self._embedder)
        self._job = job
        self._metadata = dict(metadata)
        self._on_progress = on_progress or (lambda progress: None)
        self._next_document, self._next_chunk = context.store.next_numbers()
        self._seen: set[str] = set()
        self._finished: list[FileRow] = []
        self._staged = _Staged()
        counted = ("added", "changed", "unchanged", "failed", "n_chunks", "n_embedded", "n_reused")
        self._counts: dict[str, Any] = dict.fromkeys(counted, 0)
        self._uncommitted = 0
        self._skipped: set[str] = set()  # unchanged files
        self._placeholders: list[str] = []  # rows of files, replaced by rows of their documents
        self.generation = context.store.generation()
        self.read_files: set[str] = set()
        self.offered: set[str] = self._seen

    def run(self, inputs: IngestInputs) -> AddReport:
        """Read, chunk, embed and commit everything; unchanged files are skipped by their digest."""
        for batch in self._batches(inputs):
            self._process(batch)
        self._commit()
        # A file that had more documents before is read again until `sync` has deleted those.
        owned = self._store.documents_of_files(sorted(self.read_files))
        unfinished = {file for doc_id, file in owned if doc_id not in self.offered}
        self._store.reset_file_digests(sorted(unfinished))
        return AddReport(**self._counts, generation=self.generation)

    def _batches(self, inputs: IngestInputs) -> Iterator[list[tuple[Document, str]]]:
        """Yield accepted documents with their files, in batches of bounded size."""
        batch: list[tuple[Document, str]] = []
        n_characters = 0
        for document, file in chain(
            self._read_files(inputs.files), self._read_documents(inputs.documents)
        ):
            accepted = self._accept(document, file)
            if accepted is None:
                continue
            batch.append((accepted, file))
            n_characters += len(accepted.text)
            if len(batch) >= BATCH_DOCUMENTS or n_characters >= BATCH_CHARACTERS:
                yield batch
                batch, n_characters = [], 0
        yield batch

    def _read_files(self, files: Sequence[SourceFile]) -> Iterator[tuple[Document, str]]:
        known = self._store.complete_files([file.id for file in files])
        moved: list[FileRow] = []
        changed: list[SourceFile] = []
        for file in files:
            if file.id in known and known[file.id].digest == self._read_key(file):
                row = _file_row(file, known[file.id].digest)
                if row != known[file.id]:
                    moved.append(row)
                self._counts["unchanged"] += 1
                self._seen.add(file.id)
                self._skipped.add(file.id)
            else:
                changed.append(file)
                self._report_replaced(file, known.get(file.id))
        pending = [self._row(Document(file.id, ""), file.id, "pending") for file in changed]
        self._store.record_files([*moved, *(_file_row(file, "") for file in changed)])
        self._store.stage(pending, replaces=[row.id for row in pending])
        for i, file in enumerate(changed):
            yield from self._read_file(file)
            self._on_progress(Progress("files", i + 1, len(changed), file.id))

    def _read_file(self, file: SourceFile) -> Iterator[tuple[Document, str]]:
        try:
            result = load_file(file)
        except DocumentError as error:
            self._fail(file.id, file.id, str(error))
            return
        self.read_files.add(file.id)
        for loss in result.losses:
            report(loss)
        self._placeholders.append(file.id)
        yield from ((document, file.id) for document in result.documents)
        self._finished.append(_file_row(file, self._file_key(result.digest)))

    def _read_documents(self, documents: Iterable[Document]) -> Iterator[tuple[Document, str]]:
        for i, document in enumerate(documents):
            yield document, ""
            if i % BATCH_DOCUMENTS == 0:
                self._on_progress(Progress("documents", i, 0, document.id))

    def _report_replaced(self, file: SourceFile, before: FileRow | None) -> None:
        """Report a loss if the file replaces one of another folder that has the same id."""
        if before is None or before.root == _file_row(file, "").root:
            return
        if (Path(before.root) / file.id).exists():  # otherwise the folder was moved
            report(
                Loss("documents", file.id, f"the documents of {before.root}/{file.id}",
                     f"those of {file.path}",
                     "both have this id; add them from their common folder")
            )  # fmt: skip

    def _read_key(self, file: SourceFile) -> str | None:
        try:
            return self._file_key(file_digest(file.path))
        except OSError:
            return None  # `load_file` reports the error

    def _file_key(self, content: str) -> str:
        """Return a digest of everything that determines the documents of a file."""
        return digest(f"{LOADER_VERSION} {content} {_dump(self._metadata)}".encode())

    def _accept(self, document: Document, file: str) -> Document | None:
        """Return the document as it is stored, or None if it is rejected."""
        problem = _problem(document)
        if problem:
            self._fail(storable(str(document.id or "(no id)")), file, problem)
            return None
        if document.id in self._seen:
            self._drop_duplicate(document.id, file)
            return None
        self._seen.add(document.id)
        text = storable(document.text)
        if text != document.text:
            report(
                Loss("documents", document.id, "NUL or surrogate characters",
                     "U+FFFD in their places", "they cannot be stored as UTF-8 text")
            )  # fmt: skip
        return replace(document, text=text, metadata={**document.metadata, **self._metadata})

    def _drop_duplicate(self, doc_id: str, file: str) -> None:
        self._counts["failed"] += 1
        report(
            Loss("documents", f"{doc_id} of {file}" if file else doc_id, "the document",
                 "the first one with this id", "two documents have the same id; give each its own")
        )  # fmt: skip

    def _fail(self, doc_id: str, file: str, reason: str) -> None:
        self._counts["failed"] += 1
        report(Loss("documents", doc_id, "the document", "nothing", reason))
        if doc_id in self._seen:
            return  # another document with this id was accepted
        self._seen.add(doc_id)
        row = self._row(Document(doc_id, ""), file, "failed", reason)
        self._store.stage([row], replaces=[doc_id])

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
            layout=pack(document.layout),
        )
        self._next_document += 1
        return row

    def _process(self, batch: Sequence[tuple[Document, str]]) -> None:
        """Chunk, store and embed documents; commit when a segment is full."""
        rows, chunks = self._rows_of(batch)
        replaces = [*self._placeholders, *(document.id for document, _ in batch)]
        self._store.stage(rows, chunks, replaces=replaces)
        self._placeholders = []
        self._uncommitted += len(rows)
        titles = {row.seq: row.title for row in rows}
        for batch_chunks in batched(iter(chunks), BATCH_CHUNKS):
            texts = {c.key: indexed_text(titles[c.document], c.text) for c in batch_chunks}
            ledger_rows, n_new = ensure_embedded(self._context, self._embedder, texts)
            self._counts["n_embedded"] += n_new
            self._counts["n_reused"] += len(texts) - n_new
            self._store.count_embedded(self._job, n_new, len(texts) - n_new)
            for chunk in batch_chunks:
                terms = self._context.analyzer.terms(texts[chunk.key])
                self._staged.add(chunk.id, chunk.seq, ledger_rows[chunk.key], terms)
        if rows:
            self._store.mark_embedded(self._job)
        self._counts["n_chunks"] += len(chunks)
        if len(self._staged) >= SEGMENT_CHUNKS:
            self._commit()

    def _rows_of(
        self, batch: Sequence[tuple[Document, str]]
    ) -> tuple[list[DocumentRow], list[ChunkRow]]:
        """Return rows of the new and changed documents, and rows of their chunks."""
        live = self._store.live_versions([document.id for document, _ in batch])
        rows: list[DocumentRow] = []
        chunks: list[ChunkRow] = []
        for document, file in batch:
            row = self._row(document, file, "parsed")
            version = live.get(document.id)
            fields = (row.digest, row.title, row.metadata, row.source, row.layout)
            if version and version[:5] == fields:
                self._counts["unchanged"] += 1
                continue
            if version and version[5] != file and version[5] in self._skipped:
                self._drop_duplicate(document.id, file)
                continue
            if version and file and version[5] and version[5] != file:
                report(
                    Loss("documents", f"{document.id} of {version[5]}", "the document",
                         f"the one of {file}", "both have this id; give each its own")
                )  # fmt: skip
            self._counts["changed" if version else "added"] += 1
            rows.append(row)
            chunks += [self._chunk_row(chunk, row) for chunk in self._chunker.chunk(document)]
        return rows, chunks

    def _chunk_row(self, chunk: Chunk, row: DocumentRow) -> ChunkRow:
        fields = {key: value for key, value in chunk.metadata.items() if _can_be_filtered(value)}
        result = ChunkRow(
            seq=self._next_chunk,
            document=row.seq,
            id=chunk.id,
            start=chunk.start,
            end=chunk.end,
            text=chunk.text,
            metadata=_dump(fields),
            key=ledger_key(row.title, chunk.text),
        )
        self._next_chunk += 1
        return result

    def _commit(self) -> None:
        segment = self._staged.write(self._context) if len(self._staged) else None
        if self._uncommitted:
            self.generation = self._store.commit_generation(self._job, segment, self._finished)
        else:
            self._store.record_files(self._finished)
        self._staged = _Staged()
        self._uncommitted = 0
        self._finished = []


class _Staged:
    """Embedded chunks that are not yet written to a segment."""

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

    def write(self, context: WriterContext) -> tuple[str, int]:
        """Write a segment with rows sorted by chunk id; return its digest and row count."""
        order = np.array(sorted(range(len(self._ids)), key=self._ids.__getitem__), dtype=np.int64)
        target = np.empty_like(order)
        target[order] = np.arange(len(order))
        chunks = np.array(self._chunks, dtype=np.int64)[order]
        rows = np.array(self._rows, dtype=np.int64)[order]
        vectors = context.ledger.vectors()
        postings = self._postings.build(target)
        name = write_segment(
            context.segments, chunks, lambda block: vectors[rows[block]], postings, context.index
        )
        return name, len(chunks)


def _file_row(file: SourceFile, key: str) -> FileRow:
    return FileRow(file.id, str(file.root.resolve()), key)


def storable(text: str) -> str:
    """Replace NUL and lone surrogates by U+FFFD, which leaves offsets unchanged."""
    return _UNSTORABLE.sub("\ufffd", text)


def check_metadata(metadata: Metadata) -> None:
    """Raise ValueError if the fields cannot be written as JSON."""
    try:
        _dump(metadata)
    except ValueError as error:
        raise ValueError(f"metadata is {metadata!r}: {error}") from error


def _problem(document: Document) -> str | None:
    """Return the reason why a document cannot be stored, or None."""
    if not isinstance(document.id, str) or not document.id:
        return f"its id is {document.id!r}; expected a non-empty string"
    if storable(document.id) != document.id:
        return f"its id {document.id!r} contains NUL or a lone surrogate, which cannot be stored"
    if not isinstance(document.title, str) or not isinstance(document.source, str):
        return (
            f"its title is {document.title!r} and its source is {document.source!r}; expected "
            "strings"
        )
    if not isinstance(document.text, str) or not document.text.strip():
        return "it has no text"
    try:
        _dump(document.metadata)
    except ValueError as error:
        return str(error)
    problem = fault(document.layout, len(document.text))
    return f"its layout does not fit its text: {problem}" if problem else None


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
    """Return True for text, numbers, booleans, null, and lists of them.

    Other values are stored with the document only.
    """
    if isinstance(value, list | tuple):
        return all(item is None or isinstance(item, str | int | float) for item in value)
    return value is None or isinstance(value, str | int | float)
