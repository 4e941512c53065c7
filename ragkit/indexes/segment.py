"""Segments: immutable folders with the vectors and postings of chunks.

    segments/<digest>/
      manifest.json     format version, counts, and the digest of every other file
      chunks.npy        int64 (rows,): each row's chunk number; rows are sorted by chunk id
      vectors.npy       float32 (rows, dim)
      terms.npy, …      the arrays of `ragkit.indexes.bm25.Postings`
      index.faiss       only for FAISS; opened only on the machine that wrote it, see `trust`

A segment is named by the digest of its manifest. It is written under a temporary name, flushed to
disk and renamed, so that a folder with a digest as its name is complete.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ragkit.digests import digest, file_digest
from ragkit.durable import disk_errors, make_folder, read_small, remove_folder, sync_path
from ragkit.errors import CollectionError, CorruptCollection
from ragkit.indexes import trust
from ragkit.indexes.arrays import map_array, write_array
from ragkit.indexes.bm25 import POSTINGS_FILES, Postings
from ragkit.indexes.exact import ExactIndex
from ragkit.indexes.merge import MergedPostings
from ragkit.types import Rows, VectorIndex, Vectors

FORMAT = 1
_ARRAYS = {"chunks.npy", "vectors.npy", *(f"{name}.npy" for name in POSTINGS_FILES)}
_INDEX = "index.faiss"
_MAX_MANIFEST_BYTES = 1 << 16  # usually below 1 KB
_COPY_ROWS = 1 << 12  # vectors in memory at once while copying


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """Options of the vector index.

    Attributes:
        factory: "exact" (NumPy) or a FAISS factory string.
        device: "cpu" or "gpu", for FAISS.
        n_probe: Number of lists searched by IVF factories.
    """

    factory: str = "exact"
    device: str = "cpu"
    n_probe: int = 16


class Segment:
    """A segment opened for reading, with memory-mapped arrays.

    Attributes:
        folder: The segment's folder.
        manifest: The parsed `manifest.json`.
        chunks: int64 (rows,), chunk numbers.
        vectors: float32 (rows, dim).
        postings: Postings of the rows' terms.
        index: Vector index over the rows.
    """

    def __init__(self, folder: Path, settings: IndexSettings) -> None:
        self.folder = folder
        self.manifest = _read_manifest(folder)
        try:
            self.chunks: Rows = map_array(folder / "chunks.npy", np.int64, 1)  # type: ignore[assignment]
            self.vectors: Vectors = map_array(folder / "vectors.npy", np.float32, 2)  # type: ignore[assignment]
            self.postings = Postings.load(folder)
        except (OSError, ValueError, EOFError) as error:
            raise _unreadable(folder, error) from error
        n_rows, shape = len(self.chunks), self.vectors.shape
        if self.postings.n_rows != n_rows or shape != (n_rows, self.manifest["dim"]):
            raise CorruptCollection(
                f"segment {folder.name} has {n_rows} chunks, vectors of shape {shape} and "
                f"postings of {self.postings.n_rows} rows; run `ragkit index repair` to rebuild it"
            )
        self.index = self._vector_index(settings)

    def __len__(self) -> int:
        return len(self.chunks)

    def _vector_index(self, settings: IndexSettings) -> VectorIndex:
        if settings.factory == "exact":
            return ExactIndex(self.vectors)
        from ragkit.indexes.faiss import FaissIndex

        options = {"device": settings.device, "n_probe": settings.n_probe}
        file = self.folder / _INDEX
        if file.exists() and trust.is_trusted(file):
            try:
                return FaissIndex.load(self.vectors, file, **options)  # type: ignore[arg-type]
            except (OSError, RuntimeError, ValueError) as error:  # FAISS raises RuntimeError
                raise _unreadable(self.folder, error) from error
        return FaissIndex(self.vectors, factory=settings.factory, **options)  # type: ignore[arg-type]


def write_segment(
    parent: Path,
    chunks: Rows,
    gather: Callable[[slice], Vectors],
    postings: Postings | MergedPostings,
    settings: IndexSettings,
) -> str:
    """Write a segment and return its digest.

    Args:
        parent: The folder of all segments.
        chunks: int64 (rows,): chunk numbers, sorted by chunk id; at least one.
        gather: Returns the vectors of a range of rows, float32 (rows in range, dim).
        postings: Postings of the same rows.
        settings: Options of the vector index; a FAISS index is built and stored.
    """
    make_folder(parent)
    folder = parent / f"writing-{os.getpid()}"
    with disk_errors(folder):
        remove_folder(folder)
        folder.mkdir()
        dim = _write_arrays(folder, chunks, gather, postings, settings)
        files = sorted(folder.iterdir())
        manifest = {
            "format": FORMAT,
            "n_rows": len(chunks),
            "dim": dim,
            "factory": settings.factory,
            "files": {file.name: file_digest(file) for file in files},
        }
        text = json.dumps(manifest, indent=1, sort_keys=True)
        (folder / "manifest.json").write_text(text)
        for file in [*files, folder / "manifest.json", folder]:
            sync_path(file)
        name = digest(text.encode())
        target = parent / name
        if target.exists() and not verify_segment(parent, name):
            remove_folder(folder)  # an intact segment with the same content exists
        else:
            remove_folder(target)  # damaged, or not written by ragkit
            os.replace(folder, target)
        if settings.factory != "exact":
            trust.sign(target / _INDEX)
        sync_path(parent)
        return name


def _write_arrays(
    folder: Path,
    chunks: Rows,
    gather: Callable[[slice], Vectors],
    postings: Postings | MergedPostings,
    settings: IndexSettings,
) -> int:
    """Write all files except the manifest, and return the vectors' dimension."""
    np.save(folder / "chunks.npy", chunks, allow_pickle=False)
    dim = _write_vectors(folder / "vectors.npy", len(chunks), gather)
    postings.save(folder)
    if settings.factory != "exact":
        from ragkit.indexes.faiss import FaissIndex

        vectors: Vectors = map_array(folder / "vectors.npy", np.float32, 2)  # type: ignore[assignment]
        try:
            FaissIndex(vectors, factory=settings.factory).save(folder / _INDEX)
        except RuntimeError as error:  # raised by FAISS if the disk is full
            raise OSError(f"{_INDEX}: {str(error).strip().splitlines()[-1]}") from error
    return dim


