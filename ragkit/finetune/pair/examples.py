"""Examples for the pair model, and where they come from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ragkit.digests import text_digest
from ragkit.evaluation.datasets import read_litm
from ragkit.evaluation.datasets.support import PTB, read_text
from ragkit.evaluation.splits import split_of


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
        for article in json.loads(read_text(path))["data"]:
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


_NO_SPACE_BEFORE = re.compile(r"[.,;:!?%)\]]|'s|n't|'re|'ve|'ll|'d|'m|'")


def _qamr(folder: Path) -> Iterator[SpanExample]:
    sentences = {}
    for line in read_text(folder / "wiki-sentences.tsv.gz").splitlines():
        key, _, text = line.partition("\t")
        sentences[key] = _detokenize(text.split(" "))
    for name in ("dev.tsv.gz", "test.tsv.gz"):
        for line in read_text(folder / name).splitlines():
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
        shown = PTB.get(token, token)
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
