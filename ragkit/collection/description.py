"""`collection.json`: what a collection was built with."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ragkit.chunking import Chunker
from ragkit.digests import text_digest
from ragkit.durable import disk_errors, read_small, replace_text
from ragkit.errors import CollectionError, CorruptCollection, EmbedderMismatch, FormatMismatch
from ragkit.indexes.terms import TermAnalyzer
from ragkit.store.reader import StoreReader
from ragkit.store.store import Store
from ragkit.types import Embedder

FORMAT = 1
_MAX_BYTES = 1 << 20  # ours have under 1 KB
_MAX_TOKENS = 1 << 31
# FAISS allocates by these numbers, and the string may come with a collection from elsewhere.
_MOST = {"IVF": 1 << 20, "HNSW": 512, "x": 16}
_MOST_ELSE = 4096
_KINDS = {
    "embedder": str,
    "chunk_tokens": int,
    "overlap": int,
    "language": str,
    "index": str,
    "k1": int | float,
    "b": int | float,
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a collection is built with; fixed when it is made, stored in `collection.json`.

    Attributes:
        embedder: A name for `ragkit.embedders.load_embedder`.
        chunk_tokens: Most tokens of a chunk, by the embedder's tokenizer.
        overlap: Tokens of whole sentences repeated at most.
        language: Snowball language of the terms, or "none".
        index: "exact", or a FAISS factory string such as "HNSW32".
        k1: BM25's saturation.
        b: BM25's length normalisation.
    """

    embedder: str = "minilm"
    chunk_tokens: int = 200
    overlap: int = 0
    language: str = "english"
    index: str = "exact"
    k1: float = 1.5
    b: float = 0.5

    def __post_init__(self) -> None:
        for name, kinds in _KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise TypeError(f"the setting {name} is {value!r}; expected {kinds}")
        if self.chunk_tokens < 1 or not 0 <= self.overlap < self.chunk_tokens:
            raise ValueError(
                f"chunk_tokens is {self.chunk_tokens} and overlap {self.overlap}; expected at "
                "least 1 token, and less overlap than that"
            )
        if self.chunk_tokens > _MAX_TOKENS:
            raise ValueError(f"chunk_tokens is over {_MAX_TOKENS}; expected a window's length")
        if not (0 <= self.k1 < math.inf and 0 <= self.b <= 1):  # NaN neither
            raise ValueError(f"k1 is {self.k1} and b is {self.b}; expected k1 >= 0, 0 <= b <= 1")
        _check_index(self.index)


def _check_index(factory: str) -> None:
    """Raise ValueError for a string that no factory has, or that asks for more than any needs."""
    wanted = "expected 'exact' or a FAISS factory string such as 'HNSW32' or 'IVF256,Flat'"
    if not re.fullmatch(r"[A-Za-z0-9_,.()+-]{1,64}", factory):
        raise ValueError(f"index is {factory[:80]!r}; {wanted}")
    for name, number in re.findall(r"([A-Za-z]*)([0-9]+)", factory):
        if len(number) > 7 or int(number) > _MOST.get(name, _MOST_ELSE):
            raise ValueError(f"index is {factory!r}, and {name}{number} is too large; {wanted}")


