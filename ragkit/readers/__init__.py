"""Readers: answer questions from hits, with verifiable citations."""

from __future__ import annotations

from typing import Literal

from ragkit.pair.model import is_shipped
from ragkit.readers.extractive import ExtractiveReader
from ragkit.readers.long_context import LongContextReader
from ragkit.readers.spans import SpanReader
from ragkit.types import Embedder, Reader

__all__ = ["ExtractiveReader", "LongContextReader", "SpanReader", "load_reader"]

ReaderName = Literal["auto", "spans", "extractive", "llm"]


def load_reader(  # noqa: PLR0913 - independent settings
    name: ReaderName,
    embedder: Embedder,
    *,
    llm: str | None = None,
    order: str = "edges",
    unsupported: Literal["remove", "mark"] = "remove",
    threshold: float | None = None,
    judge: str | None = None,
) -> Reader:
    """Create a reader by name.

    Args:
        name: "spans", "extractive", "llm", or "auto". "auto" selects the language model if `llm` is
            set, and else "spans", which is better than SmolLM2 (see docs/readers.md).
        embedder: Embedder of the readers without a language model.
        llm: Name for `ragkit.llms.load_llm`; default of the reader "llm" is "smollm2".
        order: Order of passages in the model's prompt.
        unsupported: Treatment of the model's sentences that no passage supports.
        threshold: Likelihood below which the readers without a language model refuse; see
            `ragkit tune --refusal`.
        judge: Name of the language model that decides what the check of a model's sentences is
            unsure of.

    Raises:
        ValueError: The name is unknown.
    """
    if name not in ("auto", "spans", "extractive", "llm"):
        raise ValueError(f"reader is {name!r}; expected 'auto', 'spans', 'extractive' or 'llm'")
    if name == "auto" and llm is None:
        name = "spans" if is_shipped() else "extractive"
    if name in ("spans", "extractive"):
        kind = SpanReader if name == "spans" else ExtractiveReader
        return kind(embedder) if threshold is None else kind(embedder, threshold=threshold)
    return LongContextReader(llm or "smollm2", order=order, unsupported=unsupported, judge=judge)
