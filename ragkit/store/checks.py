"""What is wrong with `store.db`, and what of it can be mended.

SQLite keeps no checksums. Here each text has its digest, and each live document a seal: a digest
over its row and its chunks' rows. What says which generation is live is checked for sense.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from ragkit.digests import text_digest
from ragkit.errors import CollectionError
from ragkit.store.log import log_fault
from ragkit.store.reader import StoreReader, as_number, in_parts, live_in, read_generation
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

_DOCUMENT = ("seq", "id", "file", "source", "title", "metadata", "digest")
_CHUNK = ("seq", "id", "start", "end", "text", "metadata", "key")
_MAYBE_SEALED = sa.type_coerce(file_seals.c.digest, sa.LargeBinary)  # NULL in an outer join
_LOOKS, _BETWEEN_S = 3, 0.05  # at a log that seems torn: its writer may be at it


def document_seal(document: Any, inside: Sequence[Any]) -> bytes:
    """A digest of a document's row and its chunks' rows, in order of their numbers.

    The document's text counts through its own digest; what changes with time (state, generations)
    does not count.
    """
    total = hashlib.blake2b(digest_size=16)
    rows = [(document, _DOCUMENT), *((chunk, _CHUNK) for chunk in inside)]
    for row, names in rows:
        for name in names:
            value = getattr(row, name)
            data = value if isinstance(value, bytes) else str(value).encode()
            total.update(len(data).to_bytes(8, "little") + data)
    return total.digest()


def seal(
    connection: sa.Connection, rows: Sequence[DocumentRow], new_chunks: Sequence[ChunkRow]
) -> None:
    """Keep the seals of documents that are written in the same transaction."""
    inside: dict[int, list[ChunkRow]] = {row.seq: [] for row in rows}
    for chunk in new_chunks:
        inside[chunk.document].append(chunk)
    values = [{"document": row.seq, "digest": document_seal(row, inside[row.seq])} for row in rows]
    if values:
        connection.execute(sa.insert(seals), values)


def seal_files(connection: sa.Connection, rows: Sequence[FileRow]) -> None:
    """Keep the seals of files that are written in the same transaction."""
    for row in rows:
        values = {"id": row.id, "digest": _file_seal(row.id, row.root)}
        connection.execute(
            sqlite.insert(file_seals)
            .values(**values)
            .on_conflict_do_update(index_elements=["id"], set_=values)
        )


def _file_seal(file: str, root: str) -> bytes:
    return bytes.fromhex(text_digest(f"{file}\0{root}"))


def integrity_faults(store: StoreReader) -> list[str]:
    """What SQLite finds wrong, and what it would pass over in silence: a damaged log."""
    try:
        with store.reading() as connection:
            rows = connection.exec_driver_sql("PRAGMA integrity_check").all()
    except CollectionError as error:
        return [str(error)]
    faults = [f"store.db: {row[0]}" for row in rows if row[0] != "ok"]
    torn = log_fault(store.path)
    for _ in range(_LOOKS if torn else 0):
        time.sleep(_BETWEEN_S)
        torn = torn and log_fault(store.path)
    return [*faults, torn] if torn else faults


def text_faults(store: StoreReader, generation: int) -> tuple[list[str], list[str]]:
    """Texts that are not their digest's or their document's; and rows that are not their seal's."""
    texts: list[str] = []
    rows: list[str] = []
    for document, inside, sealed in _live(store, generation):
        if text_digest(document.text) != document.digest:
            texts.append(f"store.db: the text of {document.id!r} does not match its digest")
        texts += [
            f"store.db: the chunk {chunk.id!r} is not its document's text"
            for chunk in inside
            if document.text[chunk.start : chunk.end] != chunk.text
        ]
        if sealed is None:
            rows.append(f"store.db: {document.id!r} has no seal; `repair` gives it one")
        elif sealed != document_seal(document, inside):
            rows.append(
                f"store.db: id, source, title, metadata or chunks of {document.id!r} are not what "
                "was written; add it again after `repair`"
            )
    return texts, rows


