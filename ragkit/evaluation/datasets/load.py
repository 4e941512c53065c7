"""Loading of data sets by name or path."""

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
    ({"question", "answers"}, read_nq_open),
)
"""Members of a record → reader; the first match is used."""


def names() -> list[str]:
    """Return the names that `load_dataset` knows, sorted.

    >>> "nfcorpus" in names()
    True
    """
    return sorted(CATALOGUE)


def info(name: str) -> DatasetInfo:
    """Return the catalogue entry of a named data set.

    Raises:
        DatasetError: No data set has this name.

    >>> info("xquad").splits, info("cranfield").default
    (('test',), 'all')
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    raise DatasetError(_unknown_name(name))


def data_root(root: str | Path | None = None) -> Path:
    """Return the folder with the data sets: the argument, else RAGKIT_DATA, else ../shared/data.

    Raises:
        DatasetError: The folder does not exist.
    """
    folder = root or os.environ.get("RAGKIT_DATA")
    path = Path(folder or _ROOT)
    if not path.is_dir():
        origin = "root=" if root else "RAGKIT_DATA=" if folder else "no RAGKIT_DATA set, so "
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
    """Load a data set as a RetrievalSet, RerankSet, QASet, PairSet, KeyValueSet or SupportSet.

    Published splits are used. Data without any are split by the digest of the gold passage's id
    (70 % train, 10 % dev, 20 % test; see `splitting`), and loaded in full by default.

    Args:
        name_or_path: One of `names()`; the name of a folder of the data root that contains one
            data set; or a path: a BEIR folder or zip, a folder of .I/.T/.W files, a folder with the
            files of a named data set, or a JSON file of one of the known formats. A name takes
            precedence over a folder of the same name; write "./name" for the folder.
        split: "train", "dev", "test", or "all"; default: the published test split, else all.
        lenient: Skip malformed records and list them, counted, in `losses`.
        root: The data root; default: RAGKIT_DATA, else ../shared/data.

    Raises:
        DatasetError: There is no such data set, split or file, or the data are malformed; the
            message has file and line.
    """
    if isinstance(name_or_path, str):
        entry = _find_entry(name_or_path)
        if entry:
            return _read_entry(entry, data_root(root) / entry.folder, split, lenient)
    path = Path(name_or_path)
    if not path.exists():
        raise DatasetError(
            f"{_unknown_name(str(name_or_path))}, and there is no file or folder {path.absolute()}"
        )
    if path.is_file() and path.suffix.lower() != ".zip":
        return _by_digest(_detect_reader(path)(path, lenient=lenient), split)
    if is_beir(path):
        return read_beir(path, split=split or "test", lenient=lenient)
    matching = [entry for entry in CATALOGUE.values() if _has_files(entry, path)]
    if matching:
        return _select(matching, path.resolve().name).read(path, split, lenient=lenient)
    if is_smart(path):
        return _by_digest(read_smart(path, lenient=lenient), split)
    raise DatasetError(
        f"the layout of the folder {path} is unknown; expected BEIR (corpus.jsonl, queries.jsonl, "
        "qrels/), .I/.T/.W files, or the files of a named data set; or call the reader of its "
        "format"
    )


def load_retrieval(
    name_or_path: str | Path,
    *,
    split: str | None = None,
    lenient: bool = False,
    root: str | Path | None = None,
) -> RetrievalSet:
    """Load a data set for retrieval: questions with passages become queries and judgements.

    Args:
        name_or_path: As in `load_dataset`.
        split: As in `load_dataset`.
        lenient: As in `load_dataset`.
        root: As in `load_dataset`.

    Raises:
        DatasetError: As in `load_dataset`; or there is no corpus or there are no judged queries.
    """
    data = load_dataset(name_or_path, split=split, lenient=lenient, root=root)
    if not isinstance(data, RetrievalSet | QASet):
        raise DatasetError(
            f"{data.name} is a {type(data).__name__}; expected a data set for retrieval"
        )
    if not data.corpus or not data.qrels:
        missing = "no corpus" if not data.corpus else "no judged queries"
        raise DatasetError(
            f"{data.name} ({data.split}) has {missing}; choose another data set or split"
        )
    if isinstance(data, RetrievalSet):
        return data
    queries, qrels = data.queries, data.qrels
    return RetrievalSet(data.name, data.split, data.passages, queries, qrels, data.losses)


def _find_entry(name: str) -> DatasetInfo | None:
    if name in CATALOGUE:
        return CATALOGUE[name]
    entries = [entry for entry in CATALOGUE.values() if entry.folder == name]
    return _select(entries, name) if entries else None


def _select(entries: list[DatasetInfo], folder: str) -> DatasetInfo:
    """Return the only entry, or the one that the folder stands for."""
    default = _FOLDERS.get(folder, folder)
    for entry in entries:
        if len(entries) == 1 or entry.name == default:
            return entry
    listed = ", ".join(entry.name for entry in entries)
    raise DatasetError(f"the folder {folder!r} contains several data sets; name one: {listed}")


def _read_entry(entry: DatasetInfo, folder: Path, split: str | None, lenient: bool) -> Dataset:
    if not folder.is_dir():
        raise DatasetError(
            f"{entry.name} is expected in {folder.absolute()}, which does not exist; "
            "set RAGKIT_DATA to the folder that holds the data sets"
        )
    return entry.read(folder, split, lenient=lenient)


def _by_digest(data: Dataset, split: str | None) -> Dataset:
    splits = ("train", "dev", "test", "all")
    if split and split not in splits:
        raise DatasetError(f"{data.name} has no split {split!r}; it has {', '.join(splits)}")
    return take_split(data, split or "all")


def _has_files(entry: DatasetInfo, folder: Path) -> bool:
    return all((folder / file).is_file() for file in entry.files)


def _detect_reader(path: Path) -> Callable[..., Dataset]:
    """Return the reader for the format of the first record of a JSON file."""
    source, faults = Source(path), Faults(lenient=True)
    if source.suffix in (".json", ".jsonl", ".ndjson"):
        first = next((value for _, value in json_values(source, faults)), None)
        if isinstance(first, dict):
            return _reader_of(first, path)
        members = itertools.islice(json_members(source, faults), 1)
        for _, name, _value in members:
            if name in ("data", "version"):
                return read_squad
    raise DatasetError(
        f"the format of {path} cannot be detected from its first record; call the reader of its "
        "format"
    )


def _reader_of(record: dict[str, Any], path: Path) -> Callable[..., Dataset]:
    if isinstance(record.get("data"), list):
        return read_squad
    for members, read in _SIGNATURES:
        if members <= record.keys():
            return read
    raise DatasetError(
        f"{path}: the format of a record with {', '.join(sorted(record)[:8])} is unknown; call the "
        "reader of its format"
    )


def _unknown_name(name: str) -> str:
    close = difflib.get_close_matches(name, names(), 1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"there is no data set {name!r}{hint}; known names: {', '.join(names())}"
