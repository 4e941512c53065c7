"""A rule-based planner that falls back to a trained model.

Rules answer immediately and refuse questions with words they do not recognize. A model understands
free wording and the earlier turns of a chat, but takes seconds per step. It is therefore loaded
lazily, when the toolkit's rules report that they may have misread a question, see
`ragkit.agents.toolkits.RulePlanner.may_misread`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ragkit.agents.planner import REFUSE, Planner, Proposal, State, Turns
from ragkit.agents.toolkits import RulePlanner
from ragkit.agents.tools import Tool
from ragkit.forks import ForkSafeLock
from ragkit.types import Loss


@dataclass(slots=True)
class AutoPlanner:
    """Planner that tries rules first and falls back to a model if they may have misread a question.

    Args:
        rules: Rule-based planner, tried first.
        load: Loads the model's planner, or returns the reason why it is unavailable. Called at
            most once, when first needed.
        show_prompt: Returns the model's system message for a set of tools without loading it.
    """

    rules: RulePlanner
    load: Callable[[], Planner | str]
    show_prompt: Callable[[Sequence[Tool]], str] = lambda tools: ""
    _loaded: Planner | str | None = None
    _lock: ForkSafeLock = field(default_factory=ForkSafeLock)

    @property
    def name(self) -> str:
        """Name in traces."""
        return "auto"

    def prompt(self, tools: Sequence[Tool]) -> str:
        """Return the model's system message, byte for byte."""
        return self.show_prompt(tools)

    def model(self) -> Planner | str:
        """Return the model's planner, or the reason why it is unavailable."""
        with self._lock:
            if self._loaded is None:
                self._loaded = self.load()
        return self._loaded

    def begin(self) -> Turns:
        """Start a run."""
        return _Turns(self)


@dataclass(slots=True)
class _Turns:
    planner: AutoPlanner
    rules: Turns | None = None
    model: Turns | None = None
    n_hidden: int = 0

    def next(self, state: State) -> Proposal:
        if self.model is not None:
            return self.model.next(replace(state, steps=state.steps[self.n_hidden :]))
        self.rules = self.rules or self.planner.rules.begin()
        proposal = self.rules.next(state)
        if proposal.action is None or proposal.action.tool != REFUSE:
            return proposal
        if not self.planner.rules.may_misread(state, proposal.action.arguments["reason"]):
            return proposal
        model = self.planner.model()
        if isinstance(model, str):
            lost, used = "what a trained model would plan", "the rules' refusal"
            return replace(
                proposal, losses=(Loss("agent", state.question[:80], lost, used, model),)
            )
        self.model, self.n_hidden = model.begin(), len(state.steps)
        return self.next(state)
