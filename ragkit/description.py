"""`collection.json`: what a collection was built with."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ragkit.chunking import Chunker
from ragkit.durable import replace_text
from ragkit.errors import CollectionError, CorruptCollection, FormatMismatch
from ragkit.types import Embedder

FORMAT = 1
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


def read_description(path: Path) -> dict[str, Any] | None:
    """What `write_description` wrote; None if there is no collection at the path.

    Raises:
        FormatMismatch: Written by another format version.
        CorruptCollection: Not the file that ragkit wrote.
    """
    file = path / "collection.json"
    try:
        text = file.read_text()
    except (FileNotFoundError, NotADirectoryError):
        if path.exists() and not path.is_dir():
            raise CollectionError(f"{str(path)!r} is a file; a collection is a folder") from None
        return None
    try:
        value = json.loads(text)
        found = value["format"]
        if found != FORMAT:
            raise FormatMismatch(
                f"{str(path)!r} has format version {found!r}; this ragkit reads {FORMAT}. "
                "Build it again from its files, or use the ragkit that wrote it."
            )
        known = set(Settings.__dataclass_fields__)
        value["settings"] = {k: v for k, v in value["settings"].items() if k in known}
        Settings(**value["settings"])
        fingerprint, dim = value["embedder"]["fingerprint"], value["embedder"]["dim"]
        if not isinstance(fingerprint, str) or not fingerprint.isalnum():
            raise ValueError(f"the embedder's fingerprint is {fingerprint!r}")
        if not isinstance(dim, int) or not 0 < dim <= 1 << 16:
            raise ValueError(f"the embedder's dimension is {dim!r}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptCollection(
            f"{str(file)!r} cannot be read: {error}. It is not the file that ragkit wrote."
        ) from error
    return dict(value)


def write_description(
    path: Path, settings: Settings, embedder: Embedder, chunker: Chunker
) -> dict[str, Any]:
    """Write `collection.json`, in one step, and return what it says."""
    description = {
        "format": FORMAT,
        "settings": asdict(settings),
        "chunker": chunker.settings,
        "embedder": {
            "name": embedder.name,
            "fingerprint": embedder.fingerprint,
            "dim": embedder.dim,
        },
    }
    replace_text(path / "collection.json", json.dumps(description, indent=1, sort_keys=True))
    return description
