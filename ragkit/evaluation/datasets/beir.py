"""BEIR folders and zips, and Pyserini's JSON Lines.

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
    identifier,
    json_values,
    mapping,
    once,
    query_text,
    text,
)
from ragkit.evaluation.datasets.shapes import RetrievalSet
from ragkit.evaluation.datasets.trec import judgements
from ragkit.types import Document

_ORDER = ("train", "dev", "validation", "test")


def read_beir(path: str | Path, *, split: str = "test", lenient: bool = False) -> RetrievalSet:
    """A BEIR set: corpus.jsonl, queries.jsonl and qrels/<split>.tsv, each perhaps gzipped.

    Args:
        path: The folder, or a zip of it.
        split: One of the qrels files, or "all" of them. Queries are those that it judges.
        lenient: Skip what is malformed and list it in `losses`.

    Raises:
        DatasetError: There is no such split, or a record is malformed: no id, an id for the
            second time, a query without words, a judgement of what is not in the corpus.
    """
    layout = _layout(Path(path))
    splits = layout.splits()
    if split != "all" and split not in splits:
        raise DatasetError(
            f"{path} has no split {split!r}; it has {', '.join(splits) or 'no qrels'} "
            "(or all of them: 'all')"
        )
    faults = Faults(lenient=lenient)
    corpus = tuple(beir_documents(layout.source("corpus.jsonl"), faults))
    queries = beir_queries(layout.source("queries.jsonl"), faults)
    documents = {document.id for document in corpus}
    qrels: dict[str, dict[str, int]] = {}
    for name in splits if split == "all" else (split,):
        source = layout.source(f"qrels/{name}.tsv")
        found = judgements(source, faults, documents=documents, queries=queries)
        for query, judged in found.items():
            qrels[query] = qrels.get(query, {}) | judged
    judged_queries = {query: queries[query] for query in queries if query in qrels}
    return RetrievalSet(layout.name, split, corpus, judged_queries, qrels, faults.losses())


def beir_documents(source: Source, faults: Faults) -> Iterator[Document]:
    """corpus.jsonl one record at a time: `_id`, `text`, `title`, `metadata`."""
    seen: set[str] = set()
    for place, value in json_values(source, faults):
        with faults.at(place):
            row = mapping(value)
            key = identifier(row, "_id", "id")
            once(seen, key, "document")
            title = text(row, "title", "")
            metadata = mapping(row.get("metadata") or {})
            body = text(row, "text")
            # Some records are a title only; documents without text cannot be found.
            document = Document(key, body if body.strip() else title, title, metadata=metadata)
            seen.add(key)
            yield document


def beir_queries(source: Source, faults: Faults) -> dict[str, str]:
    """queries.jsonl: `_id` → `text`."""
    queries: dict[str, str] = {}
    for place, value in json_values(source, faults):
        with faults.at(place):
            row = mapping(value)
            key = identifier(row, "_id", "id")
            once(queries, key, "query")
            queries[key] = query_text(row, "text")
    return queries


def read_pyserini_jsonl(path: str | Path, *, lenient: bool = False) -> Iterator[Document]:
    """The documents of Pyserini's JSON collection, one at a time.

    A record has `id` and `contents`; `title` is the title, all other members are metadata.

    Args:
        path: A .jsonl or .json file, gzipped or not, or a folder of them, read in order of name.
        lenient: Skip malformed records and report them as losses (see `ragkit.losses`).

    Raises:
        DatasetError: There is no such file, or a record has no id, no contents, or an id for the
            second time.
    """
    root = Path(path)
    files = [root] if not root.is_dir() else sorted(_json_files(root))
    if not files:
        raise DatasetError(f"no .jsonl or .json files in {root}; name the folder that holds them")
    faults = Faults(lenient=lenient)
    seen: set[str] = set()
    for file in files:
        for place, value in json_values(Source(file), faults):
            with faults.at(place):
                row = mapping(value)
                key = identifier(row, "id", "docid", "_id")
                once(seen, key, "document")
                rest = {n: v for n, v in row.items() if n not in _PYSERINI}
                document = Document(
                    key, text(row, "contents"), text(row, "title", ""), metadata=rest
                )
                seen.add(key)
                yield document
    faults.report()


_PYSERINI = ("id", "docid", "_id", "contents", "title")


def _json_files(folder: Path) -> Iterator[Path]:
    for pattern in ("*.jsonl", "*.json", "*.jsonl.gz", "*.json.gz"):
        yield from folder.glob(pattern)


def is_beir(path: Path) -> bool:
    """Whether a folder or zip has a corpus.jsonl."""
    if path.is_dir():
        return any((path / name).is_file() for name in ("corpus.jsonl", "corpus.jsonl.gz"))
    return path.is_file() and path.suffix.lower() == ".zip"


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the files of a BEIR set are: a folder, or a zip and the folder in it."""

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
        raise DatasetError(f"{self.path} has no {self.prefix}{name}; BEIR sets have one")

    def splits(self) -> list[str]:
        head = self.prefix + "qrels/"
        found = {
            name[len(head) :].removesuffix(".gz").removesuffix(".tsv")
            for name in self.files
            if name.startswith(head) and name.removesuffix(".gz").endswith(".tsv")
        }
        return sorted(found, key=lambda name: (_ORDER.index(name) if name in _ORDER else 9, name))


def _layout(path: Path) -> _Layout:
    if path.is_dir():
        files = [p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()]
        return _Layout(path, files)
    try:
        with zipfile.ZipFile(path) as archive:
            files = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise DatasetError(
            f"{path} is no folder and cannot be read as a zip ({error}); check the path"
        ) from error
    for name in sorted(files, key=len):
        base = name.removesuffix(".gz")
        if base == "corpus.jsonl" or base.endswith("/corpus.jsonl"):
            return _Layout(path, files, base.removesuffix("corpus.jsonl"))
    raise DatasetError(f"{path} holds no corpus.jsonl; is it the zip of a BEIR set?")
