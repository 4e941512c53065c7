"""Examples made from questions and their answers: statements, and questions about other names."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ragkit.evaluation.datasets.shapes import SupportPair
from ragkit.evaluation.measures.answers import normalise
from ragkit.finetune.pair.examples import SpanExample

_BE = r"(is|are|was|were)"
_WH_BE = re.compile(
    rf"(?:what|who|which|where|when) {_BE} ((?:the|a|an|his|her|its|their) .+?)\?*", re.I
)
_WH_VERB = re.compile(
    r"(?:who|what|which (?:\w+ )?)\s+((?!do|does|did|is|are|was|were|has|have|had|can|could|will|"
    r"would|should|may|might|must|kind|type|year|name)\w+(?:ed|s|t|de|ote|ave|ame)\b .+?)\?*",
    re.I,
)
_NAME = re.compile(r"(?<!^)\b[A-Z][\w'-]+(?: [A-Z][\w'-]+)*")


def statement_of(question: str, answer: str) -> str:
    """Return a question and its answer as one statement.

    A sentence where the question has one of two simple forms, else question and answer.

    >>> statement_of("What is the capital of Peru?", "Lima")
    'The capital of Peru is Lima.'
    >>> statement_of("Who wrote the first novel?", "Anna Ek")
    'Anna Ek wrote the first novel.'
    >>> statement_of("When did it end?", "in 1921")
    'When did it end? In 1921.'
    """
    question, answer = question.strip(), answer.strip().rstrip(".")
    if match := _WH_BE.fullmatch(question):
        text = f"{match[2]} {match[1]} {answer}."
    elif match := _WH_VERB.fullmatch(question):
        text = f"{answer} {match[1]}."
    else:
        return f"{question} {answer[:1].upper()}{answer[1:]}."
    return text[:1].upper() + text[1:]


def derived_statements(examples: Sequence[SpanExample], seed: int = 0) -> Iterator[SupportPair]:
    """Yield a statement for each answered question: its answer, or that of another question.

    The other answer stands in the same passage, as the values do that models confuse.

    Args:
        examples: Questions with passages.
        seed: Seed of the choices.
    """
    answers: dict[str, list[str]] = defaultdict(list)
    answered = [example for example in examples if example.spans]
    for example in answered:
        start, end = example.spans[0]
        if 2 <= end - start <= 60:
            answers[example.passage].append(example.passage[start:end])
    for example in answered:
        draw = random.Random(f"{seed}:{example.question}:{example.passage}")
        gold = {normalise(example.passage[start:end]) for start, end in example.spans}
        right = min((example.passage[a:b] for a, b in example.spans), key=len)
        words = {word for text in gold for word in text.split()}
        others = [
            text
            for text in answers[example.passage]
            if not words & set(normalise(text).split())
            and normalise(text) not in normalise(example.question)
        ]
        if len(right) > 80 or not right.strip():
            continue
        if draw.random() < 0.5 or not others:
            if not others and draw.random() < 0.6:
                continue
            yield SupportPair(
                statement_of(example.question, right), example.passage, "supported", example.group,
                "derived",
            )  # fmt: skip
        else:
            yield SupportPair(
                statement_of(example.question, draw.choice(others)), example.passage,
                "contradicted", example.group, "derived",
            )  # fmt: skip


def about_others(examples: Sequence[SpanExample], seed: int = 0) -> Iterator[SpanExample]:
    """Yield questions in which a name is replaced by another one; the passage has no answer.

    After the adversarial sentences of Jia and Liang 2017 (section 3.2), which change the passage
    instead.

    Args:
        examples: Questions with passages.
        seed: Seed of the choices.
    """
    names: dict[str, list[str]] = defaultdict(list)
    for example in examples:
        names[example.group] += _NAME.findall(example.question)
    everything = sorted({name for found in names.values() for name in found})
    for example in examples:
        draw = random.Random(f"{seed}:{example.question}")
        found = _NAME.findall(example.question)
        if not example.spans or not found:
            continue
        old = draw.choice(found)
        near = [name for name in names[example.group] if name not in example.question]
        pool = near if near and draw.random() < 0.6 else everything
        new = draw.choice(pool)
        # A name that stands in the passage may be asked about by chance and be answered.
        if new in example.passage or new in old or old in new:
            continue
        yield replace(example, question=example.question.replace(old, new), spans=())
