"""Resumable ingestion: adds files and documents to a collection in batches.

The state of a document is first "pending", then "parsed" (its text and chunks are in the store),
"embedded" (its vectors are in the ledger) and "indexed" (it is part of a segment and a generation);
or "failed", with a reason. Only the last transition is visible to readers; it is one transaction.
If the process is killed, at most one batch of work is lost, and the same call resumes: texts whose
vectors are in the ledger are not embedded again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
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
from ragkit.collection.metadata import Metadata, can_be_filtered, check_metadata, storable, to_json
from ragkit.collection.plan import FilePlan
from ragkit.digests import digest, text_digest
from ragkit.documents import SourceFile, load_file
from ragkit.documents.encodings import check_encoding, find_codec
from ragkit.errors import DocumentError
from ragkit.indexes.bm25 import PostingsBuilder
from ragkit.indexes.segment import write_segment
from ragkit.layout import fault, pack
from ragkit.losses import report
from ragkit.store.rows import ChunkRow, DocumentRow, FileRow, stored_header
from ragkit.types import Chunk, Document, Loss

LOADER_VERSION = 3  # increment when loaders extract different text: files are then read again
BATCH_DOCUMENTS = 256
BATCH_CHARACTERS = 1 << 21  # bounds the memory of a batch; one document may be longer


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
        raw_ids: Records keep their own ids, without their file's id.
        encoding: Encoding of files that are not UTF-8 and declare none; guessed if empty.
        stored: Documents that were read before, with the ids of their files.
    """

    files: Sequence[SourceFile] = ()
    skipped: Sequence[Loss] = ()
    documents: Iterable[Document] = ()
    metadata: Metadata = field(default_factory=dict)
    raw_ids: bool = False
    encoding: str = ""
    stored: Iterable[tuple[Document, str]] = ()

    def __post_init__(self) -> None:
        check_metadata(self.metadata)
        check_encoding(self.encoding)

    def file_key(self, content: str) -> str:
        """Return the digest of a file's row for the digest of its content: see `FileRow`."""
        encoding = find_codec(self.encoding)
        options = f"{LOADER_VERSION} {self.raw_ids} {encoding} {to_json(self.metadata)}"
        return f"{content}.{digest(options.encode())}"


