"""FAISS indexes on CPU or GPU, behind the `VectorIndex` protocol.

Rows returned by FAISS are rescored from the stored vectors, so scores equal those of the exact
index; approximate factories may only return other rows.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from ragkit.errors import CollectionError, MissingExtra, require
from ragkit.forks import one_thread_after_fork
from ragkit.indexes.exact import ExactIndex, check_queries
from ragkit.indexes.ranking import check_search, empty_result
from ragkit.types import Mask, Rows, Scores, Vectors

_ROWS_PER_CENTROID = 39  # FAISS warns below this (its ClusteringParameters default)
_EXACT_SHARE, _EXACT_ROWS = 0.05, 20_000
_GPU_MAX_K = 2048  # FAISS's limit for k on GPU
_N_EXTRA = 16  # fetched beyond k, so that rescoring can break ties


class FaissIndex:
    """A FAISS index built from a factory string, with exact filtering.

    Exact search over the stored rows is used if a filter leaves fewer than 5 % of the rows or fewer
    than 20,000, or if the factory or the device does not support filters. (Approximate indexes lose
    recall under narrow filters: with 1 % of the rows allowed, the recall of HNSW fell to 0.53.)

    Args:
        vectors: float32 (rows, dim), unit-length rows; used for exact scores.
        factory: A FAISS factory string: "Flat", "IVF256,Flat", "HNSW32", "IVF256,PQ48x8", …
        device: "cpu" or "gpu".
        n_probe: Number of lists searched by IVF factories.

    Raises:
        MissingExtra: faiss is not installed, or device is "gpu" and this build has no GPU support.
        ValueError: FAISS does not accept the factory string.
    """

    def __init__(
        self, vectors: Vectors, *, factory: str = "Flat", device: str = "cpu", n_probe: int = 16
    ) -> None:
        if device not in ("cpu", "gpu"):
            raise ValueError(f"device is {device!r}; expected 'cpu' or 'gpu'")
        faiss = _faiss(device)
        index = make_index(vectors, factory)
        self._setup(vectors, index, device=device, n_probe=n_probe, faiss=faiss)

    @classmethod
    def load(
        cls, vectors: Vectors, file: Path, *, device: str = "cpu", n_probe: int = 16
    ) -> FaissIndex:
        """Open an index written by `save`.

        FAISS's reader does not validate the file, so the caller must check its digest first.
        """
        faiss = _faiss(device)
        self = cls.__new__(cls)
        index = faiss.read_index(str(file))
        if index.d != vectors.shape[1] or index.ntotal != len(vectors):
            raise ValueError(
                f"{file.name} has {index.ntotal} rows of {index.d} dimensions; "
                f"expected {len(vectors)} rows of {vectors.shape[1]}"
            )
        self._setup(vectors, index, device=device, n_probe=n_probe, faiss=faiss)
        return self

    def save(self, file: Path) -> None:
        """Write the index; a GPU index is written from its CPU copy."""
        self._faiss.write_index(self._cpu_index, str(file))

    def _setup(
        self, vectors: Vectors, index: Any, *, device: str, n_probe: int, faiss: Any
    ) -> None:
        self._faiss = faiss
        self._cpu_index = index
        self._exact = ExactIndex(vectors)
        self._vectors = vectors
        self._device = device
        self._n_probe = n_probe
        inner = (
            faiss.downcast_index(faiss.extract_index_ivf(index)) if _is_ivf(faiss, index) else index
        )
        self._kind = type(inner).__name__
        if _is_ivf(faiss, index):
            inner.nprobe = n_probe
        if device == "gpu":
            self._resources = faiss.StandardGpuResources()
            index = faiss.index_cpu_to_gpu(self._resources, 0, index)
        self._index = index
        self._process = os.getpid()

    def search(
        self, vectors: Vectors, k: int, *, allowed: Mask | None = None
    ) -> tuple[Scores, Rows]:
        """See `ragkit.types.VectorIndex.search`."""
        if self._device == "gpu" and os.getpid() != self._process:
            raise CollectionError(
                "an index on the GPU cannot be used in a forked process; open the collection after "
                "the fork"
            )
        n_rows = len(self._vectors)
        check_search(k, n_rows, allowed)
        queries = check_queries(vectors, self._vectors.shape[1])
        if allowed is not None and allowed.all():
            allowed = None
        fetch = min(n_rows, k + _N_EXTRA)
        if n_rows == 0 or self._must_be_exact(allowed, fetch):
            return self._exact.search(queries, k, allowed=allowed)
        _, neighbours = self._index.search(queries, fetch, params=self._parameters(allowed, fetch))
        scores, rows = empty_result(len(queries), k)
        for i, candidates in enumerate(neighbours):
            mask = np.zeros(n_rows, dtype=bool)
            mask[candidates[candidates >= 0]] = True
            scores[i : i + 1], rows[i : i + 1] = self._exact.search(
                queries[i : i + 1], k, allowed=mask
            )
        return scores, rows

    def _must_be_exact(self, allowed: Mask | None, fetch: int) -> bool:
        if self._device == "gpu" and fetch > _GPU_MAX_K:
            return True
        if allowed is None:
            return False
        n_allowed = int(allowed.sum())
        is_narrow = n_allowed < _EXACT_SHARE * len(allowed) or n_allowed < _EXACT_ROWS
        return is_narrow or self._device == "gpu" or not self._can_filter()

    def _can_filter(self) -> bool:
        return self._kind in ("IndexFlat", "IndexFlatIP", "IndexIVFFlat", "IndexHNSWFlat")

    def _parameters(self, allowed: Mask | None, fetch: int) -> Any:
        faiss = self._faiss
        if self._device == "gpu":
            return None
        options: dict[str, Any] = {}
        if allowed is not None:
            self._bits = np.packbits(allowed, bitorder="little")  # must outlive the search
            options["sel"] = faiss.IDSelectorBitmap(self._bits)
        if "IVF" in self._kind:
            return faiss.SearchParametersIVF(nprobe=self._n_probe, **options)
        if "HNSW" in self._kind:
            return faiss.SearchParametersHNSW(efSearch=max(64, 2 * fetch), **options)
        return faiss.SearchParameters(**options) if options else None


def check_factory(factory: str) -> None:
    """Validate a FAISS factory string.

    Raises:
        ValueError: FAISS does not accept it.
    """
    make_index(np.empty((0, 384), dtype=np.float32), factory)


def make_index(vectors: Vectors, factory: str) -> Any:
    """Build and train a FAISS index of the rows; a Flat index if there are too few to train."""
    faiss = _faiss("cpu")
    dim = vectors.shape[1]
    lists = re.search(r"IVF(\d+)", factory)
    n_training = _ROWS_PER_CENTROID * (int(lists[1]) if lists else 256 if "PQ" in factory else 0)
    usable = factory if len(vectors) >= max(n_training, 1) else "Flat"
    try:
        faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
        index = faiss.index_factory(dim, usable, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(
            f"FAISS does not accept the factory {factory!r} for {dim} dimensions: {reason}. "
            "Examples: 'Flat', 'HNSW32', 'IVF256,Flat'."
        ) from error
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    if not index.is_trained:
        index.train(rows)
    if len(rows):
        index.add(rows)
    return index


def _is_ivf(faiss: Any, index: Any) -> bool:
    return faiss.try_extract_index_ivf(index) is not None


def _faiss(device: str) -> Any:
    faiss = require("faiss", extra=device)
    one_thread_after_fork("faiss")
    if device == "gpu" and (
        not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0
    ):
        raise MissingExtra(
            "device is 'gpu', but this faiss build finds no GPU. Install the GPU wheel instead of "
            "faiss-cpu (both provide the module faiss): pip uninstall faiss-cpu && "
            "pip install 'ragkit-framework[gpu]'; or use device='cpu'."
        )
    return faiss
