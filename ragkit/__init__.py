"""ragkit: retrieval-augmented question answering with verifiable citations.

import ragkit

notes = ragkit.Collection("notes.rag")
notes.add("papers/")
qa = notes.retriever("hybrid") >> ragkit.SpanReader(notes.embedder)
print(qa.ask("What is the band gap of GaAs?").text)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ragkit.agents.definition import AgentOptions, load_agent
    from ragkit.agents.react import ReAct
    from ragkit.agents.tools import tool
    from ragkit.collection import Collection
    from ragkit.collection.description import Settings
    from ragkit.collection.upgrade import upgrade
    from ragkit.embedders import load_embedder
    from ragkit.errors import RagkitError
    from ragkit.llms import load_llm
    from ragkit.losses import collect as collect_losses
    from ragkit.pipeline import QA, Reranked
    from ragkit.readers import ExtractiveReader, LongContextReader, SpanReader
    from ragkit.readers.verification import verify_answer, verify_sentences
    from ragkit.recipes import load_recipe
    from ragkit.retrievers import HybridRetriever
    from ragkit.types import Answer, Chunk, Citation, Document, Hit, Loss

__version__ = "0.1.0"

_MODULES = {
    "AgentOptions": "ragkit.agents.definition",
    "Answer": "ragkit.types",
    "Chunk": "ragkit.types",
    "Citation": "ragkit.types",
    "Collection": "ragkit.collection",
    "Document": "ragkit.types",
    "ExtractiveReader": "ragkit.readers",
    "Hit": "ragkit.types",
    "HybridRetriever": "ragkit.retrievers",
    "LongContextReader": "ragkit.readers",
    "Loss": "ragkit.types",
    "QA": "ragkit.pipeline",
    "RagkitError": "ragkit.errors",
    "ReAct": "ragkit.agents.react",
    "Reranked": "ragkit.pipeline",
    "Settings": "ragkit.collection.description",
    "SpanReader": "ragkit.readers",
    "collect_losses": "ragkit.losses",
    "load_agent": "ragkit.agents.definition",
    "load_embedder": "ragkit.embedders",
    "load_llm": "ragkit.llms",
    "load_recipe": "ragkit.recipes",
    "tool": "ragkit.agents.tools",
    "upgrade": "ragkit.collection.upgrade",
    "verify_answer": "ragkit.readers.verification",
    "verify_sentences": "ragkit.readers.verification",
}
_ATTRIBUTES = {"collect_losses": "collect"}

__all__ = [
    "QA",
    "AgentOptions",
    "Answer",
    "Chunk",
    "Citation",
    "Collection",
    "Document",
    "ExtractiveReader",
    "Hit",
    "HybridRetriever",
    "LongContextReader",
    "Loss",
    "RagkitError",
    "ReAct",
    "Reranked",
    "Settings",
    "SpanReader",
    "collect_losses",
    "load_agent",
    "load_embedder",
    "load_llm",
    "load_recipe",
    "tool",
    "upgrade",
    "verify_answer",
    "verify_sentences",
]


def __getattr__(name: str) -> Any:
    # Names are imported at first use, so that `import ragkit` is fast.
    if name not in _MODULES:
        raise AttributeError(f"module 'ragkit' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), _ATTRIBUTES.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
