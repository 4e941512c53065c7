"""Sentence boundary F1 of ragkit's rules and of plain splitting, on two UD English treebanks.

    .venv/bin/python benchmarks/segmentation.py

Data: $RAGKIT_DATA/ud_segmentation (default: ../shared/data beside the project), English PUD test
and English EWT dev. Protocol:

- A document's text is rebuilt from its "# text =" lines. A sentence that begins a paragraph
  ("# newpar") follows a newline; any other follows a space, or nothing where the last token before
  it says SpaceAfter=No. PUD marks no paragraphs, so its documents are single lines. The rows
  "spaces only" write a space for the newline too, so that nothing but the wording tells.
- Compared are the sets of sentence end offsets of all documents together (micro average). The end
  of a document, which every system gets right, is left out on both sides: "F1". "F1 all" counts it.
- "F1 odd" is "F1" over the odd-numbered documents. The rules were written from general knowledge
  and then revised looking at errors in the even-numbered documents only; a choice between two
  general rules was made on both. These are development figures, not those of an unseen test.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ragkit.chunking.sentences import RuleSegmenter

GOALS = {"en_pud-ud-test": 0.99, "en_ewt-ud-dev": 0.85}
DATA = Path(os.environ.get("RAGKIT_DATA", Path(__file__).parents[2] / "shared" / "data"))

_PLAIN = re.compile(r"[.!?]+(?=\s|\Z)")


class Gold(NamedTuple):
    """A document's text and the offsets where its sentences end."""

    text: str
    ends: set[int]


class Score(NamedTuple):
    """Precision, recall and their harmonic mean."""

    precision: float
    recall: float
    f1: float


Ends = Callable[[str], set[int]]


def rules(text: str) -> set[int]:
    """Sentence ends by `RuleSegmenter`."""
    return {end for _, end in RuleSegmenter().sentences(text)}


def plain(text: str) -> set[int]:
    """Sentence ends after every run of ".", "!" and "?" before white space."""
    return {match.end() for match in _PLAIN.finditer(text)} | {len(text.rstrip())}


def documents(name: str, *, newlines: bool = True) -> list[Gold]:
    """The documents of a treebank, rebuilt as the module says."""
    golds: list[Gold] = []
    text, ends, gap, space = "", set[int](), "", " "
    path = DATA / "ud_segmentation" / f"{name}.conllu"
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# newdoc"):
            text, ends, gap, space = "", set(), "", ""
            golds.append(Gold(text, ends))
        elif line.startswith("# newpar") and text:
            gap = "\n" if newlines else " "
        elif line.startswith("# text = "):
            text += (gap or space) + line.removeprefix("# text = ")
            ends.add(len(text))
            golds[-1] = Gold(text, ends)
            gap = ""
        elif line and line[0].isdigit():
            space = "" if "SpaceAfter=No" in line.split("\t")[9] else " "
    return golds


def score(ends: Ends, golds: Sequence[Gold], *, last: bool = False) -> Score:
    """Micro-averaged score of a system; `last` counts the ends of documents too."""
    hits = found = wanted = 0
    for gold in golds:
        trivial = set() if last else {max(gold.ends)}
        got, true = ends(gold.text) - trivial, gold.ends - trivial
        hits, found, wanted = hits + len(got & true), found + len(got), wanted + len(true)
    return Score(hits / found, hits / wanted, 2 * hits / (found + wanted))


def megabytes_per_second(golds: Sequence[Gold]) -> float:
    """Speed of the rules on 10 copies of the texts, in 10^6 bytes of UTF-8 a second."""
    text = "\n\n".join(gold.text for gold in golds) * 10
    began = time.perf_counter()
    RuleSegmenter().sentences(text)
    return len(text.encode()) / 1e6 / (time.perf_counter() - began)


def main() -> int:
    if not (DATA / "ud_segmentation").is_dir():
        print(f"no folder {DATA / 'ud_segmentation'}: set RAGKIT_DATA to the data's root")
        return 2
    failed = False
    print(f"{'file':<15} {'paragraphs':<12} {'system':<6} {'P':>7} {'R':>7} ", end="")
    print(f"{'F1':>7} {'F1 all':>7} {'F1 odd':>7}")
    for name, goal in GOALS.items():
        for label, newlines in (("newlines", True), ("spaces only", False)):
            golds = documents(name, newlines=newlines)
            for system in (rules, plain):
                got = score(system, golds)
                figures = (*got, score(system, golds, last=True).f1, score(system, golds[1::2]).f1)
                row = " ".join(f"{figure:7.4f}" for figure in figures)
                print(f"{name:<15} {label:<12} {system.__name__:<6} {row}")
        golds = documents(name)
        f1 = score(rules, golds).f1
        failed |= f1 < goal
        print(f"{'PASS' if f1 >= goal else 'FAIL'}: F1 {f1:.4f}, goal {goal}; ", end="")
        print(f"{megabytes_per_second(golds):.0f} MB/s")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
