"""`store.db`: every statement ragkit sends to SQLite.

Writers use one connection and short transactions (WAL, so readers never wait). The commit of a
generation is one transaction: `commit_generation`.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from ragkit.digests import text_digest
from ragkit.errors import CollectionError, CorruptCollection
from ragkit.store import filters
from ragkit.store.schema import (
    chunks,
    documents,
    files,
    jobs,
    ledger,
    losses,
    meta,
    metadata,
    segments,
)
from ragkit.types import Chunk, Loss, Where

_T = TypeVar("_T")
_MAX_BOUND = 500  # values in one IN (…); SQLite's own limit is far above


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """One version of a document, as it is written."""

    seq: int
    id: str
    file: str
    source: str
    title: str
    text: str
    metadata: str
    digest: str
    state: str
    job: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """A chunk as it is written; `document` is its document's seq."""

    seq: int
    document: int
    id: str
    start: int
    end: int
    text: str
    metadata: str
    key: bytes


@dataclass(frozen=True, slots=True)
class LedgerKey:
    """Where a vector lies, and the CRC-32 of its bytes."""

    fingerprint: str
    role: str
    key: bytes
    row: int
    checksum: int


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file and its root; the digest is empty until all its documents are committed."""

    id: str
    root: str
    digest: str


@dataclass(frozen=True, slots=True)
class Opening:
    """What a reader needs to open a generation, read in one transaction."""

    generation: int
    segments: list[str]
    n_rows: list[int]
    dead: list[int]


class Store:
    """The tables, opened for reading or writing.

    Args:
        path: The database file.
        read_only: Open without creating anything; a file in a read-only folder is opened as
            immutable.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._engine = sa.create_engine(
            "sqlite://",
            creator=lambda: _connect(path, read_only=read_only),
            poolclass=sa.pool.QueuePool,
        )
        if not read_only:
            metadata.create_all(self._engine)

    def close(self) -> None:
        """Write the log back into the database file and let go of it."""
        with self._engine.connect() as connection:
            if connection.exec_driver_sql("PRAGMA query_only").scalar() == 0:
                connection.exec_driver_sql("PRAGMA busy_timeout = 500")  # readers do not hold us up
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        self._engine.dispose()

    def integrity_faults(self) -> list[str]:
        """What SQLite itself finds wrong."""
        try:
            found = self._all(sa.text("PRAGMA integrity_check"))
        except CollectionError as error:
            return [str(error)]
        return [f"store.db: {row[0]}" for row in found if row[0] != "ok"]

    def _all(self, statement: Any, values: Any = None) -> Sequence[Any]:
        with self._reading() as connection:
            return connection.execute(statement, values or {}).all()

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except sa.exc.OperationalError as error:
            raise CollectionError(f"{str(self.path)!r} cannot be read: {error.orig}") from error
        except sa.exc.DatabaseError as error:
            raise CorruptCollection(f"{str(self.path)!r} is damaged: {error.orig}") from error

    # --- generations ------------------------------------------------------------------------------

    def generation(self) -> int:
        """The current generation; 0 for an empty collection."""
        rows = self._all(_GENERATION)
        return int(rows[0][0]) if rows else 0

    def opening(self) -> Opening:
        """The current generation with its segments, oldest first, and tombstones, ascending.

        One transaction reads them, so that no writer comes between.

        Raises:
            CorruptCollection: A segment's name is no digest (it is used as a path).
        """
        dead = (
            sa.select(chunks.c.seq)
            .join(documents, chunks.c.document == documents.c.seq)
            .order_by(chunks.c.seq)
        )
        with self._reading() as connection:
            connection.exec_driver_sql("BEGIN")  # sqlite3 does not begin one to read
            generation = _read_generation(connection)
            alive = sa.select(segments).where(_alive(segments, generation))
            rows = connection.execute(alive.order_by(segments.c.born, segments.c.digest)).all()
            gone = connection.execute(dead.where(documents.c.died <= generation)).all()
            found = Opening(
                generation,
                segments=[row.digest for row in rows],
                n_rows=[row.n_rows for row in rows],
                dead=[row[0] for row in gone],
            )
        for name in found.segments:
            if not re.fullmatch("[0-9a-f]{32}", name):
                raise CorruptCollection(f"{str(self.path)!r} names a segment {name!r}, no digest")
        return found

    def allowed_chunks(self, where: Where, generation: int) -> list[int]:
        """Chunk numbers that pass a filter, ascending."""
        condition, values = filters.to_sql(where)
        statement = sa.text(
            "SELECT c.seq FROM chunks c JOIN documents d ON c.document = d.seq WHERE d.born <= "
            ":generation AND (d.died IS NULL OR d.died > :generation) "
            f"AND {condition} ORDER BY c.seq"
        )
        return [row[0] for row in self._all(statement, {**values, "generation": generation})]

    # --- reading ----------------------------------------------------------------------------------

    def chunk_ids(self, seqs: Sequence[int]) -> dict[int, str]:
        """Chunk ids by number."""
        found: dict[int, str] = {}
        for part in _parts(seqs):
            statement = sa.select(chunks.c.seq, chunks.c.id).where(chunks.c.seq.in_(part))
            found |= {row[0]: row[1] for row in self._all(statement)}
        return found

    def chunks(self, seqs: Sequence[int]) -> dict[int, Chunk]:
        """Whole chunks by number, with title, source and their document's digest as metadata."""
        found: dict[int, Chunk] = {}
        for part in _parts(seqs):
            statement = _CHUNKS.where(chunks.c.seq.in_(part))
            found |= {row[0]: _chunk(row) for row in self._all(statement)}
        return found

    def chunk_number(self, chunk_id: str, generation: int) -> int:
        """The number of a live chunk."""
        statement = (
            sa.select(chunks.c.seq)
            .join(documents, chunks.c.document == documents.c.seq)
            .where(
                documents.c.id == chunk_id.rpartition(":")[0],
                chunks.c.id == chunk_id,
                _alive(documents, generation),
            )
        )
        rows = self._all(statement)
        if not rows:
            raise CollectionError(f"there is no chunk {chunk_id!r} in generation {generation}")
        return int(rows[0][0])

    def files_of_root(self, root: str) -> set[str]:
        """Ids of the files that were added from a folder."""
        return {row[0] for row in self._all(sa.select(files.c.id).where(files.c.root == root))}

    def document(self, doc_id: str, generation: int) -> Any:
        """A live document's row (seq, title, source, text, metadata, digest), or None."""
        statement = sa.select(documents).where(
            documents.c.id == doc_id, _alive(documents, generation)
        )
        rows = self._all(statement)
        return rows[0] if rows else None

    def live_versions(self, ids: Sequence[str]) -> dict[str, tuple[str, str, str, str, str]]:
        """(text digest, title, metadata, source, file) of the live documents among some ids."""
        found: dict[str, tuple[str, str, str, str, str]] = {}
        names = ("id", "digest", "title", "metadata", "source", "file")
        columns = [documents.c[name] for name in names]
        for part in _parts(ids):
            statement = sa.select(*columns).where(documents.c.id.in_(part), _LIVE)
            found |= {row[0]: tuple(row[1:]) for row in self._all(statement)}
        return found

    def documents_of_files(self, ids: Sequence[str]) -> list[tuple[str, str]]:
        """(id, file) of the live documents of some files."""
        found: list[tuple[str, str]] = []
        for part in _parts(ids):
            statement = sa.select(documents.c.id, documents.c.file)
            rows = self._all(statement.where(documents.c.file.in_(part), _LIVE))
            found += [(row[0], row[1]) for row in rows]
        return found

    def live_documents(self, generation: int) -> Iterator[tuple[str, str, str]]:
        """(id, text digest, file) of every live document, by id."""
        statement = (
            sa.select(documents.c.id, documents.c.digest, documents.c.file)
            .where(_alive(documents, generation))
            .order_by(documents.c.id)
        )
        return self._stream(statement)

    def live_chunks(self, generation: int) -> Iterator[tuple[int, str, int, int]]:
        """(number, id, start, end) of every live chunk, by id."""
        statement = (
            sa.select(chunks.c.seq, chunks.c.id, chunks.c.start, chunks.c.end)
            .join(documents, chunks.c.document == documents.c.seq)
            .where(_alive(documents, generation))
            .order_by(chunks.c.id)
        )
        return self._stream(statement)

    def live_chunk_texts(self, generation: int) -> Iterator[tuple[int, str, str, str, bytes]]:
        """(number, id, document title, text, key) of every live chunk, by id."""
        statement = (
            sa.select(chunks.c.seq, chunks.c.id, documents.c.title, chunks.c.text, chunks.c.key)
            .join(documents, chunks.c.document == documents.c.seq)
            .where(_alive(documents, generation))
            .order_by(chunks.c.id)
        )
        return self._stream(statement)

    def text_faults(self, generation: int) -> Iterator[str]:
        """Documents that do not match their digest, and chunks that are not in their document."""
        columns = [documents.c[name] for name in ("seq", "id", "text", "digest")]
        inside = [chunks.c[name] for name in ("document", "id", "start", "end", "text")]
        alive = _alive(documents, generation)
        parts = self._stream(
            sa.select(*inside)
            .join(documents, chunks.c.document == documents.c.seq)
            .where(alive)
            .order_by(chunks.c.document)
        )
        part = next(parts, None)
        whole = sa.select(*columns).where(alive).order_by(documents.c.seq)
        for seq, doc_id, text, digest in self._stream(whole):
            if text_digest(text) != digest:
                yield f"store.db: the text of {doc_id!r} does not match its digest"
            while part is not None and part.document <= seq:
                if part.document == seq and text[part.start : part.end] != part.text:
                    yield f"store.db: the chunk {part.id!r} is not its document's text"
                part = next(parts, None)

    def mend_texts(self, generation: int) -> None:
        """Restore damaged texts from their chunks, and damaged chunks from their texts.

        A text that its chunks cannot restore loses its digest, and its file is read again when it
        is next offered.
        """
        columns = [documents.c[name] for name in ("seq", "text", "digest", "file")]
        statement = sa.select(*columns).where(_alive(documents, generation))
        for seq, stored, digest, file in self._stream(statement):
            mine = chunks.c.document == seq
            inside = self._all(sa.select(chunks.c.seq, chunks.c.start, chunks.c.text).where(mine))
            text = stored
            if text_digest(text) != digest:
                for _, start, part in inside:
                    text = text[:start] + part + text[start + len(part) :]
            if text_digest(text) != digest:
                self._write_off(seq, file)
                continue
            with self._engine.begin() as connection:
                if text != stored:
                    this = sa.update(documents).where(documents.c.seq == seq)
                    connection.execute(this.values(text=text))
                connection.execute(
                    sa.update(chunks)
                    .where(mine)
                    .values(
                        text=sa.func.substr(text, chunks.c.start + 1, chunks.c.end - chunks.c.start)
                    )
                )

    def _write_off(self, document: int, file: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(documents).where(documents.c.seq == document).values(digest="damaged")
            )
            connection.execute(sa.update(files).where(files.c.id == file).values(digest=""))

    def _stream(self, statement: Any) -> Iterator[Any]:
        with self._reading() as connection:
            yield from connection.execution_options(yield_per=1000).execute(statement)

    def complete_files(self, ids: Sequence[str]) -> dict[str, FileRow]:
        """By id those files whose documents are all committed."""
        found: dict[str, FileRow] = {}
        for part in _parts(ids):
            statement = sa.select(files.c.id, files.c.root, files.c.digest)
            statement = statement.where(files.c.id.in_(part), files.c.digest != "")
            found |= {row[0]: FileRow(*row) for row in self._all(statement)}
        return found

    def counts(self, generation: int) -> dict[str, Any]:
        """Documents by state, chunks, and the live segments' rows."""
        states = sa.select(documents.c.state, sa.func.count()).where(documents.c.born.is_(None))
        live = (
            sa.select(sa.func.count()).select_from(documents).where(_alive(documents, generation))
        )
        n_chunks = (
            sa.select(sa.func.count())
            .select_from(chunks.join(documents, chunks.c.document == documents.c.seq))
            .where(_alive(documents, generation))
        )
        by_state = dict.fromkeys(("pending", "parsed", "embedded", "indexed", "failed"), 0)
        by_state |= {row[0]: row[1] for row in self._all(states.group_by(documents.c.state))}
        by_state["indexed"] = self._all(live)[0][0]
        return {"documents": by_state, "chunks": self._all(n_chunks)[0][0]}

    def listing(self, generation: int) -> list[dict[str, Any]]:
        """Every document: live ones, and those that failed or were interrupted, by id."""
        n_chunks = (
            sa.select(sa.func.count()).where(chunks.c.document == documents.c.seq).scalar_subquery()
        )
        names = ("id", "title", "state", "reason")
        statement = (
            sa.select(*(documents.c[name] for name in names), n_chunks.label("chunks"))
            .where(_alive(documents, generation) | documents.c.born.is_(None))
            .order_by(documents.c.id, documents.c.seq)
        )
        return [dict(row._mapping) for row in self._all(statement)]

    def job_history(self, limit: int = 20) -> list[dict[str, Any]]:
        """The last jobs, newest first."""
        statement = sa.select(jobs).order_by(jobs.c.id.desc()).limit(limit)
        return [dict(row._mapping) for row in self._all(statement)]

    def job_losses(self, job: int) -> list[Loss]:
        """What a job reported."""
        columns = [losses.c[name] for name in ("stage", "what", "lost", "kept", "why")]
        rows = self._all(sa.select(*columns).where(losses.c.job == job).order_by(losses.c.id))
        return [Loss(*row) for row in rows]

    # --- writing ----------------------------------------------------------------------------------

    def next_numbers(self) -> tuple[int, int]:
        """The first document and chunk numbers that were never used."""
        rows = self._all(sa.select(meta).where(meta.c.key.in_(["next_document", "next_chunk"])))
        known = {row[0]: int(row[1]) for row in rows}
        return known.get("next_document", 1), known.get("next_chunk", 1)

    def start_job(self, kind: str) -> int:
        """Open a job; jobs that a killed process left open become interrupted."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(jobs).where(jobs.c.state == "running").values(state="interrupted")
            )
            row = connection.execute(
                sa.insert(jobs).values(kind=kind, state="running", started=time.time())
            )
            assert row.inserted_primary_key is not None
            return int(row.inserted_primary_key[0])

    def end_job(self, job: int, state: str, found: Sequence[Loss]) -> None:
        """Close a job and keep its losses."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(jobs).where(jobs.c.id == job).values(state=state, finished=time.time())
            )
            if found:
                connection.execute(sa.insert(losses), [{"job": job, **asdict(x)} for x in found])

    def stage(
        self,
        rows: Sequence[DocumentRow],
        new_chunks: Sequence[ChunkRow] = (),
        *,
        replaces: Sequence[str] = (),
    ) -> None:
        """Write documents that are not live yet.

        Args:
            rows: Their versions.
            new_chunks: Their chunks.
            replaces: Ids whose earlier staged or failed versions go.
        """
        with self._engine.begin() as connection:
            _unstage(connection, replaces)
            if rows:
                connection.execute(sa.insert(documents), [asdict(row) for row in rows])
                _set_meta(connection, "next_document", str(rows[-1].seq + 1))
            if new_chunks:
                connection.execute(sa.insert(chunks), [asdict(chunk) for chunk in new_chunks])
                _set_meta(connection, "next_chunk", str(new_chunks[-1].seq + 1))

    def unstage(self, ids: Sequence[str]) -> None:
        """Forget staged or failed versions."""
        with self._engine.begin() as connection:
            _unstage(connection, ids)

    def count_embedded(self, job: int, n_embedded: int, n_reused: int) -> None:
        """Add to the job's counts of texts."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == job)
                .values(
                    n_embedded=jobs.c.n_embedded + n_embedded, n_reused=jobs.c.n_reused + n_reused
                )
            )

    def mark_embedded(self, job: int) -> None:
        """Every parsed document of the job has its vectors."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(documents)
                .where(documents.c.job == job, documents.c.state == "parsed")
                .values(state="embedded")
            )

    def commit_generation(
        self, job: int, segment: tuple[str, int] | None, complete: Sequence[FileRow]
    ) -> int:
        """The one commit point of ingestion: the job's embedded documents become live.

        Earlier versions of the same ids die in the same transaction.

        Args:
            job: Whose documents.
            segment: Digest and row count of the segment that holds their chunks.
            complete: Files of which nothing is missing any more.

        Returns:
            The new generation.
        """
        with self._engine.begin() as connection:
            generation = _advance(connection)
            mine = (documents.c.job == job) & (documents.c.state == "embedded")
            earlier = _LIVE & documents.c.id.in_(sa.select(documents.c.id).where(mine))
            # A file that loses a document to another source is read again when it is next offered.
            losers = sa.select(documents.c.file).where(earlier)
            connection.execute(sa.update(files).where(files.c.id.in_(losers)).values(digest=""))
            connection.execute(sa.update(documents).where(earlier).values(died=generation))
            connection.execute(
                sa.update(documents).where(mine).values(born=generation, state="indexed")
            )
            _add_segments(connection, generation, [segment] if segment else [])
            _complete(connection, complete)
            return generation

    def note_files(self, rows: Sequence[FileRow]) -> None:
        """Remember files that are about to be read, or of which nothing had to be written."""
        with self._engine.begin() as connection:
            _complete(connection, rows)

    def kill_documents(self, ids: Sequence[str]) -> tuple[int, list[str]]:
        """Delete documents; returns the new generation and the ids that were there."""
        with self._engine.begin() as connection:
            found: list[str] = []
            touched: set[str] = set()
            for part in _parts(ids):
                rows = connection.execute(
                    sa.select(documents.c.id, documents.c.file).where(
                        documents.c.id.in_(part), _LIVE
                    )
                ).all()
                found += [row[0] for row in rows]
                touched |= {row[1] for row in rows}
            if not found:
                return _read_generation(connection), []
            generation = _advance(connection)
            for part in _parts(found):
                connection.execute(
                    sa.update(documents)
                    .where(documents.c.id.in_(part), _LIVE)
                    .values(died=generation)
                )
            for part in _parts(sorted(touched)):  # they are read again when they are next offered
                connection.execute(sa.update(files).where(files.c.id.in_(part)).values(digest=""))
            return generation, found

    def read_again(self, ids: Sequence[str]) -> None:
        """Make files be read when they are next offered, though they may be unchanged."""
        with self._engine.begin() as connection:
            for part in _parts(ids):
                connection.execute(sa.update(files).where(files.c.id.in_(part)).values(digest=""))

    def forget_files(self, ids: Sequence[str]) -> None:
        """Drop files that are gone, and what was staged or failed of them."""
        with self._engine.begin() as connection:
            for part in _parts(ids):
                _drop_staged(connection, documents.c.file.in_(part))
                connection.execute(sa.delete(files).where(files.c.id.in_(part)))

    def replace_segments(
        self, old: Sequence[str], new: Sequence[tuple[str, int]], *, dropped: Sequence[int]
    ) -> int:
        """Compaction's commit: the same documents in other segments.

        Args:
            old: Segments that die.
            new: Digest and row count of those that hold their live rows.
            dropped: Dead chunks that no segment holds any more: they need no tombstone.
        """
        with self._engine.begin() as connection:
            generation = _advance(connection)
            for part in _parts(old):
                connection.execute(
                    sa.update(segments).where(segments.c.digest.in_(part)).values(died=generation)
                )
            _add_segments(connection, generation, new)
            for numbers in _parts(dropped):
                connection.execute(sa.delete(chunks).where(chunks.c.seq.in_(numbers)))
            return generation

    def collect_garbage(self, keep_from: int) -> list[str]:
        """Drop what no generation from `keep_from` on needs; returns the segments that remain.

        The rows of a dead document and of its chunks stay, without their texts, while a segment
        holds the chunks: they are its tombstones, and `replace_segments` drops them.
        """
        with self._engine.begin() as connection:
            connection.execute(sa.delete(segments).where(segments.c.died <= keep_from))
            held = sa.exists().where(chunks.c.document == documents.c.seq)
            connection.execute(sa.delete(documents).where(documents.c.died <= keep_from, ~held))
            dead = sa.select(documents.c.seq).where(
                documents.c.died <= keep_from, documents.c.text != ""
            )
            connection.execute(
                sa.update(chunks).where(chunks.c.document.in_(dead)).values(text="", metadata="{}")
            )
            connection.execute(
                sa.update(documents)
                .where(documents.c.died <= keep_from, documents.c.text != "")
                .values(text="", metadata="{}", title="")
            )
            return [row[0] for row in connection.execute(sa.select(segments.c.digest))]

    # --- the ledger's keys ------------------------------------------------------------------------

    def ledger_rows(self, fingerprint: str, role: str, keys: Sequence[bytes]) -> dict[bytes, int]:
        """The rows of known keys."""
        found: dict[bytes, int] = {}
        for part in _parts(keys):
            statement = sa.select(ledger.c.key, ledger.c.row).where(
                ledger.c.fingerprint == fingerprint, ledger.c.role == role, ledger.c.key.in_(part)
            )
            found |= {row[0]: row[1] for row in self._all(statement)}
        return found

    def ledger_size(self, fingerprint: str, role: str) -> int:
        """One more than the last row that a key points to."""
        statement = sa.select(meta.c.value).where(meta.c.key == f"ledger:{fingerprint}:{role}")
        rows = self._all(statement)
        return int(rows[0][0]) if rows else 0

    def add_ledger_keys(self, keys: Sequence[LedgerKey]) -> None:
        """Commit keys whose vectors are on the disk."""
        if not keys:
            return
        last = keys[-1]
        with self._engine.begin() as connection:
            connection.execute(sa.insert(ledger), [asdict(key) for key in keys])
            _set_meta(connection, f"ledger:{last.fingerprint}:{last.role}", str(last.row + 1))

    def ledger_checksums(self, fingerprint: str, role: str) -> Iterator[tuple[bytes, int, int]]:
        """(key, row, CRC-32) of every vector."""
        return self._stream(
            sa.select(ledger.c.key, ledger.c.row, ledger.c.checksum).where(
                ledger.c.fingerprint == fingerprint, ledger.c.role == role
            )
        )

    def drop_ledger_keys(self, fingerprint: str, role: str, keys: Sequence[bytes]) -> None:
        """Forget keys; their vectors stay in the file until it is written anew."""
        with self._engine.begin() as connection:
            for part in _parts(keys):
                connection.execute(
                    sa.delete(ledger).where(
                        ledger.c.fingerprint == fingerprint,
                        ledger.c.role == role,
                        ledger.c.key.in_(part),
                    )
                )


