"""An answerer without tools, as a baseline: it is sure of itself, and wrong.

Each number is off by a fixed share of its own and hardly varies when asked again. So it repeats
itself (SCoR near 1) with a large error, and shows why the two are reported together.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ragkit.agents.ledger import Quantity, Scalar
from ragkit.agents.render import render_answer
from ragkit.agents.steps import Final, Run
from ragkit.evaluation.materials.question import Fact, Question

_ROWS = {"count": "n_materials"}


def remember(question: Question, *, trial: int = 0, seed: int = 0) -> Run:
    """What is remembered of a question's answer: the true number, 20 to 60 % off, give or take.

    It knows no ids and never refuses; where no number is asked for it has nothing to say.

    Args:
        question: Its truth is what is misremembered.
        trial: The same question asked again: the number differs by about 0.1 %.
        seed: Of another memory.
    """
    fact = asked_number(question)
    value: Scalar = "unknown"
    if fact is not None:
        known = random.Random(f"{seed} {question.text}")
        off = known.choice((-1, 1)) * known.uniform(0.2, 0.6)
        said = random.Random(f"{seed} {question.text} {trial}").gauss(1, 0.001)
        value = float(fact.value) * (1 + off) * said
    row = Quantity(
        value=value,
        unit=fact.unit if fact else "",
        property=_ROWS.get(fact.property, fact.property) if fact else "answer",
        formula=fact.formula if fact else "",
        method="memory",
    )
    rows = {"r1": row}
    final = Final(render_answer(rows), rows)
    return Run(question.text, final, (final,), rows)


def asked_number(question: Question) -> Fact | None:
    """The first number that a question asks for."""
    groups: Sequence[Sequence[Fact]] = question.truth.facts
    return next((group[0] for group in groups if not isinstance(group[0].value, str | bool)), None)
