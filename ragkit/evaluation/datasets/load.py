"""Any data set, by its name or by where it lies."""

from __future__ import annotations

import difflib
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ragkit.errors import DatasetError
from ragkit.evaluation.datasets.beir import is_beir, read_beir
from ragkit.evaluation.datasets.catalogue import CATALOGUE, DatasetInfo
from ragkit.evaluation.datasets.faults import Faults
from ragkit.evaluation.datasets.kilt import read_kilt
from ragkit.evaluation.datasets.openqa import (
    read_fever,
    read_litm,
    read_nq_open,
    read_strategyqa,
)
from ragkit.evaluation.datasets.pairs import read_key_values
from ragkit.evaluation.datasets.questions import read_2wiki, read_hotpot, read_musique, read_squad
from ragkit.evaluation.datasets.reading import Source, json_members, json_values
from ragkit.evaluation.datasets.shapes import Dataset, QASet, RetrievalSet
from ragkit.evaluation.datasets.smart import is_smart, read_smart
from ragkit.evaluation.datasets.splitting import take_split

_ROOT = Path("../shared/data")
_FOLDERS = {"litm_oracle_kv": "nq_gold"}

_SIGNATURES: tuple[tuple[set[str], Callable[..., Dataset]], ...] = (
    ({"ordered_kv_records"}, read_key_values),
    ({"question", "ctxs"}, read_litm),
    ({"question", "paragraphs"}, read_musique),
    ({"question", "context", "evidences"}, read_2wiki),
    ({"question", "context", "supporting_facts"}, read_hotpot),
    ({"question", "facts", "qid"}, read_strategyqa),
    ({"claim", "label"}, read_fever),
    ({"output"}, read_kilt),
    ({"question", "answer"}, read_nq_open),
)
"""Members of a record → what reads it; the first that fits."""


def names() -> list[str]:
    """The names that `load_dataset` knows, sorted.

    >>> "nfcorpus" in names()
    True
    """
    return sorted(CATALOGUE)


