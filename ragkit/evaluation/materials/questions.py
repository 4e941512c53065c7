"""Questions for the materials agent with truths from the database: a benchmark, or training data.

Twelve kinds: nine with answers, three that must be refused. The truths are computed with plain SQL
and Python, not with the tools that the agent uses. Materials are split by the digest of their
reduced formula, so that what a model is trained on is never asked in a test.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from ragkit.digests import text_digest
from ragkit.evaluation.materials.data import QuestionData
from ragkit.evaluation.materials.kinds import Draft, Maker
from ragkit.evaluation.materials.question import (
    KINDS,
    Call,
    Fact,
    Kind,
    Plan,
    Question,
    Truth,
)
from ragkit.evaluation.materials.searches import MAKERS
from ragkit.evaluation.materials.words import BENCHMARK, Words
from ragkit.evaluation.splits import Split

__all__ = ["KINDS", "Call", "Fact", "Kind", "Plan", "Question", "Truth", "generate"]

_DRAWS = 20_000


def generate(
    snapshot_path: str | Path,
    n_per_kind: int = 10,
    *,
    seed: int = 0,
    split: Split = "test",
    kinds: Sequence[Kind] = KINDS,
    words: Words = BENCHMARK,
) -> list[Question]:
    """Questions of all kinds, each text once; the same arguments give the same questions.

    Args:
        snapshot_path: The snapshot's file, see `ragkit.agents.materials.snapshot.backend`.
        n_per_kind: How many of each kind.
        seed: Draws other questions.
        split: "train", "dev" or "test": no material is asked about in two of them. Questions that
            are about no material (counts, refusals) are split by what they say.
        kinds: Which kinds; the questions of one do not depend on the others.
        words: How they are worded; see `ragkit.finetune.planner.wordings` for another way.

    Raises:
        ValueError: The snapshot does not hold so many questions of a kind.
    """
    if n_per_kind < 1:
        raise ValueError(f"n_per_kind is {n_per_kind}; expected 1 or more")
    data = QuestionData(snapshot_path, split, words)
    found: list[Question] = []
    for kind in kinds:
        made = of_kind(data, kind, MAKERS[kind], n_per_kind, rng=f"{seed} {kind}")
        if len(made) < n_per_kind:
            raise ValueError(
                f"n_per_kind is {n_per_kind}, and only {len(made)} different questions of kind "
                f"{kind!r} were found in this split; ask for fewer"
            )
        found += made
    return found


def of_kind(data: QuestionData, kind: Kind, make: Maker, n: int, *, rng: str) -> list[Question]:
    """So many questions that a maker draws, each text once; fewer if there are not so many.

    Args:
        data: What they are about.
        kind: What they are called.
        make: Draws one, or None where the draw makes no good one.
        n: How many.
        rng: Seeds the draws.
    """
    random_ = random.Random(rng)
    found: dict[str, Question] = {}
    for _ in range(_DRAWS + 500 * n):
        draft = make(data, random_)
        if draft is not None and draft.text not in found and _belongs(data, draft):
            name = f"{kind}-{text_digest(draft.text)[:8]}"
            found[draft.text] = Question(
                name, kind, draft.text, draft.truth, draft.plan, draft.materials
            )
            if len(found) == n:
                break
    return list(found.values())


def _belongs(data: QuestionData, draft: Draft) -> bool:
    if draft.materials:
        return all(data.in_split(key) for key in draft.materials)
    return data.in_split(draft.key)