class Ingestion:
    """One job that adds documents to a collection.

    Args:
        context: Parts of the collection.
        job: Number of the job in the store.
        inputs: What is added.
        plan: Which of the files are read.
        on_progress: Called after every file and every batch of documents.
    """

    def __init__(
        self,
        context: WriterContext,
        job: int,
        inputs: IngestInputs,
        plan: FilePlan,
        on_progress: OnProgress | None,
    ) -> None:
        self._context = context
        self._store = context.store
        self._embedder = context.load_embedder()
        self._chunker = context.make_chunker(self._embedder)
        self._job = job
        self._inputs = inputs
        self._plan = plan
        self._on_progress = on_progress or (lambda progress: None)
        self._next_document, self._next_chunk = context.store.next_numbers()
        self._seen: set[str] = set()
        self._finished: list[FileRow] = []
        self._staged = _Staged()
        counted = ("added", "changed", "unchanged", "failed", "n_chunks", "n_embedded", "n_reused")
        self._counts: dict[str, Any] = dict.fromkeys(counted, 0)
        self._uncommitted = 0
        self._troubled: set[str] = set()  # files of failed documents
        self._placeholders: list[str] = []  # rows of files, replaced by rows of their documents
        self.generation = context.store.generation()
        self.read_files: set[str] = set()
        self.offered: set[str] = self._seen

    def run(self) -> AddReport:
        """Read, chunk, embed and commit everything."""
        for batch in self._batches():
            self._process(batch)
        self._commit()
        # A file is read again until `sync` has deleted documents that it does not have any more,
        # and until all of its documents were accepted.
        owned = self._store.documents_of_files(sorted(self.read_files))
        unfinished = {file for doc_id, file in owned if doc_id not in self.offered}
        self._store.reset_file_digests(sorted(unfinished | self._troubled))
        return AddReport(**self._counts, generation=self.generation)

    def _batches(self) -> Iterator[list[tuple[Document, str]]]:
        """Yield accepted documents with their files, in batches of bounded size."""
        batch: list[tuple[Document, str]] = []
        n_characters = 0
        for document, file in chain(self._read_files(), self._read_documents()):
            accepted = self._accept(document, file)
            if accepted is None:
                continue
            batch.append((accepted, file))
            n_characters += len(accepted.text)
            if len(batch) >= BATCH_DOCUMENTS or n_characters >= BATCH_CHARACTERS:
                yield batch
                batch, n_characters = [], 0
        yield batch

    def _read_files(self) -> Iterator[tuple[Document, str]]:
        plan = self._plan
        self._counts["unchanged"] += len(plan.unchanged)
        self._counts["failed"] += len(plan.losses)
        self._seen.update(plan.unchanged)
        pending = [self._row(Document(file.id, ""), file.id, "pending") for file in plan.changed]
        self._store.record_files([*plan.moved, *(plan.rows[file.id] for file in plan.changed)])
        self._store.stage(pending, replaces=[row.id for row in pending])
        for i, file in enumerate(plan.changed):
            yield from self._read_file(file)
            self._on_progress(Progress("files", i + 1, len(plan.changed), file.id))

    def _read_file(self, file: SourceFile) -> Iterator[tuple[Document, str]]:
        try:
            result = load_file(file, raw_ids=self._inputs.raw_ids, encoding=self._inputs.encoding)
        except DocumentError as error:
            self._fail(file.id, file.id, str(error))
            return
        self.read_files.add(file.id)
        for loss in result.losses:
            report(loss)
        self._placeholders.append(file.id)
        yield from ((document, file.id) for document in result.documents)
        key = self._inputs.file_key(result.digest)
        self._finished.append(replace(self._plan.rows[file.id], digest=key))

    def _read_documents(self) -> Iterator[tuple[Document, str]]:
        from_memory = ((document, "") for document in self._inputs.documents)
        for i, (document, file) in enumerate(chain(self._inputs.stored, from_memory)):
            yield document, file
            if i % BATCH_DOCUMENTS == 0:
                self._on_progress(Progress("documents", i, 0, document.id))

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
        return replace(document, text=text, metadata={**document.metadata, **self._inputs.metadata})

    def _drop_duplicate(self, doc_id: str, file: str) -> None:
        self._count_failed(file)
        report(
            Loss("documents", f"{doc_id} of {file}" if file else doc_id, "the document",
                 "the first one with this id", "two documents have the same id; give each its own")
        )  # fmt: skip

    def _refuse(self, doc_id: str, file: str, owner: str) -> None:
        self._count_failed(file)
        kept = f"the one of {owner}" if owner else "the one that was added from memory"
        report(
            Loss("documents", f"{doc_id} of {file}" if file else doc_id, "the document", kept,
                 "both have this id; delete the other one first, or give each its own")
        )  # fmt: skip

    def _count_failed(self, file: str) -> None:
        self._counts["failed"] += 1
        self._troubled.add(file)

    def _fail(self, doc_id: str, file: str, reason: str) -> None:
        self._count_failed(file)
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
            metadata=to_json(document.metadata),
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
            texts = {
                chunk.key: indexed_text(
                    titles[chunk.document], chunk.text, stored_header(chunk.metadata)
                )
                for chunk in batch_chunks
            }
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
            version, owner = live.get(document.id, (None, file))
            if owner != file and owner not in self._plan.released:
                self._refuse(document.id, file, owner)
                continue
            if version == row.version:
                self._counts["unchanged"] += 1
                continue
            self._counts["changed" if version else "added"] += 1
            rows.append(row)
            chunks += [self._chunk_row(chunk, row) for chunk in self._chunker.chunk(document)]
        return rows, chunks

    def _chunk_row(self, chunk: Chunk, row: DocumentRow) -> ChunkRow:
        fields = {key: value for key, value in chunk.metadata.items() if can_be_filtered(value)}
        metadata = to_json(fields)
        result = ChunkRow(
            seq=self._next_chunk,
            document=row.seq,
            id=chunk.id,
            start=chunk.start,
            end=chunk.end,
            text=chunk.text,
            metadata=metadata,
            key=ledger_key(row.title, chunk.text, stored_header(metadata)),
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
        to_json(document.metadata)
    except ValueError as error:
        return str(error)
    problem = fault(document.layout, len(document.text))
    return f"its layout does not fit its text: {problem}" if problem else None
