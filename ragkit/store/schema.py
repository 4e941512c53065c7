"""The tables of `store.db`.

A row of `documents` is one version of a document. It is live in generation g when
`born <= g` and `died` is null or `> g`; until its commit `born` is null and `state` tells how far
it has come. A chunk lives and dies with its document.
"""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
)

metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

documents = Table(
    "documents",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", Text, nullable=False),
    Column("file", Text, nullable=False),  # id of the file it was read from; "" if given in memory
    Column("source", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("digest", Text, nullable=False),  # of the text
    Column("state", Text, nullable=False),  # pending, parsed, embedded, indexed, failed
    Column("reason", Text),
    Column("job", Integer, nullable=False),
    Column("born", Integer),
    Column("died", Integer),
    Index("documents_id", "id"),
    Index("documents_file", "file"),
    Index("documents_state", "state", "job"),
)

# Only the dead: else SQLite would look for the few rows of a commit among all that live.
Index("documents_died", documents.c.died, sqlite_where=documents.c.died.is_not(None))

chunks = Table(
    "chunks",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("document", Integer, nullable=False),
    Column("id", Text, nullable=False),
    Column("start", Integer, nullable=False),
    Column("end", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("key", LargeBinary, nullable=False),  # digest of the exact text given to the embedder
    Index("chunks_document", "document"),
)

# A file is listed once all its documents are committed; the same digest is then not read again.
files = Table(
    "files",
    metadata,
    Column("id", Text, primary_key=True),
    Column("root", Text, nullable=False),
    Column("digest", Text, nullable=False),
)

segments = Table(
    "segments",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("n_rows", Integer, nullable=False),
    Column("born", Integer, nullable=False),
    Column("died", Integer),
)

ledger = Table(
    "ledger",
    metadata,
    Column("fingerprint", Text),
    Column("role", Text),
    Column("key", LargeBinary),
    Column("row", Integer, nullable=False),
    Column("checksum", Integer, nullable=False),  # CRC-32 of the vector's bytes
    PrimaryKeyConstraint("fingerprint", "role", "key"),
    sqlite_with_rowid=False,
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),  # running, done, interrupted, failed
    Column("started", Float, nullable=False),  # seconds since 1970
    Column("finished", Float),
    Column("n_embedded", Integer, nullable=False, default=0),
    Column("n_reused", Integer, nullable=False, default=0),
)

losses = Table(
    "losses",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job", Integer, nullable=False),
    Column("stage", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("lost", Text, nullable=False),
    Column("kept", Text, nullable=False),
    Column("why", Text, nullable=False),
)
