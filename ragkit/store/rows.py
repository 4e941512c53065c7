"""Rows of the tables as dataclasses."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from ragkit.types import table_header


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """Row of one version of a document."""

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
    layout: bytes = b""

    @property
    def version(self) -> DocumentVersion:
        """What tells this version from another."""
        return DocumentVersion(self.digest, self.title, self.metadata, self.source, self.layout)


class DocumentVersion(NamedTuple):
    """What tells one version of a document from another; `digest` is that of its text."""

    digest: str
    title: str
    metadata: str
    source: str
    layout: bytes


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """Row of a chunk; `document` is the seq of its document."""

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
    """Row of the ledger: key and position of a vector, and the CRC-32 of its bytes."""

    fingerprint: str
    role: str
    key: bytes
    row: int
    checksum: int


@dataclass(frozen=True, slots=True)
class FileRow:
    """Row of a file.

    Attributes:
        id: Id of the file.
        root: Absolute path of the folder that was added.
        path: Absolute path of the file.
        digest: Digest of its content, a point, and a digest of everything else that its documents
            depend on; empty until all its documents are committed.
    """

    id: str
    root: str
    path: str
    digest: str

    @property
    def content(self) -> str:
        """Digest of the content; empty until all documents are committed."""
        return self.digest.partition(".")[0]


@dataclass(frozen=True, slots=True)
class GenerationState:
    """State that a reader needs to open a generation, read in one transaction.

    Attributes:
        generation: Number of the generation.
        segments: Digests of its segments, oldest first.
        n_rows: Number of rows of each segment.
        dead: Numbers of deleted chunks, ascending.
    """

    generation: int
    segments: list[str]
    n_rows: list[int]
    dead: list[int]


def stored_header(metadata: str) -> str:
    """Return the table header of a chunk from its metadata, a JSON text; empty if it has none."""
    if '"table"' not in metadata:
        return ""
    try:
        return table_header(json.loads(metadata))
    except (AttributeError, ValueError):
        return ""  # damaged, which verification reports


def as_values(row: DocumentRow | ChunkRow | LedgerKey | FileRow) -> dict[str, Any]:
    """Return the row's values by column.

    `dataclasses.asdict` makes a deep copy, which takes ten times as long.
    """
    return {field.name: getattr(row, field.name) for field in fields(row)}
