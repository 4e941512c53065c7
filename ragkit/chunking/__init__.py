"""Split text into sentences, and documents into chunks of whole sentences."""

from ragkit.chunking.chunker import Chunker

__all__ = ["Chunker"]
