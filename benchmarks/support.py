"""At which share of covered content words does a sentence count as supported by a source?

    python benchmarks/support.py

Fits `ragkit.readers.citations.COVERAGE`. Data: STS-B English (RAGKIT_DATA/stsb), each pair in both
directions: one sentence is the claim, the other its only source. Pairs with a score of at least 4.5
are "supported", of at most 2.5 "not supported"; what lies between is left out. Chosen is the
threshold with the best F0.5 on train: a wrong citation does more harm than a sentence left out, so
precision counts more. Dev is reported, not chosen on.

The harder negatives come from XQuAD English: a sentence of a paragraph in which one number or one
name gives way to another of the same paragraph, checked against that paragraph. The other one
stands in another sentence ("elsewhere"), or in the very same one, which no rule here can see.
"""

from __future__ import annotations

import csv
import re
import time
from collections.abc import Sequence

import numpy as np
from common import data_root, machine, questions_of

from ragkit.chunking.sentences import RuleSegmenter
from ragkit.readers.citations import COVERAGE, SupportChecker
from ragkit.types import Chunk, Hit

THRESHOLDS = [round(0.3 + 0.05 * i, 2) for i in range(15)]
SUPPORTED, NOT_SUPPORTED = 4.5, 2.5
NUMBER = re.compile(r"(?<![\w.,])\d(?:,?\d)*(?:\.\d+)?(?![\w%])")
NAME = re.compile(r"\b[A-Z][a-z]{2,}\b(?!['’])")  # noqa: RUF001
Scored = list[tuple[float, bool]]  # coverage (0: a rule refuses), label


def main() -> None:
    print(time.strftime("%Y-%m-%d"), machine())
    train, dev = scored("train"), scored("dev")
    print(f"\nSTS-B train: {len(train)} claims, {sum(label for _, label in train)} supported")
    print("threshold  precision  recall     F1   F0.5")
    rows = {threshold: measures(train, threshold) for threshold in THRESHOLDS}
    for threshold, row in rows.items():
        print(f"{threshold:9.2f}  {row[0]:9.3f}  {row[1]:6.3f}  {row[2]:5.3f}  {row[3]:5.3f}")
    best = max(rows, key=lambda threshold: rows[threshold][3])
    print(f"best F0.5 on train: {best}; COVERAGE is {COVERAGE}")
    print(f"\nSTS-B dev: {len(dev)} claims, {sum(label for _, label in dev)} supported")
    for threshold in sorted({best, COVERAGE, 0.6}):
        row = measures(dev, threshold)
        print(f"{threshold:9.2f}  {row[0]:9.3f}  {row[1]:6.3f}  {row[2]:5.3f}  {row[3]:5.3f}")
    print("\nXQuAD, one number or name swapped for another of the paragraph")
    for kind, outcomes in swaps().items():
        print(f"{kind:32} {len(outcomes):5} claims, refused {np.mean(outcomes):.3f}")


def scored(split: str) -> Scored:
    """Coverage of each claim by its source."""
    pairs: Scored = []
    with (data_root() / "stsb" / f"stsb-en-{split}.csv").open(newline="", encoding="utf-8") as rows:
        for first, second, score in csv.reader(rows):
            if NOT_SUPPORTED < float(score) < SUPPORTED:
                continue
            for claim, source in ((first, second), (second, first)):
                evidence = checker(source, coverage=1e-6).check(claim)
                coverage = evidence.coverage if evidence else 0.0
                pairs.append((coverage, float(score) >= SUPPORTED))
    return pairs


def measures(pairs: Scored, threshold: float) -> tuple[float, float, float, float]:
    """Precision, recall, F1 and F0.5."""
    found = [label for coverage, label in pairs if coverage >= threshold]
    precision = sum(found) / max(1, len(found))
    recall = sum(found) / sum(label for _, label in pairs)
    f1, f05 = (
        (1 + b * b) * precision * recall / max(1e-9, b * b * precision + recall) for b in (1.0, 0.5)
    )
    return precision, recall, f1, f05


def swaps() -> dict[str, list[bool]]:
    """For each kind of swap, whether each claim was refused."""
    generator = np.random.default_rng(0)
    outcomes: dict[str, list[bool]] = {}
    for passage in questions_of("xquad")[0]:
        check = checker(passage.text).check
        sentences = [passage.text[a:b] for a, b in RuleSegmenter().sentences(passage.text)]
        for kind, pattern in (("number", NUMBER), ("name", NAME)):
            everywhere = sorted(set(pattern.findall(passage.text)))
            if kind == "name":  # a capital that only opens a sentence makes no name
                inner = {w for text in sentences for w in pattern.findall(text.partition(" ")[2])}
                everywhere = [word for word in everywhere if word in inner]
            for sentence in sentences:
                here = [word for word in everywhere if word.lower() in sentence.lower()]
                elsewhere = [word for word in everywhere if word not in here]
                for place, pool in (("elsewhere", elsewhere), ("same sentence", here)):
                    old = str(generator.choice(here)) if here else ""
                    others = [word for word in pool if word != old]
                    claim, n = re.subn(
                        rf"\b{re.escape(old)}\b",
                        str(generator.choice(others or [""])),
                        sentence,
                        count=1,
                    )
                    if not old or not others or n == 0:
                        continue
                    first = " at the beginning" if sentence.startswith(old) else ""
                    outcomes.setdefault(f"{kind}{first}, {place}", []).append(check(claim) is None)
    return dict(sorted(outcomes.items()))


def checker(source: str, *, coverage: float = COVERAGE) -> SupportChecker:
    """A checker with one source."""
    return SupportChecker(hits(source), coverage=coverage)


def hits(source: str) -> Sequence[Hit]:
    return [Hit(Chunk("c", "d", source, 0, len(source)), 1.0)]


if __name__ == "__main__":
    main()
