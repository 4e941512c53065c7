"""What is written to the tables, and read from them, as values."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """One version of a document, as it is written."""

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


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """A chunk as it is written; `document` is its document's seq."""

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
    """Where a vector lies, and the CRC-32 of its bytes."""

    fingerprint: str
    role: str
    key: bytes
    row: int
    checksum: int


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file and its root; the digest is empty until all its documents are committed."""

    id: str
    root: str
    digest: str


@dataclass(frozen=True, slots=True)
class Opening:
    """What a reader needs to open a generation, read in one transaction."""

    generation: int
    segments: list[str]
    n_rows: list[int]
    dead: list[int]


def as_values(row: DocumentRow | ChunkRow | LedgerKey | FileRow) -> dict[str, Any]:
    """A row by column; `dataclasses.asdict` copies deeply, which costs ten times as much."""
    return {field.name: getattr(row, field.name) for field in fields(row)}
