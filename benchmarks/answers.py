"""How many right sentences does the support check keep, and how many wrong ones does it pass?

    python benchmarks/answers.py [--show] [--out FILE]

`data/answers.jsonl` has 80 right and 80 wrong sentences as a strong model writes them from a few
passages of three corpora: the demo corpus, Wikipedia (NQ) and PubMed. They were written from the
passages alone. Beside the check: the check by words, and plain word overlap at the share at which
it keeps as many right ones. Intervals are Wilson's, at 95 %.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import BENCHMARKS, ROOT, heading

from ragkit.chunking.chunker import Chunker, WordTokenizer
from ragkit.documents import find_files, load_file
from ragkit.evaluation.datasets import load_dataset
from ragkit.indexes.terms import TermAnalyzer
from ragkit.readers.citations import SupportChecker
from ragkit.readers.support.judge import SupportJudge
from ragkit.types import SUPPORTED, Document, Hit

FILE = BENCHMARKS / "data" / "answers.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--show", action="store_true", help="print each mistake")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    result = heading()
    cases = [json.loads(line) for line in FILE.read_text("utf-8").splitlines()]
    documents = read_documents()
    states, words, overlaps = [], [], []
    for case in cases:
        hits = hits_of([documents[case["corpus"], name] for name in case["docs"]])
        verdict = SupportJudge(hits).judge(case["sentence"])
        states.append(verdict.support)
        words.append(SupportChecker(hits).check(case["sentence"]) is not None)
        overlaps.append(overlap(case["sentence"], hits))
        if options.show and (verdict.support in SUPPORTED) != case["right"]:
            kind = "right" if case["right"] else "wrong"
            print(f"  {kind}, {verdict.support} {verdict.probability:.2f} ({verdict.reason}): "
                  f"{case['sentence']}\n      {case['why']}")  # fmt: skip
    kept = [state in SUPPORTED for state in states]
    right = [case["right"] for case in cases]
    n_kept = sum(k for k, r in zip(kept, right, strict=True) if r)
    level = sorted((o for o, r in zip(overlaps, right, strict=True) if r), reverse=True)
    share = level[max(0, n_kept - 1)]
    rows = {
        "check": kept,
        "by words": words,
        f"overlap >= {share:.2f}": [o >= share for o in overlaps],
    }
    for name, passed in rows.items():
        result[name] = figures(name, passed, cases)
    for kind in (True, False):
        counts = Counter(s for s, r in zip(states, right, strict=True) if r is kind)
        print(f"{'right' if kind else 'wrong'} sentences: {dict(counts)}")
        result[f"states of {'right' if kind else 'wrong'}"] = counts
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def read_documents() -> dict[tuple[str, str], Document]:
    """Return the documents of the three corpora by corpus and id."""
    files, _ = find_files([ROOT / "notebooks" / "data"])
    found = {("demo", d.id): d for file in files for d in load_file(file).documents}
    for corpus, name in (("nq", "nq_gold"), ("pubmed", "pubmedqa")):
        found |= {(corpus, d.id): d for d in load_dataset(name, split="test").corpus}
    return found


def hits_of(documents: Sequence[Document]) -> list[Hit]:
    chunker = Chunker(WordTokenizer(), max_tokens=200)
    chunks = [chunk for document in documents for chunk in chunker.chunk(document)]
    titles = {document.id: document.title for document in documents}
    for chunk in chunks:
        chunk.metadata["title"] = titles[chunk.doc_id]  # type: ignore[index]
    return [Hit(chunk, 1.0) for chunk in chunks]


def overlap(sentence: str, hits: Sequence[Hit]) -> float:
    """Share of the sentence's terms in the passages."""
    analyzer = TermAnalyzer()
    wanted = set(analyzer.terms(sentence))
    known = set(analyzer.terms("\n".join(hit.chunk.text for hit in hits)))
    return len(wanted & known) / max(1, len(wanted))


def figures(name: str, passed: Sequence[bool], cases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Print and return the shares of right sentences kept and of wrong ones passed."""
    shown: dict[str, Any] = {}
    for corpus in ("all", "demo", "nq", "pubmed"):
        for kind, label in ((True, "kept"), (False, "passed")):
            chosen = [
                p
                for p, case in zip(passed, cases, strict=True)
                if case["right"] is kind and corpus in ("all", case["corpus"])
            ]
            shown[f"{corpus} {label}"] = (
                sum(chosen),
                len(chosen),
                *wilson(sum(chosen), len(chosen)),
            )
    text = "; ".join(
        f"{key} {n}/{of} = {n / of:.2f} [{low:.2f}, {high:.2f}]"
        for key, (n, of, low, high) in shown.items()
    )
    print(f"{name}: {text}")
    return shown


def wilson(n: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """Return the interval of a share."""
    p, zz = n / of, z * z / of
    middle, half = p + zz / 2, z * math.sqrt(p * (1 - p) / of + zz / 4 / of)
    return (middle - half) / (1 + zz), (middle + half) / (1 + zz)


if __name__ == "__main__":
    main()