def state_faults(store: StoreReader) -> list[str]:
    """What does not make sense about generations, numbers and files."""
    faults: list[str] = []
    with store.reading() as connection:
        connection.exec_driver_sql("BEGIN")  # no writer comes between
        generation = read_generation(connection)
        numbers = {row.key: row.value for row in connection.execute(sa.select(meta))}
        for table in (documents, segments):
            newest = connection.execute(
                sa.select(_newest(table.c.born), _newest(table.c.died))
            ).one()
            if any(type(number) is int and number > generation for number in newest):
                faults.append(f"store.db: {table.name} are newer than generation {generation}")
            odd = (table.c.born < 1) | (table.c.died <= table.c.born)
            if connection.execute(sa.select(sa.func.count()).where(odd)).scalar():
                faults.append(f"store.db: {table.name} died before they were born")
        for table, name in ((documents, "next_document"), (chunks, "next_chunk")):
            last = connection.execute(sa.select(_newest(table.c.seq))).scalar()
            if type(last) is int and as_number(numbers.get(name, "0")) <= last:
                faults.append(f"store.db: {name} is not beyond the last number, {last}")
        rows = sa.select(ledger.c.fingerprint, ledger.c.role, _newest(ledger.c.row))
        for *key, last in connection.execute(rows.group_by(ledger.c.fingerprint, ledger.c.role)):
            if as_number(numbers.get(":".join(["ledger", *key]), "0")) <= last:
                faults.append(f"store.db: the ledger's size does not reach its row {last}")
        lost = live_in(documents, generation) & (documents.c.state != "indexed")
        for row in connection.execute(sa.select(documents.c.id, documents.c.state).where(lost)):
            faults.append(f"store.db: {row[0]!r} is live, but its state is {row[1]!r}")
        faults += _file_faults(connection, generation)
    return faults


def _newest(column: Any) -> Any:
    return sa.type_coerce(sa.func.max(column), sa.Integer)  # NULL where there are no rows


def _file_faults(connection: sa.Connection, generation: int) -> Iterator[str]:
    joined = sa.select(files.c.id, files.c.root, _MAYBE_SEALED).outerjoin(
        file_seals, files.c.id == file_seals.c.id
    )
    for file, root, sealed in connection.execution_options(yield_per=1000).execute(joined):
        if sealed != _file_seal(file, root):
            yield f"store.db: the file {file!r} of {root!r} is not what was written; add it again"
    orphans = (
        sa.select(documents.c.file)
        .where(live_in(documents, generation), documents.c.file != "")
        .where(~sa.exists().where(files.c.id == documents.c.file))
        .distinct()
    )
    for row in connection.execute(orphans):
        yield f"store.db: the file {row[0]!r} has documents but is not listed; add it again"


def _live(store: StoreReader, generation: int) -> Iterator[tuple[Any, list[Any], bytes | None]]:
    """Every live document's row, its chunks' rows in order of number, and its seal."""
    alive = live_in(documents, generation)
    columns = [documents.c[name] for name in (*_DOCUMENT, "text")]
    inside = [chunks.c[name] for name in ("document", *_CHUNK)]
    sealed = store.stream(
        sa.select(seals.c.document, seals.c.digest)
        .join(documents, seals.c.document == documents.c.seq)
        .where(alive)
        .order_by(seals.c.document)
    )
    parts = store.stream(
        sa.select(*inside)
        .join(documents, chunks.c.document == documents.c.seq)
        .where(alive)
        .order_by(chunks.c.document, chunks.c.seq)
    )
    part, kept = next(parts, None), next(sealed, None)
    for document in store.stream(sa.select(*columns).where(alive).order_by(documents.c.seq)):
        mine: list[Any] = []
        while part is not None and part.document <= document.seq:
            if part.document == document.seq:
                mine.append(part)
            part = next(parts, None)
        while kept is not None and kept[0] < document.seq:
            kept = next(sealed, None)
        own = kept[1] if kept is not None and kept[0] == document.seq else None
        yield document, mine, own


