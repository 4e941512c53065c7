"""Repair of a collection: rebuilds all segments from the store."""

from __future__ import annotations

from functools import partial

import numpy as np

from ragkit.collection.context import (
    BATCH_CHUNKS,
    SEGMENT_CHUNKS,
    OnProgress,
    Progress,
    WriterContext,
    batched,
    ensure_embedded,
    indexed_text,
    ledger_key,
)
from ragkit.collection.description import restore_description
from ragkit.collection.token_indexes import faulty_token_indexes
from ragkit.collection.verify import description_faults
from ragkit.durable import disk_errors, remove_folder
from ragkit.indexes.bm25 import PostingsBuilder
from ragkit.indexes.segment import verify_segment, write_segment
from ragkit.store import checks
from ragkit.types import Rows, Vectors


def repair(context: WriterContext, on_progress: OnProgress | None = None) -> int:
    """Rebuild all segments from the store, embedding only texts whose vectors were lost.

    Returns:
        Number of texts that were embedded.
    """
    store, embedder = context.store, context.load_embedder()
    text = store.description()
    if text is not None and description_faults(store):
        restore_description(store.path.parent, text)
    checks.repair_tables(store)
    context.ledger.delete(context.ledger.faults())
    state = store.read_state()
    generation, old = state.generation, state.segments
    checks.repair_documents(store, generation)
    checks.add_missing_file_seals(store)
    n_chunks = store.counts(generation)["chunks"]
    new: list[tuple[str, int]] = []
    n_embedded = 0
    for folder, _ in faulty_token_indexes(context.segments.parent / "tokens"):
        with disk_errors(folder):
            remove_folder(folder)
    for name in old:  # a damaged folder must not be reused for a new segment of the same name
        if verify_segment(context.segments, name):
            with disk_errors(context.segments):
                remove_folder(context.segments / name)
    for block in batched(store.live_chunk_texts(generation), SEGMENT_CHUNKS):
        builder = PostingsBuilder()
        rows: list[int] = []
        for batch in batched(iter(block), BATCH_CHUNKS):
            # Stored keys are not used: a text that was not repaired may not match its key.
            parts = [(title, text, table) for _, _, title, text, table, _ in batch]
            keys = [ledger_key(*part) for part in parts]
            texts = {key: indexed_text(*part) for key, part in zip(keys, parts, strict=True)}
            ledger_rows, n_new = ensure_embedded(context, embedder, texts)
            n_embedded += n_new
            rows += [ledger_rows[key] for key in keys]
            for key in keys:
                builder.add(context.analyzer.terms(texts[key]))
            if on_progress:
                on_progress(Progress("repairing", len(new) * SEGMENT_CHUNKS + len(rows), n_chunks))
        numbers = np.array([number for number, *_ in block], dtype=np.int64)
        block_rows = np.array(rows, dtype=np.int64)
        vectors = context.ledger.vectors()
        name = write_segment(
            context.segments,
            numbers,
            partial(_select_rows, vectors, block_rows),
            builder.build(),
            context.index,
        )
        new.append((name, len(numbers)))
    written = {name for name, _ in new}
    old = [name for name in old if name not in written]
    store.replace_segments(old, new, dropped=state.dead)
    return n_embedded


def _select_rows(vectors: Vectors, rows: Rows, block: slice) -> Vectors:
    return vectors[rows[block]]
