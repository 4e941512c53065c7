"""Open `store.db`, check its schema, and translate SQLite's errors."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from ragkit import forks
from ragkit.errors import CollectionError, CorruptCollection
from ragkit.normalize import normalize
from ragkit.store.schema import definitions

_REMEDIES = {
    "SQLITE_FULL": "free space on the disk (see also quota and ulimit -f)",
    "SQLITE_IOERR": "free space on the disk, or check it",
    "SQLITE_READONLY": "check the permissions of the file and its folder",
    "SQLITE_CANTOPEN": "check the permissions of the file and its folder",
    "SQLITE_PERM": "check the permissions of the file and its folder",
    "SQLITE_BUSY": "wait for the process that uses it",
}
_DAMAGE_MESSAGE = re.compile("no such (table|column)|malformed JSON|decode to UTF-8")


@contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors inside the block into a `CollectionError` that says what to do."""
    try:
        yield
    except (sa.exc.DatabaseError, sqlite3.DatabaseError) as error:
        cause = getattr(error, "orig", error)
        name = str(getattr(cause, "sqlite_errorname", ""))
        if isinstance(cause, sqlite3.OperationalError) and not _DAMAGE_MESSAGE.search(str(cause)):
            remedy = _REMEDIES.get("_".join(name.split("_")[:2]), "")
            advice = f". Data committed before is intact; {remedy} and try again" if remedy else ""
            raise CollectionError(f"{str(path)!r} cannot be used: {cause}{advice}") from error
        raise damaged_error(path, cause) from error
    except (sa.exc.StatementError, OverflowError, UnicodeError) as error:
        raise damaged_error(path, getattr(error, "orig", error)) from error


def damaged_error(path: Path, cause: object) -> CorruptCollection:
    """Return the error for a damaged database."""
    return CorruptCollection(
        f"{str(path)!r} is damaged: {cause}. `repair` rebuilds the indexes from it and cannot "
        "repair it: restore a backup, or rebuild the collection from its files"
    )


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """Connect to a database; in a read-only folder, open it as immutable."""
    connection = _open(path, read_only=read_only)
    try:
        connection.create_function("normalized", 1, _normalized, deterministic=True)
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        if read_only:
            connection.execute("PRAGMA query_only = ON")
        else:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def _normalized(value: Any) -> Any:
    """Return text as filters compare it, and other values as they are."""
    return normalize(value) if isinstance(value, str) else value


def _open(path: Path, *, read_only: bool) -> sqlite3.Connection:
    if not read_only:
        return sqlite3.connect(path, check_same_thread=False, timeout=30.0)
    # In a read-only folder SQLite cannot create its -shm file, and there are no writers. But the
    # log of a killed writer must be read, which immutable=1 would skip.
    log = path.with_name(path.name + "-wal")
    has_log = log.exists() and log.stat().st_size > 0
    mode = "ro" if has_log or os.access(path.parent, os.W_OK) else "ro&immutable=1"
    uri = f"file:{quote(str(path.resolve()))}?mode={mode}"
    return sqlite3.connect(uri, uri=True, check_same_thread=False, timeout=30.0)


def pooled_engine(creator: Callable[[], sqlite3.Connection]) -> sa.Engine:
    """Return an engine with a pool of connections; a forked process gets a pool of its own.

    SQLite's locks are not inherited, so that no connection must be open in both processes: idle
    ones are closed before the fork. Source: sqlite.org/howtocorrupt.html, section 2.6.
    """
    engine = sa.create_engine("sqlite://", creator=creator, poolclass=sa.pool.QueuePool)
    forks.prepare_fork(engine, sa.Engine.dispose)
    forks.renew_after_fork(engine, _renew_pool)
    return engine


def _renew_pool(engine: sa.Engine) -> None:
    forks.abandon(engine.pool)  # a connection that a thread used must not even be closed here
    engine.dispose(close=False)


def check_schema(engine: sa.Engine, path: Path, *, create: bool) -> None:
    """Check that the database contains only the tables and indexes of ragkit.

    A foreign view, trigger, default or index expression would run as part of our statements, and
    our tables must not be added to another program's database.

    Args:
        engine: Engine of the database.
        path: File of the database, for the message.
        create: Create missing tables and indexes, all in one transaction: an index that was missing
            after a kill would never be created.

    Raises:
        CorruptCollection: The database contains something that ragkit did not create.
    """
    expected = _expected_definitions()
    with database_errors(path), engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        ).all()
        for name, sql in rows:
            if expected.get(name) != _normalize(str(sql)):
                raise CorruptCollection(
                    f"{str(path)!r} contains {str(name)[:60]!r}, which ragkit did not create: it "
                    "is another program's database, or was modified. Restore a backup, or rebuild "
                    "the collection from its files"
                )
        missing = expected.keys() - {name for name, _ in rows}
        if create and missing:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            for name, statement in definitions().items():
                if name in missing:
                    connection.exec_driver_sql(statement)
            connection.commit()


def stored_description(path: Path) -> str | None:
    """Return the copy of `collection.json` in a database of any format version, or None.

    Raises:
        CorruptCollection: The database is damaged, or its table `meta` is not ragkit's.
    """
    with database_errors(path), closing(connect(path, read_only=True)) as connection:
        query = "SELECT sql FROM sqlite_schema WHERE name = 'meta'"
        row = connection.execute(query).fetchone()
        if row is None:  # the process that created the file was killed immediately
            return None
        if _normalize(str(row[0])) != _expected_definitions()["meta"]:
            raise damaged_error(path, "its table meta was modified")
        row = connection.execute("SELECT value FROM meta WHERE key = 'description'").fetchone()
        if row is not None and not isinstance(row[0], str):
            raise damaged_error(path, "its description is not a text")
    return row and str(row[0])


@cache
def _expected_definitions() -> dict[str, str]:
    return {name: _normalize(statement) for name, statement in definitions().items()}


def _normalize(statement: str) -> str:
    """Remove from a definition what differs between versions of SQLAlchemy."""
    return re.sub(r'[\s"]', "", statement).lower()