def info(name: str) -> DatasetInfo:
    """What is known of a named data set.

    Raises:
        DatasetError: No set has this name.

    >>> info("xquad").splits, info("cranfield").default
    (('test',), 'all')
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    raise DatasetError(_unknown(name))


def data_root(root: str | Path | None = None) -> Path:
    """The folder with the data sets: the argument, else RAGKIT_DATA, else ../shared/data.

    Raises:
        DatasetError: It is not there.
    """
    given = root or os.environ.get("RAGKIT_DATA")
    path = Path(given or _ROOT)
    if not path.is_dir():
        origin = "root=" if root else "RAGKIT_DATA=" if given else "no RAGKIT_DATA set, so "
        raise DatasetError(
            f"no data folder at {path.absolute()} ({origin}{path}); "
            "set RAGKIT_DATA to the folder that holds the data sets"
        )
    return path


def load_dataset(
    name_or_path: str | Path,
    *,
    split: str | None = None,
    lenient: bool = False,
    root: str | Path | None = None,
) -> Dataset:
    """A data set in its shape: RetrievalSet, RerankSet, QASet, PairSet or KeyValueSet.

    Splits are those that were published. Data without any are split by the digest of the gold
    passage's id (70 % train, 10 % dev, 20 % test; see `splitting`), and read whole by default.

    Args:
        name_or_path: One of `names()`; the name of a folder of the data root that holds one set;
            or a path: a BEIR folder or zip, a folder of .I/.T/.W files, a folder with the files
            of a named set, or a JSON file of one of the known formats. A name goes before a
            folder of the same name; write "./name" for that.
        split: "train", "dev", "test", or "all"; default: the published test split, else all.
        lenient: Skip what is malformed and list it, counted, in `losses`.
        root: The data root; default: RAGKIT_DATA, else ../shared/data.

    Raises:
        DatasetError: No such set, split or file, or malformed data; the message has file and line.
    """
    if isinstance(name_or_path, str):
        entry = _named(name_or_path)
        if entry:
            return _read_named(entry, data_root(root) / entry.folder, split, lenient)
    path = Path(name_or_path)
    if not path.exists():
        raise DatasetError(f"{_unknown(str(name_or_path))}, and nothing lies at {path.absolute()}")
    if path.is_file() and path.suffix.lower() != ".zip":
        return _by_digest(_sniffed(path)(path, lenient=lenient), split)
    if is_beir(path):
        return read_beir(path, split=split or "test", lenient=lenient)
    here = [entry for entry in CATALOGUE.values() if _fits(entry, path)]
    if here:
        return _chosen(here, path.resolve().name).read(path, split, lenient=lenient)
    if is_smart(path):
        return _by_digest(read_smart(path, lenient=lenient), split)
    raise DatasetError(
        f"the folder {path} has no layout that is known: BEIR (corpus.jsonl, queries.jsonl, "
        "qrels/), .I/.T/.W files, or the files of a named set; call the reader of its format"
    )


def load_retrieval(
    name_or_path: str | Path,
    *,
    split: str | None = None,
    lenient: bool = False,
    root: str | Path | None = None,
) -> RetrievalSet:
    """As `load_dataset`, for retrieval: questions with passages become queries and judgements.

    Args:
        name_or_path: As in `load_dataset`.
        split: As in `load_dataset`.
        lenient: As in `load_dataset`.
        root: As in `load_dataset`.

    Raises:
        DatasetError: As in `load_dataset`; or the set has no corpus or no judged queries.
    """
    data = load_dataset(name_or_path, split=split, lenient=lenient, root=root)
    if not isinstance(data, RetrievalSet | QASet):
        raise DatasetError(f"{data.name} is no set for retrieval but a {type(data).__name__}")
    if not data.corpus or not data.qrels:
        missing = "no corpus" if not data.corpus else "no judged queries"
        raise DatasetError(f"{data.name} ({data.split}) has {missing}; choose another set or split")
    if isinstance(data, RetrievalSet):
        return data
    queries, qrels = data.queries, data.qrels
    return RetrievalSet(data.name, data.split, data.passages, queries, qrels, data.losses)


def _named(name: str) -> DatasetInfo | None:
    if name in CATALOGUE:
        return CATALOGUE[name]
    inside = [entry for entry in CATALOGUE.values() if entry.folder == name]
    return _chosen(inside, name) if inside else None


def _chosen(entries: list[DatasetInfo], folder: str) -> DatasetInfo:
    """The only one, or the one that the folder is known for."""
    known = _FOLDERS.get(folder, folder)
    for entry in entries:
        if len(entries) == 1 or entry.name == known:
            return entry
    listed = ", ".join(entry.name for entry in entries)
    raise DatasetError(f"the folder {folder!r} holds several sets; name one: {listed}")


def _read_named(entry: DatasetInfo, folder: Path, split: str | None, lenient: bool) -> Dataset:
    if not folder.is_dir():
        raise DatasetError(
            f"{entry.name} should lie in {folder.absolute()}, which is not there; "
            "set RAGKIT_DATA to the folder that holds the data sets"
        )
    return entry.read(folder, split, lenient=lenient)


def _by_digest(data: Dataset, split: str | None) -> Dataset:
    known = ("train", "dev", "test", "all")
    if split and split not in known:
        raise DatasetError(f"{data.name} has no split {split!r}; it has {', '.join(known)}")
    return take_split(data, split or "all")


def _fits(entry: DatasetInfo, folder: Path) -> bool:
    return all((folder / file).is_file() for file in entry.files)


def _sniffed(path: Path) -> Callable[..., Dataset]:
    """The reader for the first record of a JSON file."""
    source, faults = Source(path), Faults(lenient=True)
    if source.suffix in (".json", ".jsonl", ".ndjson"):
        first = next((value for _, value in json_values(source, faults)), None)
        if isinstance(first, dict):
            return _reader(first, path)
        members = itertools.islice(json_members(source, faults), 1)
        for _, name, _value in members:
            if name in ("data", "version"):
                return read_squad
    raise DatasetError(
        f"{path} is in no format that is known by its first record; call the reader of its format"
    )


def _reader(record: dict[str, Any], path: Path) -> Callable[..., Dataset]:
    if isinstance(record.get("data"), list):
        return read_squad
    for members, read in _SIGNATURES:
        if members <= record.keys():
            return read
    raise DatasetError(
        f"{path}: a record with {', '.join(sorted(record)[:8])} is in no format that is known; "
        "call the reader of its format"
    )


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, names(), 1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"no data set is named {name!r}{hint}; known are {', '.join(names())}"
