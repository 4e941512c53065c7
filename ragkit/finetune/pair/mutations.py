"""Statements that differ from a sentence in one fact, for the support head."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence

from ragkit.chunking.sentences import RuleSegmenter
from ragkit.evaluation.datasets.shapes import SupportPair

_NUMBER = re.compile(r"(?<![\w.,-])\d+(?:[.,]\d+)*(?![\w-])")
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]{2,}(?: [A-Z][a-z]{2,})*")
_VERB = re.compile(
    r"\b(is|are|was|were|has|have|had|can|could|will|would|should|does|did)\b(?! not)"
)
_NOT = re.compile(r"\b(is|are|was|were|has|have|had|can|could|will|would|should|does|did) not\b")
_OPPOSITES = {}
for _pair in (
    "more less", "higher lower", "larger smaller", "increased decreased", "increase decrease",
    "before after", "first last", "above below", "always never", "all none", "best worst",
    "early late", "north south", "east west", "older younger", "most least", "better worse",
    "positive negative", "strong weak", "long short", "high low", "large small", "with without",
    "many few", "minimum maximum", "true false", "open closed", "rich poor", "hot cold",
):  # fmt: skip
    _one, _other = _pair.split()
    _OPPOSITES[_one], _OPPOSITES[_other] = _other, _one
_OPPOSITE = re.compile(rf"\b(?:{'|'.join(sorted(_OPPOSITES))})\b")
_BENIGN = (
    ("", ""), ("", ""), ("According to the text, ", ""), ("The text says that ", ""),
    ("In fact, ", ""), ("Yes, ", ""), ("", " This is stated directly."),
)  # fmt: skip


def _other_number(sentence: str, passage: str, draw: random.Random) -> str | None:
    match = _choice(_NUMBER, sentence, draw)
    if match is None:
        return None
    others = [n for n in _NUMBER.findall(passage) if n not in sentence]
    old = match[0]
    if others and draw.random() < 0.5:
        new = draw.choice(others)
    else:
        digits = [i for i, char in enumerate(old) if char.isdigit()]
        i = draw.choice(digits)
        new = old[:i] + draw.choice([d for d in "123456789" if d != old[i]]) + old[i + 1 :]
    return f"{sentence[: match.start()]}{new}{sentence[match.end() :]}"


def _other_name(sentence: str, passage: str, draw: random.Random) -> str | None:
    match = _choice(_NAME, sentence, draw)
    others = [name for name in _NAME.findall(passage) if match and name not in sentence]
    if match is None or not others:
        return None
    return f"{sentence[: match.start()]}{draw.choice(others)}{sentence[match.end() :]}"


def _swapped(sentence: str, passage: str, draw: random.Random) -> str | None:
    del passage
    for pattern in draw.sample([_NUMBER, _NAME], 2):
        found = list(pattern.finditer(sentence))
        pairs = [(a, b) for a in found for b in found if a.end() <= b.start() and a[0] != b[0]]
        if pairs:
            a, b = draw.choice(pairs)
            middle = sentence[a.end() : b.start()]
            return f"{sentence[: a.start()]}{b[0]}{middle}{a[0]}{sentence[b.end() :]}"
    return None


def _negated(sentence: str, passage: str, draw: random.Random) -> str | None:
    del passage
    if match := _choice(_NOT, sentence, draw):
        return sentence[: match.start()] + match[1] + sentence[match.end() :]
    match = _VERB.search(sentence)
    return sentence[: match.end()] + " not" + sentence[match.end() :] if match else None


def _opposite(sentence: str, passage: str, draw: random.Random) -> str | None:
    del passage
    match = _choice(_OPPOSITE, sentence, draw)
    if match is None:
        return None
    return sentence[: match.start()] + _OPPOSITES[match[0]] + sentence[match.end() :]


_MUTATORS: tuple[Callable[[str, str, random.Random], str | None], ...] = (
    _other_number, _other_name, _swapped, _negated, _opposite,
)  # fmt: skip


def _choice(pattern: re.Pattern[str], text: str, draw: random.Random) -> re.Match[str] | None:
    found = list(pattern.finditer(text))
    return draw.choice(found) if found else None


def mutated(passages: Sequence[str], seed: int = 0) -> Iterator[SupportPair]:
    """Yield two statements of each passage: one that it says, one that differs in one fact.

    Args:
        passages: Texts of at least two sentences.
        seed: Seed of the choices.
    """
    segmenter = RuleSegmenter()
    for passage in passages:
        draw = random.Random(f"{seed}:{passage}")
        spans = segmenter.sentences(passage)
        sentences = [passage[start:end].strip() for start, end in spans]
        usable = [text for text in sentences if 40 <= len(text) <= 300]
        if not usable:
            continue
        group = f"mutated:{passage[:80]}"
        before, after = draw.choice(_BENIGN)
        kept = draw.choice(usable)
        kept = before + (kept[0].lower() + kept[1:] if before.endswith("that ") else kept) + after
        yield SupportPair(kept, passage, "supported", group, "mutated")
        for mutator in draw.sample(_MUTATORS, len(_MUTATORS)):
            changed = mutator(draw.choice(usable), passage, draw)
            if changed:
                yield SupportPair(changed, passage, "contradicted", group, "mutated")
                break
