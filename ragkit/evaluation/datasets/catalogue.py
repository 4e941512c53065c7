"""Catalogue of named data sets: where their files are, how they are read and split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ragkit.errors import DatasetError
from ragkit.evaluation.datasets.beir import read_beir
from ragkit.evaluation.datasets.faults import Faults
from ragkit.evaluation.datasets.kilt import read_kilt
from ragkit.evaluation.datasets.mtrag import read_mtrag_queries, read_mtrag_tasks
from ragkit.evaluation.datasets.openqa import (
    read_clapnq,
    read_fever,
    read_litm,
    read_llamp,
    read_nq_open,
    read_pubmedqa,
    read_strategyqa,
)
from ragkit.evaluation.datasets.pairs import read_key_values, read_sts
from ragkit.evaluation.datasets.questions import read_2wiki, read_hotpot, read_musique, read_squad
from ragkit.evaluation.datasets.reading import Source, json_members
from ragkit.evaluation.datasets.rerank import read_noveleval, read_rerank
from ragkit.evaluation.datasets.shapes import Dataset, PairSet, SupportSet
from ragkit.evaluation.datasets.smart import read_cacm, read_smart
from ragkit.evaluation.datasets.splitting import take_split
from ragkit.evaluation.datasets.support import SUPPORT_SETS, read_support_set
from ragkit.evaluation.datasets.trec import read_trec
from ragkit.evaluation.splits import split_of

Kind = Literal["retrieval", "rerank", "qa", "pairs", "probes", "support"]
Load = Callable[[Path, str, bool], Dataset]
"""Folder, split, lenient → data set."""

Read = Callable[[Sequence[Path], bool], Dataset]
"""Paths of the files, lenient → the full data set."""

BY_DIGEST = ("train", "dev", "test")


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """Catalogue entry of a named data set.

    Attributes:
        name: Name for `load_dataset`.
        kind: Shape: "retrieval" and "rerank" (RetrievalSet, RerankSet), "qa" (QASet), "pairs"
            (PairSet), "probes" (KeyValueSet), "support" (SupportSet).
        folder: Folder under the data root.
        files: Files in the folder that are needed.
        splits: Names of the splits; "all" is always possible too.
        published: True if the splits were published; otherwise they are derived from digests.
        load: Reads the data set.
    """

    name: str
    kind: Kind
    folder: str
    files: tuple[str, ...]
    splits: tuple[str, ...]
    published: bool
    load: Load

    @property
    def default(self) -> str:
        """The default split: the published test split if there is one, or else all."""
        if not self.published:
            return "all"
        return "test" if "test" in self.splits else self.splits[0]

    def read(self, folder: Path, split: str | None, *, lenient: bool) -> Dataset:
        """Read the data set from a folder.

        Raises:
            DatasetError: There is no such split, or the files are missing or malformed.
        """
        split = split or self.default
        if split != "all" and split not in self.splits:
            splits = ", ".join((*self.splits, "all"))
            raise DatasetError(f"{self.name} has no split {split!r}; it has {splits}")
        return self.load(folder, split, lenient)


def _nfcorpus(folder: Path, split: str, lenient: bool) -> Dataset:
    zipped = folder / "nfcorpus.zip"
    data = read_beir(zipped if zipped.is_file() else folder, split=split, lenient=lenient)
    return replace(data, name="nfcorpus")


def _pubmedqa(folder: Path, split: str, lenient: bool) -> Dataset:
    """Read PubMedQA: 500 published test questions; a tenth of the others is dev, by digest."""
    data = read_pubmedqa(folder / "ori_pqal.json", lenient=lenient)
    source = Source(folder / "test_ground_truth.json")
    test_ids = {key for _, key, _ in json_members(source, Faults(lenient=lenient))}

    def split_name(key: str) -> str:
        return "test" if key in test_ids else "dev" if split_of(key) == "dev" else "train"

    questions = tuple(q for q in data.questions if split in ("all", split_name(q.id)))
    return replace(data, name="pubmedqa", split=split, questions=questions)


def _stsb(folder: Path, split: str, lenient: bool) -> Dataset:
    parts = ("train", "dev", "test") if split == "all" else (split,)
    sets = [read_sts(folder / f"stsb-en-{part}.csv", lenient=lenient) for part in parts]
    pairs = tuple(
        replace(pair, id=f"{part}-{pair.id}")
        for part, data in zip(parts, sets, strict=True)
        for pair in data.pairs
    )
    losses = tuple(loss for data in sets for loss in data.losses)
    return PairSet("stsb", split, pairs, losses)


_KILT = ("gold1", "gold2", "gold3", "guess1_1", "guess2_1", "guess2_2", "guess3_1")


def _kilt(folder: Path, split: str, lenient: bool) -> Dataset:
    if split == "all":
        raise DatasetError(
            f"kilt_format has {len(_KILT)} files with overlapping ids; name one as the split: "
            + ", ".join(_KILT)
        )
    data = read_kilt(folder / f"{split}.jsonl", lenient=lenient)
    return replace(data, name="kilt_format", split=split)


def _support(name: str) -> DatasetInfo:
    """Return the entry of one of the sets in the folder `support`; its "dev" is for testing."""
    splits: list[Literal["train", "dev"]] = []
    if name in SUPPORT_SETS["dev"]:
        splits.append("dev")
    if name in SUPPORT_SETS["train"]:
        splits.append("train")

    def load(folder: Path, split: str, lenient: bool) -> Dataset:
        del lenient  # as published: every record of these files is known to be whole
        parts = [read_support_set(folder, name, s) for s in splits if split in (s, "all")]
        return SupportSet(name, split, tuple(pair for part in parts for pair in part.pairs))

    files = ("exclude_train.txt",)
    return DatasetInfo(name, "support", "support", files, tuple(splits), True, load)


def _entry(
    name: str, kind: Kind, folder: str, files: tuple[str, ...], read: Read, *, split: str = ""
) -> DatasetInfo:
    """Return the entry of a data set that is read in full and then split.

    Args:
        name: Name of the data set.
        kind: Its shape.
        folder: Its folder.
        files: Its files.
        read: Reads the files.
        split: The split it was published as; if empty, it is split by digest.
    """

    def load(folder: Path, split_name: str, lenient: bool) -> Dataset:
        data = replace(read([folder / file for file in files], lenient), name=name)
        return replace(data, split=split_name) if split else take_split(data, split_name)

    return DatasetInfo(
        name, kind, folder, files, (split,) if split else BY_DIGEST, bool(split), load
    )


def _first(read: Callable[..., Dataset]) -> Read:
    return lambda paths, lenient: read(paths[0], lenient=lenient)


def _folder(read: Callable[..., Dataset]) -> Read:
    return lambda paths, lenient: read(paths[0].parent, lenient=lenient)


def _with_corpus(read: Callable[..., Dataset]) -> Read:
    return lambda paths, lenient: read(paths[0], corpus=paths[1], lenient=lenient)


def _trec(paths: Sequence[Path], lenient: bool) -> Dataset:
    return read_trec(*paths, lenient=lenient)


def _rerank(paths: Sequence[Path], lenient: bool) -> Dataset:
    return read_rerank(*paths, lenient=lenient)


def _two_wiki(paths: Sequence[Path], lenient: bool) -> Dataset:
    return read_2wiki(corpus=paths[0], lenient=lenient)


def _mtrag(paths: Sequence[Path], lenient: bool) -> Dataset:
    return read_mtrag_queries(paths[0].parents[1], lenient=lenient)


_smart, _squad, _nq_open = _folder(read_smart), _first(read_squad), _first(read_nq_open)
_hotpot, _musique = _with_corpus(read_hotpot), _with_corpus(read_musique)

_ENTRIES = [
    DatasetInfo("nfcorpus", "retrieval", "nfcorpus", ("nfcorpus.zip",), BY_DIGEST, True, _nfcorpus),
    _entry(
        "cranfield", "retrieval", "cranfield", ("cran.all.1400", "cran.qry", "cranqrel"), _smart
    ),
    _entry("medline", "retrieval", "medline", ("MED.ALL", "MED.QRY", "MED.REL"), _smart),
    _entry(
        "vaswani",
        "retrieval",
        "vaswani",
        ("doc-text.trec", "query-text.trec", "qrels.txt"),
        _trec,
    ),
    _entry(
        "cacm",
        "retrieval",
        "cacm",
        ("cacm.tar.gz", "topics.cacm.txt", "qrels.cacm.txt"),
        _folder(read_cacm),
    ),
    _entry(
        "dl19_rerank",
        "rerank",
        "dl19_rerank",
        ("retrieve_results_dl19.json", "qrels.dl19-passage.txt"),
        _rerank,
        split="test",
    ),
    _entry(
        "noveleval",
        "rerank",
        "noveleval",
        ("corpus.tsv", "queries.tsv", "qrels.txt"),
        _folder(read_noveleval),
        split="test",
    ),
    _entry("nq_gold", "qa", "litm_oracle_kv", ("nq-open-oracle.jsonl.gz",), _first(read_litm)),
    _entry(
        "hotpotqa_train",
        "qa",
        "multihop_train",
        ("hotpotqa_train.json", "hotpotqa_train_corpus.json"),
        _hotpot,
    ),
    _entry(
        "musique_train",
        "qa",
        "multihop_train",
        ("musique_train.json", "musique_train_corpus.json"),
        _musique,
    ),
    _entry("2wiki_corpus", "qa", "multihop_train", ("2wikimultihopqa_corpus.json",), _two_wiki),
    _entry("xquad", "qa", "xquad", ("xquad.en.json",), _squad, split="test"),
    _entry("xquad_de", "qa", "xquad", ("xquad.de.json",), _squad, split="test"),
    DatasetInfo(
        "pubmedqa",
        "qa",
        "pubmedqa",
        ("ori_pqal.json", "test_ground_truth.json"),
        BY_DIGEST,
        True,
        _pubmedqa,
    ),
    _entry(
        "clapnq",
        "qa",
        "clapnq_dev",
        ("answerable.jsonl.gz", "unanswerable.jsonl.gz"),
        _folder(read_clapnq),
        split="dev",
    ),
    _entry("strategyqa", "qa", "strategyqa", ("dev.json",), _first(read_strategyqa), split="dev"),
    _entry("nq_open", "qa", "nq_open", ("NQ-open.dev.jsonl",), _nq_open, split="dev"),
    _entry(
        "efficientqa",
        "qa",
        "nq_open",
        ("NQ-open.efficientqa.dev.1.1.jsonl",),
        _nq_open,
        split="dev",
    ),
    _entry(
        "hotpotqa_closed",
        "qa",
        "react_hotpot_fever",
        ("hotpot_dev_v1_simplified.json",),
        _nq_open,
        split="dev",
    ),
    _entry(
        "fever",
        "qa",
        "react_hotpot_fever",
        ("fever_paper_dev.jsonl",),
        _first(read_fever),
        split="dev",
    ),
    _entry(
        "mtrag",
        "qa",
        "mtrag",
        ("retrieval_tasks/clapnq/clapnq_lastturn.jsonl",),
        _mtrag,
        split="dev",
    ),
    _entry("mtragun", "qa", "mtrag", ("mtragun_reference.jsonl",), _first(read_mtrag_tasks)),
    _entry("llamp_magnetism", "qa", "llamp_eval", ("6_eval_dataset.csv",), _first(read_llamp)),
    DatasetInfo(
        "kilt_format",
        "qa",
        "kilt_format",
        ("gold1.jsonl", "guess1_1.jsonl"),
        _KILT,
        True,
        _kilt,
    ),
    DatasetInfo(
        "stsb", "pairs", "stsb", ("stsb-en-dev.csv", "stsb-en-test.csv"), BY_DIGEST, True, _stsb
    ),
    _entry(
        "kv_75",
        "probes",
        "litm_oracle_kv",
        ("kv-retrieval-75_keys.jsonl.gz",),
        _first(read_key_values),
    ),
]

_ENTRIES += [_support(name) for name in {**SUPPORT_SETS["dev"], **SUPPORT_SETS["train"]}]
CATALOGUE = {entry.name: entry for entry in _ENTRIES}
