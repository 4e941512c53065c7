"""Pairs of evidence and statement, from the public data sets in the folder `support`.

The split is that of the folder's notice: fifteen sets train, eleven are for development, of which
ANLI, MEMERAG (both non-commercial), AttributionBench and BUMP are for testing only.
"""

from __future__ import annotations

import ast
import csv
import gzip
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from ragkit.digests import text_digest
from ragkit.evaluation.datasets.shapes import SupportLabel, SupportPair, SupportSet

PTB = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "``": '"', "''": '"'}
"""Marks of the Penn Treebank, and what they stand for."""
_LABELS: dict[str, SupportLabel] = {
    **dict.fromkeys(("entailment", "e", "supports", "1"), "supported"),
    **dict.fromkeys(("neutral", "n", "not_enough_info"), "unknown"),
    **dict.fromkeys(("contradiction", "c", "refutes"), "contradicted"),
    **dict.fromkeys(("not_entailment", "0"), "unsupported"),
}
_Row = tuple[str, str, str]  # evidence, statement, label


def read_support(root: Path, split: Literal["train", "dev"] = "train") -> Iterator[SupportPair]:
    """Yield the pairs of every data set of a split.

    Training pairs that share a statement or a run of twelve words with a test set are left out.

    Args:
        root: Folder of the data sets (`RAGKIT_DATA`).
        split: "train", or "dev" for the sets to choose and test on.
    """
    for source in SUPPORT_SETS[split]:
        yield from read_support_set(root / "support", source, split).pairs


def read_support_set(folder: Path, source: str, split: Literal["train", "dev"]) -> SupportSet:
    """Read the pairs of one data set.

    Args:
        folder: The folder `support`.
        source: Name of the data set, one of `SUPPORT_SETS[split]`.
        split: "train", or "dev" for the sets to choose and test on.
    """
    is_train = split == "train"
    drop = set((folder / "exclude_train.txt").read_text().split()) if is_train else set()
    pairs = []
    for evidence, statement, label in SUPPORT_SETS[split][source](folder / "data" / source):
        evidence, statement = evidence.strip(), statement.strip()
        known = _LABELS.get(label.lower())
        if known and evidence and statement and _pair_key(evidence, statement) not in drop:
            group = f"{source}:{text_digest(evidence)[:16]}"
            pairs.append(SupportPair(statement, evidence, known, group, source))
    return SupportSet(source, split, tuple(pairs))


def read_text(path: Path) -> str:
    """Read a gzipped text file."""
    with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as stream:
        return stream.read()


def _pair_key(evidence: str, statement: str) -> str:
    plain = (re.sub(r"[^a-z0-9]+", " ", text.lower()).strip() for text in (evidence, statement))
    return hashlib.sha1("|".join(plain).encode()).hexdigest()[:16]


def _table(path: Path, *, tabs: bool = False) -> Iterator[dict[str, str]]:
    csv.field_size_limit(10**9)
    if tabs:
        return csv.DictReader(io.StringIO(read_text(path)), delimiter="\t", quoting=csv.QUOTE_NONE)
    return csv.DictReader(io.StringIO(read_text(path)))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in read_text(path).split("\n") if line.strip())


def _nli(folder: Path) -> Iterator[_Row]:
    for row in _table(folder / "dev.csv.gz"):
        yield row["premise"], row["hypothesis"], row["label"]


def _fever_nli(folder: Path) -> Iterator[_Row]:
    for name in ("dev.txt.gz", "test.txt.gz"):
        for line in read_text(folder / name).split("\n"):
            fields = line.split("\t")
            if len(fields) == 3:
                yield _without_ptb(fields[1]), _without_ptb(fields[2]), fields[0]


def _fever_symmetric(folder: Path) -> Iterator[_Row]:
    for name in ("dev", "test"):
        for row in _lines(folder / f"fever_symmetric_{name}.jsonl.gz"):
            evidence = row.get("evidence_sentence") or row.get("evidence") or ""
            label = row.get("gold_label") or row.get("label") or ""
            yield _without_ptb(evidence), _without_ptb(row["claim"]), label


