"""Arrays on disk: `.npy` files that are mapped to read and written block by block."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ragkit.durable import open_regular

_LONGEST_HEADER = 256  # NumPy's own are 128 bytes
_MAGIC_BYTES = 10  # with the version and the header's length
# NumPy's parser takes more than it writes, and raises whatever the tokenizer does.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '([<|][a-z][0-9])', 'fortran_order': (True|False), "
    rb"'shape': \(([0-9]{1,15}(?:,|(?:, [0-9]{1,15}){1,3}))\), \} *\n",
    re.DOTALL,
)


def map_array(file: Path, dtype: DTypeLike, n_axes: int) -> NDArray[np.generic]:
    """Memory-map an `.npy` file; nothing is read but its header.

    Only what `write_array` and `np.save` write of such an array is accepted, and only as many bytes
    as are there: a header cannot make this allocate.

    Raises:
        OSError: The file cannot be read.
        ValueError: It does not hold an array of this type and number of axes, whole.
    """
    with open_regular(file) as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        start = _MAGIC_BYTES + int.from_bytes(stream.read(_MAGIC_BYTES)[-2:], "little")
        stream.seek(0)
        header = stream.read(min(start, _LONGEST_HEADER))
    matched = _HEADER.fullmatch(header)
    if matched is None:
        raise ValueError(f"{file.name} does not begin like an .npy file of ragkit's")
    found, fortran = matched[1].decode(), matched[2] == b"True"
    shape = tuple(int(length) for length in re.findall(rb"[0-9]+", matched[3]))
    kind = np.dtype(dtype)
    if (
        found != np.lib.format.dtype_to_descr(kind)
        or fortran
        or len(shape) != n_axes
        or not _in_range(shape)
    ):
        raise ValueError(f"{file.name} holds {found} {shape}; expected {kind}, {n_axes} axes")
    n_bytes = kind.itemsize
    for length in shape:
        n_bytes *= length
    if size - start != n_bytes:
        raise ValueError(f"{file.name} has {size - start} bytes of data; its shape needs {n_bytes}")
    if n_bytes == 0:
        return np.empty(shape, dtype=kind)  # an empty array cannot be mapped
    mapped: NDArray[np.generic] = np.memmap(file, dtype=kind, mode="r", offset=start, shape=shape)
    return np.asarray(mapped)  # still mapped; slices of np.memmap itself cost ten times as much


def _in_range(shape: tuple[int, ...]) -> bool:
    return all(0 <= length < 1 << 48 for length in shape)


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
