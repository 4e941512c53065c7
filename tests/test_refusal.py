"""Refusal with a bound: exact intervals, the curve, and thresholds that keep their promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from ragkit.errors import DatasetError
from ragkit.evaluation.refusal import fit_threshold, least_answers, risk_coverage, upper_bound


@given(st.integers(1, 300), st.data(), st.floats(0.5, 0.999))
@examples(60)
def test_upper_bound_is_where_the_tail_has_the_remaining_probability(n, data, confidence):
    wrong = data.draw(st.integers(0, n))
    bound = upper_bound(wrong, n, confidence)
    assert wrong / n <= bound <= 1
    if wrong < n:
        tail = sum(math.comb(n, i) * bound**i * (1 - bound) ** (n - i) for i in range(wrong + 1))
        assert tail == pytest.approx(1 - confidence, abs=1e-6)


@pytest.mark.reference
def test_upper_bound_is_that_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    for wrong, n in ((0, 59), (3, 100), (17, 18), (1, 2), (40, 1000)):
        expected = stats.beta.ppf(0.95, wrong + 1, n - wrong)
        assert upper_bound(wrong, n) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("risk", [0.01, 0.05, 0.1, 0.3])
def test_least_answers_are_just_enough(risk):
    n = least_answers(risk)
    assert upper_bound(0, n) <= risk < upper_bound(0, n - 1)


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.5, 0.7, 0.9]), st.booleans())))
@examples(60)
def test_risk_coverage_counts_what_each_threshold_answers(rows):
    likelihoods, right = [p for p, _ in rows], [r for _, r in rows]
    points = risk_coverage(likelihoods, right)
    assert [p.threshold for p in points] == sorted({p for p in likelihoods if p}, reverse=True)
    for point in points:
        given_answers = [r for p, r in rows if p >= point.threshold]
        assert (point.n_answered, point.n_wrong) == (len(given_answers), given_answers.count(False))
        assert point.coverage == len(given_answers) / len(rows)
        assert point.risk == given_answers.count(False) / len(given_answers)


def test_threshold_breaks_its_bound_in_at_most_one_of_twenty_samples():
    """The true risk by threshold is known: an answer of likelihood p is right with p."""
    draw = np.random.default_rng(0)
    broken, n = 0, 200
    for _ in range(n):
        likelihoods = draw.uniform(0.5, 1, 300)
        right = draw.uniform(size=300) < likelihoods
        try:
            point = fit_threshold(likelihoods.tolist(), right.tolist(), 0.15)
        except DatasetError:
            continue
        broken += (1 - point.threshold) / 2 > 0.15  # mean of 1 - p from the threshold on
    assert broken <= 0.05 * n + 3 * math.sqrt(0.05 * 0.95 * n)


def test_too_few_questions_and_too_many_errors_are_told():
    with pytest.raises(DatasetError, match=r"needs at least 59 answers"):
        fit_threshold([0.9] * 58, [True] * 58, 0.05)
    assert fit_threshold([0.9] * 59, [True] * 59, 0.05).coverage == 1
    with pytest.raises(DatasetError, match=r"no threshold keeps it at 5%"):
        fit_threshold([0.9] * 59, [False] + [True] * 58, 0.05)
    with pytest.raises(ValueError, match="expected between 0 and 1"):
        fit_threshold([0.9], [True], 1.0)
