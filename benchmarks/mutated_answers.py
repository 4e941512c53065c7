"""Which changes of a cited answer does `verify` see? Nine classes of changes, 2,000 answers each.

    python benchmarks/mutated_answers.py [--answers N] [--out FILE]

Answers: sentences of XQuAD, NQ (test) and PubMedQA (test) with a citation of the sentence, and the
citation of one more sentence of the passage. One thing is changed in each. Of the sentence: a
number, a unit, a name, a denial, a comparison, two things that change places; of the citation: a
letter of the quote, the offsets, the document. A changed sentence is verified twice: as the
quote that it pretends to be, and as a model's sentence, where the support check has to see it.
"unchanged" is the share of false alarms: of the sentences as they are; and after a harmless change
(an opening such as "In fact,", a synonym of the copula, a part left out after the last comma).
Baseline in the same table: word overlap with the quotes, at the share with as many false alarms.

None of the mutators is one of training's (`ragkit/finetune/pair/mutations.py`).
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from answers import overlap, wilson
from common import heading

from ragkit.chunking.sentences import RuleSegmenter
from ragkit.digests import text_digest
from ragkit.evaluation.datasets import load_dataset
from ragkit.readers.verification import verify_answer, verify_sentences
from ragkit.types import Answer, Chunk, Citation, Document, Hit, Sentence, Support

Mutator = Callable[[str, str, random.Random], str | None]

NUMBER = re.compile(r"(?<![\w.,-])\d[\d,]*(?:\.\d+)?(?![\w-])")
NAME = re.compile(r"(?<=[a-z,] )(?:[A-Z][a-z]{3,}(?: [A-Z][a-z]{3,})*)(?![\w'’-])")  # noqa: RUF001
UNITS = (
    ("km", "m"), ("kilometres", "metres"), ("kilometers", "meters"), ("miles", "feet"), ("kg", "g"),
    ("million", "billion"), ("billion", "million"), ("thousand", "million"), ("years", "months"),
    ("months", "weeks"), ("days", "hours"), ("hours", "minutes"), ("minutes", "hours"),
    ("percent", "degrees"), ("%", " points"), ("mg", "g"), ("cm", "mm"), ("weeks", "years"),
    ("meters", "kilometers"), ("feet", "inches"), ("acres", "square miles"), ("dollars", "euros"),
    ("yards", "feet"), ("mm", "cm"), ("centuries", "decades"), ("tons", "pounds"),
)  # fmt: skip
OPPOSITES = (
    ("greater", "smaller"), ("fewer", "more"), ("larger", "smaller"), ("after", "before"),
    ("earlier", "later"), ("highest", "lowest"), ("largest", "smallest"), ("longer", "shorter"),
    ("rose", "fell"), ("improved", "worsened"), ("decreased", "increased"), ("at least", "at most"),
    ("more than", "less than"), ("exceeded", "stayed below"), ("reduced", "raised"),
    ("gained", "lost"), ("won", "lost"), ("oldest", "youngest"), ("faster", "slower"),
    ("better", "worse"),
    ("higher", "lower"), ("major", "minor"), ("common", "rare"), ("similar", "different"),
)  # fmt: skip


def number(sentence: str, passage: str, draw: random.Random) -> str | None:
    """Ten times the value, its neighbour, another digit, or a transposition of digits."""
    del passage
    found = list(NUMBER.finditer(sentence))
    if not found:
        return None
    match = draw.choice(found)
    old = match[0]
    plain = old.replace(",", "")
    forms = []
    if plain.isdigit():
        forms += [f"{plain}0", str(int(plain) + draw.choice((1, 2, 5)))]
    else:
        forms.append(plain[:-1] + str((int(plain[-1]) + draw.choice((1, 4))) % 10))
    if len(plain) > 1 and plain[0] != plain[1] and plain[:2].isdigit() and plain[1] != "0":
        forms.append(plain[1] + plain[0] + plain[2:])
    return sentence[: match.start()] + draw.choice(forms) + sentence[match.end() :]


def unit(sentence: str, passage: str, draw: random.Random) -> str | None:
    del passage
    options = []
    for old, new in UNITS:
        pattern = rf"(\d ?){re.escape(old)}" + ("" if old == "%" else r"\b")
        if re.search(pattern, sentence):
            options.append(re.sub(pattern, rf"\g<1>{new}", sentence, count=1))
    return draw.choice(options) if options else None


def name(sentence: str, passage: str, draw: random.Random) -> str | None:
    """Another name, of the passage or of any."""
    found = list(NAME.finditer(sentence))
    if not found:
        return None
    match = draw.choice(found)
    here = [text for text in NAME.findall(passage) if text not in sentence]
    pool = here if here and draw.random() < 0.5 else EVERY_NAME
    new = draw.choice(pool)
    if new in sentence:
        return None
    return sentence[: match.start()] + new + sentence[match.end() :]


def negation(sentence: str, passage: str, draw: random.Random) -> str | None:
    """A denial by another word than "not", or one taken away."""
    del passage
    if re.search(r"\b(?:never|no longer|hardly) ", sentence):
        return re.sub(r"\b(?:never|no longer|hardly) ", "", sentence, count=1)
    match = re.search(r"\b(was|were|is|are|has|have|had|can|could|will|would) (?=\w)", sentence)
    if match is None or "not" in sentence:
        return None
    word = draw.choice(("never", "no longer", "hardly ever", "by no means"))
    return sentence[: match.end()] + word + " " + sentence[match.end() :]


def comparison(sentence: str, passage: str, draw: random.Random) -> str | None:
    del passage
    options = []
    for pair in OPPOSITES:
        for old, new in (pair, pair[::-1]):
            if re.search(rf"\b{old}\b", sentence):
                options.append(re.sub(rf"\b{old}\b", new, sentence, count=1))
    return draw.choice(options) if options else None


def swap(sentence: str, passage: str, draw: random.Random) -> str | None:
    """Two names, two numbers, or the first word of a sentence and a later name change places."""
    del passage
    options = []
    for pattern in (NAME, NUMBER, re.compile(r"(?:^|(?<= ))[A-Z][a-z]{3,}(?![\w'’-])")):  # noqa: RUF001
        found = list(pattern.finditer(sentence))
        options += [
            (a, b) for a in found for b in found if a.end() + 3 < b.start() and a[0] != b[0]
        ]
    if not options:
        return None
    a, b = draw.choice(options)
    middle = sentence[a.end() : b.start()]
    return sentence[: a.start()] + b[0] + middle + a[0] + sentence[b.end() :]


def harmless(sentence: str, passage: str, draw: random.Random) -> str | None:
    """The same in slightly other words."""
    del passage
    options = []
    if re.match(r"(?:The|In|It|This|A|An|These|He|She|They|After|During) ", sentence):
        lower = sentence[0].lower() + sentence[1:]
        options += [f"In fact, {lower}", f"According to the source, {lower}"]
    without = re.sub(r", (?:which|who|where) [^,.]*(?=[,.])", "", sentence)
    if without != sentence and len(without) > 40:
        options.append(without)
    bare = re.sub(r" \([^)]*\)", "", sentence)
    if bare != sentence:
        options.append(bare)
    for old, new in ((" also ", " "), (" however, ", " "), ("approximately", "about"),
                     ("began", "started"), ("near", "close to"), ("large", "big"),
                     ("because", "since"), ("many", "a lot of"), ("obtained", "got")):  # fmt: skip
        changed = re.sub(rf"(?<!\w){old}(?!\w)", new, sentence, count=1)
        if changed != sentence:
            options.append(changed)
    return draw.choice(options) if options else None


SENTENCE_CLASSES: dict[str, Mutator] = {
    "number": number, "unit": unit, "name": name, "negation": negation, "comparison": comparison,
    "swap": swap,
}  # fmt: skip
CITATION_CLASSES = ("quote", "offsets", "document")
EVERY_NAME: list[str] = []


class Documents:
    """One document, as a store."""

    def __init__(self, text: str) -> None:
        self.text = text

    def document(self, doc_id: str) -> Document | None:
        return Document(doc_id, self.text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--answers", type=int, default=2000, help="at most this many a class")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    result: dict[str, Any] = heading()
    start = time.perf_counter()
    cases = sentences()
    EVERY_NAME.extend(sorted({n for _, text in cases for n in NAME.findall(text)}))
    seen: dict[str, list[bool]] = {}
    overlaps: dict[str, list[float]] = defaultdict(list)
    for label, mutator in {
        "unchanged": lambda sentence, passage, draw: sentence,
        "harmless": harmless,
        **SENTENCE_CLASSES,
    }.items():
        rows = made(mutator, cases, options.answers, label)
        for support in ("quoted", "entailed"):
            if (label == "harmless") and support == "quoted":
                continue
            key = f"{label}, {support}"
            seen[key] = [
                bool(verify_sentences(answer(passage, old, new, support)))
                for passage, old, new in rows
            ]
            show(key, seen[key])
        overlaps[label] = [
            overlap(
                new, [Hit(Chunk("c", "d", text, 0, len(text)), 1.0) for text in two(passage, old)]
            )
            for passage, old, new in rows
        ]
    for label in CITATION_CLASSES:
        seen[label] = [
            damaged(label, passage, sentence, random.Random(f"{label}:{sentence}"))
            for passage, sentence in cases[: options.answers]
        ]
        show(label, seen[label])
    alarms = sum(seen["harmless, entailed"])
    level = sorted(overlaps["harmless"])[min(alarms, len(overlaps["harmless"]) - 1)]
    for label, values in overlaps.items():
        seen[f"{label}, overlap < {level:.2f}"] = [value < level for value in values]
        show(f"{label}, overlap < {level:.2f}", seen[f"{label}, overlap < {level:.2f}"])
    result["seen"] = {
        key: [sum(values), len(values), *(round(v, 4) for v in wilson(sum(values), len(values)))]
        for key, values in seen.items()
    }
    result["seconds"] = round(time.perf_counter() - start)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def sentences() -> list[tuple[str, str]]:
    """Return (passage, sentence) of the three sets, in an order drawn with a fixed seed."""
    segmenter = RuleSegmenter()
    found = []
    for data, split in (("xquad", None), ("nq_gold", "test"), ("pubmedqa", "test")):
        loaded: Any = load_dataset(data, split=split)
        gold = {key for question in loaded.questions for key in question.gold}
        for passage in loaded.passages:
            if passage.id in gold:
                parts = [passage.text[a:b].strip() for a, b in segmenter.sentences(passage.text)]
                usable = [text for text in parts if 50 <= len(text) <= 300 and text[-1] == "."]
                if len(parts) > 1:
                    found += [(passage.text, text) for text in usable]
    random.Random(0).shuffle(found)
    return found


def made(
    mutator: Mutator, cases: Sequence[tuple[str, str]], n: int, label: str
) -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = []
    for passage, sentence in cases:
        new = mutator(sentence, passage, random.Random(f"{label}:{sentence}"))
        # What stands elsewhere in the passage is no change of meaning.
        if new is not None and (new == sentence or new not in passage):
            rows.append((passage, sentence, new))
        if len(rows) == n:
            break
    return rows


def two(passage: str, sentence: str) -> list[str]:
    """Return the sentence and the one before or after it."""
    spans = [passage[a:b].strip() for a, b in RuleSegmenter().sentences(passage)]
    at = spans.index(sentence) if sentence in spans else 0
    return [sentence, spans[at - 1 if at else min(1, len(spans) - 1)]]


def hits(texts: Sequence[str]) -> list[Hit]:
    return [Hit(Chunk("c", "d", text, 0, len(text)), 1.0) for text in texts]


def answer(passage: str, old: str, new: str, support: Support) -> Answer:
    """An answer of one sentence with two citations."""
    citations = tuple(
        Citation("d", "c", start, start + len(text), text, text_digest(passage))
        for text in two(passage, old)
        for start in [passage.index(text)]
    )
    text = f"{new} [1] [2]"
    return Answer("?", text, (Sentence(0, len(text), (1, 2), support, 0.9),), citations)


def damaged(label: str, passage: str, sentence: str, draw: random.Random) -> bool:
    """Return whether `verify_answer` sees a damaged citation."""
    made = answer(passage, sentence, sentence, "quoted")
    citation, text = made.citations[0], passage
    if label == "quote":
        at = draw.randrange(len(sentence))
        changed = sentence[:at] + chr(ord(sentence[at]) ^ 1) + sentence[at + 1 :]
        citation = replace(citation, quote=changed)
    elif label == "offsets":
        moved = draw.choice((-3, -1, 1, 2, 5))
        citation = replace(citation, start=citation.start + moved, end=citation.end + moved)
    else:
        at = draw.randrange(len(passage))
        text = passage[:at] + draw.choice("xyz") + passage[at:]
    checks = verify_answer(replace(made, citations=(citation,)), Documents(text))
    return checks[0].state != "valid"


def show(label: str, values: Sequence[bool]) -> None:
    low, high = wilson(sum(values), max(1, len(values)))
    print(f"{label:32} {len(values):5}  flagged {sum(values) / max(1, len(values)):.4f} "
          f"[{low:.3f}, {high:.3f}]", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
