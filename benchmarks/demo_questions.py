"""Are the default reader's answers on the demo corpus right? 75 questions.

    python benchmarks/demo_questions.py [--show] [--out FILE]

`data/demo_questions.jsonl`, written from the texts alone, holds for each question what a right
answer must say (alternatives of words), or that the corpus does not answer it. An answer is right
if it says all of it; a question that the corpus does not answer must be refused. Beside it: the
reader by words, and the best sentence of BM25, which never refuses.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import BENCHMARKS, ROOT, heading

from ragkit.chunking.sentences import RuleSegmenter
from ragkit.collection import Collection
from ragkit.indexes.terms import TermAnalyzer
from ragkit.readers import ExtractiveReader, load_reader
from ragkit.readers.sources import source_sentences
from ragkit.types import Hit

FILE = BENCHMARKS / "data" / "demo_questions.jsonl"
K = 8


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--show", action="store_true", help="print each wrong answer")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    result = heading()
    cases = [json.loads(line) for line in FILE.read_text("utf-8").splitlines()]
    with tempfile.TemporaryDirectory() as folder, Collection(f"{folder}/demo.rag") as collection:
        collection.add(ROOT / "notebooks" / "data")
        questions = [case["question"] for case in cases]
        runs = collection.retriever("hybrid").retrieve(questions, K)
        readers = {
            "default": load_reader("auto", collection.embedder),
            "by words": ExtractiveReader(collection.embedder),
        }
        for name, reader in readers.items():
            start = time.perf_counter()
            answers = reader.read(questions, runs)
            seconds = (time.perf_counter() - start) / len(cases)
            texts = ["" if answer.refusal else answer.text for answer in answers]
            result[name] = {**judge(name, cases, texts, show=options.show), "seconds": seconds}
        lexical = collection.retriever("bm25").retrieve(questions, K)
        texts = [best_sentence(q, hits) for q, hits in zip(questions, lexical, strict=True)]
        result["bm25 sentence"] = judge("bm25 sentence", cases, texts, show=False)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def judge(
    name: str, cases: Sequence[dict[str, Any]], texts: Sequence[str], *, show: bool
) -> dict[str, Any]:
    """Count right, wrong and refused answers of both kinds of questions, and print them."""
    counts: Counter[str] = Counter()
    by_kind: Counter[str] = Counter()
    for case, text in zip(cases, texts, strict=True):
        outcome = judge_one(case, text)
        counts[outcome] += 1
        by_kind[case["kind"]] += outcome in ("right", "rightly refused")
        if show and outcome not in ("right", "rightly refused"):
            print(f"  {outcome}: {case['question']}\n      {text or '-'}\n      ({case['note']})")
    n_right = counts["right"] + counts["rightly refused"]
    print(f"{name:14} {n_right} of {len(cases)}: {dict(counts)}; right by kind: {dict(by_kind)}")
    return {"right": n_right, "of": len(cases), "outcomes": counts, "right_by_kind": by_kind}


def judge_one(case: dict[str, Any], text: str) -> str:
    """Return the outcome of one answer; an empty text is a refusal."""
    if not case["must"]:
        return "answered without ground" if text else "rightly refused"
    if not text:
        return "needlessly refused"
    said = text.casefold()
    complete = all(any(words.casefold() in said for words in sets) for sets in case["must"])
    return "right" if complete else "wrong"


def best_sentence(question: str, hits: Sequence[Hit]) -> str:
    """Return the sentence of the hits that shares most terms with the question."""
    analyzer, segmenter = TermAnalyzer(), RuleSegmenter()
    wanted = set(analyzer.terms(question))
    texts = [s.text for hit in hits for s in source_sentences(hit.chunk, segmenter)]
    return max(texts, key=lambda text: len(wanted.intersection(analyzer.terms(text))), default="")


if __name__ == "__main__":
    main()
