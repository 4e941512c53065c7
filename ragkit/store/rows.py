"""Rows of the tables as dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


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
    """Row of a file; its digest is empty until all its documents are committed."""

    id: str
    root: str
    digest: str


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


def as_values(row: DocumentRow | ChunkRow | LedgerKey | FileRow) -> dict[str, Any]:
    """Return the row's values by column.

    `dataclasses.asdict` makes a deep copy, which takes ten times as long.
    """
    return {field.name: getattr(row, field.name) for field in fields(row)}
