"""Construction of retrievers by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ragkit.llms import adapters
from ragkit.llms.beams import BeamModel, load_beam_model
from ragkit.pipeline import Composable
from ragkit.retrievers.dense import DenseRetriever
from ragkit.retrievers.distinct import DistinctRetriever
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
    copies: bool,
    device: str,
    adapter_folder: Path,
) -> Composable:
    """Create a retriever over a collection; see `Collection.retriever`.

    Args:
        name: Name of the retriever.
        index: Collection to search.
        options: Keyword arguments of the retriever.
        copies: Whether each of several chunks with the same text is a hit.
        device: Device of a model loaded by name: "cpu" or "cuda".
        adapter_folder: Folder of the collection's adapter; it need not exist.
    """
    if name not in RETRIEVERS:
        raise ValueError(f"no retriever is named {name!r}; expected one of {', '.join(RETRIEVERS)}")
    if options and name in ("dense", "bm25"):
        raise TypeError(f"{name!r} takes no options, but got {', '.join(sorted(options))}")
    if name == "hybrid":
        parts = [DenseRetriever(index), LexicalRetriever(index)]
        return HybridRetriever(parts, copies=copies, **options)
    retriever: Composable
    if name == "dense":
        retriever = DenseRetriever(index)
    elif name == "bm25":
        retriever = LexicalRetriever(index)
    else:
        retriever = _generative(name, index, device, adapter_folder, **options)
    return retriever if copies else DistinctRetriever(retriever)


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
