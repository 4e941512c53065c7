"""Queries to hits."""

from __future__ import annotations

from ragkit.retrievers.base import Composable, check_queries
from ragkit.retrievers.dense import DenseRetriever
from ragkit.retrievers.hybrid import HybridRetriever
from ragkit.retrievers.lexical import LexicalRetriever

__all__ = ["Composable", "DenseRetriever", "HybridRetriever", "LexicalRetriever", "check_queries"]
