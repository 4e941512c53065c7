"""Query and passage prefixes from a model's configuration."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prefixes from `config_sentence_transformers.json`; empty for models trained without them.

    Attributes:
        query: Prefix of each query.
        passage: Prefix of each passage.
    """

    query: str = ""
    passage: str = ""
