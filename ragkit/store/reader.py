"""Read from `store.db`."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from ragkit.errors import CorruptCollection
from ragkit.layout import unpack
from ragkit.store import filters
from ragkit.store.connect import check_schema, connect, database_errors, pooled_engine
from ragkit.store.rows import DocumentVersion, FileRow, GenerationState, stored_header
from ragkit.store.schema import (
    chunks,
    documents,
    files,
    jobs,
    losses,
    meta,
    segments,
)
from ragkit.types import Chunk, Line, Loss, Where

_T = TypeVar("_T")
_MAX_BOUND = 500  # values in one IN (…), far below SQLite's limit

_TYPES = {  # of SQLite's JSON
    "array": "list",
    "false": "boolean",
    "true": "boolean",
    "integer": "number",
    "real": "number",
}

LIVE = documents.c.born.is_not(None) & documents.c.died.is_(None)  # as of the last commit
_GENERATION = sa.select(meta.c.value).where(meta.c.key == "generation")
# A module-level statement, so that SQLAlchemy finds its compiled form in its cache.
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
        documents.c.seq,
    )
    .join(documents, chunks.c.document == documents.c.seq)
    .where(chunks.c.seq.in_(sa.bindparam("numbers", expanding=True)))
)


class StoreReader:
    """Read access to the tables; `Store` adds write access.

    Args:
        path: Database file.
        read_only: Open without creating anything; a file in a read-only folder is opened as
            immutable.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._engine = pooled_engine(lambda: connect(path, read_only=read_only))
        try:
            check_schema(self._engine, path, create=not read_only)
        except BaseException:
            self._engine.dispose()
            raise

    def close(self) -> None:
        """Checkpoint the log into the database file and close the connections."""
        try:
            with self._engine.connect() as connection:
                if connection.exec_driver_sql("PRAGMA query_only").scalar() == 0:
                    # Do not wait long for readers.
                    connection.exec_driver_sql("PRAGMA busy_timeout = 500")
                    connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self._engine.dispose()

    def _all(self, statement: Any, values: Any = None) -> Sequence[Any]:
        with self.reading() as connection:
            return connection.execute(statement, values or {}).all()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Open a connection for reading."""
        with database_errors(self.path), self._engine.connect() as connection:
            yield connection

    def generation(self) -> int:
        """Return the current generation; 0 for an empty collection."""
        with self.reading() as connection:
            return read_generation(connection)

    def description(self) -> str | None:
        """Return the copy of `collection.json`, or None if there is none."""
        exists = sa.text("SELECT 1 FROM sqlite_schema WHERE name = 'meta'")
        if not self._all(exists):  # the process that created the file was killed immediately
            return None
        rows = self._all(sa.select(meta.c.value).where(meta.c.key == "description"))
        return rows[0][0] if rows else None

    def ledger_size(self, fingerprint: str, role: str) -> int:
        """Return the number of rows of a ledger: one more than the last row with a key."""
        statement = sa.select(meta.c.value).where(meta.c.key == f"ledger:{fingerprint}:{role}")
        rows = self._all(statement)
        return parse_number(rows[0][0]) if rows else 0

    def read_state(self) -> GenerationState:
        """Return the current generation with its segments and tombstones.

        They are read in one transaction, which excludes changes by writers in between.

        Raises:
            CorruptCollection: A segment's name, which is used as a path, is not a digest.
        """
        dead = (
            sa.select(chunks.c.seq)
            .join(documents, chunks.c.document == documents.c.seq)
            .order_by(chunks.c.seq)
        )
        with self.reading() as connection:
            connection.exec_driver_sql("BEGIN")  # sqlite3 does not begin a transaction for reads
            generation = read_generation(connection)
            live = sa.select(segments).where(live_in(segments, generation))
            rows = connection.execute(live.order_by(segments.c.born, segments.c.digest)).all()
            tombstones = connection.execute(dead.where(documents.c.died <= generation)).all()
            state = GenerationState(
                generation,
                segments=[row.digest for row in rows],
                n_rows=[row.n_rows for row in rows],
                dead=[row[0] for row in tombstones],
            )
        for name in state.segments:
            if not re.fullmatch("[0-9a-f]{32}", name):
                raise CorruptCollection(
                    f"{str(self.path)!r} lists a segment {name!r}, whose name is not a digest; "
                    "restore a backup, or rebuild the collection from its files"
                )
        return state

    def allowed_chunks(self, where: Where, generation: int) -> list[int]:
        """Return the numbers of the live chunks that match a filter, ascending."""
        condition, values = filters.to_sql(where)
        statement = sa.text(
            "SELECT c.seq FROM chunks c JOIN documents d ON c.document = d.seq WHERE d.born <= "
            ":generation AND (d.died IS NULL OR d.died > :generation) "
            f"AND {condition} ORDER BY c.seq"
        )
        return [row[0] for row in self._all(statement, {**values, "generation": generation})]

    def field_types(self, field: str, generation: int) -> dict[str, int]:
        """Return the number of live documents by the type of one of their fields.

        The types are text, number, boolean, null and list; a document without the field has none.
        """
        if field in filters.COLUMNS:
            return {"text": 1}
        statement = sa.text(
            "SELECT json_type(c.metadata, :path), COUNT(DISTINCT c.document) FROM chunks c "
            "JOIN documents d ON c.document = d.seq WHERE d.born <= :generation AND "
            "(d.died IS NULL OR d.died > :generation) GROUP BY 1"
        )
        counts: Counter[str] = Counter()
        for name, n_documents in self._all(
            statement, {"path": f'$."{field}"', "generation": generation}
        ):
            if name is not None:
                counts[_TYPES.get(name, name)] += n_documents
        return dict(counts)

    def chunk_ids(self, seqs: Sequence[int]) -> dict[int, str]:
        """Return chunk ids by number.

        Raises:
            CorruptCollection: A chunk is missing.
        """
        ids: dict[int, str] = {}
        for batch in batches(seqs):
            statement = sa.select(chunks.c.seq, chunks.c.id).where(chunks.c.seq.in_(batch))
            ids |= {row[0]: row[1] for row in self._all(statement)}
        _require_all(ids, seqs)
        return ids

    def chunks(self, seqs: Sequence[int]) -> dict[int, Chunk]:
        """Return chunks by number, with their lines and their document's title, source and digest.

        Raises:
            CorruptCollection: A chunk is missing.
        """
        by_number: dict[int, Chunk] = {}
        for batch in batches(seqs):
            rows = self._all(_CHUNKS, {"numbers": list(batch)})
            layouts = self._layouts({row[-1] for row in rows})
            by_number |= {row[0]: _chunk(row, layouts.get(row[-1], b"")) for row in rows}
        _require_all(by_number, seqs)
        return by_number

    def _layouts(self, seqs: set[int]) -> dict[int, bytes]:
        """Return the packed layouts of documents that have one."""
        statement = sa.select(documents.c.seq, documents.c.layout)
        chosen = documents.c.seq.in_(sorted(seqs)) & (documents.c.layout != b"")
        return {row[0]: row[1] for row in self._all(statement.where(chosen))}

    def first_chunks(self, seqs: Sequence[int]) -> list[int]:
        """Return those chunks that are the first of their document."""
        other = chunks.alias()
        earlier = sa.exists().where(
            other.c.document == chunks.c.document, other.c.start < chunks.c.start
        )
        first: list[int] = []
        for batch in batches(seqs):
            statement = sa.select(chunks.c.seq).where(chunks.c.seq.in_(batch), ~earlier)
            first += [row[0] for row in self._all(statement)]
        return first

    def document_text(self, seq: int) -> str:
        """Return the text of the document of a chunk."""
        joined = documents.join(chunks, chunks.c.document == documents.c.seq)
        statement = sa.select(documents.c.text).select_from(joined).where(chunks.c.seq == seq)
        rows = self._all(statement)
        _require_all({seq: None} if rows else {}, [seq])
        return str(rows[0][0])

    def files(self) -> list[FileRow]:
        """Return all files, sorted by id."""
        columns = [files.c[name] for name in ("id", "root", "path", "digest")]
        return [FileRow(*row) for row in self._all(sa.select(*columns).order_by(files.c.id))]

    def has_memory_documents(self, prefixes: Sequence[str]) -> bool:
        """Return True if the id of a document added from memory begins with one of the prefixes."""
        from_memory = sa.select(sa.literal(1)).where(documents.c.file == "", LIVE).limit(1)
        for prefix in prefixes if self._all(from_memory) else ():
            end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
            if self._all(from_memory.where(documents.c.id >= prefix, documents.c.id < end)):
                return True
        return False

    def document(self, doc_id: str, generation: int) -> Any:
        """Return a live document's row (seq, title, source, text, metadata, digest), or None."""
        statement = sa.select(documents).where(
            documents.c.id == doc_id, live_in(documents, generation)
        )
        rows = self._all(statement)
        if rows:
            _fields(rows[0].metadata)
        return rows[0] if rows else None

    def live_versions(self, ids: Sequence[str]) -> dict[str, tuple[DocumentVersion, str]]:
        """Return (version, file) of live documents by id."""
        versions: dict[str, tuple[DocumentVersion, str]] = {}
        columns = [documents.c[name] for name in ("id", "file", *DocumentVersion._fields)]
        for batch in batches(ids):
            statement = sa.select(*columns).where(documents.c.id.in_(batch), LIVE)
            for doc_id, file, *fields in self._all(statement):
                versions[doc_id] = DocumentVersion(*fields), file
        return versions

    def documents_of_files(self, ids: Sequence[str]) -> list[tuple[str, str]]:
        """Return (id, file) of the live documents of some files."""
        pairs: list[tuple[str, str]] = []
        for batch in batches(ids):
            statement = sa.select(documents.c.id, documents.c.file)
            rows = self._all(statement.where(documents.c.file.in_(batch), LIVE))
            pairs += [(row[0], row[1]) for row in rows]
        return pairs

    def live_documents(self, generation: int) -> Iterator[tuple[str, str, str]]:
        """Iterate over (id, text digest, file) of the live documents, sorted by id."""
        statement = (
            sa.select(documents.c.id, documents.c.digest, documents.c.file)
            .where(live_in(documents, generation))
            .order_by(documents.c.id)
        )
        return self.stream(statement)

    def live_chunks(self, generation: int) -> Iterator[tuple[int, str, int, int]]:
        """Iterate over (number, id, start, end) of the live chunks, sorted by id."""
        statement = (
            sa.select(chunks.c.seq, chunks.c.id, chunks.c.start, chunks.c.end)
            .join(documents, chunks.c.document == documents.c.seq)
            .where(live_in(documents, generation))
            .order_by(chunks.c.id)
        )
        return self.stream(statement)

    def iter_chunks(self) -> Iterator[Chunk]:
        """Iterate over the live chunks of the current generation, sorted by id, without lines.

        Commits during the iteration do not affect it.
        """
        with self.reading() as connection:
            connection.exec_driver_sql("BEGIN")  # sqlite3 does not begin a transaction for reads
            live = (
                sa.select(chunks.c.seq)
                .join(documents, chunks.c.document == documents.c.seq)
                .where(live_in(documents, read_generation(connection)))
                .order_by(chunks.c.id)
                .execution_options(yield_per=_MAX_BOUND)
            )
            for partition in connection.execute(live).partitions():
                numbers = [row[0] for row in partition]
                rows = connection.execute(_CHUNKS, {"numbers": numbers})
                by_number = {row[0]: _chunk(row) for row in rows}
                yield from (by_number[number] for number in numbers)

    def live_chunk_texts(self, generation: int) -> Iterator[tuple[int, str, str, str, str, bytes]]:
        """Iterate over the live chunks, sorted by id.

        Yields:
            Number, id, title of the document, text, table header, key.
        """
        columns = [chunks.c.seq, chunks.c.id, documents.c.title, chunks.c.text]
        statement = (
            sa.select(*columns, chunks.c.metadata, chunks.c.key)
            .join(documents, chunks.c.document == documents.c.seq)
            .where(live_in(documents, generation))
            .order_by(chunks.c.id)
        )
        for number, chunk_id, title, text, metadata, key in self.stream(statement):
            yield number, chunk_id, title, text, stored_header(metadata), key

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """Open a connection in a transaction that is committed at the end of the block."""
        with database_errors(self.path), self._engine.begin() as connection:
            yield connection

    def stream(self, statement: Any) -> Iterator[Any]:
        """Iterate over the rows of a statement without loading all of them into memory."""
        with self.reading() as connection:
            yield from connection.execution_options(yield_per=1000).execute(statement)

    def counts(self, generation: int) -> dict[str, Any]:
        """Return the number of documents by state, and the number of chunks."""
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
        """Return True if there are documents that are not committed yet."""
        waiting = documents.c.state.in_(["pending", "parsed", "embedded"])
        return bool(self._all(sa.select(sa.literal(1)).where(waiting).limit(1)))

    def listing(self, generation: int) -> list[dict[str, Any]]:
        """Return the live, failed and interrupted documents, sorted by id."""
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
        """Return the last jobs, newest first."""
        statement = sa.select(jobs).order_by(jobs.c.id.desc()).limit(limit)
        return [dict(row._mapping) for row in self._all(statement)]

    def job_losses(self, job: int) -> list[Loss]:
        """Return the losses reported by a job."""
        columns = [losses.c[name] for name in ("stage", "what", "lost", "kept", "why")]
        rows = self._all(sa.select(*columns).where(losses.c.job == job).order_by(losses.c.id))
        return [Loss(*row) for row in rows]


