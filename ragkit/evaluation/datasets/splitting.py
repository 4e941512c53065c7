"""Data published without splits: one split for all, by the digest of the gold passage's id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from ragkit.evaluation.datasets.shapes import Dataset, KeyValueSet, PairSet, QASet
from ragkit.evaluation.splits import Split, split_of

_Set = TypeVar("_Set", bound=Dataset)


def question_split(gold: Iterable[str], own_id: str) -> Split:
    """The split of a question with few gold passages.

    "test" if one of them is in test, else "dev" if one is in dev: so no passage of the test
    split is ever gold in training. Without gold passages, the question's own id decides.

    >>> question_split(["passage-1", "passage-2"], "q")
    'test'
    """
    found = {split_of(key) for key in gold} or {split_of(own_id)}
    order: tuple[Split, ...] = ("test", "dev", "train")
    return next(split for split in order if split in found)


def query_split(judged: Mapping[str, int], own_id: str) -> Split:
    """The split of a query of a judged collection, where tens of documents may be relevant.

    The most relevant document decides, of equals the one with the lowest id. (By the rule of
    `question_split` nearly everything would be test.)

    >>> query_split({"passage-1": 1, "passage-2": 2}, "q")
    'train'
    """
    relevant = [(-grade, key) for key, grade in judged.items() if grade > 0]
    return split_of(min(relevant)[1] if relevant else own_id)


def take_split(data: _Set, split: str) -> _Set:
    """The queries, questions, pairs or probes of one split, with the whole corpus.

    Args:
        data: All of it.
        split: "train", "dev", "test", or "all".
    """
    if split == "all":
        return replace(data, split="all")
    if isinstance(data, QASet):
        asked = tuple(q for q in data.questions if question_split(q.gold, q.id) == split)
        return replace(data, split=split, questions=asked)
    if isinstance(data, KeyValueSet):
        probes = tuple(p for p in data.probes if split_of(p.key) == split)
        return replace(data, split=split, probes=probes)
    if isinstance(data, PairSet):
        raise TypeError("sentence pairs have no gold passage to split them by")
    qrels = {
        query: judged for query, judged in data.qrels.items() if query_split(judged, query) == split
    }
    queries = {query: data.queries[query] for query in data.queries if query in qrels}
    return replace(data, split=split, queries=queries, qrels=qrels)
