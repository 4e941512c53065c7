"""Construction of retrievers by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ragkit.llms import adapters
from ragkit.llms.beams import BeamModel, load_beam_model
from ragkit.pipeline import Composable
from ragkit.retrievers.dense import DenseRetriever
from ragkit.retrievers.hybrid import HybridRetriever
from ragkit.retrievers.lexical import LexicalRetriever
from ragkit.retrievers.ngram import NgramRetriever
from ragkit.retrievers.title import TitleRetriever
from ragkit.types import RETRIEVERS, ChunkIndex, RetrieverName


def load_retriever(
    name: RetrieverName,
    index: ChunkIndex,
    options: Mapping[str, Any],
    *,
    device: str,
    adapter_folder: Path,
) -> Composable:
    """Create a retriever over a collection; see `Collection.retriever`.

    Args:
        name: Name of the retriever.
        index: Collection to search.
        options: Keyword arguments of the retriever.
        device: Device of a model loaded by name: "cpu" or "cuda".
        adapter_folder: Folder of the collection's adapter; it need not exist.
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
    raise ValueError(f"no retriever is named {name!r}; expected one of {', '.join(RETRIEVERS)}")


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
        path = adapters.find_installed(adapter_folder) if adapter is None else adapter
        if str(path) == "none":
            path = None
        model = load_beam_model(model, adapter=path, device=device)
    elif adapter is not None:
        raise ValueError(
            "adapter needs a model given by name; load the adapter into your model object instead"
        )
    if name == "title":
        return TitleRetriever(index, model, **options)
    return NgramRetriever(index, model, **options)
