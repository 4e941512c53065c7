"""Reading and writing of `collection.json`, the description of a collection."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ragkit.chunking import Chunker
from ragkit.digests import text_digest
from ragkit.durable import disk_errors, read_small, replace_text
from ragkit.errors import CollectionError, CorruptCollection, EmbedderMismatch, FormatMismatch
from ragkit.indexes.terms import TermAnalyzer
from ragkit.store.connect import stored_description
from ragkit.store.store import Store
from ragkit.types import Embedder

FORMAT = 2
OLD_FORMAT = 1  # which `upgrade` reads
_MAX_BYTES = 1 << 20  # valid files have less than 1 KB
_MAX_TOKENS = 1 << 31
_MAX_DIM = 1 << 16
# FAISS allocates memory by these numbers, and a downloaded collection may contain any string.
_MAX_FACTORY_NUMBERS = {"IVF": 1 << 20, "HNSW": 512, "x": 16}
_MAX_FACTORY_NUMBER = 4096  # after any other name
_SETTING_TYPES = {
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
    """Settings of a collection; fixed at its creation and stored in `collection.json`.

    Attributes:
        embedder: Name for `ragkit.embedders.load_embedder`.
        chunk_tokens: Maximum number of tokens of a chunk, counted by the embedder's tokenizer.
        overlap: Maximum number of tokens, in whole sentences, shared by consecutive chunks.
        language: Snowball language of the stemmer, or "none".
        index: "exact", or a FAISS factory string such as "HNSW32".
        k1: Term frequency saturation of BM25.
        b: Length normalization of BM25.
    """

    embedder: str = "minilm"
    chunk_tokens: int = 200
    overlap: int = 0
    language: str = "english"
    index: str = "exact"
    k1: float = 1.5
    b: float = 0.5

    def __post_init__(self) -> None:
        for name, types in _SETTING_TYPES.items():
            value = getattr(self, name)
            if not isinstance(value, types) or isinstance(value, bool):
                raise TypeError(f"the setting {name} is {value!r}; expected {types}")
        if self.chunk_tokens < 1 or not 0 <= self.overlap < self.chunk_tokens:
            raise ValueError(
                f"chunk_tokens is {self.chunk_tokens} and overlap is {self.overlap}; expected "
                "chunk_tokens >= 1 and 0 <= overlap < chunk_tokens"
            )
        if self.chunk_tokens > _MAX_TOKENS:
            raise ValueError(
                f"chunk_tokens is larger than {_MAX_TOKENS}; expected a model's window"
            )
        if not (0 <= self.k1 < math.inf and 0 <= self.b <= 1):  # also rejects NaN
            raise ValueError(f"k1 is {self.k1} and b is {self.b}; expected k1 >= 0, 0 <= b <= 1")
        _check_index(self.index)


def _check_index(factory: str) -> None:
    """Raise ValueError if a factory string is malformed or its numbers are too large."""
    expected = "expected 'exact' or a FAISS factory string such as 'HNSW32' or 'IVF256,Flat'"
    if not re.fullmatch(r"[A-Za-z0-9_,.()+-]{1,64}", factory):
        raise ValueError(f"index is {factory[:80]!r}; {expected}")
    for name, number in re.findall(r"([A-Za-z]*)([0-9]+)", factory):
        if len(number) > 7 or int(number) > _MAX_FACTORY_NUMBERS.get(name, _MAX_FACTORY_NUMBER):
            raise ValueError(f"index is {factory!r}, and {name}{number} is too large; {expected}")


def read_description(path: Path) -> dict[str, Any] | None:
    """Read the description of a collection; return None if the path has no collection.

    If the file is missing, its copy in `store.db` is used; `repair` restores the file.

    Raises:
        FormatMismatch: The collection was written in another format version.
        CorruptCollection: The file is damaged or was edited.
    """
    value = read_any_format(path)
    if value is None:
        return None
    _check_format(path, value["format"])
    try:
        return _validate(value)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _corrupt(path / "collection.json", error) from error


def read_any_format(path: Path) -> dict[str, Any] | None:
    """Read the description of a collection of any format version, without checking its content.

    Raises:
        CorruptCollection: The file is not a JSON object, or does not name the format version.
    """
    file = path / "collection.json"
    try:
        text = read_small(file, _MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        if path.exists() and not path.is_dir():
            raise CollectionError(f"{str(path)!r} is a file; a collection is a folder") from None
        copy = _stored_copy(path)
        if copy is None:
            return None
        text = copy
    except OSError as error:
        raise CollectionError(
            f"{str(file)!r} cannot be read: {error.strerror}; check its permissions"
        ) from error
    except ValueError as error:
        raise _corrupt(file, error) from error
    try:
        value = json.loads(text)
        _ = value["format"]
        return dict(value)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _corrupt(file, error) from error


def old_place(path: Path) -> Path:
    """Return the path at which an upgrade keeps the old collection until it is done."""
    return path.with_name(f"{path.name}.format-{OLD_FORMAT}")


def new_place(path: Path) -> Path:
    """Return the path at which an upgrade builds the new collection."""
    return path.with_name(f"{path.name}.upgrading")


def _upgrade_line(path: Path) -> str:
    return f"run `ragkit index upgrade {shlex.quote(str(path))}`"


def check_not_upgrading(path: Path) -> None:
    """Raise CollectionError if an upgrade was killed after it moved the old collection away."""
    if not path.exists() and old_place(path).is_dir() and new_place(path).is_dir():
        raise CollectionError(f"an upgrade of {str(path)!r} was interrupted: {_upgrade_line(path)}")


def check_settings(path: Path, stored: Settings, requested: Settings | None) -> None:
    """Raise CollectionError if the requested settings, except the embedder, differ."""
    if requested is not None and replace(requested, embedder=stored.embedder) != stored:
        raise CollectionError(
            f"{str(path)!r} was created with {stored}, not with {requested}; omit the settings "
            "to open it, or build a new collection"
        )


def check_fingerprint(path: Path, description: Mapping[str, Any], embedder: Embedder) -> None:
    """Raise EmbedderMismatch if a collection was built with another embedder."""
    stored = description["embedder"]
    if embedder.fingerprint != stored["fingerprint"]:
        raise EmbedderMismatch(
            f"{str(path)!r} was built with the embedder {stored['name']!r} (fingerprint "
            f"{stored['fingerprint'][:12]}), not with {embedder.name!r} "
            f"({embedder.fingerprint[:12]}); their vectors cannot be compared. Open the "
            "collection with the first embedder, or build a new one with the second."
        )


def _stored_copy(path: Path) -> bytes | None:
    """Return the copy of the description in `store.db`, or None."""
    # A journal exists only while the database is created: the process that did so was killed.
    if not (path / "store.db").exists() or (path / "store.db-journal").exists():
        return None
    copy = stored_description(path / "store.db")
    return None if copy is None else copy.encode()


def _corrupt(file: Path, error: Exception) -> CorruptCollection:
    reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)[:300]
    return CorruptCollection(
        f"{str(file)!r} cannot be read: {reason}. The file is damaged or was edited: delete this "
        "file, and `ragkit index repair` restores it from the copy in store.db"
    )


def _check_format(path: Path, version: object) -> None:
    if version == FORMAT:
        return
    message = (
        f"{str(path)!r} has format version {str(version)[:40]}; this version of ragkit reads "
        f"{FORMAT}"
    )
    if version == OLD_FORMAT:
        raise FormatMismatch(f"{message}: {_upgrade_line(path)}")
    raise FormatMismatch(f"{message}. Use the ragkit that wrote it")


def check_storable(name: object, fingerprint: object, dim: object) -> None:
    """Raise ValueError if a collection cannot store an embedder's name, fingerprint or dimension.

    >>> check_storable("minilm", "sha256:0a", 384)
    Traceback (most recent call last):
    ValueError: the embedder's fingerprint is 'sha256:0a'; expected 1 to 128 letters and digits
    """
    if not isinstance(fingerprint, str) or not re.fullmatch("[0-9A-Za-z]{1,128}", fingerprint):
        raise ValueError(
            f"the embedder's fingerprint is {fingerprint!r:.150}; expected 1 to 128 letters and "
            "digits"
        )
    if type(dim) is not int or not 0 < dim <= _MAX_DIM:
        raise ValueError(f"the embedder's dimension is {dim!r}; expected 1 to {_MAX_DIM}")
    if not isinstance(name, str):
        raise ValueError(f"the embedder's name is {name!r:.150}; expected a string")


def _validate(value: Any) -> dict[str, Any]:
    known = set(Settings.__dataclass_fields__)
    digest = _digest(value)
    value["settings"] = {k: v for k, v in value["settings"].items() if k in known}
    missing = known - set(value["settings"])
    if missing:
        raise ValueError(f"it lacks the settings {', '.join(sorted(missing))}")
    settings = Settings(**value["settings"])
    TermAnalyzer(settings.language)
    embedder = value["embedder"]
    check_storable(embedder["name"], embedder["fingerprint"], embedder["dim"])
    unknown = set(value) - {"format", "settings", "chunker", "embedder", "digest"}
    if unknown or value["digest"] != digest:
        raise ValueError("its content does not match its digest")
    return dict(value)


def _digest(description: Mapping[str, Any]) -> str:
    content = {key: value for key, value in description.items() if key != "digest"}
    return text_digest(json.dumps(content, sort_keys=True))


def to_json(description: Mapping[str, Any]) -> str:
    """Serialize a description as `collection.json`."""
    return json.dumps(description, indent=1, sort_keys=True)


def restore_description(path: Path, text: str) -> None:
    """Write `collection.json` from the text of its copy."""
    file = path / "collection.json"
    with disk_errors(file):
        replace_text(file, text)


def synchronize_copy(path: Path, store: Store) -> None:
    """Copy `collection.json` into the store, or restore a missing file from the copy."""
    file = path / "collection.json"
    copy = store.description()
    if copy is None and file.exists():
        store.save_description(file.read_text())
    elif copy is not None and not file.exists():
        restore_description(path, copy)


def describe(settings: Settings, embedder: Embedder, chunker: Chunker) -> dict[str, Any]:
    """Return the description of a new collection, after checking that it can be read again.

    Raises:
        ValueError: Its text would not be accepted by `read_description`.
    """
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
    try:
        check_storable(embedder.name, embedder.fingerprint, embedder.dim)
        description["digest"] = _digest(description)
        text = to_json(description)
        if len(text) > _MAX_BYTES:
            raise ValueError(f"it has more than {_MAX_BYTES} bytes")
        return _validate(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"a collection with the embedder {embedder.name!r:.80} could not be opened again: "
            f"{error}"
        ) from error
