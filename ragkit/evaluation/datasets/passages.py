"""Passages collected while questions are read, without duplicates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ragkit.digests import text_digest
from ragkit.evaluation.datasets.faults import Malformed
from ragkit.types import Document


class Passages:
    """Distinct passages by id, in order of first appearance."""

    def __init__(self) -> None:
        self._documents: dict[str, Document] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._documents

    def add(
        self, key: str, text: str, title: str, metadata: Mapping[str, Any] | None = None
    ) -> str:
        """Add a passage and return its id; raise `Malformed` if the id has another text."""
        existing = self._documents.get(key)
        if existing is None:
            self._documents[key] = Document(key, text, title, metadata=metadata or {})
        elif existing.text != text:
            problem = f"passage {key!r} occurs with two different texts"
            raise Malformed(problem, "ids must be unique: rename one of them")
        return key

    def check(self, gold: Iterable[str]) -> None:
        """Raise `Malformed` if one of the ids is not in the passages."""
        for key in gold:
            if key not in self._documents:
                problem = f"gold passage {key!r} is not among the passages"
                raise Malformed(problem, "add the passage or delete the question")

    def all(self) -> tuple[Document, ...]:
        """Return the passages."""
        return tuple(self._documents.values())


def content_id(prefix: str, title: str, text: str) -> str:
    """Return an id derived from the content of a passage, the same in every file.

    >>> content_id("nq", "Iron", "A metal.")
    'nq-a71c36ad24c6a06038b66f7a3df327ca'
    """
    return f"{prefix}-" + text_digest(f"{title}\n{text}")


def title_id(title: str) -> str:
    """Return a Wikipedia title without white space, which run files cannot hold.

    >>> title_id("Demon Dice")
    'Demon_Dice'
    """
    return "_".join(title.split())