def _conjnli(name: str) -> Callable[[Path], Iterator[_Row]]:
    def read(folder: Path) -> Iterator[_Row]:
        for row in _table(folder / name, tabs=True):
            yield row["Premise"], row["Hypothesis"], (row["Label"] or "").strip()

    return read


def _true(name: str) -> Callable[[Path], Iterator[_Row]]:
    def read(folder: Path) -> Iterator[_Row]:
        for row in _table(folder / name):
            yield row["grounding"], row["generated_text"], str(int(float(row["label"])))

    return read


def _begin(folder: Path) -> Iterator[_Row]:
    labels = {"Fully attributable": "1", "Not fully attributable": "0"}
    for name in ("begin_test_wow", "begin_dev_wow", "begin_dev_cmu", "begin_dev_tc"):
        for row in _table(folder / f"{name}.tsv.gz", tabs=True):
            yield row["knowledge"], row["response"], labels.get(row["begin_label"], "")


def _summedits(*names: str) -> Callable[[Path], Iterator[_Row]]:
    def read(folder: Path) -> Iterator[_Row]:
        for name in names:
            for row in json.loads(read_text(folder / f"summedits_{name}.json.gz")):
                yield row["doc"], row["summary"], str(int(row["label"]))

    return read


def _expertqa(name: str) -> Callable[[Path], Iterator[_Row]]:
    def read(folder: Path) -> Iterator[_Row]:
        labels = {"Complete": "1", "Partial": "0", "Incomplete": "0"}
        for row in _lines(folder / name):
            for answer in row["answers"].values():
                for claim in answer["claims"]:
                    evidence = [
                        re.sub(r"^https?://\S+\s*", "", re.sub(r"^\[\d+\]\s*", "", text.strip()))
                        for text in claim["evidence"]
                    ]
                    kept = [text.strip() for text in evidence if len(text.strip()) > 80]
                    label = labels.get(claim["support"], "")
                    yield "\n\n".join(kept), _without_marks(claim["claim_string"]), label

    return read


def _fool_me_twice(name: str) -> Callable[[Path], Iterator[_Row]]:
    def read(folder: Path) -> Iterator[_Row]:
        for row in _lines(folder / name):
            evidence = " ".join(part["text"] for part in row["gold_evidence"])
            yield evidence, row["text"], row["label"]

    return read


def _halueval(folder: Path) -> Iterator[_Row]:
    for name in ("one-turn", "multi-turn"):
        for row in _lines(folder / f"qa_{name}_data.json.gz"):
            for key, label in (("right_answer", "1"), ("hallucinated_answer", "0")):
                if name == "one-turn" or label == "0":
                    yield row["knowledge"], f"{row['question'].strip()} {row[key]}", label


def _monotonicity(folder: Path) -> Iterator[_Row]:
    for row in _table(folder / "MED.tsv.gz", tabs=True):
        yield row["sentence1"], row["sentence2"], row["gold_label"]


def _breaking_nli(folder: Path) -> Iterator[_Row]:
    with zipfile.ZipFile(folder / "breaking_nli_dataset.zip") as archive:
        for line in archive.read("data/dataset.jsonl").decode().splitlines():
            row = json.loads(line)
            yield row["sentence1"], row["sentence2"], row["gold_label"]


def _without_ptb(text: str) -> str:
    for old, new in PTB.items():
        text = text.replace(old, new)
    text = re.sub(r" ([.,;:!?%)\]])", r"\1", text)
    text = re.sub(r"([(\[$]) ", r"\1", text)
    return re.sub(r" ('s|n't|'re|'ve|'ll|'d|'m)\b", r"\1", text)


def _without_marks(text: str) -> str:
    return re.sub(r"(\s*\[\d+\])+", "", text)


