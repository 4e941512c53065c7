"""Runs: the documents a system retrieves for each query, saved batch by batch to be resumable."""

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
"""Called with the number of queries done and their total."""

_BATCH = 16  # queries
_LIBRARIES = ("numpy", "onnxruntime", "tokenizers", "sqlalchemy", "PyStemmer")


@dataclass(frozen=True, slots=True)
class SystemRun:
    """The run of one system.

    Attributes:
        name: Name of the system.
        run: Query id → document id → score; k documents per query if there are that many.
        seconds: Query id → time: its share of a batch of 16, with models loaded.
        manifest: What made the run: source, index, embedder, versions.
    """

    name: str
    run: dict[str, dict[str, float]]
    seconds: dict[str, float]
    manifest: dict[str, Any] = field(default_factory=dict)


def best_documents(hits: Sequence[Hit], k: int) -> dict[str, float]:
    """Return the first k documents of ranked chunks; a document's score is its best chunk's."""
    scores: dict[str, float] = {}
    for hit in hits:
        if hit.chunk.doc_id not in scores and len(scores) < k:
            scores[hit.chunk.doc_id] = hit.score
    return scores


def search_documents(
    retriever: Retriever, queries: Sequence[str], k: int
) -> list[dict[str, float]]:
    """Return the k best documents of each query, retrieving chunks until there are k documents.

    Args:
        retriever: Retriever of chunks.
        queries: The queries.
        k: Number of documents.
    """
    documents: list[dict[str, float]] = [{} for _ in queries]
    pending = list(range(len(queries)))
    n_chunks = 2 * k
    while pending:
        hits = retriever.retrieve([queries[i] for i in pending], n_chunks)
        incomplete = []
        for i, row in zip(pending, hits, strict=True):
            documents[i] = best_documents(row, k)
            if len(documents[i]) < k and len(row) == n_chunks:
                incomplete.append(i)
        pending, n_chunks = incomplete, 4 * n_chunks
    return documents


def make_run(
    name: str,
    retriever: Retriever,
    queries: Mapping[str, str],
    k: int,
    *,
    file: Path | None = None,
    on_query: OnQuery | None = None,
) -> SystemRun:
    """Search with all queries; with a file, resume where an earlier process stopped.

    Args:
        name: Name of the system.
        retriever: The system.
        queries: Query id → text.
        k: Number of documents per query.
        file: JSON Lines file, flushed after every batch. An existing file is continued only if the
            manifest (see `run_manifest`), the queries and k are the same; otherwise it is replaced.
        on_query: Called after each batch.
    """
    manifest = run_manifest(retriever)
    key = text_digest(json.dumps([name, manifest, list(queries.items()), k], sort_keys=True))
    done: dict[str, tuple[dict[str, float], float]] = {}
    if file is not None:
        done = {query: (scores, seconds) for query, scores, seconds in resume_rows(file, key)}
    pending = [query for query in queries if query not in done]
    if pending:  # load models and map files before time is measured
        retriever.retrieve([queries[pending[0]]], 1)
    for start in range(0, len(pending), _BATCH):
        batch = pending[start : start + _BATCH]
        start_time = time.perf_counter()
        rows = search_documents(retriever, [queries[query] for query in batch], k)
        seconds = (time.perf_counter() - start_time) / len(batch)
        done |= {query: (row, seconds) for query, row in zip(batch, rows, strict=True)}
        if file is not None:
            append_rows(file, [[query, *done[query]] for query in batch])
        if on_query:
            on_query(len(done), len(queries))
    return SystemRun(
        name,
        {query: done[query][0] for query in queries},
        {query: done[query][1] for query in queries},
        manifest,
    )


def resume_rows(file: Path, key: str) -> list[Any]:
    """Read the rows of a run's file, dropping a truncated last line; start a new file if needed.

    Args:
        file: JSON Lines file; its first line is the key of the run.
        key: Digest of everything the rows depend on; a file with another key is replaced.

    Raises:
        DatasetError: A complete line is not JSON.
    """
    n_complete = 0  # bytes of complete lines
    rows: list[Any] = []
    if file.exists():
        data = file.read_bytes()
        n_complete = data.rfind(b"\n") + 1
        rows = list(_lines(file, data[:n_complete]))
    if not rows or rows[0] != {"run": key}:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"run": key}) + "\n")
        return []
    with file.open("r+b") as stream:
        stream.truncate(n_complete)
    return rows[1:]


def _lines(file: Path, data: bytes) -> Iterator[Any]:
    for number, line in enumerate(data.decode("utf-8").splitlines(), start=1):
        try:
            yield json.loads(line)
        except ValueError as error:
            raise DatasetError(
                f"{file} line {number} is not JSON ({error}); delete the file to make the run again"
            ) from error


def append_rows(file: Path, rows: Sequence[Any]) -> None:
    """Append rows to a run's file, durably."""
    with file.open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
        stream.flush()
        os.fsync(stream.fileno())


def run_manifest(retriever: object) -> dict[str, Any]:
    """Describe what a retriever's results depend on: its kind, settings, source and versions."""
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
