"""Opening `traces.db`: its tables, a check that they are ours, and SQLite's errors."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateTable

from ragkit.durable import make_folder
from ragkit.errors import RagkitError

_APPLICATION = 0x72616774  # "ragt": marks the file as ours
_FORMAT = 1
_BUSY_S = 30.0
_ELSEWHERE = "Set RAGKIT_HOME to another folder, or run agents with --no-trace"

_metadata = sa.MetaData()
runs = sa.Table(
    "runs",
    _metadata,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("agent", sa.Text, nullable=False),  # canonical JSON, as are the next two
    sa.Column("question", sa.Text, nullable=False),
    sa.Column("settings", sa.Text, nullable=False),
    sa.Column("started", sa.Text, nullable=False),
    sa.Column("exit_reason", sa.Text),
    sa.Column("answer", sa.Text),  # canonical JSON, as is the next
    sa.Column("usage", sa.Text),
    sa.Column("seconds", sa.Float),
)
steps = sa.Table(
    "steps",
    _metadata,
    sa.Column("run", sa.ForeignKey("runs.seq", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),  # canonical JSON
)


def open_traces(path: Path) -> sa.Engine:
    """An engine for the file, which is made if it is missing.

    Raises:
        RagkitError: The file cannot be written, is damaged, is another program's or was made by a
            newer ragkit.
    """
    _make_file(path)
    engine = sa.create_engine(
        "sqlite://", creator=lambda: _connect(path), poolclass=sa.pool.QueuePool
    )
    try:
        with trace_errors(path):
            _make_tables(engine, path)
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def trace_errors(path: Path) -> Iterator[None]:
    """SQLite's errors inside the block, in our words."""
    try:
        yield
    except (sa.exc.DatabaseError, sqlite3.DatabaseError) as error:
        cause = getattr(error, "orig", error)
        ours = isinstance(cause, sqlite3.OperationalError)
        if ours and not re.search("no such (table|column)|decode to UTF-8", str(cause)):
            raise RagkitError(
                f"the traces in {str(path)!r} cannot be used: {cause}. Check the disk's space, the "
                f"file's permissions, and that no program holds it. {_ELSEWHERE}"
            ) from error
        raise damaged(path, cause) from error
    except (sa.exc.StatementError, UnicodeError, OverflowError) as error:
        raise ValueError(f"this cannot be stored: {getattr(error, 'orig', error)}") from error


def damaged(path: Path, cause: object) -> RagkitError:
    """The error for a file that is not as it was written."""
    return RagkitError(
        f"the traces in {str(path)!r} are damaged: {cause}. Move the file away (with its -wal and "
        f"-shm) or delete it; the next run makes a new one. {_ELSEWHERE}"
    )


def _make_file(path: Path) -> None:
    """The file, readable by its owner only: questions are private."""
    try:
        make_folder(path.parent)
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        elif not path.is_file():
            raise IsADirectoryError(None, "it is no regular file")
        # Not opened to see: closing it would drop the locks of this process's other connections.
        elif not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
            raise PermissionError(None, "it or its folder may not be written")
    except OSError as error:
        raise RagkitError(
            f"traces cannot be written to {str(path)!r}: {error.strerror or error}. {_ELSEWHERE}"
        ) from error


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, timeout=_BUSY_S)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection


def _make_tables(engine: sa.Engine, path: Path) -> None:
    """The tables in an empty file; a check in another one.

    A trigger, view or default of somebody else's would run as part of our statements.
    """
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN")  # another process may be making them just now
        made = _check(connection, path)
        connection.rollback()
        if made:
            return
        _use_wal(connection)
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        if not _check(connection, path):  # else another process was first
            for statement in _definitions().values():
                connection.exec_driver_sql(statement)
            connection.exec_driver_sql(f"PRAGMA application_id = {_APPLICATION}")
            connection.exec_driver_sql(f"PRAGMA user_version = {_FORMAT}")
        connection.commit()


def _check(connection: sa.Connection, path: Path) -> bool:
    """Whether the tables are there and ours; False for an empty file."""
    application = connection.exec_driver_sql("PRAGMA application_id").scalar()
    version = int(connection.exec_driver_sql("PRAGMA user_version").scalar() or 0)
    found = connection.exec_driver_sql(
        "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    ).all()
    if not application and not version and not found:
        return False
    if application == _APPLICATION and version > _FORMAT:
        raise RagkitError(
            f"{str(path)!r} has format {version} of a newer ragkit; this one reads {_FORMAT}. "
            f"Update ragkit. {_ELSEWHERE}"
        )
    expected = {name: _plain(sql) for name, sql in _definitions().items()}
    if application != _APPLICATION or {name: _plain(str(sql)) for name, sql in found} != expected:
        raise RagkitError(
            f"{str(path)!r} holds tables that ragkit did not make: it is another program's "
            f"database, or was changed. Move it away. {_ELSEWHERE}"
        )
    return True


def _use_wal(connection: sa.Connection) -> None:
    """Switch the journal; SQLite does not wait here for others that do the same."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            connection.rollback()
            return
        except sa.exc.OperationalError as error:
            connection.rollback()
            if "locked" not in str(error.orig) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _definitions() -> dict[str, str]:
    return {
        table.name: str(CreateTable(table).compile(dialect=sqlite.dialect())).strip()
        for table in _metadata.sorted_tables
    }


def _plain(statement: str) -> str:
    """A definition without what SQLAlchemy's versions write differently."""
    return re.sub(r'[\s"]', "", statement).lower()
