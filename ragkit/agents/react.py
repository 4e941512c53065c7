"""ReAct: thought, action, observation, until an answer that rests on the ledger, or a limit."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ragkit.agents.ledger import Evidence, Ledger, Quantity
from ragkit.agents.observations import copied_arguments, data_lines, observe, pages_shown
from ragkit.agents.planner import ANSWER, REFUSE, LLMPlanner, Planner, Proposal, State, Turns
from ragkit.agents.render import free_numbers, names_in, render_answer
from ragkit.agents.steps import (
    REFUSALS,
    Action,
    ExitReason,
    Final,
    Limits,
    Observation,
    Run,
    Step,
    Thought,
)
from ragkit.agents.tools import Permission, Tool, ToolError, reason_of, run_tool
from ragkit.types import LLM, ChatOptions, Loss, Usage

Approve = Callable[[Tool, Mapping[str, Any], Sequence[str]], bool]
"""(tool, arguments, arguments that were copied out of tool text) to whether it may run."""

_MAX_BAD_REPLIES = 3
_MAX_REJECTED_NOTES = 2
_BEST_ROWS = 5
_MOST_ROWS = 20
_MOST_RELATED = 5


@dataclass(slots=True)
class ReAct:
    """A planner, tools and limits.

    `stream` is the loop; `run` exhausts it. A model's mistake becomes an observation and the loop
    goes on; a programmer's mistake raises.

    Source: Yao et al. 2023 (ReAct), with the actions of LLaMP (Chiang et al. 2024) generated under
    a grammar instead of parsed from text; deviations: an answer names rows of a ledger.

    Args:
        planner: A language model, or a `Planner`.
        tools: Each name once; "answer" and "refuse" are the loop's own.
        role: Who the agent is; the first part of a language model's prompt.
        limits: When a run ends by itself.
        permissions: By tool name, in place of the tools' own. A denied tool is not offered.
        approve: Asked before a tool runs whose permission is "ask"; None refuses them all. Tools
            that send their arguments away are asked for too where an argument was copied out of
            tool text.
        related: Other values held for a quantity, shown below the answer. Asked once for each
            formula and property among the rows named, for the first five of them, while there
            is time; if it fails, the answer stands and the run's losses say so.
        temperature: Of a language model.
        seed: Of a language model; each step has its own, derived from it.

    Raises:
        ValueError: Two tools have one name, or a permission names no tool.
    """

    planner: Planner | LLM
    tools: Sequence[Tool]
    role: str = "You answer questions with the tools below."
    limits: Limits = field(default_factory=Limits)
    permissions: Mapping[str, Permission] = field(default_factory=dict)
    approve: Approve | None = None
    related: Callable[[Quantity], Sequence[Quantity]] | None = None
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        names = [tool.name for tool in self.tools]
        twice = sorted(
            {name for name in names if names.count(name) > 1} | {ANSWER, REFUSE} & {*names}
        )
        if twice:
            raise ValueError(
                f"the tool names {', '.join(twice)} are taken; each name may occur once"
            )
        unknown = sorted(set(self.permissions) - set(names))
        if unknown:
            raise ValueError(
                f"permissions name no tool: {', '.join(unknown)}; the tools are {', '.join(names)}"
            )

    @property
    def offered(self) -> list[Tool]:
        """The tools that are not denied, in order."""
        return [tool for tool in self.tools if self._permission(tool) != "deny"]

    @property
    def turns_of(self) -> Planner:
        """The planner; a language model is wrapped."""
        if isinstance(self.planner, LLM):
            return LLMPlanner(self.planner, self.role)
        return self.planner

    def _permission(self, tool: Tool) -> Permission:
        return self.permissions.get(tool.name, tool.permission)

    def run(
        self,
        question: str,
        *,
        history: Sequence[tuple[str, str]] = (),
        ledger: Ledger | None = None,
    ) -> Run:
        """The finished run; see `stream`."""
        steps = self.stream(question, history=history, ledger=ledger)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                run: Run = end.value
                return run

    def stream(
        self,
        question: str,
        *,
        history: Sequence[tuple[str, str]] = (),
        ledger: Ledger | None = None,
    ) -> Generator[Step, None, Run]:
        """The steps as they happen, the last one a `Final`; then the run as the generator's value.

        Between two steps nothing runs: a generator that is closed has stopped.

        Args:
            question: What is asked.
            history: Earlier questions and answers, oldest first.
            ledger: Where rows go; None makes a new one.

        Raises:
            ValueError, TypeError: The question is empty or no text, before the first step.
            ModelError: The planner's model cannot be reached or run.
        """
        if not isinstance(question, str):
            raise TypeError(f"the question is a {type(question).__name__}; expected some text")
        if not question.strip():
            raise ValueError("the question is empty; expected some text")
        rows = Ledger() if ledger is None else ledger
        return _Loop(self, question.strip(), history, rows).steps()


class _Loop:
    """The state of one run."""

    def __init__(
        self, agent: ReAct, question: str, history: Sequence[tuple[str, str]], ledger: Ledger
    ) -> None:
        self.agent, self.question, self.history = agent, question, history
        self.turns: Turns = agent.turns_of.begin()
        self.offered = agent.offered
        self.ledger = ledger
        self.ledger.question = ledger.question or "\n".join([*(q for q, _ in history), question])
        self.done: list[Step] = []
        self.calls: dict[str, int] = {}
        self.usage = Usage()
        self.losses: list[Loss] = []
        self.n_actions = self.n_bad_replies = self.n_rejected = 0
        self.started = time.monotonic()

    def steps(self) -> Generator[Step, None, Run]:
        final = None
        while final is None:
            for step in self._turn():
                self.done.append(step)
                yield step
                final = step if isinstance(step, Final) else final
        return Run(
            self.question,
            final,
            tuple(self.done),
            dict(self.ledger.rows),
            self.usage,
            time.monotonic() - self.started,
            tuple(dict.fromkeys(self.losses)),
        )

    def _turn(self) -> Generator[Step, None, None]:
        limit = self._limit()
        if limit is not None:
            yield self._stopped(limit)
            return
        proposal = self.turns.next(self._state())
        self._count(proposal)
        if proposal.thought:
            yield Thought(proposal.thought)
        if proposal.action is None:
            self.n_bad_replies += 1
            if self.n_bad_replies >= _MAX_BAD_REPLIES:
                yield self._stopped("model_error")
            else:
                yield Observation("", data_lines([proposal.error]), error=True)
            return
        self.n_bad_replies = 0
        yield proposal.action
        yield from self._act(proposal.action)

    def _limit(self) -> ExitReason | None:
        limits = self.agent.limits
        if self.n_actions >= limits.max_steps:
            return "max_steps"
        if self.usage.completion_tokens >= limits.max_tokens:
            return "max_tokens"
        if time.monotonic() - self.started >= limits.max_seconds:
            return "max_seconds"
        return None

    def _state(self) -> State:
        limits = self.agent.limits
        n_left = limits.max_tokens - self.usage.completion_tokens  # at least 1, see `_limit`
        options = ChatOptions(
            max_tokens=min(limits.step_tokens, n_left),
            temperature=self.agent.temperature,
            seed=self.agent.seed * 1000 + self.n_actions,
        )
        live = [tool for tool in self.offered if len(self.ledger) or not tool.names_rows]
        return State(
            self.question, self.history, tuple(self.done), self.ledger, self.offered, live, options
        )

    def _count(self, proposal: Proposal) -> None:
        self.n_actions += 1
        self.losses += proposal.losses
        self._use(proposal.usage)

    def _use(self, usage: Usage) -> None:
        self.usage = Usage(
            self.usage.prompt_tokens + usage.prompt_tokens,
            self.usage.completion_tokens + usage.completion_tokens,
        )

    def _act(self, action: Action) -> Generator[Step, None, None]:
        ends = {ANSWER: self._answer, REFUSE: self._refuse}
        if action.tool in ends:
            step = ends[action.tool](action)
            rejected = isinstance(step, Observation)
            yield self._stopped("loop") if rejected and self._is_loop(action) else step
        elif self._is_loop(action):
            yield self._stopped("loop")
        else:
            yield self._call(action)

    def _is_loop(self, action: Action) -> bool:
        key = _canonical(action)
        self.calls[key] = self.calls.get(key, 0) + 1
        return self.calls[key] > self.agent.limits.max_repeats

    def _call(self, action: Action) -> Observation:
        tool = next((each for each in self.offered if each.name == action.tool), None)
        if tool is None:
            names = ", ".join([*(each.name for each in self.offered), ANSWER, REFUSE])
            return self._problem(action, f"there is no tool {action.tool!r}; the tools are {names}")
        if self.calls[_canonical(action)] > 1:
            return self._problem(
                action,
                "this call was made before, with the same result; change the arguments, use "
                "another tool, or finish with answer or refuse",
            )
        try:
            tool.check(action.arguments)  # before a person is asked: what is shown would run
        except ToolError as error:
            return self._problem(action, str(error))
        matters = tool.sends or self.agent._permission(tool) == "ask"
        copied = self._copied(action) if matters else []
        if not self._may(tool, action, copied):
            why = f" ({', '.join(copied)} copied from tool text)" if copied else ""
            return self._problem(action, f"{tool.name} was not permitted{why}; do without it")
        outcome = run_tool(tool, action.arguments, self.ledger)
        self._use(outcome.usage)
        limit = self.agent.limits.observation_chars
        return observe(tool, action.arguments, outcome, self.ledger, limit)

    def _may(self, tool: Tool, action: Action, copied: Sequence[str]) -> bool:
        if self.agent._permission(tool) == "allow" and not (copied and tool.sends):
            return True
        approve = self.agent.approve
        return approve is not None and approve(tool, action.arguments, copied)

    def _copied(self, action: Action) -> list[str]:
        """The arguments copied out of tool text; earlier answers quote it too."""
        seen = [step.text for step in self.done if isinstance(step, Observation)]
        seen += [answer for _, answer in self.history]
        given = [self.question, *(question for question, _ in self.history)]
        given += [json.dumps(tool.parameters(), ensure_ascii=False) for tool in self.offered]
        return copied_arguments(action.arguments, seen, given, self._names())

    def _problem(self, action: Action, text: str) -> Observation:
        limit = self.agent.limits.observation_chars
        shown = text if len(text) <= limit else f"{text[:limit]}…"
        return Observation(action.tool, data_lines([shown]), error=True)

    def _answer(self, action: Action) -> Step:
        rows = action.arguments.get("rows")
        note = " ".join(str(action.arguments.get("note") or "").split())
        named = [row for row in rows if isinstance(row, str)] if isinstance(rows, list) else []
        missing = [row for row in named if row not in self.ledger]
        if not named or missing:
            held = ", ".join(list(self.ledger)[-_MOST_ROWS:]) or "none yet: call a tool first"
            what = f"no row {', '.join(missing)}" if missing else "'rows' names no row"
            return self._problem(action, f"{what}; the rows are {held}")
        named = list(dict.fromkeys(named))
        if len(named) > _MOST_ROWS:
            return self._problem(action, f"{len(named)} rows; name at most {_MOST_ROWS}")
        free = free_numbers(note, self.question, {*named, *self._names()})
        if free:
            self.n_rejected += 1
            if self.n_rejected <= _MAX_REJECTED_NOTES:
                return self._problem(
                    action,
                    f"the note holds {', '.join(dict.fromkeys(free))}, which no tool returned; "
                    "name the row that has the value, and leave numbers out of the note",
                )
            note = self._no_note("the rows")
        return self._final(named, note, "answered")

    def _refuse(self, action: Action) -> Step:
        reason = action.arguments.get("reason")
        if reason not in REFUSALS:
            return self._problem(action, f"reason is {reason!r}; expected {', '.join(REFUSALS)}")
        note = " ".join(str(action.arguments.get("note") or "").split())
        if free_numbers(note, self.question, self._names()):
            note = self._no_note("the reason")
        text = f"{_REFUSED[reason]} Note: {note}" if note else _REFUSED[reason]
        return Final(text, note=note, refusal=reason, exit_reason="refused")

    def _names(self) -> set[str]:
        return names_in(list(self.ledger.rows.values()))

    def _no_note(self, kept: str) -> str:
        why = "it held its own numbers"
        self.losses.append(Loss("agent", self.question[:80], "the note", kept, why))
        return ""

    def _stopped(self, reason: ExitReason) -> Final:
        """The best answer so far: the rows that the last call which brought some brought."""
        brought = [step.rows for step in self.done if isinstance(step, Observation) and step.rows]
        if not brought:
            text = f"No answer: the run ended ({reason}) before anything was found."
            return Final(text, refusal="not_held", exit_reason=reason, complete=False)
        return self._final(list(brought[-1][:_BEST_ROWS]), "", reason)

    def _final(self, named: Sequence[str], note: str, reason: ExitReason) -> Final:
        rows = {row: self.ledger[row] for row in named}
        shown = list(rows.values())
        sources = [row for each in shown if isinstance(each, Quantity) for row in each.derived_from]
        known = [*shown, *(self.ledger[row] for row in sources if row in self.ledger)]
        others = tuple(each for each in self._related(shown) if not _is_among(each, known))
        pages = pages_shown(self.done, rows, self.ledger.rows)
        text = render_answer(rows, others, note, pages=pages)
        complete = reason == "answered"
        if not complete:
            text = f"Not finished ({reason}). Found so far:\n{text}"
        return Final(text, rows, others, note, None, reason, complete)

    def _related(self, shown: Sequence[Evidence]) -> list[Quantity]:
        """What else is held; a failure here is told, and loses no answer."""
        related = self.agent.related
        if related is None:
            return []
        firsts: dict[tuple[str, str], Quantity] = {}
        for row in shown:
            if isinstance(row, Quantity):
                firsts.setdefault((row.formula, row.property), row)
        found: dict[Quantity, None] = {}
        for row in list(firsts.values())[:_MOST_RELATED]:
            if time.monotonic() - self.started >= self.agent.limits.max_seconds:
                break
            try:
                found |= dict.fromkeys(related(row))
            except Exception as error:  # noqa: BLE001 - what finds them may fail in any way
                what, why = f"other values of {row.formula} {row.property}", reason_of(error)
                self.losses.append(Loss("agent", self.question[:80], what, "the answer", why))
        return list(found)


_REFUSED = {
    "not_held": "No answer: no value is held for this.",
    "unclear": "No answer: the question does not say enough.",
    "off_topic": "No answer: the tools are not for this question.",
    "unavailable": "No answer: the data could not be reached.",
}


def _is_among(quantity: Quantity, rows: Sequence[object]) -> bool:
    def bare(each: Quantity) -> tuple[object, ...]:
        return each.value, each.unit, each.property, each.formula, each.material_id, each.source

    return any(isinstance(row, Quantity) and bare(row) == bare(quantity) for row in rows)


def same_call(one: Action, other: Action) -> bool:
    """Whether two actions ask for the same, however their arguments are ordered."""
    return _canonical(one) == _canonical(other)


def _canonical(action: Action) -> str:
    given = {name: value for name, value in action.arguments.items() if value is not None}
    return json.dumps([action.tool, given], sort_keys=True, ensure_ascii=False, default=str)
