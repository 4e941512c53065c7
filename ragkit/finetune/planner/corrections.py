"""Where a trained planner still errs: its own samples, against the right action at every step.

Source: iTool (SYSTEMS B3) looks for the steps at which a policy's samples are wrong, and learns
from pairs of a right and a wrong action there. Deviation: samples in place of a tree search. An
action that brings what the right one brings is no error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ragkit.agents.ledger import Ledger, Quantity
from ragkit.agents.planner import (
    ANSWER,
    REFUSE,
    LLMPlanner,
    Planner,
    Proposal,
    State,
    Turns,
    action_schema,
    action_text,
    conversation_of,
    parse_action,
)
from ragkit.agents.react import same_call
from ragkit.agents.steps import Action
from ragkit.agents.tools import Tool, ToolError, run_tool
from ragkit.finetune.planner.recorder import in_order
from ragkit.finetune.preferences import Preference
from ragkit.llms.local import LocalLLM
from ragkit.llms.memory import open_session
from ragkit.types import ChatOptions, Message


@dataclass(slots=True)
class Corrector:
    """A planner that does what is right, and asks a student at every step what it would do.

    Args:
        teacher: Chooses the actions.
        student: Is sampled; its model must be a local one.
        n_samples: At each step.
        temperature: Of the samples.
        seed: Of the samples.

    Attributes:
        pairs: The right action and each different wrong one.
        n_steps: Steps that were looked at.
        n_wrong: Samples that were wrong.
    """

    teacher: Planner
    student: LLMPlanner
    n_samples: int = 4
    temperature: float = 0.7
    seed: int = 0
    pairs: list[Preference] = field(default_factory=list)
    n_steps: int = 0
    n_wrong: int = 0

    @property
    def name(self) -> str:
        """The teacher's."""
        return self.teacher.name

    def begin(self) -> Turns:
        """A new run."""
        return _Correcting(self, self.teacher.begin())

    def correct(self, state: State, right: str) -> None:
        """Sample the student at a state, and keep what it does wrong."""
        llm = self.student.llm
        if not isinstance(llm, LocalLLM):
            raise TypeError(f"the student is {llm.name!r}; expected a local model")
        conversation = conversation_of(state, self.student.prompt(state.tools), self.student.style)
        _, expected, _ = parse_action(right)
        options = replace(
            state.options,
            schema=action_schema(state.live, state.ledger, thought=self.student.style == "full"),
            temperature=self.temperature,
        )
        wrong: dict[str, None] = {}
        for text in self._samples(conversation, options):
            _, action, _ = parse_action(text)
            if action is None or expected is None or not _does_the_same(state, action, expected):
                wrong[text] = None
                self.n_wrong += 1
        self.n_steps += 1
        prompt = tuple(llm.tokens(conversation))
        for text in wrong:
            chosen, rejected = (tuple(llm.encode(each)) for each in (right, text))
            self.pairs.append(Preference(prompt, chosen, rejected))

    def _samples(self, conversation: Sequence[Message], options: ChatOptions) -> list[str]:
        session = open_session(self.student.llm)
        first = self.seed + 1000 * self.n_steps
        return [
            session.chat(conversation, replace(options, seed=first + n)).text
            for n in range(self.n_samples)
        ]


def _does_the_same(state: State, action: Action, expected: Action) -> bool:
    """Whether an action is as good: the same call, or one that brings all that is wanted."""
    if same_call(action, expected):
        return True
    if action.tool == expected.tool and action.tool in (ANSWER, REFUSE):
        name = "rows" if action.tool == ANSWER else "reason"
        return bool(action.arguments.get(name) == expected.arguments.get(name))
    tools = {tool.name: tool for tool in state.live}
    if action.tool not in tools or expected.tool not in tools:
        return False
    made, wanted = (_evidence(tools[each.tool], each, state) for each in (action, expected))
    return bool(wanted) and wanted <= made


def _evidence(tool: Tool, action: Action, state: State) -> set[tuple[Any, ...]]:
    """The values that a call brings, without what was searched for them."""
    try:
        tool.check(action.arguments)
    except ToolError:
        return set()
    result = run_tool(tool, action.arguments, Ledger(state.ledger)).result
    rows = [] if result is None else result.evidence
    return {
        (each.property, each.value, each.unit, each.material_id)
        for each in rows if isinstance(each, Quantity) and each.material_id
    }  # fmt: skip


@dataclass(slots=True)
class _Correcting:
    corrector: Corrector
    turns: Turns

    def next(self, state: State) -> Proposal:
        proposal = self.turns.next(state)
        if proposal.action is not None:
            action = in_order(proposal.action, state)
            self.corrector.correct(state, action_text(action, self.corrector.student.style))
        return proposal
