"""Baseline that answers without tools: confident, consistent and wrong.

Every number is off by a fixed share and hardly varies between trials. So its answers are consistent
(SCoR near 1) with a large error, which shows why both are reported together.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ragkit.agents.ledger import Quantity, Scalar
from ragkit.agents.render import render_answer
from ragkit.agents.steps import Final, Run
from ragkit.evaluation.materials.question import Fact, MaterialsQuestion

_ROWS = {"count": "n_materials"}


def remember(question: MaterialsQuestion, *, trial: int = 0, seed: int = 0) -> Run:
    """Answer a question "from memory": the true number, 20 to 60 % off, with a little noise.

    It gives no ids and never refuses; if no number is asked for, its answer is "unknown".

    Args:
        question: The question; its truth is distorted.
        trial: Number of the repetition; the value varies by about 0.1 % between trials.
        seed: Seed of the distortion.
    """
    fact = asked_number(question)
    value: Scalar = "unknown"
    if fact is not None:
        generator = random.Random(f"{seed} {question.text}")
        error = generator.choice((-1, 1)) * generator.uniform(0.2, 0.6)
        noise = random.Random(f"{seed} {question.text} {trial}").gauss(1, 0.001)
        value = float(fact.value) * (1 + error) * noise
    row = Quantity(
        value=value,
        unit=fact.unit if fact else "",
        property=_ROWS.get(fact.property, fact.property) if fact else "answer",
        subject=fact.formula if fact else "",
        kind="material",
        method="memory",
    )
    rows = {"r1": row}
    final = Final(render_answer(rows), rows)
    return Run(question.text, final, (final,), rows)


def asked_number(question: MaterialsQuestion) -> Fact | None:
    """Return the first number that a question asks for, or None."""
    groups: Sequence[Sequence[Fact]] = question.truth.facts
    return next((group[0] for group in groups if not isinstance(group[0].value, str | bool)), None)
