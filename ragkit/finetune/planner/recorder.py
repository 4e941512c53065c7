"""Records the runs of an expert planner as dialogues for training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ragkit.agents.planner import (
    Planner,
    PromptStyle,
    Proposal,
    State,
    Turns,
    action_text,
    conversation_of,
    final_tools,
    system_prompt,
    tools_digest,
)
from ragkit.agents.steps import Action
from ragkit.finetune.dialogues import Dialogue
from ragkit.types import Message


@dataclass(slots=True)
class Recorder:
    """A planner that records what a model would be shown, and what it should write.

    Args:
        planner: Chooses the actions.
        role: See `ragkit.agents.planner.system_prompt`.
        style: Of the prompt.

    Attributes:
        dialogues: One for each run that began, a team's supervisor and assistants each.
        prompts: System message of each set of tools that was seen, by `tools_digest`.
    """

    planner: Planner
    role: str
    style: PromptStyle = "short"
    dialogues: list[Dialogue] = field(default_factory=list)
    prompts: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the wrapped planner."""
        return self.planner.name

    def begin(self) -> Turns:
        """Start a run."""
        return _Recording(self, self.planner.begin())


@dataclass(slots=True)
class _Recording:
    recorder: Recorder
    turns: Turns
    place: int = -1

    def next(self, state: State) -> Proposal:
        proposal = self.turns.next(state)
        if proposal.action is None:
            return proposal
        action = in_order(proposal.action, state)
        recorder = self.recorder
        system = system_prompt(recorder.role, state.tools, recorder.style)
        recorder.prompts[tools_digest(state.tools)] = system
        asked = conversation_of(state, system, recorder.style)
        said = Message("assistant", action_text(action, recorder.style, proposal.thought))
        dialogue = Dialogue((*asked, said))
        if self.place < 0:
            self.place = len(recorder.dialogues)
            recorder.dialogues.append(dialogue)
        recorder.dialogues[self.place] = dialogue
        return replace(proposal, action=action)


def in_order(action: Action, state: State) -> Action:
    """Order the arguments as in the tool's schema, since the grammar has that order."""
    schemas = {tool.name: tool.parameters() for tool in state.tools} | final_tools(state.ledger)
    named: Mapping[str, Any] = schemas.get(action.tool, {}).get("properties", {})
    order = [*(name for name in named if name in action.arguments)]
    order += [name for name in action.arguments if name not in named]
    return Action(action.tool, {name: action.arguments[name] for name in order})
