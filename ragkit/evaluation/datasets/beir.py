"""Readers of BEIR folders and zips, and of Pyserini's JSON Lines.

Source: https://github.com/beir-cellar/beir (Thakur et al. 2021) and
https://github.com/castorini/pyserini/blob/master/docs/usage-index.md.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ragkit.errors import DatasetError
from ragkit.evaluation.datasets.faults import Faults
from ragkit.evaluation.datasets.reading import (
    Source,
    as_object,
    check_unique,
    get_id,
    get_query,
    get_string,
    json_values,
)
from ragkit.evaluation.datasets.shapes import RetrievalSet
from ragkit.evaluation.datasets.trec import judgements
from ragkit.types import Document

_ORDER = ("train", "dev", "validation", "test")


def read_beir(path: str | Path, *, split: str = "test", lenient: bool = False) -> RetrievalSet:
    """Read a BEIR data set: corpus.jsonl, queries.jsonl and qrels/<split>.tsv, plain or gzipped.

    Args:
        path: The folder, or a zip of it.
        split: Name of a qrels file, or "all" for all of them. Only judged queries are returned.
        lenient: Skip malformed records and list them in `losses`.

    Raises:
        DatasetError: There is no such split, or a record is malformed: a missing or duplicate id,
            a query without text, a judgement of a document that is not in the corpus.
    """
    layout = _layout(Path(path))
    splits = layout.splits()
    if split != "all" and split not in splits:
        raise DatasetError(
            f"{path} has no split {split!r}; it has {', '.join(splits) or 'no qrels'} "
            "(or 'all' for all of them)"
        )
    faults = Faults(lenient=lenient)
    corpus = tuple(beir_documents(layout.source("corpus.jsonl"), faults))
    queries = beir_queries(layout.source("queries.jsonl"), faults)
    documents = {document.id for document in corpus}
    qrels: dict[str, dict[str, int]] = {}
    for name in splits if split == "all" else (split,):
        source = layout.source(f"qrels/{name}.tsv")
        split_qrels = judgements(source, faults, documents=documents, queries=queries)
        for query, judged in split_qrels.items():
            qrels[query] = qrels.get(query, {}) | judged
    judged_queries = {query: queries[query] for query in queries if query in qrels}
    return RetrievalSet(layout.name, split, corpus, judged_queries, qrels, faults.losses())


def beir_documents(source: Source, faults: Faults) -> Iterator[Document]:
    """Yield the documents of corpus.jsonl: `_id`, `text`, `title`, `metadata`."""
    seen: set[str] = set()
    for location, value in json_values(source, faults):
        with faults.at(location):
            row = as_object(value)
            key = get_id(row, "_id", "id")
            check_unique(seen, key, "document")
            title = get_string(row, "title", "")
            metadata = as_object(row.get("metadata") or {})
            body = get_string(row, "text")
            # Some records have a title only; documents without text could not be retrieved.
            document = Document(key, body if body.strip() else title, title, metadata=metadata)
            seen.add(key)
            yield document


def beir_queries(source: Source, faults: Faults) -> dict[str, str]:
    """Read queries.jsonl: `_id` → `text`."""
    queries: dict[str, str] = {}
    for location, value in json_values(source, faults):
        with faults.at(location):
            row = as_object(value)
            key = get_id(row, "_id", "id")
            check_unique(queries, key, "query")
            queries[key] = get_query(row, "text")
    return queries


def read_pyserini_jsonl(path: str | Path, *, lenient: bool = False) -> Iterator[Document]:
    """Yield the documents of Pyserini's JSON collection, one at a time.

    A record has `id` and `contents`; `title` is the title, all other members are metadata.

    Args:
        path: A .jsonl or .json file, gzipped or not, or a folder of them, read in order of name.
        lenient: Skip malformed records and report them as losses (see `ragkit.losses`).

    Raises:
        DatasetError: The file does not exist, or a record has no contents, or a missing or
            duplicate id.
    """
    root = Path(path)
    files = [root] if not root.is_dir() else sorted(_json_files(root))
    if not files:
        raise DatasetError(
            f"no .jsonl or .json files in {root}; name the folder that contains them"
        )
    faults = Faults(lenient=lenient)
    seen: set[str] = set()
    for file in files:
        for location, value in json_values(Source(file), faults):
            with faults.at(location):
                row = as_object(value)
                key = get_id(row, "id", "docid", "_id")
                check_unique(seen, key, "document")
                metadata = {n: v for n, v in row.items() if n not in _PYSERINI}
                document = Document(
                    key,
                    get_string(row, "contents"),
                    get_string(row, "title", ""),
                    metadata=metadata,
                )
                seen.add(key)
                yield document
    faults.report()


_PYSERINI = ("id", "docid", "_id", "contents", "title")


def _json_files(folder: Path) -> Iterator[Path]:
    for pattern in ("*.jsonl", "*.json", "*.jsonl.gz", "*.json.gz"):
        yield from folder.glob(pattern)


def is_beir(path: Path) -> bool:
    """Return True if a folder has a corpus.jsonl, or if the path is a zip."""
    if path.is_dir():
        return any((path / name).is_file() for name in ("corpus.jsonl", "corpus.jsonl.gz"))
    return path.is_file() and path.suffix.lower() == ".zip"


@dataclass(frozen=True, slots=True)
class _Layout:
    """Location of the files of a BEIR data set: a folder, or a zip and the folder in it."""

    path: Path
    files: Sequence[str]
    prefix: str = ""

    @property
    def name(self) -> str:
        return PurePosixPath(self.prefix).name or self.path.resolve().name.removesuffix(".zip")

    def source(self, name: str) -> Source:
        for member in (self.prefix + name, self.prefix + name + ".gz"):
            if member in self.files:
                if self.path.is_dir():
                    return Source(self.path / member)
                return Source(self.path, member)
        raise DatasetError(f"{self.path} has no {self.prefix}{name}, which BEIR data sets have")

    def splits(self) -> list[str]:
        prefix = self.prefix + "qrels/"
        names = {
            name[len(prefix) :].removesuffix(".gz").removesuffix(".tsv")
            for name in self.files
            if name.startswith(prefix) and name.removesuffix(".gz").endswith(".tsv")
        }
        return sorted(names, key=lambda name: (_ORDER.index(name) if name in _ORDER else 9, name))


def _layout(path: Path) -> _Layout:
    if path.is_dir():
        files = [p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()]
        return _Layout(path, files)
    try:
        with zipfile.ZipFile(path) as archive:
            files = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise DatasetError(
            f"{path} is not a folder and cannot be read as a zip ({error}); check the path"
        ) from error
    for name in sorted(files, key=len):
        base = name.removesuffix(".gz")
        if base == "corpus.jsonl" or base.endswith("/corpus.jsonl"):
            return _Layout(path, files, base.removesuffix("corpus.jsonl"))
    raise DatasetError(f"{path} contains no corpus.jsonl; expected the zip of a BEIR data set")
