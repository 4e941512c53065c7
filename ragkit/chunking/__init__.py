"""Sentences, and chunks that are packed from them."""

from ragkit.chunking.chunker import Chunker

__all__ = ["Chunker"]
