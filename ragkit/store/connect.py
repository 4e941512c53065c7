"""Opening `store.db`: connections, a check that its tables are ours, and SQLite's errors."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa

from ragkit.errors import CollectionError, CorruptCollection
from ragkit.store.schema import definitions

_REMEDIES = {
    "SQLITE_FULL": "free space on the disk (see also quota and ulimit -f)",
    "SQLITE_IOERR": "free space on the disk, or check it",
    "SQLITE_READONLY": "check the permissions of the file and its folder",
    "SQLITE_CANTOPEN": "check the permissions of the file and its folder",
    "SQLITE_PERM": "check the permissions of the file and its folder",
    "SQLITE_BUSY": "wait for the process that uses it",
}
_MISSING = re.compile("no such (table|column)|malformed JSON|decode to UTF-8")


@contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """SQLite's errors inside the block, in our words."""
    try:
        yield
    except (sa.exc.DatabaseError, sqlite3.DatabaseError) as error:
        cause = getattr(error, "orig", error)
        name = str(getattr(cause, "sqlite_errorname", ""))
        if isinstance(cause, sqlite3.OperationalError) and not _MISSING.search(str(cause)):
            remedy = _REMEDIES.get("_".join(name.split("_")[:2]), "")
            then = f". What was committed before is whole; {remedy} and do the same again"
            raise CollectionError(
                f"{str(path)!r} cannot be used: {cause}{then if remedy else ''}"
            ) from error
        raise damaged(path, cause) from error
    except (sa.exc.StatementError, OverflowError, UnicodeError) as error:
        raise damaged(path, getattr(error, "orig", error)) from error


def damaged(path: Path, cause: object) -> CorruptCollection:
    """The error for a database that is not as it was written."""
    return CorruptCollection(
        f"{str(path)!r} is damaged: {cause}. `repair` builds the indexes from it and cannot mend "
        "it: restore a copy, or build the collection again from its files"
    )


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """A connection; a file in a folder that cannot be written is opened as immutable."""
    connection = _open(path, read_only=read_only)
    try:
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


def _open(path: Path, *, read_only: bool) -> sqlite3.Connection:
    if not read_only:
        return sqlite3.connect(path, check_same_thread=False, timeout=30.0)
    # In a folder that cannot be written SQLite cannot make its -shm file; nobody writes there. But
    # a log that a killed writer left must be read, which immutable=1 would not.
    log = path.with_name(path.name + "-wal")
    logged = log.exists() and log.stat().st_size > 0
    mode = "ro" if logged or os.access(path.parent, os.W_OK) else "ro&immutable=1"
    uri = f"file:{quote(str(path.resolve()))}?mode={mode}"
    return sqlite3.connect(uri, uri=True, check_same_thread=False, timeout=30.0)


def check_schema(engine: sa.Engine, path: Path, *, create: bool) -> None:
    """Make sure that the tables are ours.

    A view, trigger, default or index expression of somebody else's runs as part of our statements,
    and another program's database must not get our tables.

    Args:
        engine: Of the database.
        path: Its file, for the message.
        create: Make what is missing, all in one transaction: an index that a kill left out would be
            missing for ever.

    Raises:
        CorruptCollection: Something is in it that ragkit did not make.
    """
    expected = _expected()
    with database_errors(path), engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        ).all()
        for name, sql in rows:
            if expected.get(name) != _plain(str(sql)):
                raise CorruptCollection(
                    f"{str(path)!r} holds {str(name)[:60]!r}, which ragkit did not make: it is "
                    "another program's database, or was changed. Restore a copy, or build the "
                    "collection again from its files"
                )
        missing = expected.keys() - {name for name, _ in rows}
        if create and missing:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            for name, statement in definitions().items():
                if name in missing:
                    connection.exec_driver_sql(statement)
            connection.commit()


@cache
def _expected() -> dict[str, str]:
    return {name: _plain(statement) for name, statement in definitions().items()}


def _plain(statement: str) -> str:
    """A definition without what SQLAlchemy's versions write differently."""
    return re.sub(r'[\s"]', "", statement).lower()