def _attributionbench(folder: Path) -> Iterator[_Row]:
    for row in _lines(folder / "dev_all_subset_balanced.jsonl.gz"):
        if row["src_dataset"] in ("Stanford-GenSearch", "AttributedQA"):
            sources = row["references"]
            sources = ast.literal_eval(sources) if isinstance(sources, str) else sources
            label = str(int(row["attribution_label"] == "attributable"))
            yield "\n\n".join(sources), _without_marks(row["claim"]), label


def _factcheckgpt(folder: Path) -> Iterator[_Row]:
    for row in _lines(folder / "subtask3_claim_evidence_stance.jsonl.gz"):
        yield row["evidence"], row["claim"], str(int(row["stance"] == "completely-support"))


def _wice(folder: Path) -> Iterator[_Row]:
    for row in _lines(folder / "dev.jsonl.gz"):
        yield " ".join(row["evidence"]), row["claim"], str(int(row["label"] == "supported"))


def _bump(folder: Path) -> Iterator[_Row]:
    for name in ("task1", "task2"):
        seen = set()
        for row in json.loads(read_text(folder / f"{name}_dataset.json.gz")):
            if row["article_id"] not in seen:
                seen.add(row["article_id"])
                yield row["article"], row["reference_summary"], "1"
            yield row["article"], row["edited_summary"], "0"


def _kqa(folder: Path) -> Iterator[_Row]:
    for row in _table(folder / "NLI_medical_annotator.csv.gz"):
        yield row["answer"], row["claim"], row["majority_label"]


def _anli(folder: Path) -> Iterator[_Row]:
    for n in (1, 2, 3):
        for row in _table(folder / f"ANLI_analysis_r{n}_dev.csv.gz"):
            yield row["context"], row["statement"], row["gold_label"]


def _memerag(folder: Path) -> Iterator[_Row]:
    labels = {"Supported": "1", "Not Supported": "0"}
    for name in ("memerag_en", "memerag_majority_en"):
        for row in _lines(folder / f"{name}.jsonl.gz"):
            evidence = "\n\n".join(part["text"] for part in row["context"])
            for sentence in row["answer"]:
                yield evidence, sentence["sentence"], labels.get(sentence["factuality"], "")


_Sets = dict[str, Callable[[Path], Iterator[_Row]]]
_TRAINING: _Sets = {
    "fever_nli": _fever_nli,
    "fever_symmetric": _fever_symmetric,
    "mnli_dev": _nli,
    "snli_dev": _nli,
    "conjnli": _conjnli("adversarial_train_15k.tsv.gz"),
    "paws_true": _true("paws.csv.gz"),
    "dialfact_true": _true("dialfact.csv.gz"),
    "q2_true": _true("q2.csv.gz"),
    "begin": _begin,
    "summedits": _summedits("scitldr", "ectsum", "qmsumm", "sales_call", "sales_email"),
    "expertqa": _expertqa("domain_val.jsonl.gz"),
    "fool_me_twice": _fool_me_twice("test.jsonl.gz"),
    "halueval_qa_demo": _halueval,
    "monotonicity": _monotonicity,
    "breaking_nli": _breaking_nli,
}
_DEVELOPMENT: _Sets = {
    "anli_dev": _anli,
    "attributionbench_dev": _attributionbench,
    "bump": _bump,
    "conjnli": _conjnli("conj_dev.tsv.gz"),
    "expertqa": _expertqa("domain_test.jsonl.gz"),
    "factcheckgpt": _factcheckgpt,
    "fool_me_twice": _fool_me_twice("dev.jsonl.gz"),
    "kqa_nli": _kqa,
    "memerag_dev": _memerag,
    "summedits": _summedits("news", "podcast"),
    "wice": _wice,
}
SUPPORT_SETS: dict[str, _Sets] = {"train": _TRAINING, "dev": _DEVELOPMENT}
"""Split → name → reader of a folder."""
