"""Splits for data published without them, by the digest of the gold passage's id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from ragkit.evaluation.datasets.shapes import Dataset, KeyValueSet, PairSet, QASet, SupportSet
from ragkit.evaluation.splits import Split, split_of

_Set = TypeVar("_Set", bound=Dataset)


def question_split(gold: Iterable[str], own_id: str) -> Split:
    """Return the split of a question with few gold passages.

    It is "test" if one of them is in test, else "dev" if one is in dev, so that no passage of the
    test split is ever gold in training. Without gold passages the question's own id decides.

    >>> question_split(["passage-1", "passage-2"], "q")
    'test'
    """
    splits = {split_of(key) for key in gold} or {split_of(own_id)}
    order: tuple[Split, ...] = ("test", "dev", "train")
    return next(split for split in order if split in splits)


def query_split(judged: Mapping[str, int], own_id: str) -> Split:
    """Return the split of a query that may have dozens of relevant documents.

    The most relevant document decides, ties going to the lowest id. (By the rule of
    `question_split` nearly all queries would be in test.)

    >>> query_split({"passage-1": 1, "passage-2": 2}, "q")
    'train'
    """
    relevant = [(-grade, key) for key, grade in judged.items() if grade > 0]
    return split_of(min(relevant)[1] if relevant else own_id)


def take_split(data: _Set, split: str) -> _Set:
    """Return the queries, questions, pairs or probes of one split, with the full corpus.

    Args:
        data: The full data set.
        split: "train", "dev", "test", or "all".
    """
    if split == "all":
        return replace(data, split="all")
    if isinstance(data, QASet):
        questions = tuple(q for q in data.questions if question_split(q.gold, q.id) == split)
        return replace(data, split=split, questions=questions)
    if isinstance(data, KeyValueSet):
        probes = tuple(p for p in data.probes if split_of(p.key) == split)
        return replace(data, split=split, probes=probes)
    if isinstance(data, PairSet | SupportSet):
        raise TypeError("pairs cannot be split: they have no gold passages")
    qrels = {
        query: judged for query, judged in data.qrels.items() if query_split(judged, query) == split
    }
    queries = {query: data.queries[query] for query in data.queries if query in qrels}
    return replace(data, split=split, queries=queries, qrels=qrels)
