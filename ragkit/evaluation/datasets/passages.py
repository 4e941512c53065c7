"""Passages gathered while questions are read, each once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ragkit.digests import text_digest
from ragkit.evaluation.datasets.faults import Malformed
from ragkit.types import Document


class Passages:
    """Different passages, in the order they came."""

    def __init__(self) -> None:
        self._documents: dict[str, Document] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._documents

    def add(
        self, key: str, text: str, title: str, metadata: Mapping[str, Any] | None = None
    ) -> str:
        """The passage's id; `Malformed` if another text has it."""
        known = self._documents.get(key)
        if known is None:
            self._documents[key] = Document(key, text, title, metadata=metadata or {})
        elif known.text != text:
            problem = f"passage {key!r} has another text than before"
            raise Malformed(problem, "one id, one text: rename one of them")
        return key

    def check(self, gold: Iterable[str]) -> None:
        """`Malformed` if one of the ids is not there."""
        for key in gold:
            if key not in self._documents:
                problem = f"gold passage {key!r} is not among the passages"
                raise Malformed(problem, "add the passage or delete the question")

    def all(self) -> tuple[Document, ...]:
        """The passages."""
        return tuple(self._documents.values())


def content_id(prefix: str, title: str, text: str) -> str:
    """An id that follows from what the passage says, the same in every file.

    >>> content_id("nq", "Iron", "A metal.")
    'nq-a71c36ad24c6a06038b66f7a3df327ca'
    """
    return f"{prefix}-" + text_digest(f"{title}\n{text}")


def title_id(title: str) -> str:
    """A Wikipedia title without white space, which run files cannot hold.

    >>> title_id("Demon Dice")
    'Demon_Dice'
    """
    return "_".join(title.split())