def read_description(path: Path) -> dict[str, Any] | None:
    """What `write_description` wrote; None if there is no collection at the path.

    Where the file is gone, its copy in `store.db` counts; `repair` then writes it again.

    Raises:
        FormatMismatch: Written by another format version.
        CorruptCollection: Not the file that ragkit wrote.
    """
    file = path / "collection.json"
    try:
        text = read_small(file, _MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        if path.exists() and not path.is_dir():
            raise CollectionError(f"{str(path)!r} is a file; a collection is a folder") from None
        copy = _copy(path)
        if copy is None:
            return None
        text = copy
    except OSError as error:
        raise CollectionError(
            f"{str(file)!r} cannot be read: {error.strerror}; check its permissions"
        ) from error
    except ValueError as error:
        raise _not_ours(file, error) from error
    try:
        return _checked(path, json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _not_ours(file, error) from error


def check_settings(path: Path, stored: Settings, wanted: Settings | None) -> None:
    """Raise if other settings are wanted than those that a collection has; any embedder is fine."""
    if wanted is not None and replace(wanted, embedder=stored.embedder) != stored:
        raise CollectionError(
            f"{str(path)!r} was made with {stored}, not with {wanted}; leave "
            "settings out to open it, or build a new collection"
        )


def check_fingerprint(path: Path, description: Mapping[str, Any], embedder: Embedder) -> None:
    """Raise if a collection was built with another embedder."""
    stored = description["embedder"]
    if embedder.fingerprint != stored["fingerprint"]:
        raise EmbedderMismatch(
            f"{str(path)!r} was built with the embedder {stored['name']!r} (fingerprint "
            f"{stored['fingerprint'][:12]}), not with {embedder.name!r} "
            f"({embedder.fingerprint[:12]}); their vectors cannot be compared. Open it "
            "with the first, or build a new collection with the second."
        )


def _copy(path: Path) -> bytes | None:
    """The copy of the description that `store.db` keeps, if there is one."""
    # A journal is there only while the file is made: whoever was at it was killed.
    if not (path / "store.db").exists() or (path / "store.db-journal").exists():
        return None
    store = StoreReader(path / "store.db", read_only=True)
    try:
        copy = store.description()
    finally:
        store.close()
    return None if copy is None else copy.encode()


def _not_ours(file: Path, error: Exception) -> CorruptCollection:
    said = f"it lacks {error}" if isinstance(error, KeyError) else str(error)[:300]
    return CorruptCollection(
        f"{str(file)!r} cannot be read: {said}. It is not the file that ragkit wrote: delete "
        "this file, and `ragkit index repair` writes it again from the copy in store.db"
    )


def _checked(path: Path, value: Any) -> dict[str, Any]:
    found = value["format"]
    if found != FORMAT:
        raise FormatMismatch(
            f"{str(path)!r} has format version {str(found)[:40]}; this ragkit reads {FORMAT}. "
            "Build it again from its files, or use the ragkit that wrote it."
        )
    known = set(Settings.__dataclass_fields__)
    written = _digest(value)
    value["settings"] = {k: v for k, v in value["settings"].items() if k in known}
    missing = known - set(value["settings"])
    if missing:
        raise ValueError(f"it lacks the settings {', '.join(sorted(missing))}")
    settings = Settings(**value["settings"])
    TermAnalyzer(settings.language)
    fingerprint, dim = value["embedder"]["fingerprint"], value["embedder"]["dim"]
    if not isinstance(fingerprint, str) or not re.fullmatch("[0-9A-Za-z]{1,128}", fingerprint):
        raise ValueError(f"the embedder's fingerprint is {fingerprint!r}")
    if type(dim) is not int or not 0 < dim <= 1 << 16:
        raise ValueError(f"the embedder's dimension is {dim!r}")
    if not isinstance(value["embedder"]["name"], str):
        raise ValueError(f"the embedder's name is {value['embedder']['name']!r}")
    # Without one it is from before 0.1; a changed name of the key is an unknown key.
    unknown = set(value) - {"format", "settings", "chunker", "embedder", "digest"}
    if unknown or value.get("digest", written) != written:
        raise ValueError("it is not what was written: its digest does not match")
    return dict(value)


def _digest(description: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in description.items() if key != "digest"}
    return text_digest(json.dumps(rest, sort_keys=True))


def as_text(description: Mapping[str, Any]) -> str:
    """What `collection.json` holds."""
    return json.dumps(description, indent=1, sort_keys=True)


def restore_description(path: Path, text: str) -> None:
    """Write `collection.json` as it was."""
    file = path / "collection.json"
    with disk_errors(file):
        replace_text(file, text)


def keep_copy(path: Path, store: Store) -> None:
    """Have the store keep a copy of `collection.json`, or write the file again from the copy."""
    file = path / "collection.json"
    copy = store.description()
    if copy is None and file.exists():
        store.keep_description(file.read_text())
    elif copy is not None and not file.exists():
        restore_description(path, copy)


def write_description(
    path: Path, settings: Settings, embedder: Embedder, chunker: Chunker
) -> dict[str, Any]:
    """Write `collection.json`, in one step, and return what it says."""
    description: dict[str, Any] = {
        "format": FORMAT,
        "settings": asdict(settings),
        "chunker": chunker.settings,
        "embedder": {
            "name": embedder.name,
            "fingerprint": embedder.fingerprint,
            "dim": embedder.dim,
        },
    }
    description["digest"] = _digest(description)
    restore_description(path, as_text(description))
    return description
