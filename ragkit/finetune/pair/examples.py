"""Examples for the pair model, and where they come from."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ragkit.digests import text_digest
from ragkit.evaluation.datasets import read_litm
from ragkit.evaluation.splits import split_of

SupportLabel = Literal["supported", "contradicted", "unknown", "unsupported"]


@dataclass(frozen=True, slots=True)
class SpanExample:
    """A question with a passage.

    Attributes:
        question: Text of the question.
        passage: Text of the passage.
        spans: Offsets of the accepted answers in the passage; empty if it does not answer.
        group: Article of the passage; held-out groups are those of other digests.
        source: Name of the data set.
    """

    question: str
    passage: str
    spans: tuple[tuple[int, int], ...]
    group: str
    source: str


@dataclass(frozen=True, slots=True)
class SupportExample:
    """A statement with its evidence.

    Attributes:
        statement: One statement.
        evidence: Text of the evidence.
        label: "unsupported" is either of "contradicted" and "unknown".
        group: Passage or article.
        source: Name of the data set.
    """

    statement: str
    evidence: str
    label: SupportLabel
    group: str
    source: str


def is_held_out(group: str, share: float = 0.06) -> bool:
    """Return True for a fixed share of all groups, by digest."""
    return int(text_digest(f"pair:{group}")[:8], 16) / 2**32 < share


def read_spans(root: Path) -> Iterator[SpanExample]:
    """Yield the examples with an answer of every data set that trains the span head.

    Args:
        root: Folder of the data sets (`RAGKIT_DATA`).
    """
    yield from _squad_files(root / "squadshifts", "squadshifts")
    yield from _squad_files(root / "policyqa", "policyqa")
    yield from _qamr(root / "qamr")
    yield from _natural_questions(root / "litm_oracle_kv" / "nq-open-oracle.jsonl.gz")


def _squad_files(folder: Path, source: str) -> Iterator[SpanExample]:
    for path in sorted(folder.glob("*.json.gz")):
        for article in json.loads(_text(path))["data"]:
            for number, paragraph in enumerate(article["paragraphs"]):
                # Reddit is one article: its paragraphs are threads of their own.
                single = path.name.startswith("reddit")
                group = f"{path.name}:{number if single else article['title']}"
                for question in paragraph["qas"]:
                    spans = {
                        (answer["answer_start"], answer["answer_start"] + len(answer["text"]))
                        for answer in question["answers"]
                    }
                    yield SpanExample(
                        question["question"].strip(),
                        paragraph["context"],
                        tuple(sorted(spans)),
                        group,
                        source,
                    )


_PTB = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "``": '"', "''": '"'}
_NO_SPACE_BEFORE = re.compile(r"[.,;:!?%)\]]|'s|n't|'re|'ve|'ll|'d|'m|'")


def _qamr(folder: Path) -> Iterator[SpanExample]:
    sentences = {}
    for line in _text(folder / "wiki-sentences.tsv.gz").splitlines():
        key, _, text = line.partition("\t")
        sentences[key] = _detokenize(text.split(" "))
    for name in ("dev.tsv.gz", "test.tsv.gz"):
        for line in _text(folder / name).splitlines():
            fields = line.split("\t")
            text, offsets = sentences[fields[0]]
            indices = sorted(map(int, fields[6].split()))
            if not indices or indices != list(range(indices[0], indices[-1] + 1)):
                continue
            span = (offsets[indices[0]][0], offsets[indices[-1]][1])
            # Sentence ids are corpus:site:article:paragraph:sentence.
            yield SpanExample(
                fields[5].strip(), text, (span,), "qamr:" + fields[0].split(":")[2], "qamr"
            )


def _detokenize(tokens: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    text, offsets, is_open = "", [], False
    for token in tokens:
        shown = _PTB.get(token, token)
        glued = not text or text[-1] in "([$" or bool(_NO_SPACE_BEFORE.fullmatch(shown))
        if shown == '"':
            glued, is_open = is_open, not is_open
        elif text.endswith('"') and is_open:
            glued = True
        text += "" if glued or not text else " "
        offsets.append((len(text), len(text) + len(shown)))
        text += shown
    return text, offsets


def _natural_questions(path: Path) -> Iterator[SpanExample]:
    data = read_litm(path)
    texts = {document.id: document.text for document in data.corpus}
    for question in data.questions:
        passage = texts[question.gold[0]]
        if split_of(question.gold[0]) != "train":
            continue
        spans = {
            match.span()
            for answer in question.answers
            for match in re.finditer(rf"(?<!\w){re.escape(answer)}(?!\w)", passage, re.IGNORECASE)
        }
        # With several mentions the first may be by chance; short answers are all taken.
        if spans:
            text = question.text if question.text.endswith("?") else question.text + "?"
            yield SpanExample(text, passage, tuple(sorted(spans)), f"nq:{question.gold[0]}", "nq")


_LABELS: dict[str, SupportLabel] = {
    **dict.fromkeys(("entailment", "e", "supports", "1"), "supported"),
    **dict.fromkeys(("neutral", "n", "not_enough_info"), "unknown"),
    **dict.fromkeys(("contradiction", "c", "refutes"), "contradicted"),
    **dict.fromkeys(("not_entailment", "0"), "unsupported"),
}
_Row = tuple[str, str, str]  # evidence, statement, label


def read_support(root: Path, *, excluded: bool = True) -> Iterator[SupportExample]:
    """Yield the training pairs of every data set for the support head.

    Pairs that share a statement or a run of twelve words with a test set are left out.

    Args:
        root: Folder of the data sets (`RAGKIT_DATA`).
        excluded: Leave out the pairs of `support/exclude_train.txt`.
    """
    folder = root / "support"
    drop = set((folder / "exclude_train.txt").read_text().split()) if excluded else set()
    for source, read in _TRAINING.items():
        for evidence, statement, label in read(folder / "data" / source):
            evidence, statement = evidence.strip(), statement.strip()
            known = _LABELS.get(label.lower())
            if known and evidence and statement and _pair_key(evidence, statement) not in drop:
                yield SupportExample(
                    statement, evidence, known, f"{source}:{text_digest(evidence)[:16]}", source
                )


def _pair_key(evidence: str, statement: str) -> str:
    import hashlib

    plain = (re.sub(r"[^a-z0-9]+", " ", text.lower()).strip() for text in (evidence, statement))
    return hashlib.sha1("|".join(plain).encode()).hexdigest()[:16]


def _text(path: Path) -> str:
    with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as stream:
        return stream.read()


def _table(path: Path, *, tabs: bool = False) -> Iterator[dict[str, str]]:
    csv.field_size_limit(10**9)
    if tabs:
        return csv.DictReader(io.StringIO(_text(path)), delimiter="\t", quoting=csv.QUOTE_NONE)
    return csv.DictReader(io.StringIO(_text(path)))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in _text(path).split("\n") if line.strip())


def _nli(folder: Path) -> Iterator[_Row]:
    for row in _table(folder / "dev.csv.gz"):
        yield row["premise"], row["hypothesis"], row["label"]


def _fever_nli(folder: Path) -> Iterator[_Row]:
    for name in ("dev.txt.gz", "test.txt.gz"):
        for line in _text(folder / name).split("\n"):
            fields = line.split("\t")
            if len(fields) == 3:
                yield _without_ptb(fields[1]), _without_ptb(fields[2]), fields[0]


def _fever_symmetric(folder: Path) -> Iterator[_Row]:
    for name in ("dev", "test"):
        for row in _lines(folder / f"fever_symmetric_{name}.jsonl.gz"):
            evidence = row.get("evidence_sentence") or row.get("evidence") or ""
            label = row.get("gold_label") or row.get("label") or ""
            yield _without_ptb(evidence), _without_ptb(row["claim"]), label


def _conjnli(folder: Path) -> Iterator[_Row]:
    for row in _table(folder / "adversarial_train_15k.tsv.gz", tabs=True):
        yield row["Premise"], row["Hypothesis"], (row["Label"] or "").strip()


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


def _summedits(folder: Path) -> Iterator[_Row]:
    for name in ("scitldr", "ectsum", "qmsumm", "sales_call", "sales_email"):
        for row in json.loads(_text(folder / f"summedits_{name}.json.gz")):
            yield row["doc"], row["summary"], str(int(row["label"]))


def _expertqa(folder: Path) -> Iterator[_Row]:
    labels = {"Complete": "1", "Partial": "0", "Incomplete": "0"}
    for row in _lines(folder / "domain_val.jsonl.gz"):
        for answer in row["answers"].values():
            for claim in answer["claims"]:
                evidence = [
                    re.sub(r"^https?://\S+\s*", "", re.sub(r"^\[\d+\]\s*", "", text.strip()))
                    for text in claim["evidence"]
                ]
                kept = [text.strip() for text in evidence if len(text.strip()) > 80]
                statement = re.sub(r"(\s*\[\d+\])+", "", claim["claim_string"])
                yield "\n\n".join(kept), statement, labels.get(claim["support"], "")


def _fool_me_twice(folder: Path) -> Iterator[_Row]:
    for row in _lines(folder / "test.jsonl.gz"):
        yield " ".join(part["text"] for part in row["gold_evidence"]), row["text"], row["label"]


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
    import zipfile

    with zipfile.ZipFile(folder / "breaking_nli_dataset.zip") as archive:
        for line in archive.read("data/dataset.jsonl").decode().splitlines():
            row = json.loads(line)
            yield row["sentence1"], row["sentence2"], row["gold_label"]


def _without_ptb(text: str) -> str:
    for old, new in _PTB.items():
        text = text.replace(old, new)
    text = re.sub(r" ([.,;:!?%)\]])", r"\1", text)
    text = re.sub(r"([(\[$]) ", r"\1", text)
    return re.sub(r" ('s|n't|'re|'ve|'ll|'d|'m)\b", r"\1", text)


_TRAINING: dict[str, Callable[[Path], Iterator[_Row]]] = {
    "fever_nli": _fever_nli,
    "fever_symmetric": _fever_symmetric,
    "mnli_dev": _nli,
    "snli_dev": _nli,
    "conjnli": _conjnli,
    "paws_true": _true("paws.csv.gz"),
    "dialfact_true": _true("dialfact.csv.gz"),
    "q2_true": _true("q2.csv.gz"),
    "begin": _begin,
    "summedits": _summedits,
    "expertqa": _expertqa,
    "fool_me_twice": _fool_me_twice,
    "halueval_qa_demo": _halueval,
    "monotonicity": _monotonicity,
    "breaking_nli": _breaking_nli,
}
