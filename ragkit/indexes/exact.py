"""Exact nearest-neighbour search in NumPy: the default, and the reference for other indexes."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from ragkit.indexes.ranking import DECIMALS, check_search, empty_result, refine
from ragkit.types import Mask, Rows, Scores, Vectors

_BLOCK_SCORES = 1 << 24  # scores in memory at once: 64 MB of float32
_BLOCK_ROWS = 1 << 13  # rows rescored at once
_MIN_BLAS_QUERIES = 8  # with fewer queries a matrix product is slower than one product per row


class ExactIndex:
    """Exhaustive search by inner product over all allowed rows.

    Args:
        vectors: float32 (rows, dim), unit-length rows; may be memory-mapped.

    >>> index = ExactIndex(np.eye(3, dtype=np.float32))
    >>> scores, rows = index.search(np.eye(3, dtype=np.float32)[:1], k=2)
    >>> rows.tolist()
    [[0, 1]]
    """

    def __init__(self, vectors: Vectors) -> None:
        if vectors.ndim != 2 or vectors.dtype != np.float32:
            raise ValueError(
                f"vectors are {vectors.dtype} {vectors.shape}; expected float32 (rows, dim)"
            )
        self._vectors = vectors
        # Worst-case error of a float32 product of unit vectors, plus the rounding of scores.
        self._margin = 2.0 * vectors.shape[1] * 2.0**-24 + 10.0**-DECIMALS

    def search(
        self, vectors: Vectors, k: int, *, allowed: Mask | None = None
    ) -> tuple[Scores, Rows]:
        """See `ragkit.types.VectorIndex.search`."""
        n_rows = len(self._vectors)
        check_search(k, n_rows, allowed)
        queries = check_queries(vectors, self._vectors.shape[1])
        scores, rows = empty_result(len(queries), k)
        candidates = np.arange(n_rows) if allowed is None else np.flatnonzero(allowed)
        if len(candidates) == 0:
            return scores, rows
        is_narrow = len(candidates) < n_rows // 4  # copying the rows pays off
        matrix = self._vectors[candidates] if is_narrow else self._vectors  # (candidates|rows, dim)
        step = max(1, _BLOCK_SCORES // len(matrix))
        for start in range(0, len(queries), step):
            block = queries[start : start + step]
            products = _products(block, matrix)  # (block, candidates|rows)
            if not is_narrow and len(candidates) < n_rows:
                products = products[:, candidates]
            for i, query in enumerate(block):
                exact = partial(self._exact, query)
                best = refine(products[i], candidates, k, exact, self._margin)
                scores[start + i, : len(best[0])], rows[start + i, : len(best[1])] = best
        return scores, rows

    def _exact(self, query: NDArray[np.float32], rows: Rows) -> NDArray[np.float64]:
        query64 = query.astype(np.float64)
        blocks = [
            (self._vectors[rows[i : i + _BLOCK_ROWS]].astype(np.float64) * query64).sum(axis=1)
            for i in range(0, len(rows), _BLOCK_ROWS)
        ]
        return np.concatenate(blocks) if blocks else np.empty(0)


def _products(queries: Vectors, matrix: Vectors) -> Vectors:
    """Compute all inner products, float32 (queries, rows).

    Few queries are limited by memory bandwidth, and BLAS threads only wait for each other: on two
    busy cores a BLAS product of one query with 7,000 rows takes 8 ms, `vecdot` 0.2 ms.
    """
    if len(queries) >= _MIN_BLAS_QUERIES:
        return queries @ matrix.T
    products = np.empty((len(queries), len(matrix)), dtype=np.float32)
    for query, row in zip(queries, products, strict=True):
        np.vecdot(matrix, query, out=row)
    return products


def check_queries(vectors: Vectors, dim: int) -> Vectors:
    """Validate query vectors and return them as contiguous float32 (queries, dim).

    Raises:
        ValueError: The shape is wrong, or a value is not finite.
    """
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise ValueError(f"query vectors are {vectors.shape}; expected (queries, {dim})")
    if not np.isfinite(vectors).all():
        raise ValueError("query vectors contain NaN or infinity; expected finite numbers")
    return np.ascontiguousarray(vectors, dtype=np.float32)
