"""Passages that do not answer a question, for the null answer."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from ragkit.chunking.sentences import RuleSegmenter
from ragkit.evaluation.measures.answers import normalise
from ragkit.finetune.pair.examples import SpanExample
from ragkit.indexes.terms import TermAnalyzer

_CANDIDATES = 40  # passages of the same group, or of the set, that are ranked for a question


def without_answer(example: SpanExample) -> SpanExample | None:
    """Return the passage without the sentences that contain an answer, or None.

    None if fewer than two sentences or an answer's text would be left.
    """
    passage = example.passage
    sentences = RuleSegmenter().sentences(passage)
    kept = [
        (start, end)
        for start, end in sentences
        if not any(start < last and first < end for first, last in example.spans)
    ]
    if len(kept) < 2 or len(kept) == len(sentences):
        return None
    rest = " ".join(passage[start:end].strip() for start, end in kept)
    if _contains_answer(rest, example):
        return None
    return SpanExample(example.question, rest, (), example.group, example.source)


class NearMisses:
    """Passages of the same article, or of the same data set, that share words with a question.

    Args:
        examples: The examples whose passages are the candidates.
        seed: Seed of the samples.
    """

    def __init__(self, examples: Sequence[SpanExample], seed: int = 0) -> None:
        self._analyzer = TermAnalyzer("english")
        self._groups: dict[str, list[str]] = defaultdict(list)
        self._sets: dict[str, list[str]] = defaultdict(list)
        seen = set()
        for example in examples:
            if example.passage not in seen:
                seen.add(example.passage)
                self._groups[example.group].append(example.passage)
                self._sets[example.source].append(example.passage)
        self._terms = {passage: frozenset(self._analyzer.terms(passage)) for passage in seen}
        frequency = Counter(term for terms in self._terms.values() for term in terms)
        self._idf = {term: math.log(1 + len(seen) / n) for term, n in frequency.items()}
        self._seed = seed

    def of(self, example: SpanExample) -> SpanExample | None:
        """Return the question with a passage that is near and has no answer, or None."""
        draw = random.Random(f"{self._seed}:{example.question}:{example.group}")
        pool = [p for p in self._groups[example.group] if p != example.passage]
        if len(pool) < 3:
            everything = self._sets[example.source]
            pool += draw.sample(everything, min(_CANDIDATES, len(everything)))
        if len(pool) > _CANDIDATES:
            pool = draw.sample(pool, _CANDIDATES)
        wanted = frozenset(self._analyzer.terms(example.question))
        ranked = sorted(
            pool,
            key=lambda passage: -sum(self._idf[t] for t in sorted(wanted & self._terms[passage])),
        )
        for passage in ranked[:5]:
            if passage != example.passage and not _contains_answer(passage, example):
                return SpanExample(example.question, passage, (), example.group, example.source)
        return None


def _contains_answer(text: str, example: SpanExample) -> bool:
    plain = f" {normalise(text)} "
    answers = {normalise(example.passage[start:end]) for start, end in example.spans}
    return any(f" {answer} " in plain for answer in answers if answer)


def lengthen(example: SpanExample, others: Sequence[str], draw: random.Random) -> SpanExample:
    """Return a single sentence among others, with its answer's offsets moved."""
    n = draw.randint(1, 4)
    sentences = draw.sample(list(others), min(n, len(others)))
    sentences = [text for text in sentences if not _contains_answer(text, example)]
    at = draw.randint(0, len(sentences))
    before = "".join(f"{text} " for text in sentences[:at])
    after = "".join(f" {text}" for text in sentences[at:])
    moved = tuple((start + len(before), end + len(before)) for start, end in example.spans)
    return SpanExample(
        example.question, before + example.passage + after, moved, example.group, example.source
    )


def with_negatives(examples: Sequence[SpanExample], seed: int = 0) -> Iterator[SpanExample]:
    """Yield each example, and for about half of them a passage that does not answer it.

    Single sentences (QAMR) are put among others in two cases of three.
    """
    misses = NearMisses(examples, seed)
    sentences = sorted({example.passage for example in examples if example.source == "qamr"})
    for example in examples:
        draw = random.Random(f"{seed}:{example.question}:{example.passage}")
        chance = draw.random()
        if chance < 0.22:
            negative = without_answer(example) or misses.of(example)
        else:
            negative = misses.of(example) if chance < 0.5 else None
        if example.source == "qamr":
            if draw.random() < 0.67:
                example = lengthen(example, sentences, draw)
            if negative is not None and draw.random() < 0.67:
                negative = lengthen(negative, sentences, draw)
        yield example
        if negative is not None:
            yield negative
