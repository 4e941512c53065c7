"""The ledger: a persistent cache of all computed vectors, so that none is computed twice.

The key of a vector is (embedder fingerprint, role, digest of the exact text). Vectors are appended
to a float32 file and flushed before their keys are committed to the store. So a key never points to
a missing vector, and bytes after the last key (left by a killed process) are truncated at the next
append.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ragkit.durable import disk_errors, make_folder, open_no_follow, sync_path
from ragkit.errors import CorruptCollection
from ragkit.store.checks import repair_ledger_size
from ragkit.store.rows import LedgerKey
from ragkit.store.store import Store
from ragkit.types import Vectors


class VectorLedger:
    """Vector cache of one embedder and role.

    Args:
        folder: Folder of all ledgers.
        store: Store with the keys.
        fingerprint: Fingerprint of the embedder.
        dim: Dimension of the vectors.
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
        self._width = 4 * dim  # bytes per vector

    def find(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Return the row of each key that is in the ledger.

        Raises:
            CorruptCollection: The file is too short for one of the rows.
        """
        rows = self._store.ledger_rows(self._fingerprint, self._role, keys)
        n_rows = self._n_rows()
        for row in rows.values():
            if not 0 <= row < n_rows:
                raise CorruptCollection(
                    f"the ledger {self._file.name} has {n_rows} vectors, but a key points to "
                    f"row {row}; `ragkit index repair` embeds the missing texts again"
                )
        return rows

    def append(self, keys: Sequence[bytes], vectors: Vectors) -> dict[bytes, int]:
        """Append vectors and flush them to the disk; return the row of each key.

        Args:
            keys: Keys of the vectors; none is in the ledger yet.
            vectors: float32 (len(keys), dim).
        """
        start = self._store.ledger_size(self._fingerprint, self._role)
        data = np.ascontiguousarray(vectors, dtype="<f4").tobytes()
        with disk_errors(self._file):
            make_folder(self._file.parent)
            is_new = not self._file.exists()
            mode = "x+b" if is_new else "r+b"
            with open(self._file, mode, opener=open_no_follow) as stream:
                if stream.seek(0, os.SEEK_END) < start * self._width:
                    raise CorruptCollection(
                        f"the ledger {self._file.name} has fewer vectors than its {start} keys; "
                        "`ragkit index repair` embeds the missing texts again"
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
        """Return all vectors, memory-mapped: float32 (rows, dim)."""
        n_rows = self._n_rows()
        if n_rows == 0:
            return np.empty((0, self._dim), dtype=np.float32)
        mapped: Vectors = np.memmap(self._file, dtype="<f4", mode="r", shape=(n_rows, self._dim))
        return mapped

    def _n_rows(self) -> int:
        return self._file.stat().st_size // self._width if self._file.is_file() else 0

    def faults(self) -> list[bytes]:
        """Return the keys whose vector is missing or has a wrong checksum; read all vectors."""
        vectors = self.vectors()
        bad = []
        for key, row, checksum in self._store.ledger_checksums(self._fingerprint, self._role):
            if not 0 <= row < len(vectors) or zlib.crc32(vectors[row].tobytes()) != checksum:
                bad.append(key)
        return bad

    def delete(self, keys: Sequence[bytes]) -> None:
        """Delete keys, so that their texts are embedded again when needed."""
        self._store.delete_ledger_keys(self._fingerprint, self._role, keys)
        repair_ledger_size(self._store, self._fingerprint, self._role)
        size = self._store.ledger_size(self._fingerprint, self._role) * self._width
        with disk_errors(self._file):
            if size and (not self._file.exists() or self._file.stat().st_size < size):
                make_folder(self._file.parent)
                with open(self._file, "ab", opener=open_no_follow) as stream:
                    stream.truncate(size)  # fills with zeros, to which no key points
                    os.fsync(stream.fileno())
                sync_path(self._file.parent)
