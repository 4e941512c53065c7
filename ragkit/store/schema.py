"""The tables of `store.db`.

A row of `documents` is one version of a document. It is live in generation g when
`born <= g` and `died` is null or `> g`; until its commit `born` is null and `state` tells how far
it has come. A chunk lives and dies with its document.
"""

from __future__ import annotations

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
    """A column whose values have its own type: SQLite's may have any, if the file is damaged."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = Text
    cache_ok = True
    kind: type = str
    nullable = False

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """The value, if it is one that we may have written."""
        if type(value) is not self.kind and not (value is None and self.nullable):
            raise CorruptCollection(
                f"store.db holds {value!r:.60} where a value of type {self.kind.__name__} was "
                "written; restore a copy, or build the collection again from its files"
            )
        return value


class _String(_Checked):
    cache_ok = True


class _MaybeString(_Checked):
    cache_ok = True
    nullable = True


class _Number(_Checked):
    impl = Integer
    cache_ok = True
    kind = int


class _MaybeNumber(_Number):
    cache_ok = True
    nullable = True


class _Bytes(_Checked):
    impl = LargeBinary
    cache_ok = True
    kind = bytes


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
    Column("file", _String, nullable=False),  # the file it was read from; "" if given in memory
    Column("source", _String, nullable=False),
    Column("title", _String, nullable=False),
    Column("text", _String, nullable=False),
    Column("metadata", _String, nullable=False),
    Column("digest", _String, nullable=False),  # of the text
    Column("state", _String, nullable=False),  # pending, parsed, embedded, indexed, failed
    Column("reason", _MaybeString),
    Column("job", _Number, nullable=False),
    Column("born", _MaybeNumber),
    Column("died", _MaybeNumber),
    Index("documents_id", "id"),
    Index("documents_file", "file"),
    Index("documents_state", "state", "job"),
)

# Only the dead: else SQLite would look for the few rows of a commit among all that live.
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
    Column("key", _Bytes, nullable=False),  # digest of the exact text given to the embedder
    Index("chunks_document", "document"),
)

# A file is listed once all its documents are committed; the same digest is then not read again.
files = Table(
    "files",
    metadata,
    Column("id", _String, primary_key=True),
    Column("root", _String, nullable=False),
    Column("digest", _String, nullable=False),
)

# What was written of a live document and its chunks, and of a file and its root: `checks.py`.
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
    Column("died", _MaybeNumber),
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
    """The statement that makes each table and index, by name."""
    found: dict[str, str] = {}
    for table in metadata.sorted_tables:
        found[table.name] = str(CreateTable(table).compile(dialect=sqlite.dialect())).strip()
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            made = str(CreateIndex(index).compile(dialect=sqlite.dialect()))
            found[str(index.name)] = made.strip()
    return found
