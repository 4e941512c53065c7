"""Citations against gold spans, beside sets of characters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.evaluation.measures.score import Score
from ragkit.evaluation.measures.spans import citation_precision, citation_recall

spans = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 12), st.integers(1, 6)).map(
        lambda span: (span[0], span[1], span[1] + span[2])
    ),
    max_size=5,
)


@given(cited=spans, gold=spans)
def test_citation_measures_when_compared_with_sets_of_characters_are_equal(cited, gold):
    cited_set = {(doc, i) for doc, start, end in cited for i in range(start, end)}
    gold_set = {(doc, i) for doc, start, end in gold for i in range(start, end)}
    both = len(cited_set & gold_set)
    precision, recall = citation_precision(cited, gold), citation_recall(cited, gold)
    if not gold:
        assert precision == recall == Score(None, "the question has no gold span")
        return
    assert recall == Score(both / len(gold_set))
    expected = Score(both / len(cited_set)) if cited else Score(None, "nothing was cited")
    assert precision == expected


@pytest.mark.parametrize("span", [("a", 3, 3), ("a", 5, 2), ("a", -1, 4)])
def test_citation_measures_when_a_span_is_empty_or_negative_refuse_it(span):
    with pytest.raises(ValueError, match="expected 0 <= start < end"):
        citation_recall([("a", 0, 9)], [span])
