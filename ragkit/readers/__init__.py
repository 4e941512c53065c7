"""A question and its hits to an answer whose citations can be checked."""

from __future__ import annotations

from typing import Literal

from ragkit.readers.extractive import ExtractiveReader
from ragkit.readers.long_context import LongContextReader
from ragkit.types import Embedder, Reader

__all__ = ["ExtractiveReader", "LongContextReader", "load_reader"]

ReaderName = Literal["auto", "extractive", "llm"]


def load_reader(
    name: ReaderName,
    embedder: Embedder,
    *,
    llm: str | None = None,
    order: str = "edges",
    unsupported: Literal["remove", "mark"] = "remove",
) -> Reader:
    """The reader of that name.

    Args:
        name: "extractive", "llm", or "auto": the language model if `llm` names one, else
            extractive, which answers better than the embedded SmolLM2 (see docs/readers.md).
        embedder: For the extractive reader.
        llm: A name for `ragkit.llms.load_llm`; "smollm2" if the reader is "llm" and none is given.
        order: Order of passages in the model's prompt.
        unsupported: What happens to a model's sentence that no passage supports.

    Raises:
        ValueError: There is no reader of that name.
    """
    if name not in ("auto", "extractive", "llm"):
        raise ValueError(f"reader is {name!r}; expected 'auto', 'extractive' or 'llm'")
    if name == "extractive" or (name == "auto" and llm is None):
        return ExtractiveReader(embedder)
    return LongContextReader(llm or "smollm2", order=order, unsupported=unsupported)
