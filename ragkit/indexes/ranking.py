"""Ranking of rows by score rounded to 6 decimals, with ties broken by row number."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ragkit.types import Mask, Rows, Scores

DECIMALS = 6


def check_search(k: int, n_rows: int, allowed: Mask | None) -> None:
    """Validate the arguments of a search.

    Raises:
        ValueError: k is below 1, or the mask has the wrong shape or dtype.
    """
    if k < 1:
        raise ValueError(f"k is {k}; expected at least 1")
    if allowed is not None and (allowed.dtype != np.bool_ or allowed.shape != (n_rows,)):
        raise ValueError(f"allowed is {allowed.dtype} {allowed.shape}; expected bool ({n_rows},)")


def empty_result(n_queries: int, k: int) -> tuple[Scores, Rows]:
    """Return arrays of scores -inf and rows -1, (queries, k) each, to be filled."""
    return (
        np.full((n_queries, k), -np.inf, dtype=np.float32),
        np.full((n_queries, k), -1, dtype=np.int64),
    )


def best_rows(scores: NDArray[np.float64], rows: Rows, k: int) -> tuple[Scores, Rows]:
    """Return the k best rows and their rounded scores, best first, ties by the lower row.

    Args:
        scores: float64 (n,).
        rows: int64 (n,), the row of each score.
        k: Maximum number of rows to return.
    """
    # Ranked in float32, as they are returned: above 16, scores that differ in float64 can be equal
    # in float32, and that tie must be broken by row number too.
    rounded = np.round(scores, DECIMALS).astype(np.float32)
    if len(rounded) > 4 * k:  # sort only the candidates for the first k
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
    """Return the exact k best rows, given approximate scores with an error of at most `margin`.

    The last bits of a float32 product depend on the shape of the matrix. Candidates within the
    margin are therefore rescored in float64, so that the result does not depend on other rows.

    Args:
        approximate: float32 (n,), approximate scores.
        rows: int64 (n,), the row of each score.
        k: Maximum number of rows to return.
        exact: Computes float64 scores of rows.
        margin: Maximum error of the approximate scores.
    """
    if len(approximate) > k:
        cut = np.partition(approximate, len(approximate) - k)[len(approximate) - k]
        rows = rows[approximate >= cut - margin]
    return best_rows(exact(rows), rows, k)
