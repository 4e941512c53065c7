"""Sorted suffixes on disk: arrays as `.npy`, and a few words about them as JSON.

    index.json          format version, kind, vocabulary, tokenizer's fingerprint, granularity
    tokens.npy          uint16 or int32 (tokens + rows,), see `TokenRows`
    starts.npy          int64 (rows + 1,)
    suffixes.npy        uint32 (suffixes,)
    first_tokens.npy    int32 (distinct first tokens,)
    first_ends.npy      int64, of the same length

Flushing them to the disk and keeping their digests is the caller's part.
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
_ABOUT = "index.json"
_ABOUT_BYTES = 1 << 12
_KINDS = {
    "starts": np.int64,
    "suffixes": np.uint32,
    "first_tokens": np.int32,
    "first_ends": np.int64,
}

FILES = frozenset({_ABOUT, "tokens.npy", *(f"{name}.npy" for name in _KINDS)})
"""The names of what is written."""

Parts = tuple[TokenRows, Positions, NDArray[np.int32], Rows]


def write_suffixes(index: SortedSuffixes, folder: Path) -> list[Path]:
    """Write an index, without its restriction, into a folder that is there; returns the files."""
    rows, positions, firsts, first_ends = index.parts()
    arrays: dict[str, NDArray[Any]] = {
        "tokens": rows.tokens,
        "starts": rows.starts,
        "suffixes": positions,
        "first_tokens": firsts,
        "first_ends": first_ends,
    }
    about = {
        "format": FORMAT,
        "kind": index.kind,
        "vocab_size": rows.vocab_size,
        "tokenizer": rows.tokenizer,
        "granularity": rows.granularity,
    }
    files = [folder / _ABOUT]
    with disk_errors(folder):
        files[0].write_text(json.dumps(about, indent=1, sort_keys=True), encoding="utf-8")
        for name, array in arrays.items():
            files.append(folder / f"{name}.npy")
            np.save(files[-1], array, allow_pickle=False)
    return files


def read_suffixes(folder: Path, kind: str, tokenizer: str) -> Parts:
    """Memory-map what `write_suffixes` wrote.

    Raises:
        CollectionError: It was built with another tokenizer.
        FormatMismatch: It was written by another version.
        CorruptCollection: It cannot be read, or its parts do not fit together.
    """
    try:
        about = _read_about(folder, kind)
        types: dict[str, Any] = {"tokens": token_type(about["vocab_size"]), **_KINDS}
        arrays: dict[str, Any] = {
            name: map_array(folder / f"{name}.npy", dtype, 1) for name, dtype in types.items()
        }
        rows = TokenRows(
            arrays["tokens"],
            arrays["starts"],
            about["vocab_size"],
            about["tokenizer"],
            about["granularity"],
        )
        _check(rows, arrays, kind)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptCollection(
            f"token index {folder.name} cannot be read ({error}); `ragkit index repair` rebuilds it"
        ) from error
    if rows.tokenizer != tokenizer:
        raise CollectionError(
            f"token index {folder.name} was built with the tokenizer {rows.tokenizer!r}, and "
            f"{tokenizer!r} is to be used: their tokens mean different words. Use the model it was "
            "built for, or build the index anew"
        )
    return rows, arrays["suffixes"], arrays["first_tokens"], arrays["first_ends"]


def _read_about(folder: Path, kind: str) -> dict[str, Any]:
    about = json.loads(read_small(folder / _ABOUT, _ABOUT_BYTES))
    if about["format"] != FORMAT:
        raise FormatMismatch(
            f"token index {folder.name} has format {about['format']!r}; this version reads {FORMAT}"
        )
    if about["kind"] != kind:
        raise ValueError(f"it holds {about['kind']!r}; expected {kind!r}")
    if type(about["vocab_size"]) is not int:
        raise ValueError(f"its vocab_size is {about['vocab_size']!r}; expected a number")
    if not all(type(about[name]) is str for name in ("tokenizer", "granularity")):
        raise ValueError("its tokenizer or granularity is no text")
    return dict(about)


def _check(rows: TokenRows, arrays: dict[str, NDArray[Any]], kind: str) -> None:
    starts, n = rows.starts, len(rows.tokens)
    if len(starts) == 0 or starts[0] != 0 or starts[-1] != n or (np.diff(starts) < 1).any():
        raise ValueError(f"its rows do not ascend from 0 to its {n} tokens and separators")
    expected = n - rows.n_rows if kind == "ngrams" else rows.n_rows
    if len(arrays["suffixes"]) != expected:
        raise ValueError(f"it holds {len(arrays['suffixes'])} suffixes; expected {expected}")
    firsts, ends = arrays["first_tokens"], arrays["first_ends"]
    if len(firsts) and (
        firsts[0] < 0 or firsts[-1] >= rows.vocab_size or (np.diff(firsts) < 1).any()
    ):
        raise ValueError("its first tokens do not ascend within the vocabulary")
    last = int(ends[-1]) if len(ends) else 0
    if len(firsts) != len(ends) or last != expected or (np.diff(ends, prepend=0) < 1).any():
        raise ValueError(f"its first tokens end at {last}; expected {expected}, ascending")
