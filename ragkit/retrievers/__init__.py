"""Retrievers: return hits for queries."""

from __future__ import annotations

from ragkit.pipeline import Composable, check_queries
from ragkit.retrievers.dense import DenseRetriever
from ragkit.retrievers.distinct import DistinctRetriever
from ragkit.retrievers.hybrid import HybridRetriever
from ragkit.retrievers.lexical import LexicalRetriever
from ragkit.retrievers.ngram import NgramRetriever
from ragkit.retrievers.title import TitleRetriever

__all__ = [
    "Composable",
    "DenseRetriever",
    "DistinctRetriever",
    "HybridRetriever",
    "LexicalRetriever",
    "NgramRetriever",
    "TitleRetriever",
    "check_queries",
]
