"""Intervals and tests: exact cases, scipy beside them, and their error rates by simulation."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from ragkit.evaluation.statistics import bootstrap_interval, holm, paired_permutation_test

scores = st.integers(0, 10).map(lambda tenths: tenths / 10)


def test_interval_when_values_are_hits_and_misses_is_that_of_the_binomial():
    stats = pytest.importorskip("scipy.stats")
    low, high = bootstrap_interval([1.0] * 8 + [0.0] * 12, n=20_000)
    expected = stats.binom.ppf([0.025, 0.975], 20, 0.4) / 20
    assert [low, high] == pytest.approx(expected, abs=1e-12)


@pytest.mark.reference
def test_interval_when_compared_with_scipy_is_equal_but_for_chance():
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(3).exponential(size=60)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(9)
    ).confidence_interval
    error = values.std() / math.sqrt(60)
    assert bootstrap_interval(values) == pytest.approx(tuple(expected), abs=0.15 * error)


def test_interval_when_simulated_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    samples = rng.beta(0.5, 0.5, size=(1000, 50)) ** 2  # skewed, at the ends as measures are
    truth = 0.5 * (0.5 + 1) / (1 * 2)  # the second moment of Beta(0.5, 0.5)
    intervals = [bootstrap_interval(sample, n=500) for sample in samples]
    covered = np.mean([low <= truth <= high for low, high in intervals])
    assert 0.92 <= covered <= 0.97


def test_interval_when_repeated_is_the_same_and_wider_at_a_higher_level():
    values = np.random.default_rng(1).random(40)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values) != bootstrap_interval(values, seed=1)
    narrow, wide = bootstrap_interval(values, level=0.5), bootstrap_interval(values, level=0.99)
    assert wide.low < narrow.low < values.mean() < narrow.high < wide.high


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=8))
@examples(50)
def test_interval_when_values_are_any_stays_in_their_range(values):
    low, high = bootstrap_interval(values, n=200)
    assert min(values) <= low <= high <= max(values)


def test_interval_when_batched_uses_every_resample():
    values = np.arange(3000.0)  # 10,000 resamples of these do not fit in one batch
    low, high = bootstrap_interval(values)
    error = values.std() / math.sqrt(3000)
    assert (high - low) / error == pytest.approx(2 * 1.96, rel=0.05)


@pytest.mark.parametrize(
    ("values", "options"),
    [
        ([], {}),
        ([1.0], {}),
        ([1.0, math.nan], {}),
        ([[1.0, 2.0]], {}),
        ([1.0, 2.0], {"level": 1.0}),
        ([1.0, 2.0], {"level": 95}),
        ([1.0, 2.0], {"n": 0}),
    ],
)
def test_interval_when_arguments_are_impossible_is_refused(values, options):
    with pytest.raises(ValueError, match=r"expected|needs at least 2|finite numbers"):
        bootstrap_interval(values, **options)


@given(st.lists(st.tuples(scores, scores), min_size=1, max_size=8))
def test_permutation_test_when_pairs_are_few_is_the_share_of_all_sign_choices(pairs):
    tenths = [round(10 * a) - round(10 * b) for a, b in pairs]  # whole numbers: no rounding
    sums = [
        abs(sum(sign * d for sign, d in zip(signs, tenths, strict=True)))
        for signs in product((1, -1), repeat=len(tenths))
    ]
    expected = np.mean([total >= abs(sum(tenths)) for total in sums])
    p = paired_permutation_test([a for a, _ in pairs], [b for _, b in pairs])
    assert p == pytest.approx(expected, abs=1e-12)


@pytest.mark.reference
@pytest.mark.parametrize("seed", range(3))
def test_permutation_test_when_compared_with_scipy_is_equal(seed):
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(seed)
    a, b = rng.random(11), rng.random(11) * 0.8
    expected = stats.permutation_test(
        (a, b), lambda x, y, axis: (x - y).mean(axis=axis), permutation_type="samples",
        vectorized=True, n_resamples=5000,
    ).pvalue  # fmt: skip
    assert paired_permutation_test(a, b) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.2])
def test_permutation_test_when_signs_are_drawn_agrees_with_all_of_them(shift):
    rng = np.random.default_rng(5)
    a, b = rng.random(17) + shift, rng.random(17)
    exact = paired_permutation_test(a, b, n=2**17)
    drawn = paired_permutation_test(a, b, n=20_000)
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 20_000))


def test_permutation_test_when_there_is_nothing_to_tell_gives_one():
    assert paired_permutation_test([0.4], [0.9]) == 1.0
    assert paired_permutation_test([0.1, 0.2, 0.3] * 50, [0.1, 0.2, 0.3] * 50) == 1.0
    assert paired_permutation_test([0.1 + 0.2, 0.3], [0.3, 0.1 + 0.2]) == 1.0
    assert paired_permutation_test([0.1 + 0.2] * 40, [0.3] * 40) == 1.0  # rounding alone


def test_permutation_test_when_difference_is_plain_is_smallest_and_never_zero():
    assert paired_permutation_test([1.0] * 10, [0.0] * 10) == 2 / 2**10
    assert paired_permutation_test([1.0] * 300, [0.0] * 300) == 1 / 10_001
    assert paired_permutation_test([1.0] * 300, [0.0] * 300, n=99) == 1 / 100


@given(st.lists(st.tuples(scores, scores), min_size=1, max_size=10), st.integers(0, 20))
def test_permutation_test_when_systems_change_places_or_pairs_are_equal_stays(pairs, n_equal):
    a, b = [a for a, _ in pairs], [b for _, b in pairs]
    p = paired_permutation_test(a, b)
    assert 0 < p <= 1
    assert paired_permutation_test(b, a) == p
    assert paired_permutation_test(a + [0.3] * n_equal, b + [0.3] * n_equal) == p


@pytest.mark.parametrize(("pairs", "n"), [(10, 2000), (40, 400)])
def test_permutation_test_when_systems_are_equal_finds_a_difference_at_the_nominal_rate(pairs, n):
    rng = np.random.default_rng(pairs)
    common = rng.random((1500, pairs))
    a, b = common + rng.exponential(size=common.shape), common + rng.exponential(size=common.shape)
    p = np.array(
        [
            paired_permutation_test(x, y, n=n, seed=i)
            for i, (x, y) in enumerate(zip(a, b, strict=True))
        ]
    )
    for level in (0.05, 0.2):
        error = math.sqrt(level * (1 - level) / len(p))
        assert level - 4 * error < (p <= level).mean() < level + 3 * error


def test_permutation_test_when_systems_differ_finds_it_mostly():
    rng = np.random.default_rng(2)
    a, b = rng.normal(0.5, 1, size=(200, 60)), rng.normal(0, 1, size=(200, 60))
    found = np.mean(
        [paired_permutation_test(x, y, n=500) <= 0.05 for x, y in zip(a, b, strict=True)]
    )
    assert 0.65 < found < 0.95  # the t test's power is 0.77


@pytest.mark.parametrize(
    ("a", "b", "n"),
    [([], [], 10), ([1.0], [1.0, 2.0], 10), ([math.nan], [1.0], 10), ([1.0], [2.0], 0)],
)
def test_permutation_test_when_arguments_are_impossible_is_refused(a, b, n):
    with pytest.raises(ValueError, match=r"expected|finite numbers"):
        paired_permutation_test(a, b, n=n)


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.5], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([0.0, 1.0], [0.0, 1.0]),
        ([], []),
    ],
)
def test_holm_when_worked_by_hand_is_this(p_values, adjusted):
    assert holm(p_values) == pytest.approx(adjusted, abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.sampled_from([0.01, 0.05, 0.1, 0.5]))
def test_holm_when_compared_with_the_step_down_procedure_rejects_the_same(p_values, level):
    rejected = set()
    for step, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] * (len(p_values) - step) > level:
            break
        rejected.add(index)
    adjusted = holm(p_values)
    assert {index for index, p in enumerate(adjusted) if p <= level} == rejected
    assert all(p <= new <= 1 for p, new in zip(p_values, adjusted, strict=True))


def test_holm_when_nothing_is_true_rejects_anything_at_the_nominal_rate():
    p_values = np.random.default_rng(4).random((4000, 5))
    false = np.mean([min(holm(row)) <= 0.05 for row in p_values])
    assert 0.035 < false < 0.06  # 1 - 0.99**5 = 0.049


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_holm_when_a_p_value_is_none_is_refused(p):
    with pytest.raises(ValueError, match="expected each between 0 and 1"):
        holm([0.5, p])
