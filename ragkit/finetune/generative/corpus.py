"""Training data for a generative retriever from a collection, and queries with their documents."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragkit.collection import Collection
from ragkit.errors import DatasetError, ModelError
from ragkit.evaluation.splits import split_of
from ragkit.finetune.generative.targets import Pair, Passage, SpanTargets, TargetOptions
from ragkit.llms.beams import BeamModel

_DEV_SHARE = 0.1  # share of the passages for the development loss if there are no queries


@dataclass(frozen=True, slots=True)
class QueryDocument:
    """A query and the id of the document that answers it."""

    query: str
    doc_id: str


def read_pairs(path: Path) -> list[QueryDocument]:
    """Read JSON Lines with `query` and `doc_id`.

    Raises:
        DatasetError: A line is malformed; the message has its number.
    """
    try:
        lines = path.read_text("utf-8-sig").split(
            "\n"
        )  # `splitlines` would also split inside texts
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{str(path)!r} cannot be read: {error}") from error
    return [_pair(path, n, line) for n, line in enumerate(lines, start=1) if line.strip()]


def _pair(path: Path, number: int, line: str) -> QueryDocument:
    expected = 'expected {"query": "…", "doc_id": "…"}'
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} line {number} is not JSON ({error}); {expected}") from error
    if not isinstance(row, Mapping):
        raise DatasetError(f"{path} line {number} is {line[:40]!r}; {expected}")
    query, doc_id = row.get("query"), row.get("doc_id")
    if not isinstance(query, str) or not isinstance(doc_id, str) or not query.strip():
        raise DatasetError(f"{path} line {number} is {line[:60]!r}; {expected}")
    return QueryDocument(query, doc_id)


def collection_targets(
    collection: Collection,
    model: BeamModel,
    pairs: Sequence[QueryDocument] = (),
    options: TargetOptions | None = None,
    *,
    seed: int = 0,
) -> tuple[SpanTargets, SpanTargets]:
    """Return the training targets of a collection, and the targets for the development loss.

    Every chunk is trained on. The passage of a query is the chunk of its document that BM25 ranks
    first for it. Queries whose document is in the development split (see `split_of`) are not
    trained on; without queries the development loss uses made-up queries of its own.

    Args:
        collection: The corpus.
        model: See `SpanTargets`.
        pairs: Queries with their documents.
        options: See `TargetOptions`.
        seed: Seed of everything drawn.

    Raises:
        DatasetError: A pair names a document that is not in the collection.
        ModelError: The collection is empty.
    """
    options = options or TargetOptions()
    passages: list[Passage] = []
    index: dict[str, int] = {}  # index of each chunk
    first: dict[str, int] = {}  # index of each document's first chunk
    for chunk in collection.chunks():
        index[chunk.id] = len(passages)
        first.setdefault(chunk.doc_id, len(passages))
        passages.append(Passage(str(chunk.metadata.get("title", "")), chunk.text))
    if not passages:
        raise ModelError(f"{str(collection.path)!r} is empty; add documents before training")
    unknown = {pair.doc_id for pair in pairs} - set(first)
    if unknown:
        raise DatasetError(
            f"the queries name {len(unknown)} documents that are not in {str(collection.path)!r}, "
            f"for example {min(unknown)!r}; `ragkit index list` shows what is there"
        )
    split: dict[bool, list[Pair]] = {True: [], False: []}
    for pair, best in zip(pairs, _best_chunks(collection, pairs, index, first), strict=True):
        split[split_of(pair.doc_id) == "dev"].append(Pair(pair.query, best))
    targets = SpanTargets(model, passages, split[False], options, seed=seed)
    share = 0.0 if split[True] else min(1.0, max(_DEV_SHARE, 1 / len(passages)))
    dev_options = TargetOptions(n_spans=2, n_tokens=options.n_tokens, passage_share=share)
    return targets, SpanTargets(model, passages, split[True], dev_options, seed=seed + 1)


def _best_chunks(
    collection: Collection,
    pairs: Sequence[QueryDocument],
    index: Mapping[str, int],
    first: Mapping[str, int],
) -> Iterator[int]:
    bm25 = collection.retriever("bm25", copies=True)
    for pair in pairs:
        hits = bm25.retrieve([pair.query], 1, where={"doc_id": pair.doc_id})[0]
        # A writer may have added the chunk since the passages were read.
        yield index.get(hits[0].chunk.id, first[pair.doc_id]) if hits else first[pair.doc_id]
