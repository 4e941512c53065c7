"""Two planners in one: the rules where they can read a question, a trained model where they cannot.

The rules answer at once and refuse what holds a word they cannot account for. The model reads free
wordings and the questions before in a chat, and takes seconds. So it is asked second, and loaded
when a question needs it: where words were left unread, and where the rules found nothing in a group
of materials, since a group that somebody asks about is rarely empty and often misread. Their other
refusals stand, also where a question means "it" and nothing was said before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TYPE_CHECKING

from ragkit.agents.materials.chemistry.names import ELEMENTS
from ragkit.agents.materials.question.reading import read_question
from ragkit.agents.planner import REFUSE, Planner, Proposal, State, Turns, system_prompt
from ragkit.agents.tools import Tool
from ragkit.types import Loss

if TYPE_CHECKING:
    from ragkit.agents.materials.question.rules import RulePlanner

_BACK = re.compile(
    r"\b(?:its|(?:of|than) (?:it|this|that|them|these)|the two|"
    r"(?:which|this|that|the other|the first|the second) (?:one|material|compound|sample))\b",
    re.IGNORECASE,
)


@dataclass(slots=True)
class AutoPlanner:
    """Hands a run to a model where the rules refuse at its first step and words were left unread.

    Args:
        rules: Asked first.
        find: Loads the model's planner, or says why there is none; called once, when needed.
        role: In the model's short prompt.
    """

    rules: RulePlanner
    find: Callable[[], Planner | str]
    role: str
    _found: Planner | str | None = None
    _lock: Lock = field(default_factory=Lock)

    @property
    def name(self) -> str:
        """What traces call it."""
        return "auto"

    def prompt(self, tools: Sequence[Tool]) -> str:
        """The model's system message, byte for byte."""
        return system_prompt(self.role, tools, "short")

    def model(self) -> Planner | str:
        """The model's planner, or why there is none."""
        with self._lock:
            if self._found is None:
                self._found = self.find()
        return self._found

    def begin(self) -> Turns:
        """A new run."""
        return _Turns(self)


@dataclass(slots=True)
class _Turns:
    planner: AutoPlanner
    turns: Turns | None = None
    model: Turns | None = None
    n_hidden: int = 0

    def next(self, state: State) -> Proposal:
        if self.model is not None:
            return self.model.next(replace(state, steps=state.steps[self.n_hidden :]))
        self.turns = self.turns or self.planner.rules.begin()
        proposal = self.turns.next(state)
        if proposal.action is None or proposal.action.tool != REFUSE:
            return proposal
        if state.steps:
            if proposal.action.arguments["reason"] != "not_held" or _names_any(state.question):
                return proposal
        elif not state.history and (
            not self.planner.rules.unread(state.question) or _refers_back(state.question)
        ):
            return proposal
        model = self.planner.model()
        if isinstance(model, str):
            what, kept = "what a trained model would plan", "the rules' refusal"
            return replace(
                proposal, losses=(Loss("agent", state.question[:80], what, kept, model),)
            )
        self.model, self.n_hidden = model.begin(), len(state.steps)
        return self.next(state)


def _refers_back(question: str) -> bool:
    """Whether a question is about what was said before, and names no material itself."""
    reading = read_question(question)
    named = reading.formulas or reading.material_ids or reading.misspelt or reading.filters
    return not named and _BACK.search(question) is not None


def _names_any(question: str) -> bool:
    """Whether a compound is named, by formula, name or id; an element may stand for its group."""
    reading = read_question(question)
    named = {*reading.formulas, *reading.material_ids, *reading.misspelt}
    return not named <= ELEMENTS.keys()
