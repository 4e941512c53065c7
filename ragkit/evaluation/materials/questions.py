"""Questions for the materials agent with true answers from the database, for tests or training.

There are twelve kinds: nine with answers, three that must be refused. The truths are computed with
plain SQL and Python, not with the agent's tools. Materials are split by the digest of their reduced
formula, so that no material of the training set is asked about in a test.
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
    MaterialsQuestion,
    Plan,
    Truth,
)
from ragkit.evaluation.materials.searches import MAKERS
from ragkit.evaluation.materials.words import BENCHMARK, Words
from ragkit.evaluation.splits import Split

__all__ = ["KINDS", "Call", "Fact", "Kind", "MaterialsQuestion", "Plan", "Truth", "generate"]

_DRAWS = 20_000


def generate(
    snapshot_path: str | Path,
    n_per_kind: int = 10,
    *,
    seed: int = 0,
    split: Split = "test",
    kinds: Sequence[Kind] = KINDS,
    words: Words = BENCHMARK,
) -> list[MaterialsQuestion]:
    """Generate questions of all kinds with distinct texts, the same for the same arguments.

    Args:
        snapshot_path: Path of the snapshot, see `ragkit.agents.materials.snapshot.backend`.
        n_per_kind: Number of questions of each kind.
        seed: Seed of the draws.
        split: "train", "dev" or "test": no material is asked about in two of them. Questions about
            no particular material (counts, refusals) are split by their content.
        kinds: Kinds to generate; the questions of one do not depend on the others.
        words: Wordings; `ragkit.finetune.planner.wordings` has other ones.

    Raises:
        ValueError: The snapshot does not have enough questions of a kind.
    """
    if n_per_kind < 1:
        raise ValueError(f"n_per_kind is {n_per_kind}; expected 1 or more")
    data = QuestionData(snapshot_path, split, words)
    questions: list[MaterialsQuestion] = []
    for kind in kinds:
        drawn = draw_questions(data, kind, MAKERS[kind], n_per_kind, rng=f"{seed} {kind}")
        if len(drawn) < n_per_kind:
            raise ValueError(
                f"n_per_kind is {n_per_kind}, but this split has only {len(drawn)} different "
                f"questions of kind {kind!r}; ask for fewer"
            )
        questions += drawn
    return questions


def draw_questions(
    data: QuestionData, kind: Kind, make: Maker, n: int, *, rng: str
) -> list[MaterialsQuestion]:
    """Draw n questions with distinct texts from a maker; fewer if it does not make as many.

    Args:
        data: The snapshot.
        kind: Kind of the questions.
        make: Draws one question, or returns None if the draw is unusable.
        n: Number of questions.
        rng: Seed of the draws.
    """
    generator = random.Random(rng)
    by_text: dict[str, MaterialsQuestion] = {}
    for _ in range(_DRAWS + 500 * n):
        draft = make(data, generator)
        if draft is not None and draft.text not in by_text and _belongs(data, draft):
            name = f"{kind}-{text_digest(draft.text)[:8]}"
            by_text[draft.text] = MaterialsQuestion(
                name, kind, draft.text, draft.truth, draft.plan, draft.materials
            )
            if len(by_text) == n:
                break
    return list(by_text.values())


def _belongs(data: QuestionData, draft: Draft) -> bool:
    if draft.materials:
        return all(data.in_split(key) for key in draft.materials)
    return data.in_split(draft.key)
