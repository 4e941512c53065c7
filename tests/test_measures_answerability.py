"""When to answer: hand tables, and ties beside every order."""

from __future__ import annotations

import math
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.evaluation.measures.answerability import Answerability, answerability, risk_coverage
from ragkit.evaluation.measures.score import Score


def test_answerability_when_worked_by_hand_is_this():
    answered = [True, True, True, False, False]
    answerable = [True, True, False, True, False]
    assert answerability(answered, answerable) == Answerability(Score(2 / 3), Score(2 / 3))
    none = answerability([False], [False])
    assert none.precision == Score(None, "no question was answered")
    assert none.recall == Score(None, "no question is answerable")
    with pytest.raises(ValueError, match="answered has 1 values and answerable has 2"):
        answerability([True], [True, False])


def test_risk_coverage_when_worked_by_hand_is_this():
    curve = risk_coverage([0.2, 0.9, 0.5, 0.7], [1, 0, 1, 0])
    assert curve.coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert curve.risk == pytest.approx([0, 0, 1 / 3, 1 / 2], abs=1e-12)
    assert curve.aurc.value == pytest.approx((1 / 3 + 1 / 2) / 4, abs=1e-12)


@given(
    st.lists(
        st.tuples(st.sampled_from([-math.inf, 0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.25, 1.0])),
        min_size=1,
        max_size=5,
    )
)
def test_risk_coverage_when_confidences_tie_is_the_mean_over_all_orders(questions):
    orders = [
        order for order in permutations(questions) if all(a[0] >= b[0] for a, b in pairwise(order))
    ]
    risks = [
        np.cumsum([loss for _, loss in order]) / np.arange(1, len(order) + 1) for order in orders
    ]
    curve = risk_coverage([c for c, _ in questions], [loss for _, loss in questions])
    assert curve.risk == pytest.approx(np.mean(risks, axis=0), abs=1e-12)
    assert curve.aurc.value == pytest.approx(np.mean(risks), abs=1e-12)


def test_risk_coverage_when_there_is_nothing_to_rank_has_a_cause_or_is_refused():
    assert risk_coverage([], []).aurc == Score(None, "there are no questions")
    for confidences, losses in (([math.nan], [0.0]), ([1.0], [math.nan]), ([1.0], [])):
        with pytest.raises(ValueError, match="expected"):
            risk_coverage(confidences, losses)
