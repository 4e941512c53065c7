"""Precision and recall of citations against gold spans, in characters.

A character counts once, even if several spans contain it. An answer's spans are
`[(c.doc_id, c.start, c.end) for c in answer.citations]`.

Source: ours; the token-wise precision and recall of Smith & Troynikov 2024, "Evaluating Chunking
Strategies for Retrieval", with characters for tokens and citations for chunks. No model is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ragkit.evaluation.measures.score import Score

Span = tuple[str, int, int]
"""Document id, start and end in code points of the document's text."""


def citation_precision(cited: Sequence[Span], gold: Sequence[Span]) -> Score:
    """Return the share of cited characters that are gold; no value without citations or gold spans.

    Raises:
        ValueError: A span is empty or starts before 0.

    >>> citation_precision([("a", 0, 10)], [("a", 5, 25)])
    Score(value=0.5, cause='')
    """
    return _share(cited, gold, of_gold=False)


def citation_recall(cited: Sequence[Span], gold: Sequence[Span]) -> Score:
    """Return the share of gold characters that are cited; no value without gold spans.

    Raises:
        ValueError: A span is empty or starts before 0.

    >>> citation_recall([("a", 0, 10)], [("a", 5, 25)])
    Score(value=0.25, cause='')
    """
    return _share(cited, gold, of_gold=True)


def _share(cited: Sequence[Span], gold: Sequence[Span], *, of_gold: bool) -> Score:
    n_cited, n_gold, n_both = _overlap(cited, gold)
    if not n_gold:
        return Score(None, "the question has no gold span")
    if of_gold:
        return Score(n_both / n_gold)
    return Score(n_both / n_cited) if n_cited else Score(None, "nothing was cited")


def _overlap(cited: Sequence[Span], gold: Sequence[Span]) -> tuple[int, int, int]:
    """Return the numbers of characters that are cited, gold, and both."""
    n_cited = n_gold = n_both = 0
    for doc_id in {span[0] for span in (*cited, *gold)}:
        in_cited = [span for span in cited if span[0] == doc_id]
        in_gold = [span for span in gold if span[0] == doc_id]
        length = max(end for _, _, end in (*in_cited, *in_gold))
        cited_mask, gold_mask = _mask(in_cited, length), _mask(in_gold, length)  # (length,)
        n_cited += int(cited_mask.sum())
        n_gold += int(gold_mask.sum())
        n_both += int((cited_mask & gold_mask).sum())
    return n_cited, n_gold, n_both


def _mask(spans: Sequence[Span], length: int) -> NDArray[np.bool_]:
    mask = np.zeros(max(length, 0), dtype=np.bool_)
    for span in spans:
        _, start, end = span
        if not 0 <= start < end:
            raise ValueError(f"span is {span!r}; expected 0 <= start < end")
        mask[start:end] = True
    return mask