def _write_vectors(file: Path, n_rows: int, gather: Callable[[slice], Vectors]) -> int:
    dim = int(gather(slice(0, 1)).shape[1])
    starts = range(0, n_rows, _COPY_ROWS)
    blocks = (gather(slice(start, min(start + _COPY_ROWS, n_rows))) for start in starts)
    write_array(file, blocks, np.float32, (n_rows, dim))
    return dim


def verify_segment(parent: Path, name: str) -> list[str]:
    """Check all digests of a segment and return one message per fault."""
    folder = parent / name
    try:
        manifest = _read_manifest(folder)
    except CorruptCollection as error:
        return [str(error)]
    if digest((folder / "manifest.json").read_bytes()) != name:
        return [f"segment {name}: manifest.json does not match the segment's name"]
    faults = []
    for file, expected in manifest["files"].items():
        path = folder / file
        if path.is_symlink() or not path.is_file():
            faults.append(f"segment {name}: {file} is missing")
            continue
        try:
            matches = file_digest(path) == expected
        except OSError as error:  # a bad sector, or removed by gc in the meantime
            faults.append(f"segment {name}: {file} cannot be read ({error})")
            continue
        if not matches:
            faults.append(f"segment {name}: {file} does not match its digest")
    known = {*manifest["files"], "manifest.json", f"{_INDEX}.mac"}
    unknown = sorted(path.name for path in folder.glob("*") if path.name not in known)
    return faults + [f"segment {name}: {file!r} does not belong to it" for file in unknown]


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(read_small(folder / "manifest.json", _MAX_MANIFEST_BYTES))
        if manifest["format"] != FORMAT:
            raise CorruptCollection(
                f"segment {folder.name} has format {manifest['format']!r}; "
                f"this version reads {FORMAT}"
            )
        files = manifest["files"]
        if not _ARRAYS <= set(files) <= {*_ARRAYS, _INDEX}:
            raise ValueError(f"its files are {sorted(files)}; expected {sorted(_ARRAYS)}")
        if type(manifest["dim"]) is not int or not all(isinstance(d, str) for d in files.values()):
            raise ValueError("its dim is not an integer, or a digest is not a string")
    except PermissionError as error:
        raise CollectionError(
            f"{str(folder)!r} cannot be read: {error.strerror}; check its permissions"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptCollection(
            f"segment {folder.name}: manifest.json cannot be read ({error}); "
            "run `ragkit index repair` to rebuild it"
        ) from error
    return dict(manifest)


def _unreadable(folder: Path, error: Exception) -> CorruptCollection:
    return CorruptCollection(
        f"segment {folder.name} cannot be read ({error}); run `ragkit index repair` to rebuild it"
    )
