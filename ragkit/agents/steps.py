"""Steps, results and limits of agent runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ragkit.agents.ledger import Evidence, Quantity
from ragkit.types import Loss, Usage

ExitReason = Literal[
    "answered", "refused", "max_steps", "max_tokens", "max_seconds", "loop", "model_error"
]
"""How a run ended. `answered` and `refused` are chosen by the agent. The other reasons end a run
early with the best answer so far; `model_error` means several invalid replies in a row."""

REFUSALS = ("not_held", "unclear", "off_topic", "unavailable")
"""Reasons for a refusal: no data, an ambiguous question, a question outside of the agent's domain,
or a data source that cannot be reached (a wrong key, a server that is down)."""


@dataclass(frozen=True, slots=True)
class Thought:
    """Reasoning of the model before an action; never part of an answer."""

    text: str
    kind: Literal["thought"] = "thought"


@dataclass(frozen=True, slots=True)
class Action:
    """Tool call proposed by the planner."""

    tool: str
    arguments: Mapping[str, Any]
    kind: Literal["action"] = "action"


@dataclass(frozen=True, slots=True)
class Observation:
    """Result of an action: data, never instructions.

    Attributes:
        tool: Name of the tool; "" if no tool was called.
        text: Text shown to the model.
        rows: Ids of the ledger rows that the tool returned.
        error: True if the call failed; the text then says what to change.
        shown: Number of rows in the text.
        total: Number of matches, if the result is one page of them.
        file: Text for the user only, such as a structure file.
        inner: Steps of the assistant behind the tool, if it is one.
    """

    tool: str
    text: str
    rows: tuple[str, ...] = ()
    error: bool = False
    shown: int | None = None
    total: int | None = None
    file: str = ""
    inner: tuple[Any, ...] = ()
    kind: Literal["observation"] = "observation"


@dataclass(frozen=True, slots=True)
class Final:
    """Last step of a run: the answer and its evidence, or a refusal.

    Attributes:
        text: Answer rendered from the rows, or the reason for a refusal.
        rows: Cited evidence by row id.
        also: Other values of the same subject and property (polymorphs, other methods).
        note: The model's own words, checked to contain no unsupported numbers.
        refusal: One of `REFUSALS`, or None.
        exit_reason: How the run ended.
        complete: True if the agent ended the run itself.
    """

    text: str
    rows: Mapping[str, Evidence] = field(default_factory=dict)
    also: tuple[Quantity, ...] = ()
    note: str = ""
    refusal: str | None = None
    exit_reason: ExitReason = "answered"
    complete: bool = True
    kind: Literal["final"] = "final"


Step = Thought | Action | Observation | Final


@dataclass(frozen=True, slots=True)
class Run:
    """Finished run.

    Attributes:
        question: The user's question.
        final: Last step.
        steps: All steps including `final`.
        ledger: All evidence that the tools returned, by row id.
        usage: Tokens used by the planner's model and by assistants.
        seconds: Wall-clock time.
        losses: Information that was dropped during the run.
    """

    question: str
    final: Final
    steps: tuple[Step, ...]
    ledger: Mapping[str, Evidence]
    usage: Usage = Usage()
    seconds: float = 0.0
    losses: tuple[Loss, ...] = ()

    @property
    def text(self) -> str:
        """Text of the answer."""
        return self.final.text

    def _repr_html_(self) -> str:
        from ragkit.agents.render import run_html

        return run_html(self)


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Limits of a run.

    Attributes:
        max_steps: Maximum number of actions, including the final one.
        max_tokens: Maximum number of tokens that the model generates in total.
        max_seconds: Maximum wall-clock time, checked between steps.
        step_tokens: Maximum number of tokens of one action.
        observation_chars: Approximate maximum length of an observation.
        max_repeats: How often the same call may occur before the run ends as a loop.
    """

    max_steps: int = 8
    max_tokens: int = 4096
    max_seconds: float = 120.0
    step_tokens: int = 384
    observation_chars: int = 2000
    max_repeats: int = 2

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected more than 0")
