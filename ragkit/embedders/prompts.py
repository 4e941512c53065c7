"""What a model's own configuration wants in front of a query and of a passage."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prefixes from `config_sentence_transformers.json`; empty for models trained without any."""

    query: str = ""
    passage: str = ""
