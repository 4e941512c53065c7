"""Support of statements by their sources, sentence by sentence."""

from __future__ import annotations

from collections.abc import Sequence

from ragkit.pair.model import is_shipped
from ragkit.readers.citations import SupportChecker
from ragkit.readers.support.judge import SupportJudge
from ragkit.types import Hit

__all__ = ["SupportJudge", "load_judge"]


def load_judge(hits: Sequence[Hit]) -> SupportJudge | SupportChecker:
    """Return the judge of sentences by some hits; the check by words if no pair model is there."""
    return SupportJudge(hits) if is_shipped() else SupportChecker(hits)
