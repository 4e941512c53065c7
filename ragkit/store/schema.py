"""Tables of `store.db`.

A row of `documents` is one version of a document. It is live in generation g if `born <= g` and
`died` is null or `> g`. Before its commit, `born` is null and `state` is the stage it has reached.
A chunk is live if its document is.
"""

from __future__ import annotations

import os
from typing import Any

from sqlalchemy import (
    Column,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.types import TypeEngine

from ragkit.errors import CorruptCollection


class _Checked(TypeDecorator[Any]):
    """Column that checks the type of its values, which SQLite does not enforce."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = Text
    cache_ok = True
    kind: type = str
    nullable = False

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Return the value if it has the type of the column."""
        if type(value) is not self.kind and not (value is None and self.nullable):
            raise CorruptCollection(
                f"store.db contains {value!r:.60}, expected a value of type {self.kind.__name__}; "
                "restore a backup, or rebuild the collection from its files"
            )
        return value


class _String(_Checked):
    cache_ok = True


class _NullableString(_Checked):
    cache_ok = True
    nullable = True


class _Number(_Checked):
    impl = Integer
    cache_ok = True
    kind = int


class _NullableNumber(_Number):
    cache_ok = True
    nullable = True


class _Bytes(_Checked):
    impl = LargeBinary
    cache_ok = True
    kind = bytes


class _Path(_Checked):
    """Path of a file, as the bytes that the operating system uses: they may not be UTF-8."""

    impl = LargeBinary
    cache_ok = True
    kind = bytes

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Return the bytes of a path."""
        return os.fsencode(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Return the path, with undecodable bytes as surrogates."""
        return os.fsdecode(super().process_result_value(value, dialect))


metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("key", _String, primary_key=True),
    Column("value", _String, nullable=False),
)

documents = Table(
    "documents",
    metadata,
    Column("seq", _Number, primary_key=True),
    Column("id", _String, nullable=False),
    Column("file", _String, nullable=False),  # the file it was read from; "" if added from memory
    Column("source", _String, nullable=False),
    Column("title", _String, nullable=False),
    Column("text", _String, nullable=False),
    Column("metadata", _String, nullable=False),
    Column("digest", _String, nullable=False),  # of the text
    Column("state", _String, nullable=False),  # pending, parsed, embedded, indexed, failed
    Column("reason", _NullableString),
    Column("job", _Number, nullable=False),
    Column("born", _NullableNumber),
    Column("died", _NullableNumber),
    # Packed lines, see `ragkit.layout`; last, so that reading the other columns skips it.
    Column("layout", _Bytes, nullable=False),
    Index("documents_id", "id"),
    Index("documents_file", "file"),
    Index("documents_state", "state", "job"),
)

# Partial index, so that SQLite does not search for a commit's few dead rows among all live ones.
Index("documents_died", documents.c.died, sqlite_where=documents.c.died.is_not(None))

chunks = Table(
    "chunks",
    metadata,
    Column("seq", _Number, primary_key=True),
    Column("document", _Number, nullable=False),
    Column("id", _String, nullable=False),
    Column("start", _Number, nullable=False),
    Column("end", _Number, nullable=False),
    Column("text", _String, nullable=False),
    Column("metadata", _String, nullable=False),
    Column("key", _Bytes, nullable=False),  # digest of the exact text that is embedded
    Index("chunks_document", "document"),
)

# A file with the same digest is not read again; the digest is set when all documents are committed.
files = Table(
    "files",
    metadata,
    Column("id", _String, primary_key=True),
    Column("root", _Path, nullable=False),  # the folder that was added
    Column("path", _Path, nullable=False),  # absolute
    Column("digest", _String, nullable=False),
)

# Checksums of a document with its chunks, and of a file with its root: see `checks.py`.
seals = Table(
    "seals",
    metadata,
    Column("document", _Number, primary_key=True),
    Column("digest", _Bytes, nullable=False),
)

file_seals = Table(
    "file_seals",
    metadata,
    Column("id", _String, primary_key=True),
    Column("digest", _Bytes, nullable=False),
)

segments = Table(
    "segments",
    metadata,
    Column("digest", _String, primary_key=True),
    Column("n_rows", _Number, nullable=False),
    Column("born", _Number, nullable=False),
    Column("died", _NullableNumber),
)

ledger = Table(
    "ledger",
    metadata,
    Column("fingerprint", _String),
    Column("role", _String),
    Column("key", _Bytes),
    Column("row", _Number, nullable=False),
    Column("checksum", _Number, nullable=False),  # CRC-32 of the vector's bytes
    PrimaryKeyConstraint("fingerprint", "role", "key"),
    sqlite_with_rowid=False,
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("kind", _String, nullable=False),
    Column("state", _String, nullable=False),  # running, done, interrupted, failed
    Column("started", Float, nullable=False),  # seconds since 1970
    Column("finished", Float),
    Column("n_embedded", _Number, nullable=False, default=0),
    Column("n_reused", _Number, nullable=False, default=0),
)

losses = Table(
    "losses",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("job", _Number, nullable=False),
    Column("stage", _String, nullable=False),
    Column("what", _String, nullable=False),
    Column("lost", _String, nullable=False),
    Column("kept", _String, nullable=False),
    Column("why", _String, nullable=False),
)


def definitions() -> dict[str, str]:
    """Return the CREATE statement of each table and index, by name."""
    statements: dict[str, str] = {}
    for table in metadata.sorted_tables:
        statements[table.name] = str(CreateTable(table).compile(dialect=sqlite.dialect())).strip()
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            statement = str(CreateIndex(index).compile(dialect=sqlite.dialect()))
            statements[str(index.name)] = statement.strip()
    return statements
