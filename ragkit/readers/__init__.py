"""A question and its hits to an answer whose citations can be checked."""

from __future__ import annotations

from ragkit.readers.extractive import ExtractiveReader
from ragkit.readers.long_context import LongContextReader

__all__ = ["ExtractiveReader", "LongContextReader"]
