"""Runs: what a system found for each query, made batch by batch so that a crash costs one."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ragkit.digests import text_digest
from ragkit.errors import DatasetError
from ragkit.types import Hit, Retriever

OnQuery = Callable[[int, int], None]
"""Called with how many queries are done, of how many."""

_BATCH = 16  # queries
_LIBRARIES = ("numpy", "onnxruntime", "tokenizers", "sqlalchemy", "PyStemmer")


@dataclass(frozen=True, slots=True)
class SystemRun:
    """One system's run.

    Attributes:
        name: The system's.
        run: Query id → document id → score; as many documents as were asked for, if they exist.
        seconds: Query id → how long it took: its share of a batch of 16, warm.
        manifest: What made it: source, index, embedder, versions.
    """

    name: str
    run: dict[str, dict[str, float]]
    seconds: dict[str, float]
    manifest: dict[str, Any] = field(default_factory=dict)


def best_documents(hits: Sequence[Hit], k: int) -> dict[str, float]:
    """The first k documents of a ranked list of chunks; a document's score is its best chunk's."""
    scores: dict[str, float] = {}
    for hit in hits:
        if hit.chunk.doc_id not in scores and len(scores) < k:
            scores[hit.chunk.doc_id] = hit.score
    return scores


def search_documents(
    retriever: Retriever, queries: Sequence[str], k: int
) -> list[dict[str, float]]:
    """The k best documents of each query: chunks are retrieved until there are k, or no more.

    Args:
        retriever: Finds chunks.
        queries: The queries.
        k: Documents wanted.
    """
    found: list[dict[str, float]] = [{} for _ in queries]
    pending = list(range(len(queries)))
    n_chunks = 2 * k
    while pending:
        hits = retriever.retrieve([queries[i] for i in pending], n_chunks)
        again = []
        for i, row in zip(pending, hits, strict=True):
            found[i] = best_documents(row, k)
            if len(found[i]) < k and len(row) == n_chunks:
                again.append(i)
        pending, n_chunks = again, 4 * n_chunks
    return found


def make_run(
    name: str,
    retriever: Retriever,
    queries: Mapping[str, str],
    k: int,
    *,
    file: Path | None = None,
    on_query: OnQuery | None = None,
) -> SystemRun:
    """Search all queries; with a file, go on where an earlier process stopped.

    Args:
        name: The system's name.
        retriever: The system.
        queries: Query id → text.
        k: Documents a query.
        file: JSON Lines to append to, flushed after every batch. It is continued only if what
            makes the run (see `manifest_of`), the queries and k are the same; else started anew.
        on_query: Called as it goes on.
    """
    manifest = manifest_of(retriever)
    key = text_digest(json.dumps([name, manifest, list(queries.items()), k], sort_keys=True))
    done: dict[str, tuple[dict[str, float], float]] = {}
    if file is not None:
        done = _resume(file, key)
    pending = [query for query in queries if query not in done]
    if pending:  # models are loaded and files mapped outside the measured time
        retriever.retrieve([queries[pending[0]]], 1)
    for start in range(0, len(pending), _BATCH):
        batch = pending[start : start + _BATCH]
        began = time.perf_counter()
        found = search_documents(retriever, [queries[query] for query in batch], k)
        share = (time.perf_counter() - began) / len(batch)
        done |= {query: (row, share) for query, row in zip(batch, found, strict=True)}
        if file is not None:
            _append(file, [[query, *done[query]] for query in batch])
        if on_query:
            on_query(len(done), len(queries))
    return SystemRun(
        name,
        {query: done[query][0] for query in queries},
        {query: done[query][1] for query in queries},
        manifest,
    )


def _resume(file: Path, key: str) -> dict[str, tuple[dict[str, float], float]]:
    """What the file holds already; a line that a crash cut off is dropped."""
    whole = 0  # bytes of complete lines
    rows: list[Any] = []
    if file.exists():
        data = file.read_bytes()
        whole = data.rfind(b"\n") + 1
        rows = list(_lines(file, data[:whole]))
    if not rows or rows[0] != {"run": key}:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"run": key}) + "\n")
        return {}
    with file.open("r+b") as stream:
        stream.truncate(whole)
    return {query: (found, seconds) for query, found, seconds in rows[1:]}


def _lines(file: Path, data: bytes) -> Iterator[Any]:
    for number, line in enumerate(data.decode("utf-8").splitlines(), start=1):
        try:
            yield json.loads(line)
        except ValueError as error:
            raise DatasetError(
                f"{file} line {number} is not JSON ({error}); delete the file to run it again"
            ) from error


def _append(file: Path, rows: Sequence[Any]) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
        stream.flush()
        os.fsync(stream.fileno())


def manifest_of(retriever: object) -> dict[str, Any]:
    """What decides a retriever's results, as far as it says: its kind, source, versions."""
    from ragkit import __version__

    source = getattr(retriever, "source", None)
    return {
        "retriever": type(retriever).__name__,
        "settings": dict(getattr(retriever, "settings", {})),
        "source": None if source is None else asdict(source),
        "ragkit": __version__,
        "python": platform.python_version(),
        "libraries": {library: version(library) for library in _LIBRARIES},
    }