_LIVE = documents.c.born.is_not(None) & documents.c.died.is_(None)  # as of the last commit
_GENERATION = sa.select(meta.c.value).where(meta.c.key == "generation")
_CHUNKS = sa.select(
    chunks.c.seq,
    chunks.c.id,
    documents.c.id,
    chunks.c.text,
    chunks.c.start,
    chunks.c.end,
    chunks.c.metadata,
    documents.c.title,
    documents.c.source,
    documents.c.digest,
).join(documents, chunks.c.document == documents.c.seq)


def _chunk(row: Any) -> Chunk:
    _, chunk_id, doc_id, text, start, end, fields, title, source, digest = row
    own = json.loads(fields)
    return Chunk(
        chunk_id,
        doc_id,
        text,
        start,
        end,
        {**own, "title": title, "source": source, "digest": digest},
    )


def _alive(table: sa.Table, generation: int) -> Any:
    return (table.c.born <= generation) & (table.c.died.is_(None) | (table.c.died > generation))


def _parts(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for start in range(0, len(items), _MAX_BOUND):
        yield items[start : start + _MAX_BOUND]


def _unstage(connection: sa.Connection, ids: Sequence[str]) -> None:
    for part in _parts(ids):
        _drop_staged(connection, documents.c.id.in_(part))


def _drop_staged(connection: sa.Connection, which: Any) -> None:
    staged = which & documents.c.born.is_(None)
    numbers = sa.select(documents.c.seq).where(staged)
    connection.execute(sa.delete(chunks).where(chunks.c.document.in_(numbers)))
    connection.execute(sa.delete(documents).where(staged))


def _set_meta(connection: sa.Connection, key: str, value: str) -> None:
    connection.execute(
        sqlite.insert(meta)
        .values(key=key, value=value)
        .on_conflict_do_update(index_elements=["key"], set_={"value": value})
    )


def _read_generation(connection: sa.Connection) -> int:
    return int(connection.execute(_GENERATION).scalar() or 0)


def _advance(connection: sa.Connection) -> int:
    generation = _read_generation(connection) + 1
    _set_meta(connection, "generation", str(generation))
    return generation


def _add_segments(
    connection: sa.Connection, generation: int, new: Sequence[tuple[str, int]]
) -> None:
    for name, n_rows in new:
        # The same rows may have been a segment before, and died: then it lives again.
        values = {"n_rows": n_rows, "born": generation, "died": None}
        connection.execute(
            sqlite.insert(segments)
            .values(digest=name, **values)
            .on_conflict_do_update(index_elements=["digest"], set_=values)
        )


def _complete(connection: sa.Connection, rows: Sequence[FileRow]) -> None:
    for row in rows:
        connection.execute(
            sqlite.insert(files)
            .values(**asdict(row))
            .on_conflict_do_update(index_elements=["id"], set_=asdict(row))
        )


def _connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    if not read_only:
        connection = sqlite3.connect(path, check_same_thread=False, timeout=30.0)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection
    # In a folder that cannot be written SQLite cannot make its -shm file; nobody writes there. But
    # a log that a killed writer left must be read, which immutable=1 would not.
    log = path.with_name(path.name + "-wal")
    logged = log.exists() and log.stat().st_size > 0
    mode = "ro" if logged or os.access(path.parent, os.W_OK) else "ro&immutable=1"
    uri = f"file:{quote(str(path.resolve()))}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, check_same_thread=False, timeout=30.0)
    connection.execute("PRAGMA query_only = ON")
    return connection
