"""The one way rows are ranked: by score rounded to 6 decimals, ties by the lower row."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ragkit.types import Mask, Rows, Scores

DECIMALS = 6


def check_search(k: int, n_rows: int, allowed: Mask | None) -> None:
    """Raise ValueError for k < 1 or a mask that does not fit."""
    if k < 1:
        raise ValueError(f"k is {k}; expected at least 1")
    if allowed is not None and (allowed.dtype != np.bool_ or allowed.shape != (n_rows,)):
        raise ValueError(
            f"allowed is {allowed.dtype} {allowed.shape}; expected bool ({n_rows},), one a row"
        )


def empty_result(n_queries: int, k: int) -> tuple[Scores, Rows]:
    """All places missing: -inf and -1."""
    return (
        np.full((n_queries, k), -np.inf, dtype=np.float32),
        np.full((n_queries, k), -1, dtype=np.int64),
    )


def best_rows(scores: NDArray[np.float64], rows: Rows, k: int) -> tuple[Scores, Rows]:
    """The k best of some rows, rounded, ordered, ties by the lower row.

    Args:
        scores: float64 (n,).
        rows: int64 (n,), the row of each score.
        k: At most this many come back.
    """
    # Ranked as they are returned, in float32: above 16 two scores may differ in float64 only, and
    # such a tie must be broken by the row wherever the rows lie.
    rounded = np.round(scores, DECIMALS).astype(np.float32)
    if len(rounded) > 4 * k:  # sort only what can be among the first k
        keep = rounded >= np.partition(rounded, len(rounded) - k)[len(rounded) - k]
        rounded, rows = rounded[keep], rows[keep]
    order = np.lexsort((rows, -rounded))[:k]
    return rounded[order], rows[order]


def refine(
    approximate: NDArray[np.float32],
    rows: Rows,
    k: int,
    exact: Callable[[Rows], NDArray[np.float64]],
    margin: float,
) -> tuple[Scores, Rows]:
    """The exact k best rows, given scores that are off by at most `margin`.

    A float32 product depends in its last bits on the shape of the matrix it was part of. So the
    candidates within the margin are scored again in float64, and the result does not depend on what
    else is in the index.
    """
    if len(approximate) > k:
        cut = np.partition(approximate, len(approximate) - k)[len(approximate) - k]
        rows = rows[approximate >= cut - margin]
    return best_rows(exact(rows), rows, k)
