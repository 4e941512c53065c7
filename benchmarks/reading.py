"""Reading without a language model: short answers, right sentences, refusals. Beside word matching.

    python benchmarks/reading.py [--parts xquad clapnq nq] [--out FILE]

xquad   short answers, the gold paragraph given (1,190 questions, tests only)
clapnq  real questions over all 315 passages; a question that its passages do not answer is to be
        refused; the first quote is right if annotators chose its sentence (tests only)
nq      the test questions of NQ over all 2,600 gold passages: short answer, right sentence first,
        and how many are refused when the gold passage is taken out of the hits

A part that stands in FILE is not run again. Baselines in the same run: the reader by words, and the
sentence of BM25's hits with most terms of the question. p: paired sign-flip test against the reader
by words.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common import heading, holds, questions_of
from demo_questions import best_sentence

from ragkit.collection import Collection
from ragkit.evaluation.datasets import QASet, load_dataset
from ragkit.evaluation.measures import exact_match, token_f1
from ragkit.evaluation.splits import split_of
from ragkit.evaluation.statistics import paired_permutation_test
from ragkit.pair.model import PairModel
from ragkit.readers import ExtractiveReader, SpanReader
from ragkit.types import Answer, Document, Hit, Reader

K = 8


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--questions", type=int, help="at most this many a part")
    parser.add_argument("--out", type=Path, help="read and write the figures as JSON")
    options = parser.parse_args()
    result = heading()
    if options.out and options.out.exists():
        result = json.loads(options.out.read_text()) | result
    for name in options.parts:
        if name not in result:
            start = time.perf_counter()
            result[name] = PARTS[name](options.questions)
            result[name]["seconds"] = round(time.perf_counter() - start)
        print(name, json.dumps(result[name], indent=1), flush=True)
        if options.out:
            options.out.write_text(json.dumps(result, indent=1) + "\n")


def xquad(n: int | None) -> dict[str, Any]:
    """Short answers with the gold paragraph given."""
    passages, questions = questions_of("xquad")
    texts = {passage.id: passage.text for passage in passages}
    model = PairModel()
    f1, em = [], []
    for question in questions[:n]:
        text = texts[question["gold"]]
        span = model.read(question["question"], [text])[0].spans[0]
        predicted = text[span.start : span.end] if span else ""
        f1.append(token_f1(predicted, question["answers"]))
        em.append(exact_match(predicted, question["answers"]))
    return {"n": len(f1), "F1": mean(f1), "EM": mean(em)}


def clapnq(n: int | None) -> dict[str, Any]:
    """Right first quotes of answerable questions, refusals of the others."""
    data = load_dataset("clapnq")
    assert isinstance(data, QASet)
    texts = {passage.id: passage.text for passage in data.passages}
    answerable = [question for question in data.questions if question.answers][:n]
    others = [question.text for question in data.questions if not question.answers][:n]

    def right(index: int, quote: str) -> bool:
        gold = [texts[p][start:end] for p, start, end in answerable[index].metadata["spans"]]
        words = bare(quote)
        return any(words in bare(text) or bare(text) in words for text in gold)

    asked = [question.text for question in answerable]
    return compare(data.passages, asked, right, others=others)


def nq(n: int | None) -> dict[str, Any]:
    """Short answers and right sentences over all passages."""
    passages, questions = questions_of("nq_gold")
    test = [question for question in questions if split_of(question["gold"]) == "test"][:n]

    def right(index: int, quote: str) -> bool:
        return holds(quote, test[index]["answers"])

    return compare(
        passages,
        [question["question"] for question in test],
        right,
        answers=[question["answers"] for question in test],
        without=[question["gold"] for question in test],
    )


def compare(
    corpus: Sequence[Document],
    questions: Sequence[str],
    right: Callable[[int, str], bool],
    *,
    others: Sequence[str] = (),
    answers: Sequence[Sequence[str]] = (),
    without: Sequence[str] = (),
) -> dict[str, Any]:
    """Run the readers over the same hits, and count."""
    with tempfile.TemporaryDirectory() as folder, Collection(f"{folder}/c.rag") as collection:
        collection.add(corpus)
        retriever = collection.retriever("hybrid")
        runs = [hits[:K] for hits in retriever.retrieve(questions, K + 1)]
        if others:
            blank = [hits[:K] for hits in retriever.retrieve(others, K)]
        else:
            others = questions
            blank = [
                [hit for hit in hits if hit.chunk.doc_id != gold][:K]
                for hits, gold in zip(retriever.retrieve(questions, K + 1), without, strict=True)
            ]
        lexical = collection.retriever("bm25").retrieve(questions, K)
        sentences = [best_sentence(q, hits) for q, hits in zip(questions, lexical, strict=True)]
        readers: dict[str, Reader] = {
            "spans": SpanReader(collection.embedder),
            "by words": ExtractiveReader(collection.embedder),
        }
        rows = {
            name: count(reader, (questions, runs), (others, blank), right, answers)
            for name, reader in readers.items()
        }
    first = [float(right(i, text)) for i, text in enumerate(sentences)]
    rows["bm25 sentence"] = {"first quote right": first}
    base = rows["by words"]
    shown: dict[str, Any] = {"questions": len(questions), "other questions": len(others)}
    for name, row in rows.items():
        shown[name] = {key: mean(values) for key, values in row.items()}
    for key, values in rows["spans"].items():
        shown[f"p of {key}"] = round(paired_permutation_test(values, base[key]), 4)
    return shown


def count(
    reader: Reader,
    asked: tuple[Sequence[str], Sequence[Sequence[Hit]]],
    blank: tuple[Sequence[str], Sequence[Sequence[Hit]]],
    right: Callable[[int, str], bool],
    answers: Sequence[Sequence[str]],
) -> dict[str, list[float]]:
    """Return the outcomes of each question by measure."""
    start = time.perf_counter()
    given = reader.read(*asked)
    seconds = (time.perf_counter() - start) / len(given)
    refused = [float(answer.refusal is not None) for answer in reader.read(*blank)]
    row = {
        "answered": [float(answer.refusal is None) for answer in given],
        "first quote right": [
            float(bool(a.citations) and right(i, a.citations[0].quote)) for i, a in enumerate(given)
        ],
        "any quote right": [
            float(any(right(i, c.quote) for c in a.citations)) for i, a in enumerate(given)
        ],
        "others refused": refused,
        "seconds": [seconds] * len(given),
    }
    if len(refused) != len(given):
        row["others refused"] = refused
    if answers:
        spans = [short_answer(answer) for answer in given]
        row["span F1"] = [token_f1(s, a) for s, a in zip(spans, answers, strict=True)]
        row["span EM"] = [exact_match(s, a) for s, a in zip(spans, answers, strict=True)]
    return row


def short_answer(answer: Answer) -> str:
    """The first short answer, or the first quote of a reader that finds none."""
    if answer.spans:
        return answer.spans[0].text
    return answer.citations[0].quote if answer.citations else ""


def bare(text: str) -> str:
    return "".join(char for char in text.lower() if char.isalnum())


def mean(values: Sequence[float]) -> float:
    return round(sum(values) / max(1, len(values)), 4)


PARTS: dict[str, Callable[[int | None], dict[str, Any]]] = {
    "xquad": xquad,
    "clapnq": clapnq,
    "nq": nq,
}

if __name__ == "__main__":
    main()
