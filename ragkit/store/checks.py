"""Detect damage to `store.db`, and repair what can be repaired.

SQLite does not store checksums. Here each text has a digest, and each live document a seal: a
digest of its row and its chunks' rows. Generations, counters and files are checked for consistency.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from ragkit.digests import digest as bytes_digest
from ragkit.digests import text_digest
from ragkit.errors import CollectionError
from ragkit.store.log import log_fault
from ragkit.store.reader import StoreReader, batches, live_in, parse_number, read_generation
from ragkit.store.rows import ChunkRow, DocumentRow, FileRow
from ragkit.store.schema import (
    chunks,
    definitions,
    documents,
    file_seals,
    files,
    ledger,
    meta,
    seals,
    segments,
)

_DOCUMENT = ("seq", "id", "file", "source", "title", "metadata", "digest", "layout")
_CHUNK = ("seq", "id", "start", "end", "text", "metadata", "key")
_NULLABLE_SEAL = sa.type_coerce(file_seals.c.digest, sa.LargeBinary)  # NULL in an outer join
_N_RETRIES, _RETRY_DELAY_S = 3, 0.05  # for a damaged log, which may just be in use by a writer


def document_seal(document: Any, document_chunks: Sequence[Any]) -> bytes:
    """Return the digest of a document's row and its chunks' rows, in the order of their numbers.

    The document's text is represented by its own digest. Columns that change (state, generations)
    are left out.
    """
    seal = hashlib.blake2b(digest_size=16)
    rows = [(document, _DOCUMENT), *((chunk, _CHUNK) for chunk in document_chunks)]
    for row, names in rows:
        for name in names:
            value = getattr(row, name)
            data = value if isinstance(value, bytes) else str(value).encode()
            seal.update(len(data).to_bytes(8, "little") + data)
    return seal.digest()


def write_seals(
    connection: sa.Connection, rows: Sequence[DocumentRow], new_chunks: Sequence[ChunkRow]
) -> None:
    """Write the seals of documents that are written in the same transaction."""
    by_document: dict[int, list[ChunkRow]] = {row.seq: [] for row in rows}
    for chunk in new_chunks:
        by_document[chunk.document].append(chunk)
    values = [
        {"document": row.seq, "digest": document_seal(row, by_document[row.seq])} for row in rows
    ]
    if values:
        connection.execute(sa.insert(seals), values)


def write_file_seals(connection: sa.Connection, rows: Sequence[FileRow]) -> None:
    """Write the seals of files that are written in the same transaction."""
    for row in rows:
        values = {"id": row.id, "digest": _file_seal(row.id, row.root, row.path)}
        connection.execute(
            sqlite.insert(file_seals)
            .values(**values)
            .on_conflict_do_update(index_elements=["id"], set_=values)
        )


def _file_seal(file: str, root: str, path: str) -> bytes:
    return bytes.fromhex(bytes_digest(b"\0".join(map(os.fsencode, (file, root, path)))))


def integrity_faults(store: StoreReader) -> list[str]:
    """Return the faults that SQLite finds, and damage to the log, which SQLite ignores."""
    try:
        with store.reading() as connection:
            rows = connection.exec_driver_sql("PRAGMA integrity_check").all()
    except CollectionError as error:
        return [str(error)]
    faults = [f"store.db: {row[0]}" for row in rows if row[0] != "ok"]
    damage = log_fault(store.path)
    for _ in range(_N_RETRIES if damage else 0):
        time.sleep(_RETRY_DELAY_S)
        damage = damage and log_fault(store.path)
    return [*faults, damage] if damage else faults


def text_faults(store: StoreReader, generation: int) -> tuple[list[str], list[str]]:
    """Return texts that do not match their digest or document, and rows that fail their seal."""
    texts: list[str] = []
    rows: list[str] = []
    for document, document_chunks, stored_seal in _live_documents(store, generation):
        if text_digest(document.text) != document.digest:
            texts.append(f"store.db: the text of {document.id!r} does not match its digest")
        texts += [
            f"store.db: the chunk {chunk.id!r} does not match its document's text"
            for chunk in document_chunks
            if document.text[chunk.start : chunk.end] != chunk.text
        ]
        if stored_seal is None:
            rows.append(f"store.db: {document.id!r} has no seal; `repair` adds it")
        elif stored_seal != document_seal(document, document_chunks):
            rows.append(
                f"store.db: id, source, title, metadata, layout or chunks of {document.id!r} have "
                "changed since they were written; add it again after `repair`"
            )
    return texts, rows


def state_faults(store: StoreReader) -> list[str]:
    """Return inconsistencies of generations, counters and files."""
    faults: list[str] = []
    with store.reading() as connection:
        connection.exec_driver_sql("BEGIN")  # excludes changes by writers in between
        generation = read_generation(connection)
        numbers = {row.key: row.value for row in connection.execute(sa.select(meta))}
        for table in (documents, segments):
            newest = connection.execute(
                sa.select(_newest(table.c.born), _newest(table.c.died))
            ).one()
            if any(type(number) is int and number > generation for number in newest):
                faults.append(f"store.db: {table.name} are newer than the generation {generation}")
            invalid = (table.c.born < 1) | (table.c.died <= table.c.born)
            if connection.execute(sa.select(sa.func.count()).where(invalid)).scalar():
                faults.append(f"store.db: {table.name} were deleted before they were committed")
        for table, name in ((documents, "next_document"), (chunks, "next_chunk")):
            last = connection.execute(sa.select(_newest(table.c.seq))).scalar()
            if type(last) is int and parse_number(numbers.get(name, "0")) <= last:
                faults.append(f"store.db: {name} is not greater than the last number, {last}")
        rows = sa.select(ledger.c.fingerprint, ledger.c.role, _newest(ledger.c.row))
        for *key, last in connection.execute(rows.group_by(ledger.c.fingerprint, ledger.c.role)):
            if parse_number(numbers.get(":".join(["ledger", *key]), "0")) <= last:
                faults.append(f"store.db: the ledger's size is too small for its row {last}")
        invalid = live_in(documents, generation) & (documents.c.state != "indexed")
        for row in connection.execute(sa.select(documents.c.id, documents.c.state).where(invalid)):
            faults.append(f"store.db: {row[0]!r} is live, but its state is {row[1]!r}")
        faults += _file_faults(connection, generation)
    return faults


def _newest(column: Any) -> Any:
    return sa.type_coerce(sa.func.max(column), sa.Integer)  # NULL where there are no rows


def _file_faults(connection: sa.Connection, generation: int) -> Iterator[str]:
    joined = sa.select(files.c.id, files.c.root, files.c.path, _NULLABLE_SEAL).outerjoin(
        file_seals, files.c.id == file_seals.c.id
    )
    rows = connection.execution_options(yield_per=1000).execute(joined)
    for file, root, path, stored_seal in rows:
        if stored_seal != _file_seal(file, root, path):
            yield (
                f"store.db: the record of the file {file!r} at {path!r} has changed since it was "
                "written; add the file again"
            )
    orphans = (
        sa.select(documents.c.file)
        .where(live_in(documents, generation), documents.c.file != "")
        .where(~sa.exists().where(files.c.id == documents.c.file))
        .distinct()
    )
    for row in connection.execute(orphans):
        yield f"store.db: the file {row[0]!r} has documents but no record; add it again"


def _live_documents(
    store: StoreReader, generation: int
) -> Iterator[tuple[Any, list[Any], bytes | None]]:
    """Iterate over the rows of live documents, their chunks' rows and their stored seals."""
    live = live_in(documents, generation)
    columns = [documents.c[name] for name in (*_DOCUMENT, "text")]
    chunk_columns = [chunks.c[name] for name in ("document", *_CHUNK)]
    stored_seals = store.stream(
        sa.select(seals.c.document, seals.c.digest)
        .join(documents, seals.c.document == documents.c.seq)
        .where(live)
        .order_by(seals.c.document)
    )
    chunk_rows = store.stream(
        sa.select(*chunk_columns)
        .join(documents, chunks.c.document == documents.c.seq)
        .where(live)
        .order_by(chunks.c.document, chunks.c.seq)
    )
    chunk, seal = next(chunk_rows, None), next(stored_seals, None)
    for document in store.stream(sa.select(*columns).where(live).order_by(documents.c.seq)):
        document_chunks: list[Any] = []
        while chunk is not None and chunk.document <= document.seq:
            if chunk.document == document.seq:
                document_chunks.append(chunk)
            chunk = next(chunk_rows, None)
        while seal is not None and seal[0] < document.seq:
            seal = next(stored_seals, None)
        stored_seal = seal[1] if seal is not None and seal[0] == document.seq else None
        yield document, document_chunks, stored_seal