def mend_tables(store: StoreReader) -> None:
    """Make anew what SQLite finds wrong and other tables tell: all indexes, and the ledger's keys.

    Of the keys those stay that can still be read; a key that is lost costs one embedding.
    """
    with store.reading() as connection:
        found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
    if found == "ok" and not state_faults(store):
        return
    with store.begin() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # sqlite3 does not begin one to change tables
        rows = connection.exec_driver_sql(
            "SELECT fingerprint, role, key, row, checksum FROM ledger"
        ).all()
        kinds = (str, str, bytes, int, int)
        numbers = {row.key: row.value for row in connection.execute(sa.select(meta))}
        whole = {
            row[:3]: row
            for row in rows
            if tuple(map(type, row)) == kinds
            and 0 <= row[3] < as_number(numbers.get(f"ledger:{row[0]}:{row[1]}", "0"))
        }
        connection.exec_driver_sql("DROP TABLE ledger")
        connection.exec_driver_sql(definitions()["ledger"])
        if whole:
            connection.exec_driver_sql(
                "INSERT INTO ledger VALUES (?, ?, ?, ?, ?)", list(map(tuple, whole.values()))
            )
        connection.exec_driver_sql("REINDEX")


def mend(store: StoreReader, generation: int) -> None:
    """Restore damaged texts from their chunks, and damaged chunks from their texts.

    A document that this cannot restore loses its digest, and its file is read again when it is
    next offered.
    """
    for document, inside, sealed in _live(store, generation):
        text = document.text
        if text_digest(text) != document.digest:
            for part in inside:
                text = text[: part.start] + part.text + text[part.start + len(part.text) :]
        mended = [_Mended(part, text[part.start : part.end]) for part in inside]
        found = document_seal(document, mended)
        whole = text_digest(text) == document.digest and sealed in (None, found)
        as_it_was = [part.text for part in inside] == [part.text for part in mended]
        if whole and sealed and as_it_was and text == document.text:
            continue
        with store.begin() as connection:
            if not whole:
                _write_off(connection, document)
                continue
            if text != document.text:
                this = sa.update(documents).where(documents.c.seq == document.seq)
                connection.execute(this.values(text=text))
            for part, right in zip(inside, mended, strict=True):
                if part.text != right.text:
                    this = sa.update(chunks).where(chunks.c.seq == part.seq)
                    connection.execute(this.values(text=right.text))
            if sealed is None:
                values = {"document": document.seq, "digest": found}
                connection.execute(sa.insert(seals).values(**values))


def seal_missing_files(store: StoreReader) -> None:
    """Give seals to files that have none."""
    joined = sa.select(files.c.id, files.c.root).outerjoin(
        file_seals, files.c.id == file_seals.c.id
    )
    with store.begin() as connection:
        rows = connection.execute(joined.where(_MAYBE_SEALED.is_(None))).all()
        seal_files(connection, [FileRow(file, root, "") for file, root in rows])


class _Mended:
    """A chunk's row with the text that it should have."""

    def __init__(self, row: Any, text: str) -> None:
        for name in _CHUNK:
            setattr(self, name, getattr(row, name))
        self.text = text


def _write_off(connection: sa.Connection, document: Any) -> None:
    this = sa.update(documents).where(documents.c.seq == document.seq)
    connection.execute(this.values(digest="damaged"))
    if document.file:
        again = sa.update(files).where(files.c.id == document.file)
        connection.execute(again.values(digest=""))


def drop_seals(connection: sa.Connection, numbers: Any) -> None:
    """Forget the seals of documents that go; `numbers` selects theirs."""
    connection.execute(sa.delete(seals).where(seals.c.document.in_(numbers)))


def drop_file_seals(connection: sa.Connection, ids: Sequence[str]) -> None:
    """Forget the seals of files that go."""
    for part in in_parts(ids):
        connection.execute(sa.delete(file_seals).where(file_seals.c.id.in_(part)))


def mend_ledger_size(store: StoreReader, fingerprint: str, role: str) -> None:
    """Make the ledger's size in the store cover every key."""
    with store.begin() as connection:
        mine = (ledger.c.fingerprint == fingerprint) & (ledger.c.role == role)
        last = connection.execute(sa.select(_newest(ledger.c.row)).where(mine)).scalar()
        if last is None:
            return
        key = f"ledger:{fingerprint}:{role}"
        value = str(last + 1)
        connection.execute(
            sqlite.insert(meta)
            .values(key=key, value=value)
            .on_conflict_do_update(index_elements=["key"], set_={"value": value})
        )
