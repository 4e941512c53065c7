"""Support of statements by their sources, sentence by sentence."""

from __future__ import annotations

from collections.abc import Sequence

from ragkit.pair.model import is_shipped
from ragkit.readers.citations import SupportChecker
from ragkit.readers.support.judge import SupportJudge
from ragkit.readers.support.model import Judge, ModelJudge
from ragkit.types import LLM, Hit

__all__ = ["Judge", "ModelJudge", "SupportJudge", "load_judge"]


def load_judge(hits: Sequence[Hit], llm: LLM | None = None) -> Judge:
    """Return the judge of sentences by some hits; the check by words if no pair model is there.

    Args:
        hits: The sources, best first.
        llm: Language model that decides what the judge is unsure of; None leaves it unsure.
    """
    small = SupportJudge(hits) if is_shipped() else SupportChecker(hits)
    return small if llm is None else ModelJudge(hits, llm, small)