def _chunk(row: Any, layout: bytes = b"") -> Chunk:
    _, chunk_id, doc_id, text, start, end, fields, title, source, digest, _ = row
    own = _fields(fields)
    return Chunk(
        chunk_id,
        doc_id,
        text,
        start,
        end,
        {**own, "title": title, "source": source, "digest": digest},
        read_layout(layout, start, end),
    )


def read_layout(data: bytes, start: int | None = None, end: int | None = None) -> tuple[Line, ...]:
    """Return the lines of a packed layout that text[start:end] touches.

    Raises:
        CorruptCollection: The data are not packed lines.
    """
    try:
        return unpack(data, start, end)
    except ValueError as error:
        raise CorruptCollection(f"store.db: a layout is damaged: {error}") from error


def _fields(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptCollection(
            f"store.db: metadata is not JSON: {text!r:.60} ({error})"
        ) from error
    if not isinstance(fields, dict):
        raise CorruptCollection(f"store.db: metadata is not a JSON object: {text!r:.60}")
    return fields


def _require_all(rows: Mapping[int, object], seqs: Sequence[int]) -> None:
    missing = [seq for seq in seqs if seq not in rows]
    if missing:
        raise CorruptCollection(
            f"store.db does not contain the chunk {missing[0]} of a segment; "
            "`ragkit index repair` rebuilds the segments"
        )


def live_in(table: sa.Table, generation: int) -> Any:
    """Return the SQL condition that a row is live in a generation."""
    return (table.c.born <= generation) & (table.c.died.is_(None) | (table.c.died > generation))


def batches(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Split items into batches that can be bound in one statement."""
    for start in range(0, len(items), _MAX_BOUND):
        yield items[start : start + _MAX_BOUND]


def read_generation(connection: sa.Connection) -> int:
    """Return the current generation, inside a transaction."""
    return parse_number(connection.execute(_GENERATION).scalar() or "0")


def parse_number(text: str) -> int:
    """Parse a number of the table `meta`.

    Raises:
        CorruptCollection: The text is not a number.
    """
    if not re.fullmatch("[0-9]{1,15}", text, re.ASCII):
        raise CorruptCollection(f"store.db: a number is {text!r:.60}; restore a backup")
    return int(text)
