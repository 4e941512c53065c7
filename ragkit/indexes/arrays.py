"""Arrays on disk: `.npy` files that are mapped to read and written block by block."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray


def map_array(file: Path) -> NDArray[np.generic]:
    """Memory-map an `.npy` file; an empty array cannot be mapped and is read."""
    try:
        array: NDArray[np.generic] = np.load(file, mmap_mode="r", allow_pickle=False)
    except ValueError:
        array = np.load(file, allow_pickle=False)
    return np.asarray(array)  # still mapped; slices of np.memmap itself cost ten times as much


def write_array(
    file: Path, blocks: Iterable[NDArray[np.generic]], dtype: DTypeLike, shape: tuple[int, ...]
) -> None:
    """Write an `.npy` file from blocks of its first axis; only one block is in memory.

    Args:
        file: The file to write.
        blocks: End to end they are the array.
        dtype: Its type.
        shape: Its shape.

    Raises:
        ValueError: The blocks do not fill the shape.
    """
    kind, n_values = np.dtype(dtype), 0
    header = {
        "descr": np.lib.format.dtype_to_descr(kind),
        "fortran_order": False,
        "shape": shape,
    }
    with file.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for block in blocks:
            stream.write(np.ascontiguousarray(block, dtype=kind).data)
            n_values += block.size
    if n_values != int(np.prod(shape)):
        raise ValueError(f"{file.name}: {n_values} values were given for the shape {shape}")
