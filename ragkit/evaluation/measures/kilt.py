"""KILT: an answer counts only if the pages that it rests on were retrieved.

Source: Petroni et al. 2021, "KILT: a Benchmark for Knowledge Intensive Language Tasks", section 3,
and the evaluation scripts of facebookresearch/KILT. Deviation: where no gold output names a page
(FEVER's "not enough info"), the scripts count 0 and this says that there is no score.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ragkit.evaluation.measures.answers import exact_match, token_f1
from ragkit.evaluation.measures.score import Score


def page_r_precision(pages: Sequence[str], gold_pages: Sequence[Collection[str]]) -> Score:
    """The share of a gold output's R pages among the first R retrieved; the best gold output's.

    Args:
        pages: Retrieved page ids, best first; repeated ones are dropped first.
        gold_pages: For each gold output the ids of its pages; outputs without pages are left out.

    Raises:
        TypeError: One id stands where a list of ids is expected.

    >>> page_r_precision(["a", "a", "b"], [["a", "b", "c"], ["b", "a"]])
    Score(value=1.0, cause='')
    """
    if isinstance(pages, str) or any(isinstance(gold, str) for gold in gold_pages):
        raise TypeError("a list of page ids is a single text; expected a list")
    sets = [set(gold) for gold in gold_pages if gold]
    if not sets:
        return Score(None, "no gold output names a page")
    unique = list(dict.fromkeys(pages))
    return Score(max(len(gold.intersection(unique[: len(gold)])) / len(gold) for gold in sets))


def kilt_score(score: float, r_precision: Score) -> Score:
    """The answer's score if R-precision is 1, else 0; no score if R-precision has none.

    >>> kilt_score(0.8, Score(1.0)), kilt_score(0.8, Score(0.5))
    (Score(value=0.8, cause=''), Score(value=0.0, cause=''))
    """
    if r_precision.value is None:
        return r_precision
    return Score(score if r_precision.value == 1 else 0.0)


def kilt_em(
    prediction: str,
    answers: Sequence[str],
    *,
    pages: Sequence[str],
    gold_pages: Sequence[Collection[str]],
) -> Score:
    """KILT-EM: exact match if the pages are right, else 0. Pages as in `page_r_precision`."""
    return kilt_score(exact_match(prediction, answers), page_r_precision(pages, gold_pages))


def kilt_f1(
    prediction: str,
    answers: Sequence[str],
    *,
    pages: Sequence[str],
    gold_pages: Sequence[Collection[str]],
) -> Score:
    """KILT-F1: token F1 if the pages are right, else 0. Pages as in `page_r_precision`."""
    return kilt_score(token_f1(prediction, answers), page_r_precision(pages, gold_pages))
