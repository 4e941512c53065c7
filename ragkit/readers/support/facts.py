"""What the rules compare: sources with the words of their titles, and what belongs to a value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from ragkit.chunking.sentences import RuleSegmenter
from ragkit.readers.support.quantities import Quantity
from ragkit.readers.support.wording import Sentence, Word, aliases, read_sentence

Kind = Literal["agrees", "conflicts", "computed", "elsewhere", "open"]

COVERED = 0.75
"""Share of a statement's content words that a source must hold to speak of the same."""

_METHODS = {
    "measured": "measur experiment experi observ",
    "calculated": "calcul comput predict theoret dft pbe gga lda hse hse06 scan simul",
}
METHOD_OF = {stem: name for name, stems in _METHODS.items() for stem in stems.split()}
"""The kinds of methods that stems name."""

_SEGMENTER = RuleSegmenter()
_TIMES = frozenset("earli late mid year centuri day month".split())
_RESPECTIVELY = re.compile(r"\brespectively\b")
_SPLIT = re.compile(r",|;|\band\b|\bwhile\b|\bwhereas\b|\bbut\b|\bor\b|\bthan\b|\bversus\b")
_LIFE = re.compile(
    r"\(([^()]{0,60}?)\b((?:1\d|20)\d\d)\s?(?:[\u2013-]|--)\s?([^()\u2013-]{0,22}(?:1\d|20)\d\d)\)"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What the comparison of one fact found; `evidence` is the index of a sentence, or -1."""

    kind: Kind
    reason: str
    evidence: int


@dataclass(frozen=True, slots=True)
class Source:
    """An evidence sentence with the words that it may take from its title."""

    index: int
    sentence: Sentence
    keys: frozenset[str]
    stems: frozenset[str]


def prepare(
    statement: str, evidence: Sequence[str], context: Sequence[str]
) -> tuple[list[Sentence], list[Source]]:
    """Read all texts, with one name for what the evidence gives two names."""
    if context and len(context) != len(evidence):
        raise ValueError(
            f"context has {len(context)} titles for {len(evidence)} evidence sentences; expected "
            "one for each, or none"
        )
    short: dict[str, str] = {}
    for text in (*evidence, *context):
        if "(" in text or "," in text:
            short |= aliases(text)
    titles = [read_sentence(_shorten(title, short)) for title in context]
    sentences = [read_sentence(_shorten(_with_life(text), short)) for text in evidence]
    sources = []
    for i, sentence in enumerate(sentences):
        keys, stems = sentence.keys(), sentence.stems()
        others = titles[i : i + 1]
        if sentence.pronoun and not context:
            others = [other for j, other in enumerate(sentences) if j != i]
        for other in others:
            keys, stems = keys | other.keys(), stems | other.stems()
        sources.append(Source(i, sentence, keys, stems))
    spans = _SEGMENTER.sentences(statement)
    parts = [read_sentence(_shorten(statement[start:end], short)) for start, end in spans]
    return parts, sources


def _shorten(text: str, short: dict[str, str]) -> str:
    for long, name in short.items():
        text = re.sub(rf"\b{re.escape(long)}(?:\s?\({re.escape(name)}\))?", name, text, flags=re.I)
    return text


def _with_life(text: str) -> str:
    """Return a sentence with "born" and "died" before the two dates after a person's name."""
    match = _LIFE.search(text)
    if match is None or match.start() > 120 or not 15 <= int(match[3][-4:]) - int(match[2]) <= 110:
        return text
    life = f"(born {match[1]}{match[2]}; died {match[3]})"
    return text[: match.start()] + life + text[match.end() :]


def stands(quantity: Quantity, source: Source) -> bool:
    """Whether a source has a quantity, of whatever thing."""
    return any(
        alike_kind(quantity, other) and quantity.agrees(other)
        for other in source.sentence.quantities
    )


def says_all(part: Sentence, source: Source) -> bool:
    """Whether a source has all words of a sentence, and denies what it denies."""
    names = all(word.key in source.keys for word in part.words if word.name)
    denied = {word.stem for word in part.words if word.denied}
    theirs = {word.stem for word in source.sentence.words if word.denied}
    content = {word.stem for word in part.words if word.content}
    values = all(stands(quantity, source) for quantity in part.quantities)
    return names and values and content <= source.stems and denied == theirs & content


def alike_kind(mine: Quantity, other: Quantity) -> bool:
    """Whether two quantities count or measure the same kind of thing."""
    if mine.kind != other.kind or mine.kind == "label":
        bare = {mine.kind, other.kind} <= {"label", "number", "year"}
        return bare and mine.low == other.low and mine.point and other.point
    return mine.unit == other.unit


def coverage(words: Sequence[Word], source: Source) -> float:
    """The share of words that a source has; 0 if it lacks a name."""
    names = [word for word in words if word.name]
    for i, name in enumerate(names):
        if name.key in source.keys:
            continue
        following = names[i + 1] if i + 1 < len(names) else None
        if following is None or not _bare(name, following, source):
            return 0.0
    stems = {word.stem for word in words if not word.name and word.stem not in METHOD_OF}
    return sum(stem in source.stems for stem in stems) / len(stems) if stems else 1.0


def _bare(first: Word, last: Word, source: Source) -> bool:
    """Tell whether a source has the last of two neighbouring names alone: "Cruz" for "Ana Cruz"."""
    if last.start - first.start > len(first.key) + 1:
        return False
    words = source.sentence.words
    places = [i for i, word in enumerate(words) if word.key == last.key]
    return bool(places) and all(
        i == 0 or not words[i - 1].name or words[i].start - words[i - 1].start > 20 for i in places
    )


def segments(alike: Sequence[Quantity], sentence: Sentence) -> list[list[Word]] | None:
    """The words that belong to each of several quantities; None if that is not clear."""
    if any(a.start == b.start for a, b in pairwise(alike)):
        return None
    content = [word for word in sentence.words if word.content]
    if _RESPECTIVELY.search(sentence.text):
        return _respective(alike, sentence)
    cuts = [0]
    for left, right in pairwise(alike):
        gap = sentence.text[left.end : right.start]
        split = _SPLIT.search(gap)
        if split is None:
            return None
        cuts.append(left.end + split.start())
    rest = re.search(r"[,;)]", sentence.text[alike[-1].end :])
    cuts.append(alike[-1].end + rest.start() if rest else len(sentence.text))
    owners = [
        [word for word in content if start <= word.start < end and word.stem not in _TIMES]
        for start, end in pairwise(cuts)
    ]
    return owners if all(owners) else None


def _respective(alike: Sequence[Quantity], sentence: Sentence) -> list[list[Word]] | None:
    """Return the n-th of the listed names for the n-th value."""
    before = sentence.text[: alike[0].start]
    names = [word for word in sentence.words if word.name and word.start < alike[0].start]
    if len(names) == len(alike):
        return [[name] for name in names]
    pair = re.search(r"(\w+),? and (?:of |for |that of )?(\w+)[^,]*$", before)
    if len(alike) != 2 or pair is None:
        return None
    starts = (pair.start(1), pair.start(2))
    owners = [[word for word in sentence.words if word.start == start] for start in starts]
    return owners if all(owners) else None
