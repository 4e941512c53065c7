"""The data of the shipped pair model, in three stages.

The first stage is broad: all spans, with passages that do not answer, and all support pairs. The
second adds what the first lacked: titles before passages, questions in lower case, passages that a
retriever ranks high for a question of NQ and that do not answer it, and statements that differ from
a sentence in one fact (`mutations`). The third is the second with what is made from questions and
answers (`derived`) and from invented properties (`properties`).
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from ragkit import models
from ragkit.collection import Collection
from ragkit.evaluation.datasets import read_litm
from ragkit.evaluation.datasets.support import read_support
from ragkit.evaluation.measures.answers import normalise
from ragkit.evaluation.splits import split_of
from ragkit.finetune.pair.derived import about_others, derived_statements
from ragkit.finetune.pair.examples import SpanExample, is_held_out, read_spans
from ragkit.finetune.pair.mutations import mutated
from ragkit.finetune.pair.negatives import with_negatives
from ragkit.finetune.pair.properties import property_questions, property_statements
from ragkit.finetune.pair.training import PairData, tokenize_spans, tokenize_support
from ragkit.pair.encoding import PairTokenizer

_HELD_OUT_SUPPORT = 0.03
_HARD = 3  # passages of a question of NQ
_RANKS = 30  # among which they are looked for
_LOWER_CASE = 0.12  # share of the questions
_SHARES = {"policyqa": 0.6, "qamr": 0.3}  # of the spans in the second stage
_DERIVED = 0.7  # share of the statements that are made from answers
_PROPERTIES, _PROPERTY_STATEMENTS = 3000, 2500  # passages
_SUPPORT_SHARES = {"breaking_nli": 0.2, "monotonicity": 0.3, "snli_dev": 0.7, "mnli_dev": 0.8}


def pair_data(root: Path, stage: Literal[1, 2, 3], base: str = "minilm") -> PairData:
    """Read and tokenize the data of a stage; development data are held-out articles and pairs.

    Args:
        root: Folder of the data sets (`RAGKIT_DATA`).
        stage: 1, 2 or 3.
        base: Name of the encoder.
    """
    tokenizer = PairTokenizer(models.resolve(base) / "tokenizer.json")
    draw = random.Random(stage)
    examples = list(read_spans(root))
    dev = [e for e in examples if e.source == "squadshifts" and is_held_out(e.group)]
    train = [e for e in examples if not is_held_out(e.group)]
    pairs = list(read_support(root))
    support = [pair for pair in pairs if not is_held_out(pair.group, _HELD_OUT_SUPPORT)]
    if stage == 1:
        train = [e for e in train if e.source != "qamr" or draw.random() < 0.5]
        spans = list(with_negatives(train))
    else:
        spans = _second_spans(root, train, draw)
        support = [s for s in support if draw.random() < _SUPPORT_SHARES.get(s.source, 1.0)]
        passages = list(
            dict.fromkeys(e.passage for e in train if e.source in ("squadshifts", "nq"))
        )
        support += mutated(passages)
    if stage == 3:
        answered = [e for e in train if e.source in ("squadshifts", "nq")]
        spans += [*about_others(answered), *property_questions(_PROPERTIES)]
        support += [s for s in derived_statements(answered) if draw.random() < _DERIVED]
        support += property_statements(_PROPERTY_STATEMENTS)
    return PairData(
        tokenize_spans(tokenizer, spans),
        tokenize_support(tokenizer, support),
        tokenize_spans(tokenizer, list(with_negatives(dev)))[:900],
        tokenize_support(
            tokenizer, [pair for pair in pairs if is_held_out(pair.group, _HELD_OUT_SUPPORT)]
        )[:1500],
    )


def _second_spans(
    root: Path, train: Sequence[SpanExample], draw: random.Random
) -> list[SpanExample]:
    path = root / "litm_oracle_kv" / "nq-open-oracle.jsonl.gz"
    titles = {document.text: document.title for document in read_litm(path).corpus}
    nq = [example for example in train if example.source == "nq"]
    spans = [
        example
        for example in with_negatives([e for e in train if e.source != "nq"])
        if draw.random() < _SHARES.get(example.source, 1.0)
    ]
    spans += [*nq, *with_negatives(nq), *hard_negatives(path, nq)]
    spans = [_titled(e, titles.get(e.passage, "")) if draw.random() < 0.5 else e for e in spans]
    return [
        replace(e, question=e.question.lower().rstrip("? ")) if draw.random() < _LOWER_CASE else e
        for e in spans
    ]


def hard_negatives(path: Path, examples: Sequence[SpanExample]) -> list[SpanExample]:
    """Return questions with passages that rank high for them and have no answer.

    Only passages of the training split are taken, and only those are indexed.

    Args:
        path: The file of NQ with gold passages.
        examples: Questions of the training split.
    """
    corpus = [document for document in read_litm(path).corpus if split_of(document.id) == "train"]
    texts = {document.id: document.text for document in corpus}
    with tempfile.TemporaryDirectory() as folder, Collection(f"{folder}/nq.rag") as collection:
        collection.add(corpus)
        retriever = collection.retriever("hybrid")
        runs = retriever.retrieve([example.question for example in examples], _RANKS)
    found = []
    for example, hits in zip(examples, runs, strict=True):
        answers = {normalise(example.passage[start:end]) for start, end in example.spans}
        others = [texts[hit.chunk.doc_id] for hit in hits]
        free = [
            text
            for text in others
            if text != example.passage
            and not any(f" {answer} " in f" {normalise(text)} " for answer in answers if answer)
        ]
        found += [replace(example, passage=text, spans=()) for text in free[:_HARD]]
    return found


def _titled(example: SpanExample, title: str) -> SpanExample:
    """Put a title before the passage, as the reader does."""
    if not title:
        return example
    n = len(title) + 1
    spans = tuple((start + n, end + n) for start, end in example.spans)
    return replace(example, passage=f"{title}\n{example.passage}", spans=spans)
