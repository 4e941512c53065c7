"""Shared state and helpers of the jobs that write to a collection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar

from ragkit.chunking import Chunker
from ragkit.digests import text_digest
from ragkit.indexes.segment import IndexSettings
from ragkit.indexes.terms import TermAnalyzer
from ragkit.store.ledger import VectorLedger
from ragkit.store.store import Store
from ragkit.types import Embedder

BATCH_CHUNKS = 256  # embedded per flush of the ledger: at most these are lost by a kill
SEGMENT_CHUNKS = 16_384  # per segment and commit
RETAINED_GENERATIONS = 2  # readers of the previous generation can finish their search

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a long job: `done` of `total` files or documents (total 0: unknown)."""

    stage: Literal["files", "documents", "compacting", "repairing"]
    done: int
    total: int
    item: str = ""


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class WriterContext:
    """Parts of a collection, for a process that has the write lock.

    Attributes:
        store: Tables of documents and chunks.
        segments: Folder of the segments.
        ledger: Cache of vectors by text digest.
        analyzer: Splits texts into terms.
        index: Vector index of new segments.
        load_embedder: Loads the embedder; called only by jobs that embed texts.
        make_chunker: Creates the chunker for the embedder's tokenizer.
    """

    store: Store
    segments: Path
    ledger: VectorLedger
    analyzer: TermAnalyzer
    index: IndexSettings
    load_embedder: Callable[[], Embedder]
    make_chunker: Callable[[Embedder], Chunker]


def ensure_embedded(
    context: WriterContext, embedder: Embedder, texts: Mapping[bytes, str]
) -> tuple[dict[bytes, int], int]:
    """Embed the texts whose vectors are not in the ledger.

    Args:
        context: Parts of the collection.
        embedder: Embedder of the collection.
        texts: Texts by ledger key.

    Returns:
        Ledger row of each key, and the number of texts that were embedded.
    """
    rows = context.ledger.find(list(texts))
    missing = [key for key in texts if key not in rows]
    if missing:
        vectors = embedder.embed_passages([texts[key] for key in missing])
        rows |= context.ledger.append(missing, vectors)
    return rows, len(missing)


def indexed_text(title: str, text: str, table: str = "") -> str:
    """Return the text that is embedded and indexed: title, table header and chunk text, in lines.

    Args:
        title: Title of the document; may be empty.
        text: Text of the chunk.
        table: Header row of the table in which the chunk begins; empty if it begins in none.

    >>> indexed_text("Valves", "| V-70 | 5 |", "| valve | pressure / bar |")
    'Valves\\n| valve | pressure / bar |\\n| V-70 | 5 |'
    """
    return "\n".join(part for part in (title, table, text) if part)


def ledger_key(title: str, text: str, table: str = "") -> bytes:
    """Return the ledger key of a chunk: the digest of its indexed text."""
    return bytes.fromhex(text_digest(indexed_text(title, text, table)))


def batched(items: Iterator[_T], size: int) -> Iterator[list[_T]]:
    """Yield lists of at most `size` items."""
    while batch := list(islice(items, size)):
        yield batch
