"""Short evidence: the few sentences of the sources that a statement is judged by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ragkit.chunking.sentences import RuleSegmenter
from ragkit.indexes.terms import TermAnalyzer

SENTENCES = 3
"""Largest number of sentences that the judge reads."""

_ANALYZER = TermAnalyzer("english")
_SEGMENTER = RuleSegmenter()


def rank_sentences(statement: str, sentences: Sequence[str], k: int = SENTENCES) -> list[int]:
    """Return the indices of at most `k` sentences that cover a statement's terms, best first.

    Terms weigh less the more of the sentences contain them. Each further sentence is chosen for
    the terms that the earlier ones lack, then for its whole weight; ties go to the earlier one.

    >>> rank_sentences("The gap of GaAs is direct.", ["Si has a gap.", "GaAs is direct.", "Hi."], 2)
    [1, 0]
    """
    wanted = set(_ANALYZER.terms(statement))
    terms = [wanted.intersection(_ANALYZER.terms(sentence)) for sentence in sentences]
    counts = Counter(term for found in terms for term in found)
    weight = {term: 1 / count for term, count in counts.items()}

    def total(found: set[str]) -> float:
        return round(sum(weight[term] for term in sorted(found)), 9)

    chosen: list[int] = []
    covered: set[str] = set()
    left = set(range(len(sentences)))
    while left and len(chosen) < k:
        best = max(left, key=lambda i: (total(terms[i] - covered), total(terms[i]), -i))
        chosen.append(best)
        covered |= terms[best]
        left.remove(best)
    return chosen


def short_evidence(statement: str, text: str, k: int = SENTENCES) -> str:
    """Return at most `k` sentences of a text, in their order, that cover a statement best."""
    spans = _SEGMENTER.sentences(text)
    if len(spans) <= k:
        return text
    sentences = [text[start:end].strip() for start, end in spans]
    return " ".join(sentences[i] for i in sorted(rank_sentences(statement, sentences, k)))
