"""Memory-mapped reading and block-wise writing of `.npy` files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ragkit.durable import open_regular

_MAX_HEADER_BYTES = 256  # NumPy writes 128 bytes
_MAGIC_BYTES = 10  # including the version and the header's length
# NumPy's own parser accepts more than NumPy writes, and can raise any error of Python's tokenizer.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '([<|][a-z][0-9])', 'fortran_order': (True|False), "
    rb"'shape': \(([0-9]{1,15}(?:,|(?:, [0-9]{1,15}){1,3}))\), \} *\n",
    re.DOTALL,
)


def map_array(file: Path, dtype: DTypeLike, n_axes: int) -> NDArray[np.generic]:
    """Memory-map an `.npy` file, reading only its header.

    Only headers as written by `write_array` and `np.save` are accepted. The shape must match the
    file's size, so that a damaged header cannot cause a large allocation.

    Args:
        file: The file to map.
        dtype: Expected dtype.
        n_axes: Expected number of axes.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is not a complete array of this dtype and number of axes.
    """
    with open_regular(file) as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        start = _MAGIC_BYTES + int.from_bytes(stream.read(_MAGIC_BYTES)[-2:], "little")
        stream.seek(0)
        header = stream.read(min(start, _MAX_HEADER_BYTES))
    match = _HEADER.fullmatch(header)
    if match is None:
        raise ValueError(f"{file.name} does not have the .npy header that ragkit writes")
    descr, is_fortran = match[1].decode(), match[2] == b"True"
    shape = tuple(int(length) for length in re.findall(rb"[0-9]+", match[3]))
    expected = np.dtype(dtype)
    if (
        descr != np.lib.format.dtype_to_descr(expected)
        or is_fortran
        or len(shape) != n_axes
        or not _in_range(shape)
    ):
        raise ValueError(
            f"{file.name} has dtype {descr} and shape {shape}; expected {expected}, {n_axes} axes"
        )
    n_bytes = expected.itemsize
    for length in shape:
        n_bytes *= length
    if size - start != n_bytes:
        raise ValueError(f"{file.name} has {size - start} bytes of data; its shape needs {n_bytes}")
    if n_bytes == 0:
        return np.empty(shape, dtype=expected)  # an empty array cannot be mapped
    mapped: NDArray[np.generic] = np.memmap(
        file, dtype=expected, mode="r", offset=start, shape=shape
    )
    return np.asarray(mapped)  # still mapped; slicing np.memmap itself is ten times slower


def _in_range(shape: tuple[int, ...]) -> bool:
    return all(0 <= length < 1 << 48 for length in shape)


def write_array(
    file: Path, blocks: Iterable[NDArray[np.generic]], dtype: DTypeLike, shape: tuple[int, ...]
) -> None:
    """Write an `.npy` file from blocks along its first axis, with one block in memory at a time.

    Args:
        file: The file to write.
        blocks: The array's blocks, in order.
        dtype: The array's dtype.
        shape: The array's shape.

    Raises:
        ValueError: The blocks do not fill the shape.
    """
    target, n_values = np.dtype(dtype), 0
    header = {
        "descr": np.lib.format.dtype_to_descr(target),
        "fortran_order": False,
        "shape": shape,
    }
    with file.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for block in blocks:
            stream.write(np.ascontiguousarray(block, dtype=target).data)
            n_values += block.size
    if n_values != int(np.prod(shape)):
        raise ValueError(f"{file.name}: the blocks have {n_values} values; expected shape {shape}")
