"""Preference pairs from a trained planner's mistakes: its samples against the correct actions.

Source: iTool (Zeng et al. 2025) finds the steps at which a policy's samples are wrong, and trains
on pairs of a correct and a wrong action there. Deviation: samples in place of a tree search. An
action that returns the same evidence as the correct one counts as correct.
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
from ragkit.llms.session import open_session
from ragkit.types import ChatOptions, Message


@dataclass(slots=True)
class Corrector:
    """A planner that follows a teacher and samples a student at every step.

    Args:
        teacher: Chooses the actions.
        student: Sampled; its model must be local.
        n_samples: Samples at each step.
        temperature: Temperature of the samples.
        seed: Seed of the samples.

    Attributes:
        pairs: The correct action with each different wrong one.
        n_steps: Number of steps sampled.
        n_wrong: Number of wrong samples.
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
        """Name of the teacher."""
        return self.teacher.name

    def begin(self) -> Turns:
        """Start a run."""
        return _Correcting(self, self.teacher.begin())

    def correct(self, state: State, right: str) -> None:
        """Sample the student at a state and record its wrong actions."""
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
    """Return True if an action is the expected one, or returns all of its evidence."""
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
    """Return the values that a call returns, without the query they came from."""
    try:
        tool.check(action.arguments)
    except ToolError:
        return set()
    result = run_tool(tool, action.arguments, Ledger(state.ledger)).result
    rows = [] if result is None else result.evidence
    return {
        (each.property, each.value, each.unit, each.subject_id)
        for each in rows if isinstance(each, Quantity) and each.subject_id
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
