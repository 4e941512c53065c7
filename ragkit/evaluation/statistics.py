"""Intervals of means and tests of differences, without distributional assumptions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]
Values = Sequence[float] | NDArray[np.floating[Any]]
"""A list of numbers or a float array of one dimension."""
_DRAWS_AT_ONCE = 2_000_000  # 16 MB of float64


class Interval(NamedTuple):
    """A closed interval."""

    low: float
    high: float


def bootstrap_interval(
    values: Values, *, level: float = 0.95, n: int = 10_000, seed: int = 0
) -> Interval:
    """Return the percentile bootstrap interval of the mean of values, one per query.

    Percentiles and not BCa: they stay in the range of the values, need no correction that fails if
    most values are equal (such as hits and misses), and the mean of 30 queries or more is close
    enough to symmetric. With fewer queries the interval is slightly too short, as with BCa.

    Args:
        values: At least two finite numbers.
        level: Nominal coverage, between 0 and 1.
        n: Number of resamples.
        seed: Seed of the resampling.

    Raises:
        ValueError: There are fewer than two values, one is not finite, or level or n is out of
            range.

    Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3.

    >>> bootstrap_interval([1.0, 1.0, 1.0])
    Interval(low=1.0, high=1.0)
    """
    array = _floats(values, "values")  # (values,)
    if len(array) < 2:
        raise ValueError(f"got {len(array)} values; an interval needs at least 2")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; expected a number between 0 and 1, such as 0.95")
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [
            array[rng.integers(len(array), size=(rows, len(array)))].mean(axis=1)
            for rows in _batches(n, len(array))
        ]
    )  # (n,)
    means = means.clip(array.min(), array.max())  # rounding may leave the range
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def paired_permutation_test(a: Values, b: Values, *, n: int = 10_000, seed: int = 0) -> float:
    """Return the two-sided p-value of the hypothesis that two systems have the same mean.

    If the systems do not differ, each query's difference could equally have the other sign. p is
    the share of sign assignments whose mean difference is at least as large as the observed one:
    of all assignments if there are at most n (exact, ignoring pairs without a difference), else of
    n random ones and the observed one, so that it is never 0.

    Args:
        a: Scores of one system, at least one.
        b: Scores of the other, in the same order of queries.
        n: Number of random assignments, and the limit up to which all are enumerated.
        seed: Seed of the random assignments.

    Raises:
        ValueError: The lists differ in length, are empty or contain a number that is not finite,
            or n is below 1.

    Source: Fisher 1935, "The Design of Experiments", section 21; for retrieval Smucker, Allan &
    Carterette 2007; (b + 1) / (n + 1) after Phipson & Smyth 2010.

    >>> paired_permutation_test([0.5, 0.7, 0.9], [0.4, 0.5, 0.6])
    0.25
    """
    first, second = _floats(a, "a"), _floats(b, "b")  # (pairs,) each
    if len(first) != len(second):
        raise ValueError(
            f"a has {len(first)} values and b has {len(second)}; expected equal lengths"
        )
    if not len(first):
        raise ValueError("a and b are empty; expected at least one pair")
    _positive(n)
    differences = (first - second)[first != second]
    # Sums that differ only by rounding, here or in the scores, count as equal.
    size = float(np.abs(first).sum() + np.abs(second).sum())
    threshold = abs(float(differences.sum())) - 4 * len(first) * np.finfo(np.float64).eps * size
    if 2 ** len(differences) <= n:
        return float((np.abs(_all_sums(differences)) >= threshold).mean())
    n_extreme = sum(
        int((np.abs(sums) >= threshold).sum()) for sums in _random_sums(differences, n, seed)
    )
    return (n_extreme + 1) / (n + 1)


def holm(p_values: Values) -> list[float]:
    """Return p-values adjusted for multiple tests, in the order of the input.

    Reject hypotheses whose adjusted p is at or below the level: the probability of any false
    rejection is then at most the level, whatever the dependence between the tests.

    Raises:
        ValueError: A p-value is not between 0 and 1.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    array = np.asarray(p_values, dtype=np.float64)  # (tests,)
    if not ((array >= 0) & (array <= 1)).all():
        raise ValueError(f"p_values are {list(p_values)}; expected each between 0 and 1")
    order = array.argsort(kind="stable")
    stepped = array[order] * np.arange(len(array), 0, -1)  # (tests,), smallest p first
    adjusted = np.empty_like(array)
    adjusted[order] = np.maximum.accumulate(stepped).clip(max=1.0)
    return [float(p) for p in adjusted]


def _all_sums(differences: _Floats) -> _Floats:
    """Return the sums under every assignment of signs: float64 (2 ** pairs,)."""
    sums = np.zeros(1)
    for difference in differences:
        sums = np.concatenate([sums + difference, sums - difference])
    return sums


def _random_sums(differences: _Floats, n: int, seed: int) -> Iterator[_Floats]:
    """Yield the sums under n random assignments of signs, in batches."""
    rng = np.random.default_rng(seed)
    total, pairs = differences.sum(), len(differences)
    for rows in _batches(n, pairs):
        packed = rng.integers(256, size=(rows, -(-pairs // 8)), dtype=np.uint8)
        positive = np.unpackbits(packed, axis=1, count=pairs)  # (rows, pairs) of 0 and 1
        yield 2 * (positive.astype(np.float64) @ differences) - total  # (rows,)


def _batches(n: int, width: int) -> Iterator[int]:
    """Yield row counts that add up to n, each with a bounded number of draws."""
    _positive(n)
    rows = max(1, _DRAWS_AT_ONCE // width)
    for start in range(0, n, rows):
        yield min(rows, n - start)


def _floats(values: Values, name: str) -> _Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(f"{name} is not a list of finite numbers; every query needs a score")
    return array


def _positive(n: int) -> None:
    if n < 1:
        raise ValueError(f"n is {n}; expected 1 or more")