def repair_tables(store: StoreReader) -> None:
    """Rebuild what can be derived from other data: all indexes, and the ledger's keys.

    Keys that are still readable are kept; the text of a lost key is embedded again when needed.
    """
    with store.reading() as connection:
        result = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
    if result == "ok" and not state_faults(store):
        return
    with store.begin() as connection:
        # sqlite3 does not begin a transaction for changes of the schema.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        rows = connection.exec_driver_sql(
            "SELECT fingerprint, role, key, row, checksum FROM ledger"
        ).all()
        types = (str, str, bytes, int, int)
        numbers = {row.key: row.value for row in connection.execute(sa.select(meta))}
        valid = {
            row[:3]: row
            for row in rows
            if tuple(map(type, row)) == types
            and 0 <= row[3] < parse_number(numbers.get(f"ledger:{row[0]}:{row[1]}", "0"))
        }
        connection.exec_driver_sql("DROP TABLE ledger")
        connection.exec_driver_sql(definitions()["ledger"])
        if valid:
            connection.exec_driver_sql(
                "INSERT INTO ledger VALUES (?, ?, ?, ?, ?)", list(map(tuple, valid.values()))
            )
        connection.exec_driver_sql("REINDEX")


def repair_documents(store: StoreReader, generation: int) -> None:
    """Restore damaged texts from their chunks, and damaged chunks from their texts.

    A document that cannot be restored loses its digest, and its file is read again when it is next
    added.
    """
    for document, document_chunks, stored_seal in _live_documents(store, generation):
        text = document.text
        if text_digest(text) != document.digest:
            for chunk in document_chunks:
                text = text[: chunk.start] + chunk.text + text[chunk.start + len(chunk.text) :]
        repaired = [
            _RepairedChunk(chunk, text[chunk.start : chunk.end]) for chunk in document_chunks
        ]
        seal = document_seal(document, repaired)
        restored = text_digest(text) == document.digest and stored_seal in (None, seal)
        same_chunks = [row.text for row in document_chunks] == [row.text for row in repaired]
        if restored and stored_seal and same_chunks and text == document.text:
            continue
        with store.begin() as connection:
            if not restored:
                _mark_damaged(connection, document)
                continue
            if text != document.text:
                update = sa.update(documents).where(documents.c.seq == document.seq)
                connection.execute(update.values(text=text))
            for chunk, correct in zip(document_chunks, repaired, strict=True):
                if chunk.text != correct.text:
                    update = sa.update(chunks).where(chunks.c.seq == chunk.seq)
                    connection.execute(update.values(text=correct.text))
            if stored_seal is None:
                values = {"document": document.seq, "digest": seal}
                connection.execute(sa.insert(seals).values(**values))


