"""Correlations: by hand, and beside scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.evaluation.measures.correlation import pearson, spearman
from ragkit.evaluation.measures.score import Score


def test_correlations_when_worked_by_hand_are_these():
    first, second = [1, 2, 3, 4, 5], [2, 1, 4, 3, 5]
    assert spearman(first, second).value == pytest.approx(1 - 6 * 4 / (5 * 24), abs=1e-12)
    assert pearson([0, 1, 2], [1, 1, 4]).value == pytest.approx(3 / math.sqrt(12), abs=1e-12)
    assert spearman([1, 2, 2, 3], [10, 20, 20, 900]) == Score(1.0)


numbers = st.lists(
    st.tuples(st.integers(-5, 5), st.integers(-5, 5) | st.floats(-6e4, 6e4, width=16)),
    max_size=20,
)


@pytest.mark.reference
@given(numbers)
def test_correlations_when_compared_with_scipy_are_equal(pairs):
    stats = pytest.importorskip("scipy.stats")
    first, second = [a for a, _ in pairs], [float(b) for _, b in pairs]
    if len(set(first)) < 2 or len(set(second)) < 2:
        assert pearson(first, second).value is spearman(first, second).value is None
        return
    expected = stats.spearmanr(first, second).statistic
    assert spearman(first, second).value == pytest.approx(expected, abs=1e-9)
    if np.ptp(second) > 1e-6 * np.abs(second).max():  # else both are made of rounding
        expected = stats.pearsonr(first, second).statistic
        assert pearson(first, second).value == pytest.approx(expected, abs=1e-9)


def test_correlations_when_there_is_nothing_to_correlate_have_a_cause_or_are_refused():
    assert pearson([1, 1], [1, 2]) == Score(None, "all values of the first list are equal")
    assert spearman([1, 2], [3, 3]) == Score(None, "all values of the second list are equal")
    assert pearson([1], [1]) == Score(None, "1 pairs; a correlation needs at least 2")
    with pytest.raises(ValueError, match="have 1 and 2 values"):
        spearman([1], [1, 2])
    with pytest.raises(ValueError, match="expected finite numbers"):
        pearson([1, math.nan], [1, 2])
