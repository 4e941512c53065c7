"""KILT scores: an answer counts only if its provenance pages were retrieved.

Source: Petroni et al. 2021, "KILT: a Benchmark for Knowledge Intensive Language Tasks", section 3,
and the evaluation scripts of facebookresearch/KILT. Deviation: if no gold output names a page
(FEVER's "not enough info"), the scripts count 0; here there is no score.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ragkit.evaluation.measures.answers import exact_match, token_f1
from ragkit.evaluation.measures.score import Score


def page_r_precision(pages: Sequence[str], gold_pages: Sequence[Collection[str]]) -> Score:
    """Return R-precision: the share of a gold output's R pages among the first R retrieved pages.

    The best value over the gold outputs counts.

    Args:
        pages: Retrieved page ids, best first; duplicates are removed.
        gold_pages: Page ids of each gold output; outputs without pages are ignored.

    Raises:
        TypeError: A string was passed instead of a list of ids.

    >>> page_r_precision(["a", "a", "b"], [["a", "b", "c"], ["b", "a"]])
    Score(value=1.0, cause='')
    """
    if isinstance(pages, str) or any(isinstance(gold, str) for gold in gold_pages):
        raise TypeError("page ids are a single string; expected a list of strings")
    sets = [set(gold) for gold in gold_pages if gold]
    if not sets:
        return Score(None, "no gold output names a page")
    unique = list(dict.fromkeys(pages))
    return Score(max(len(gold.intersection(unique[: len(gold)])) / len(gold) for gold in sets))


def kilt_score(score: float, r_precision: Score) -> Score:
    """Return the answer's score if R-precision is 1, else 0; no score if R-precision has none.

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
    """Return KILT-EM: exact match if the pages are right, else 0. See `page_r_precision`."""
    return kilt_score(exact_match(prediction, answers), page_r_precision(pages, gold_pages))


def kilt_f1(
    prediction: str,
    answers: Sequence[str],
    *,
    pages: Sequence[str],
    gold_pages: Sequence[Collection[str]],
) -> Score:
    """Return KILT-F1: token F1 if the pages are right, else 0. See `page_r_precision`."""
    return kilt_score(token_f1(prediction, answers), page_r_precision(pages, gold_pages))
