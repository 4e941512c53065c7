"""Correlation of a system's similarities with human judgements, as for STS.

Pearson is what Cer et al. 2017 (STS-B) report; Reimers et al. 2016 recommend Spearman, since cosine
similarities need not be linear in human grades.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ragkit.evaluation.measures.score import Score


def pearson(first: Sequence[float], second: Sequence[float]) -> Score:
    """Return the linear correlation of two lists, -1 to 1; no value if one of them is constant.

    Raises:
        ValueError: The lists differ in length or contain a number that is not finite.

    >>> pearson([1, 2, 3], [2, 4, 7]).value > 0.99
    True
    """
    return _correlation(_floats(first, second), _floats(second, first))


def spearman(first: Sequence[float], second: Sequence[float]) -> Score:
    """Return the correlation of the ranks of two lists; equal values share their mean rank.

    Raises:
        ValueError: The lists differ in length or contain a number that is not finite.

    Source: Spearman 1904.

    >>> spearman([1, 2, 3], [2, 4, 700])
    Score(value=1.0, cause='')
    """
    return _correlation(_ranks(_floats(first, second)), _ranks(_floats(second, first)))


def _floats(values: Sequence[float], other: Sequence[float]) -> NDArray[np.float64]:
    if len(values) != len(other):
        raise ValueError(
            f"the lists have {len(values)} and {len(other)} values; expected equal lengths"
        )
    array = np.asarray(values, dtype=np.float64)  # (n,)
    if not np.isfinite(array).all():
        raise ValueError("a value is NaN or infinite; expected finite numbers")
    return array


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_ranks = counts.cumsum() - (counts - 1) / 2  # (distinct values,), from 1
    return mean_ranks[group]  # (n,)


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> Score:
    if len(first) < 2:
        return Score(None, f"{len(first)} pairs; a correlation needs at least 2")
    for values, which in ((first, "first"), (second, "second")):
        if values.min() == values.max():
            return Score(None, f"all values of the {which} list are equal")
    first, second = first - first.mean(), second - second.mean()
    first, second = first / np.abs(first).max(), second / np.abs(second).max()
    correlation = float(first @ second) / math.sqrt(float(first @ first) * float(second @ second))
    return Score(min(1.0, max(-1.0, correlation)))
