"""The ledger: every vector that was ever computed, so that none is computed twice.

A vector's key is (embedder fingerprint, role, digest of the exact text). Vectors are appended to a
file of plain float32 and flushed first; keys are committed to the store after. So a key never
points to nothing, and bytes after the last key (from a process that was killed) are cut off when
writing goes on.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ragkit.durable import disk_errors, make_folder, open_own, sync_path
from ragkit.errors import CorruptCollection
from ragkit.store.checks import mend_ledger_size
from ragkit.store.rows import LedgerKey
from ragkit.store.store import Store
from ragkit.types import Vectors


class Ledger:
    """The vectors of one embedder and role.

    Args:
        folder: The folder of all ledgers.
        store: Where the keys are.
        fingerprint: The embedder's.
        dim: Numbers a vector.
        role: "passage" or "query".
    """

    def __init__(
        self, folder: Path, store: Store, *, fingerprint: str, dim: int, role: str = "passage"
    ) -> None:
        self._file = folder / f"{fingerprint}-{role}.f32"
        self._store = store
        self._fingerprint = fingerprint
        self._role = role
        self._dim = dim
        self._width = 4 * dim  # bytes a vector

    def find(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """The rows of the keys that are known.

        Raises:
            CorruptCollection: The file does not reach one of the rows.
        """
        rows = self._store.ledger_rows(self._fingerprint, self._role, keys)
        n_rows = self._n_rows()
        for row in rows.values():
            if not 0 <= row < n_rows:
                raise CorruptCollection(
                    f"the ledger {self._file.name} has {n_rows} vectors, and a key points to "
                    f"number {row}; `ragkit index repair` embeds what is missing again"
                )
        return rows

    def append(self, keys: Sequence[bytes], vectors: Vectors) -> dict[bytes, int]:
        """Add vectors; they are on the disk when this returns.

        Args:
            keys: One a vector, none of them known yet.
            vectors: float32 (len(keys), dim).
        """
        start = self._store.ledger_size(self._fingerprint, self._role)
        data = np.ascontiguousarray(vectors, dtype="<f4").tobytes()
        with disk_errors(self._file):
            make_folder(self._file.parent)
            is_new = not self._file.exists()
            mode = "x+b" if is_new else "r+b"
            with open(self._file, mode, opener=open_own) as stream:
                if stream.seek(0, os.SEEK_END) < start * self._width:
                    raise CorruptCollection(
                        f"{self._file.name} is shorter than its {start} keys say; "
                        "`ragkit index repair` embeds the missing vectors again"
                    )
                stream.seek(start * self._width)
                stream.truncate()
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            if is_new:
                sync_path(self._file.parent)
        rows = {key: start + i for i, key in enumerate(keys)}
        width = self._width
        self._store.add_ledger_keys(
            [
                LedgerKey(
                    self._fingerprint,
                    self._role,
                    key,
                    start + i,
                    zlib.crc32(data[i * width : (i + 1) * width]),
                )
                for i, key in enumerate(keys)
            ]
        )
        return rows

    def vectors(self) -> Vectors:
        """All vectors, memory-mapped: float32 (rows, dim)."""
        n_rows = self._n_rows()
        if n_rows == 0:
            return np.empty((0, self._dim), dtype=np.float32)
        mapped: Vectors = np.memmap(self._file, dtype="<f4", mode="r", shape=(n_rows, self._dim))
        return mapped

    def _n_rows(self) -> int:
        return self._file.stat().st_size // self._width if self._file.is_file() else 0

    def faults(self) -> list[bytes]:
        """The keys whose vector is missing or does not match its checksum; reads every byte."""
        vectors = self.vectors()
        bad = []
        for key, row, checksum in self._store.ledger_checksums(self._fingerprint, self._role):
            if not 0 <= row < len(vectors) or zlib.crc32(vectors[row].tobytes()) != checksum:
                bad.append(key)
        return bad

    def forget(self, keys: Sequence[bytes]) -> None:
        """Drop keys, so that their texts are embedded again when they are needed."""
        self._store.drop_ledger_keys(self._fingerprint, self._role, keys)
        mend_ledger_size(self._store, self._fingerprint, self._role)
        size = self._store.ledger_size(self._fingerprint, self._role) * self._width
        with disk_errors(self._file):
            if size and (not self._file.exists() or self._file.stat().st_size < size):
                make_folder(self._file.parent)
                with open(self._file, "ab", opener=open_own) as stream:
                    stream.truncate(size)  # zeros where no key points any more
                    os.fsync(stream.fileno())
                sync_path(self._file.parent)
