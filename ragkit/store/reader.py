"""`store.db`: every statement that reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from ragkit.errors import CorruptCollection
from ragkit.store import filters
from ragkit.store.connect import check_schema, connect, database_errors
from ragkit.store.rows import FileRow, Opening
from ragkit.store.schema import (
    chunks,
    documents,
    files,
    jobs,
    losses,
    meta,
    segments,
)
from ragkit.types import Chunk, Loss, Where

_T = TypeVar("_T")
_MAX_BOUND = 500  # values in one IN (…); SQLite's own limit is far above

LIVE = documents.c.born.is_not(None) & documents.c.died.is_(None)  # as of the last commit
_GENERATION = sa.select(meta.c.value).where(meta.c.key == "generation")
# Made once: SQLAlchemy then finds what it compiled by the statement itself.
_CHUNKS = (
    sa.select(
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
    )
    .join(documents, chunks.c.document == documents.c.seq)
    .where(chunks.c.seq.in_(sa.bindparam("numbers", expanding=True)))
)


class StoreReader:
    """The tables, opened for reading or, by `Store`, for writing.

    Args:
        path: The database file.
        read_only: Open without creating anything; a file in a read-only folder is opened as
            immutable.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._engine = sa.create_engine(
            "sqlite://",
            creator=lambda: connect(path, read_only=read_only),
            poolclass=sa.pool.QueuePool,
        )
        try:
            check_schema(self._engine, path, create=not read_only)
        except BaseException:
            self._engine.dispose()
            raise

    def close(self) -> None:
        """Write the log back into the database file and let go of it."""
        try:
            with self._engine.connect() as connection:
                if connection.exec_driver_sql("PRAGMA query_only").scalar() == 0:
                    # Readers do not hold us up.
                    connection.exec_driver_sql("PRAGMA busy_timeout = 500")
                    connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self._engine.dispose()

    def _all(self, statement: Any, values: Any = None) -> Sequence[Any]:
        with self.reading() as connection:
            return connection.execute(statement, values or {}).all()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection to read with."""
        with database_errors(self.path), self._engine.connect() as connection:
            yield connection

    def generation(self) -> int:
        """The current generation; 0 for an empty collection."""
        with self.reading() as connection:
            return read_generation(connection)

    def description(self) -> str | None:
        """The copy of `collection.json`, if there is one."""
        made = sa.text("SELECT 1 FROM sqlite_schema WHERE name = 'meta'")
        if not self._all(made):  # the process that made this file was killed at once
            return None
        rows = self._all(sa.select(meta.c.value).where(meta.c.key == "description"))
        return rows[0][0] if rows else None

    def ledger_size(self, fingerprint: str, role: str) -> int:
        """One more than the last row that a key points to."""
        statement = sa.select(meta.c.value).where(meta.c.key == f"ledger:{fingerprint}:{role}")
        rows = self._all(statement)
        return as_number(rows[0][0]) if rows else 0

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
        with self.reading() as connection:
            connection.exec_driver_sql("BEGIN")  # sqlite3 does not begin one to read
            generation = read_generation(connection)
            alive = sa.select(segments).where(live_in(segments, generation))
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

    def chunk_ids(self, seqs: Sequence[int]) -> dict[int, str]:
        """Chunk ids by number.

        Raises:
            CorruptCollection: A chunk is not there.
        """
        found: dict[int, str] = {}
        for part in in_parts(seqs):
            statement = sa.select(chunks.c.seq, chunks.c.id).where(chunks.c.seq.in_(part))
            found |= {row[0]: row[1] for row in self._all(statement)}
        _must_have(found, seqs)
        return found

    def chunks(self, seqs: Sequence[int]) -> dict[int, Chunk]:
        """Whole chunks by number, with title, source and their document's digest as metadata.

        Raises:
            CorruptCollection: A chunk is not there.
        """
        found: dict[int, Chunk] = {}
        for part in in_parts(seqs):
            rows = self._all(_CHUNKS, {"numbers": list(part)})
            found |= {row[0]: _chunk(row) for row in rows}
        _must_have(found, seqs)
        return found

    def first_chunks(self, seqs: Sequence[int]) -> list[int]:
        """Those of some chunks that are the first of their document."""
        other = chunks.alias()
        earlier = sa.exists().where(
            other.c.document == chunks.c.document, other.c.start < chunks.c.start
        )
        found: list[int] = []
        for part in in_parts(seqs):
            statement = sa.select(chunks.c.seq).where(chunks.c.seq.in_(part), ~earlier)
            found += [row[0] for row in self._all(statement)]
        return found

    def text_of(self, seq: int) -> str:
        """The text of the document that a chunk is of."""
        joined = documents.join(chunks, chunks.c.document == documents.c.seq)
        statement = sa.select(documents.c.text).select_from(joined).where(chunks.c.seq == seq)
        rows = self._all(statement)
        _must_have({seq: None} if rows else {}, [seq])
        return str(rows[0][0])

    def files_of_root(self, root: str) -> set[str]:
        """Ids of the files that were added from a folder."""
        return {row[0] for row in self._all(sa.select(files.c.id).where(files.c.root == root))}

    def document(self, doc_id: str, generation: int) -> Any:
        """A live document's row (seq, title, source, text, metadata, digest), or None."""
        statement = sa.select(documents).where(
            documents.c.id == doc_id, live_in(documents, generation)
        )
        rows = self._all(statement)
        if rows:
            _fields(rows[0].metadata)
        return rows[0] if rows else None

    def live_versions(self, ids: Sequence[str]) -> dict[str, tuple[str, str, str, str, str]]:
        """(text digest, title, metadata, source, file) of the live documents among some ids."""
        found: dict[str, tuple[str, str, str, str, str]] = {}
        names = ("id", "digest", "title", "metadata", "source", "file")
        columns = [documents.c[name] for name in names]
        for part in in_parts(ids):
            statement = sa.select(*columns).where(documents.c.id.in_(part), LIVE)
            found |= {row[0]: tuple(row[1:]) for row in self._all(statement)}
        return found

    def documents_of_files(self, ids: Sequence[str]) -> list[tuple[str, str]]:
        """(id, file) of the live documents of some files."""
        found: list[tuple[str, str]] = []
        for part in in_parts(ids):
            statement = sa.select(documents.c.id, documents.c.file)
            rows = self._all(statement.where(documents.c.file.in_(part), LIVE))
            found += [(row[0], row[1]) for row in rows]
        return found

    def live_documents(self, generation: int) -> Iterator[tuple[str, str, str]]:
        """(id, text digest, file) of every live document, by id."""
        statement = (
            sa.select(documents.c.id, documents.c.digest, documents.c.file)
            .where(live_in(documents, generation))
            .order_by(documents.c.id)
        )
        return self.stream(statement)

    def live_chunks(self, generation: int) -> Iterator[tuple[int, str, int, int]]:
        """(number, id, start, end) of every live chunk, by id."""
        statement = (
            sa.select(chunks.c.seq, chunks.c.id, chunks.c.start, chunks.c.end)
            .join(documents, chunks.c.document == documents.c.seq)
            .where(live_in(documents, generation))
            .order_by(chunks.c.id)
        )
        return self.stream(statement)

    def whole_chunks(self) -> Iterator[Chunk]:
        """Every live chunk, by id; of one generation, whatever is written meanwhile."""
        with self.reading() as connection:
            connection.exec_driver_sql("BEGIN")  # sqlite3 does not begin one to read
            alive = (
                sa.select(chunks.c.seq)
                .join(documents, chunks.c.document == documents.c.seq)
                .where(live_in(documents, read_generation(connection)))
                .order_by(chunks.c.id)
                .execution_options(yield_per=_MAX_BOUND)
            )
            for part in connection.execute(alive).partitions():
                numbers = [row[0] for row in part]
                rows = connection.execute(_CHUNKS, {"numbers": numbers})
                found = {row[0]: _chunk(row) for row in rows}
                yield from (found[number] for number in numbers)

    def live_chunk_texts(self, generation: int) -> Iterator[tuple[int, str, str, str, bytes]]:
        """(number, id, document title, text, key) of every live chunk, by id."""
        statement = (
            sa.select(chunks.c.seq, chunks.c.id, documents.c.title, chunks.c.text, chunks.c.key)
            .join(documents, chunks.c.document == documents.c.seq)
            .where(live_in(documents, generation))
            .order_by(chunks.c.id)
        )
        return self.stream(statement)

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """A connection in a transaction, committed at the end of the block."""
        with database_errors(self.path), self._engine.begin() as connection:
            yield connection

    def stream(self, statement: Any) -> Iterator[Any]:
        """The rows of a statement, not all in memory at once."""
        with self.reading() as connection:
            yield from connection.execution_options(yield_per=1000).execute(statement)

    def complete_files(self, ids: Sequence[str]) -> dict[str, FileRow]:
        """By id those files whose documents are all committed."""
        found: dict[str, FileRow] = {}
        for part in in_parts(ids):
            statement = sa.select(files.c.id, files.c.root, files.c.digest)
            statement = statement.where(files.c.id.in_(part), files.c.digest != "")
            found |= {row[0]: FileRow(*row) for row in self._all(statement)}
        return found

    def counts(self, generation: int) -> dict[str, Any]:
        """Documents by state, chunks, and the live segments' rows."""
        states = sa.select(documents.c.state, sa.func.count()).where(documents.c.born.is_(None))
        live = (
            sa.select(sa.func.count()).select_from(documents).where(live_in(documents, generation))
        )
        n_chunks = (
            sa.select(sa.func.count())
            .select_from(chunks.join(documents, chunks.c.document == documents.c.seq))
            .where(live_in(documents, generation))
        )
        by_state = dict.fromkeys(("pending", "parsed", "embedded", "indexed", "failed"), 0)
        by_state |= {row[0]: row[1] for row in self._all(states.group_by(documents.c.state))}
        by_state["indexed"] = self._all(live)[0][0]
        return {"documents": by_state, "chunks": self._all(n_chunks)[0][0]}

    def is_unfinished(self) -> bool:
        """Whether documents wait for their commit."""
        waiting = documents.c.state.in_(["pending", "parsed", "embedded"])
        return bool(self._all(sa.select(sa.literal(1)).where(waiting).limit(1)))

    def listing(self, generation: int) -> list[dict[str, Any]]:
        """Every document: live ones, and those that failed or were interrupted, by id."""
        n_chunks = (
            sa.select(sa.func.count()).where(chunks.c.document == documents.c.seq).scalar_subquery()
        )
        names = ("id", "title", "state", "reason")
        statement = (
            sa.select(*(documents.c[name] for name in names), n_chunks.label("chunks"))
            .where(live_in(documents, generation) | documents.c.born.is_(None))
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


def _chunk(row: Any) -> Chunk:
    _, chunk_id, doc_id, text, start, end, fields, title, source, digest = row
    own = _fields(fields)
    return Chunk(
        chunk_id,
        doc_id,
        text,
        start,
        end,
        {**own, "title": title, "source": source, "digest": digest},
    )


def _fields(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptCollection(f"store.db: metadata is {text!r:.60}, no JSON ({error})") from error
    if not isinstance(fields, dict):
        raise CorruptCollection(f"store.db: metadata is {text!r:.60}; expected a JSON object")
    return fields


def _must_have(found: Mapping[int, object], seqs: Sequence[int]) -> None:
    missing = [seq for seq in seqs if seq not in found]
    if missing:
        raise CorruptCollection(
            f"store.db does not hold the chunk {missing[0]} that a segment names; "
            "`ragkit index repair` rebuilds the segments"
        )


def live_in(table: sa.Table, generation: int) -> Any:
    """The condition that a row is live in a generation."""
    return (table.c.born <= generation) & (table.c.died.is_(None) | (table.c.died > generation))


def in_parts(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """The items in groups that one statement may bind."""
    for start in range(0, len(items), _MAX_BOUND):
        yield items[start : start + _MAX_BOUND]


def read_generation(connection: sa.Connection) -> int:
    """The current generation, inside a transaction."""
    return as_number(connection.execute(_GENERATION).scalar() or "0")


def as_number(text: str) -> int:
    """A number of the table `meta`.

    Raises:
        CorruptCollection: It is none.
    """
    if not re.fullmatch("[0-9]{1,15}", text, re.ASCII):
        raise CorruptCollection(f"store.db: a number is {text!r:.60}; restore a copy of it")
    return int(text)
