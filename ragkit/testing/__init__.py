"""Fakes of models and services for tests, and contract tests for implementations of protocols."""

from ragkit.testing.contracts import (
    check_embedder,
    check_reader,
    check_retriever,
    check_term_index,
    check_token_index,
    check_vector_index,
)
from ragkit.testing.fakes import HashEmbedder, ObedientLLM, ScriptedLLM, unit_vectors

__all__ = [
    "HashEmbedder",
    "ObedientLLM",
    "ScriptedLLM",
    "check_embedder",
    "check_reader",
    "check_retriever",
    "check_term_index",
    "check_token_index",
    "check_vector_index",
    "unit_vectors",
]
