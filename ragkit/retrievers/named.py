"""The retrievers of a collection by their names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ragkit.llms import adapters
from ragkit.llms.beams import BeamModel, load_beam_model
from ragkit.retrievers.base import ChunkIndex, Composable
from ragkit.retrievers.dense import DenseRetriever
from ragkit.retrievers.hybrid import HybridRetriever
from ragkit.retrievers.lexical import LexicalRetriever
from ragkit.retrievers.ngram import NgramRetriever
from ragkit.retrievers.title import TitleRetriever

RetrieverName = Literal["dense", "bm25", "hybrid", "title", "ngram"]


def retriever_named(
    name: RetrieverName,
    index: ChunkIndex,
    options: Mapping[str, Any],
    *,
    device: str,
    adapter_folder: Path,
) -> Composable:
    """A retriever over a collection; see `Collection.retriever`.

    Args:
        name: Which.
        index: The collection.
        options: What it takes.
        device: Where a model that is given by name runs: "cpu" or "cuda".
        adapter_folder: Where the collection's own adapter is, if it has one.
    """
    if name in ("title", "ngram"):
        return _generative(name, index, device, adapter_folder, **options)
    if options and name in ("dense", "bm25"):
        raise TypeError(f"{name!r} takes no options, but got {', '.join(sorted(options))}")
    if name == "dense":
        return DenseRetriever(index)
    if name == "bm25":
        return LexicalRetriever(index)
    if name == "hybrid":
        return HybridRetriever([DenseRetriever(index), LexicalRetriever(index)], **options)
    raise ValueError(
        f"no retriever named {name!r}; expected 'dense', 'bm25', 'hybrid', 'title' or 'ngram'"
    )


def _generative(
    name: RetrieverName,
    index: ChunkIndex,
    device: str,
    adapter_folder: Path,
    /,
    *,
    model: str | BeamModel = "smollm2",
    adapter: str | Path | None = None,
    **options: Any,
) -> Composable:
    if isinstance(model, str):
        chosen = adapters.installed(adapter_folder) if adapter is None else adapter
        if str(chosen) == "none":
            chosen = None
        model = load_beam_model(model, adapter=chosen, device=device)
    elif adapter is not None:
        raise ValueError("adapter is for a model that is given by name; load it into yours")
    if name == "title":
        return TitleRetriever(index, model, **options)
    return NgramRetriever(index, model, **options)
