"""Open `traces.db`: create or verify its tables, and translate SQLite's errors."""

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
from ragkit.store.connect import pooled_engine

_APPLICATION = 0x72616774  # "ragt", SQLite's application_id
_FORMAT = 1
_BUSY_S = 30.0
_ADVICE = "Set RAGKIT_HOME to another folder, or run agents with --no-trace"

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
    """Open the file, creating it if it does not exist, and return an engine.

    Raises:
        RagkitError: The file cannot be written, is damaged, belongs to another program or was
            created by a newer ragkit.
    """
    _create_file(path)
    engine = pooled_engine(lambda: _connect(path))
    try:
        with trace_errors(path):
            _create_tables(engine, path)
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def trace_errors(path: Path) -> Iterator[None]:
    """Translate SQLite's errors inside the block to RagkitError or ValueError."""
    try:
        yield
    except (sa.exc.DatabaseError, sqlite3.DatabaseError) as error:
        cause = getattr(error, "orig", error)
        ours = isinstance(cause, sqlite3.OperationalError)
        if ours and not re.search("no such (table|column)|decode to UTF-8", str(cause)):
            raise RagkitError(
                f"the traces in {str(path)!r} cannot be used: {cause}. Check the free disk space, "
                f"the file's permissions, and that no other program locks it. {_ADVICE}"
            ) from error
        raise damaged(path, cause) from error
    except (sa.exc.StatementError, UnicodeError, OverflowError) as error:
        raise ValueError(f"the trace cannot be stored: {getattr(error, 'orig', error)}") from error


def damaged(path: Path, cause: object) -> RagkitError:
    """Return the error for a damaged file."""
    return RagkitError(
        f"the traces in {str(path)!r} are damaged: {cause}. Move the file away (with its -wal and "
        f"-shm) or delete it; the next run creates a new one. {_ADVICE}"
    )


def _create_file(path: Path) -> None:
    """Create the file with access for its owner only, since questions are private."""
    try:
        make_folder(path.parent)
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        elif not path.is_file():
            raise IsADirectoryError(None, "it is not a regular file")
        # Opening the file to check would drop the locks of this process's other connections.
        elif not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
            raise PermissionError(None, "no write permission for the file or its folder")
    except OSError as error:
        raise RagkitError(
            f"traces cannot be written to {str(path)!r}: {error.strerror or error}. {_ADVICE}"
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


def _create_tables(engine: sa.Engine, path: Path) -> None:
    """Create the tables in an empty file, or verify those of an existing file.

    Verification matters because foreign triggers, views or defaults would run as part of our
    statements.
    """
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN")  # another process may be creating them
        exists = _has_tables(connection, path)
        connection.rollback()
        if exists:
            return
        _use_wal(connection)
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        if not _has_tables(connection, path):  # otherwise another process was first
            for statement in _definitions().values():
                connection.exec_driver_sql(statement)
            connection.exec_driver_sql(f"PRAGMA application_id = {_APPLICATION}")
            connection.exec_driver_sql(f"PRAGMA user_version = {_FORMAT}")
        connection.commit()


def _has_tables(connection: sa.Connection, path: Path) -> bool:
    """Return True if the tables exist, False for an empty file; raise for any other content."""
    application = connection.exec_driver_sql("PRAGMA application_id").scalar()
    version = int(connection.exec_driver_sql("PRAGMA user_version").scalar() or 0)
    definitions = connection.exec_driver_sql(
        "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    ).all()
    if not application and not version and not definitions:
        return False
    if application == _APPLICATION and version > _FORMAT:
        raise RagkitError(
            f"{str(path)!r} has format {version} of a newer ragkit; expected format {_FORMAT}. "
            f"Update ragkit. {_ADVICE}"
        )
    expected = {name: _normalized_sql(sql) for name, sql in _definitions().items()}
    if (
        application != _APPLICATION
        or {name: _normalized_sql(str(sql)) for name, sql in definitions} != expected
    ):
        raise RagkitError(
            f"{str(path)!r} has tables that ragkit did not create: it belongs to another program "
            f"or was modified. Move it away. {_ADVICE}"
        )
    return True


def _use_wal(connection: sa.Connection) -> None:
    """Switch to WAL mode; retry, since SQLite's busy timeout does not apply to this pragma."""
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


def _normalized_sql(statement: str) -> str:
    """Remove quotes, whitespace and case, which differ between versions of SQLAlchemy."""
    return re.sub(r'[\s"]', "", statement).lower()
