"""Storage of sorted suffixes: arrays as `.npy`, metadata as JSON.

    index.json          format version, kind, vocabulary size, tokenizer fingerprint, granularity
    tokens.npy          uint16 or int32 (tokens + rows,), see `TokenRows`
    starts.npy          int64 (rows + 1,)
    suffixes.npy        uint32 (suffixes,)
    first_tokens.npy    int32 (distinct first tokens,)
    first_ends.npy      int64, of the same length

The caller flushes the files to disk and stores their digests.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.durable import disk_errors, read_small
from ragkit.errors import CollectionError, CorruptCollection, FormatMismatch
from ragkit.indexes.arrays import map_array
from ragkit.indexes.prefixes import SortedSuffixes
from ragkit.indexes.suffix_array import Positions
from ragkit.indexes.token_rows import TokenRows, token_type
from ragkit.types import Rows

FORMAT = 1
_METADATA = "index.json"
_MAX_METADATA_BYTES = 1 << 12
_DTYPES = {
    "starts": np.int64,
    "suffixes": np.uint32,
    "first_tokens": np.int32,
    "first_ends": np.int64,
}

FILES = frozenset({_METADATA, "tokens.npy", *(f"{name}.npy" for name in _DTYPES)})
"""Names of the files of a token index."""

Parts = tuple[TokenRows, Positions, NDArray[np.int32], Rows]


def write_suffixes(index: SortedSuffixes, folder: Path) -> list[Path]:
    """Write the unrestricted index to an existing folder and return the paths."""
    rows, positions, firsts, first_ends = index.parts()
    arrays: dict[str, NDArray[Any]] = {
        "tokens": rows.tokens,
        "starts": rows.starts,
        "suffixes": positions,
        "first_tokens": firsts,
        "first_ends": first_ends,
    }
    metadata = {
        "format": FORMAT,
        "kind": index.kind,
        "vocab_size": rows.vocab_size,
        "tokenizer": rows.tokenizer,
        "granularity": rows.granularity,
    }
    files = [folder / _METADATA]
    with disk_errors(folder):
        files[0].write_text(json.dumps(metadata, indent=1, sort_keys=True), encoding="utf-8")
        for name, array in arrays.items():
            files.append(folder / f"{name}.npy")
            np.save(files[-1], array, allow_pickle=False)
    return files


def read_suffixes(folder: Path, kind: str, tokenizer: str) -> Parts:
    """Memory-map an index written by `write_suffixes`.

    Args:
        folder: The folder of the index.
        kind: Expected kind of index: "ngrams" or "trie".
        tokenizer: Expected fingerprint of the tokenizer.

    Raises:
        CollectionError: The index was built with another tokenizer.
        FormatMismatch: The index has another format version.
        CorruptCollection: The index cannot be read, or its files are inconsistent.
    """
    try:
        metadata = _read_metadata(folder, kind)
        dtypes: dict[str, Any] = {"tokens": token_type(metadata["vocab_size"]), **_DTYPES}
        arrays: dict[str, Any] = {
            name: map_array(folder / f"{name}.npy", dtype, 1) for name, dtype in dtypes.items()
        }
        rows = TokenRows(
            arrays["tokens"],
            arrays["starts"],
            metadata["vocab_size"],
            metadata["tokenizer"],
            metadata["granularity"],
        )
        _check_consistency(rows, arrays, kind)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptCollection(
            f"token index {folder.name} cannot be read ({error}); "
            "run `ragkit index repair` to rebuild it"
        ) from error
    if rows.tokenizer != tokenizer:
        raise CollectionError(
            f"token index {folder.name} was built with the tokenizer {rows.tokenizer!r}, but the "
            f"model uses {tokenizer!r}, whose token ids differ. Use the model that the index was "
            "built for, or rebuild the index"
        )
    return rows, arrays["suffixes"], arrays["first_tokens"], arrays["first_ends"]


def _read_metadata(folder: Path, kind: str) -> dict[str, Any]:
    metadata = json.loads(read_small(folder / _METADATA, _MAX_METADATA_BYTES))
    if metadata["format"] != FORMAT:
        raise FormatMismatch(
            f"token index {folder.name} has format {metadata['format']!r}; "
            f"this version reads {FORMAT}"
        )
    if metadata["kind"] != kind:
        raise ValueError(f"its kind is {metadata['kind']!r}; expected {kind!r}")
    if type(metadata["vocab_size"]) is not int:
        raise ValueError(f"its vocab_size is {metadata['vocab_size']!r}; expected an integer")
    if not all(type(metadata[name]) is str for name in ("tokenizer", "granularity")):
        raise ValueError("its tokenizer or granularity is not a string")
    return dict(metadata)


def _check_consistency(rows: TokenRows, arrays: dict[str, NDArray[Any]], kind: str) -> None:
    starts, n = rows.starts, len(rows.tokens)
    if len(starts) == 0 or starts[0] != 0 or starts[-1] != n or (np.diff(starts) < 1).any():
        raise ValueError(
            f"its row starts do not ascend from 0 to {n}, the number of tokens and separators"
        )
    expected = n - rows.n_rows if kind == "ngrams" else rows.n_rows
    if len(arrays["suffixes"]) != expected:
        raise ValueError(f"it has {len(arrays['suffixes'])} suffixes; expected {expected}")
    firsts, ends = arrays["first_tokens"], arrays["first_ends"]
    if len(firsts) and (
        firsts[0] < 0 or firsts[-1] >= rows.vocab_size or (np.diff(firsts) < 1).any()
    ):
        raise ValueError("its first tokens are not ascending ids of the vocabulary")
    last = int(ends[-1]) if len(ends) else 0
    if len(firsts) != len(ends) or last != expected or (np.diff(ends, prepend=0) < 1).any():
        raise ValueError(
            f"its first tokens end at {last}; expected ascending ends up to {expected}"
        )
