"""What an agent does, step by step, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ragkit.agents.ledger import Evidence, Quantity
from ragkit.types import Loss, Usage

ExitReason = Literal[
    "answered", "refused", "max_steps", "max_tokens", "max_seconds", "loop", "model_error"
]
"""`answered` and `refused` are the agent's own ends. The others are limits, which end a run with
the best answer so far; `model_error`: the replies were no actions, several times in a row."""

REFUSALS = ("not_held", "unclear", "off_topic", "unavailable")
"""Why an agent may refuse: nothing is held, the question does not say enough, it is not for this
agent, or the data could not be reached (a wrong key, a server that is down)."""


@dataclass(frozen=True, slots=True)
class Thought:
    """What the model says before it acts; never part of an answer."""

    text: str
    kind: Literal["thought"] = "thought"


@dataclass(frozen=True, slots=True)
class Action:
    """A call the model asks for."""

    tool: str
    arguments: Mapping[str, Any]
    kind: Literal["action"] = "action"


@dataclass(frozen=True, slots=True)
class Observation:
    """What came back: data, never instructions.

    Attributes:
        tool: Whose it is; "" where no tool was called.
        text: As the model is shown it.
        rows: The ledger rows it brought or met again.
        error: Whether the call failed; the text then says what to change.
        shown: How many rows the text shows.
        total: How many there are, if more than one page could be.
        file: A text for the person as it is: a structure file.
        inner: The steps of the agent behind the tool, if there is one.
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
    """The end of a run: what is said, and what it rests on.

    Attributes:
        text: The answer, rendered from the rows; or why there is none.
        rows: The evidence named, by row id.
        also: Other values held for the same material and property: polymorphs, other methods.
        note: The model's own words, checked to hold no number of their own.
        refusal: One of `REFUSALS`, or None.
        exit_reason: How the run ended.
        complete: Whether the agent itself said it was done.
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
    """A finished run.

    Attributes:
        question: As asked.
        final: Its end.
        steps: All steps, the last one is `final`.
        ledger: Everything the tools returned, by row id.
        usage: Tokens of the planner's model, of assistants too.
        seconds: Of the wall clock.
        losses: What was left out on the way.
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
        """The answer."""
        return self.final.text

    def _repr_html_(self) -> str:
        from ragkit.agents.render import run_html

        return run_html(self)


@dataclass(frozen=True, slots=True)
class RunLimits:
    """When a run ends by itself.

    Attributes:
        max_steps: Actions, the final one included.
        max_tokens: Tokens the model writes in all.
        max_seconds: Of the wall clock; looked at between steps.
        step_tokens: Tokens of one action.
        observation_chars: How much of a result the model is shown; cut by row and field.
        max_repeats: How often the same call may come again before the run ends as a loop.
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