def add_missing_file_seals(store: StoreReader) -> None:
    """Add seals to files that have none."""
    joined = sa.select(files.c.id, files.c.root, files.c.path, files.c.digest).outerjoin(
        file_seals, files.c.id == file_seals.c.id
    )
    with store.begin() as connection:
        rows = connection.execute(joined.where(_NULLABLE_SEAL.is_(None))).all()
        write_file_seals(connection, [FileRow(*row) for row in rows])


class _RepairedChunk:
    """Row of a chunk with its text replaced."""

    def __init__(self, row: Any, text: str) -> None:
        for name in _CHUNK:
            setattr(self, name, getattr(row, name))
        self.text = text


def _mark_damaged(connection: sa.Connection, document: Any) -> None:
    update = sa.update(documents).where(documents.c.seq == document.seq)
    connection.execute(update.values(digest="damaged"))
    if document.file:
        update = sa.update(files).where(files.c.id == document.file)
        connection.execute(update.values(digest=""))


def delete_seals(connection: sa.Connection, numbers: Any) -> None:
    """Delete the seals of documents; `numbers` is a query of the documents' numbers."""
    connection.execute(sa.delete(seals).where(seals.c.document.in_(numbers)))


def delete_file_seals(connection: sa.Connection, ids: Sequence[str]) -> None:
    """Delete the seals of files."""
    for batch in batches(ids):
        connection.execute(sa.delete(file_seals).where(file_seals.c.id.in_(batch)))


def repair_ledger_size(store: StoreReader, fingerprint: str, role: str) -> None:
    """Set the ledger's size in the store to cover all keys."""
    with store.begin() as connection:
        is_member = (ledger.c.fingerprint == fingerprint) & (ledger.c.role == role)
        last = connection.execute(sa.select(_newest(ledger.c.row)).where(is_member)).scalar()
        if last is None:
            return
        key = f"ledger:{fingerprint}:{role}"
        value = str(last + 1)
        connection.execute(
            sqlite.insert(meta)
            .values(key=key, value=value)
            .on_conflict_do_update(index_elements=["key"], set_={"value": value})
        )
