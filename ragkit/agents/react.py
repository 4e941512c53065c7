"""The ReAct loop: thoughts, actions and observations until an answer from the ledger or a limit."""

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
    Observation,
    Run,
    RunLimits,
    Step,
    Thought,
)
from ragkit.agents.templates import TEMPLATES, Templates
from ragkit.agents.tools import Permission, Tool, ToolError, reason_of, run_tool
from ragkit.types import LLM, ChatOptions, Loss, Usage

Approve = Callable[[Tool, Mapping[str, Any], Sequence[str]], bool]
"""Callback that decides if a tool call may run: (tool, arguments, names of copied arguments)."""

LeftOut = Callable[[str, Sequence[Evidence], Sequence[Evidence]], str]
"""Callback that returns what an answer leaves out: (question, its rows, all rows)."""

_MAX_BAD_REPLIES = 3
_MAX_REJECTED_NOTES = 2
_MAX_UNCOVERED = 1
_MAX_PARTIAL_ROWS = 5
_MAX_ROWS = 20
_MAX_RELATED = 5


@dataclass(slots=True)
class ReAct:
    """ReAct agent: a planner, tools and limits.

    `stream` yields the steps of a run; `run` returns the finished run. Mistakes of the model become
    observations and the loop continues; programming errors raise.

    Source: Yao et al. 2023 (ReAct). Deviations: actions as in LLaMP (Chiang et al. 2024), generated
    under a grammar instead of parsed from text; answers cite rows of a ledger.

    Args:
        planner: A language model or a `Planner`.
        tools: Tools with distinct names; "answer" and "refuse" are reserved.
        role: Role of the agent; the first part of a language model's system message.
        limits: Limits that end a run.
        permissions: Permissions by tool name, overriding the tools' own. Denied tools are not
            offered to the planner.
        approve: Called before a tool with permission "ask" runs, and before a tool that sends its
            arguments away runs with an argument copied from tool output. None refuses such calls.
        related: Returns other values of a quantity's subject and property, shown below the answer.
            Called for the first five distinct (subject, property) pairs of the cited rows, within
            the time limit. Exceptions do not fail the run but are recorded in its losses.
        related_heading: Line above the other values.
        left_out: Returns what an answer leaves out of the question, from the question and the rows
            it cites with those they are computed from, and all rows; "" if it covers it. An answer
            that leaves something out goes back to the planner once, and is then a refusal that
            says what.
        templates: Templates of observations.
        provenance: Data sources of the tools, recorded with every run.
        temperature: Sampling temperature of a language model.
        seed: Random seed of a language model, from which each step derives its own.

    Raises:
        ValueError: Two tools have the same name, or a permission is set for an unknown tool.
    """

    planner: Planner | LLM
    tools: Sequence[Tool]
    role: str = "You answer questions with the tools below."
    limits: RunLimits = field(default_factory=RunLimits)
    permissions: Mapping[str, Permission] = field(default_factory=dict)
    approve: Approve | None = None
    related: Callable[[Quantity], Sequence[Quantity]] | None = None
    related_heading: str = "Other values:"
    left_out: LeftOut | None = None
    templates: Templates = TEMPLATES
    provenance: Mapping[str, Any] = field(default_factory=dict)
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        names = [tool.name for tool in self.tools]
        duplicates = sorted(
            {name for name in names if names.count(name) > 1} | {ANSWER, REFUSE} & {*names}
        )
        if duplicates:
            raise ValueError(
                f"tool names {', '.join(duplicates)} are reserved or duplicated; rename these tools"
            )
        unknown = sorted(set(self.permissions) - set(names))
        if unknown:
            raise ValueError(
                f"permissions for unknown tools {', '.join(unknown)}; expected {', '.join(names)}"
            )

    @property
    def offered(self) -> list[Tool]:
        """Tools that are not denied, in order."""
        return [tool for tool in self.tools if self._permission(tool) != "deny"]

    def resolve_planner(self) -> Planner:
        """Return the planner, wrapping a language model in an `LLMPlanner`."""
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
        """Run to the end and return the finished run; see `stream`."""
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
        """Yield the steps as they happen, ending with a `Final`; return the run.

        Nothing runs between two steps, so closing the generator stops the run.

        Args:
            question: The user's question.
            history: Earlier questions and answers, oldest first.
            ledger: Ledger that rows are added to; None creates one.

        Raises:
            TypeError: The question is not a string; raised before the first step.
            ValueError: The question is empty; raised before the first step.
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
        self.turns: Turns = agent.resolve_planner().begin()
        self.offered = agent.offered
        self.ledger = ledger
        self.ledger.question = ledger.question or "\n".join([*(q for q, _ in history), question])
        self.done: list[Step] = []
        self.calls: dict[str, int] = {}
        self.usage = Usage()
        self.losses: list[Loss] = []
        self.n_actions = self.n_bad_replies = self.n_rejected = self.n_uncovered = 0
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
        limit = self._reached_limit()
        if limit is not None:
            yield self._stop(limit)
            return
        proposal = self.turns.next(self._state())
        self._record_proposal(proposal)
        if proposal.thought:
            yield Thought(proposal.thought)
        if proposal.action is None:
            self.n_bad_replies += 1
            if self.n_bad_replies >= _MAX_BAD_REPLIES:
                yield self._stop("model_error")
            else:
                yield Observation("", data_lines([proposal.error]), error=True)
            return
        self.n_bad_replies = 0
        yield proposal.action
        yield from self._act(proposal.action)

    def _reached_limit(self) -> ExitReason | None:
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
        n_left = limits.max_tokens - self.usage.completion_tokens  # >= 1, see `_reached_limit`
        options = ChatOptions(
            max_tokens=min(limits.step_tokens, n_left),
            temperature=self.agent.temperature,
            seed=self.agent.seed * 1000 + self.n_actions,
        )
        live = [tool for tool in self.offered if len(self.ledger) or not tool.names_rows]
        return State(
            self.question, self.history, tuple(self.done), self.ledger, self.offered, live, options
        )

    def _record_proposal(self, proposal: Proposal) -> None:
        self.n_actions += 1
        self.losses += proposal.losses
        self._add_usage(proposal.usage)

    def _add_usage(self, usage: Usage) -> None:
        self.usage = Usage(
            self.usage.prompt_tokens + usage.prompt_tokens,
            self.usage.completion_tokens + usage.completion_tokens,
        )

    def _act(self, action: Action) -> Generator[Step, None, None]:
        ends = {ANSWER: self._answer, REFUSE: self._refuse}
        if action.tool in ends:
            step = ends[action.tool](action)
            rejected = isinstance(step, Observation)
            yield self._stop("loop") if rejected and self._is_loop(action) else step
        elif self._is_loop(action):
            yield self._stop("loop")
        else:
            yield self._call(action)

    def _is_loop(self, action: Action) -> bool:
        key = _call_key(action)
        self.calls[key] = self.calls.get(key, 0) + 1
        return self.calls[key] > self.agent.limits.max_repeats

    def _call(self, action: Action) -> Observation:
        tool = next(
            (candidate for candidate in self.offered if candidate.name == action.tool), None
        )
        if tool is None:
            names = ", ".join([*(candidate.name for candidate in self.offered), ANSWER, REFUSE])
            return self._error(action, f"there is no tool {action.tool!r}; the tools are {names}")
        if self.calls[_call_key(action)] > 1:
            return self._error(
                action,
                "this call was made before, with the same result; change the arguments, use "
                "another tool, or finish with answer or refuse",
            )
        try:
            tool.check(action.arguments)  # before approval, so that only valid calls are shown
        except ToolError as error:
            return self._error(action, str(error))
        check_copies = tool.sends or self.agent._permission(tool) == "ask"
        copied = self._copied_arguments(action) if check_copies else []
        if not self._is_permitted(tool, action, copied):
            reason = f" ({', '.join(copied)} copied from tool text)" if copied else ""
            return self._error(action, f"{tool.name} was not permitted{reason}; do without it")
        outcome = run_tool(tool, action.arguments, self.ledger)
        self._add_usage(outcome.usage)
        limit = self.agent.limits.observation_chars
        return observe(tool, action.arguments, outcome, self.ledger, limit, self.agent.templates)

    def _is_permitted(self, tool: Tool, action: Action, copied: Sequence[str]) -> bool:
        if self.agent._permission(tool) == "allow" and not (copied and tool.sends):
            return True
        approve = self.agent.approve
        return approve is not None and approve(tool, action.arguments, copied)

    def _copied_arguments(self, action: Action) -> list[str]:
        """Return the arguments copied from tool output, which earlier answers quote as well."""
        tool_texts = [step.text for step in self.done if isinstance(step, Observation)]
        tool_texts += [answer for _, answer in self.history]
        trusted_texts = [self.question, *(question for question, _ in self.history)]
        trusted_texts += [
            json.dumps(tool.parameters(), ensure_ascii=False) for tool in self.offered
        ]
        return copied_arguments(action.arguments, tool_texts, trusted_texts, self._citable_names())

    def _error(self, action: Action, text: str) -> Observation:
        limit = self.agent.limits.observation_chars
        cut = text if len(text) <= limit else f"{text[:limit]}…"
        return Observation(action.tool, data_lines([cut]), error=True)

    def _answer(self, action: Action) -> Step:
        rows = action.arguments.get("rows")
        note = " ".join(str(action.arguments.get("note") or "").split())
        cited = [row for row in rows if isinstance(row, str)] if isinstance(rows, list) else []
        missing = [row for row in cited if row not in self.ledger]
        if not cited or missing:
            available = ", ".join(list(self.ledger)[-_MAX_ROWS:]) or "none yet: call a tool first"
            problem = f"no row {', '.join(missing)}" if missing else "'rows' names no row"
            return self._error(action, f"{problem}; the rows are {available}")
        cited = list(dict.fromkeys(cited))
        if len(cited) > _MAX_ROWS:
            return self._error(action, f"{len(cited)} rows; name at most {_MAX_ROWS}")
        unsupported = free_numbers(note, self.question, {*cited, *self._citable_names()})
        if unsupported:
            self.n_rejected += 1
            if self.n_rejected <= _MAX_REJECTED_NOTES:
                return self._error(
                    action,
                    f"the note holds {', '.join(dict.fromkeys(unsupported))}, which no tool "
                    "returned; name the row that has the value, and leave numbers out of the note",
                )
            note = self._drop_note("the rows")
        fault = self._left_out(cited)
        if fault:
            self.n_uncovered += 1
            if self.n_uncovered <= _MAX_UNCOVERED:
                problem = f"the answer does not cover the question: {fault}"
                return self._error(action, f"{problem}; look it up, or refuse")
            text = TEMPLATES.refusal("not_held", f"What was found is no answer: {fault}.")
            return Final(text, note=fault, refusal="not_held", exit_reason="refused")
        return self._final(cited, note, "answered")

    def _left_out(self, cited: Sequence[str]) -> str:
        """Return what the rows leave out of the question, or ""."""
        if self.agent.left_out is None:
            return ""
        rows, pending = [], list(cited)
        for row_id in pending:  # grows during the loop
            if row_id in self.ledger:
                row = self.ledger[row_id]
                rows.append(row)
                more = row.derived_from if isinstance(row, Quantity) else ()
                pending += [each for each in more if each not in pending]
        return self.agent.left_out(self.question, rows, list(self.ledger.rows.values()))

    def _refuse(self, action: Action) -> Step:
        reason = action.arguments.get("reason")
        if reason not in REFUSALS:
            return self._error(action, f"reason is {reason!r}; expected {', '.join(REFUSALS)}")
        note = " ".join(str(action.arguments.get("note") or "").split())
        if free_numbers(note, self.question, self._citable_names()):
            note = self._drop_note("the reason")
        return Final(
            TEMPLATES.refusal(reason, note), note=note, refusal=reason, exit_reason="refused"
        )

    def _citable_names(self) -> set[str]:
        return names_in(list(self.ledger.rows.values()))

    def _drop_note(self, remaining: str) -> str:
        reason = "it held its own numbers"
        self.losses.append(Loss("agent", self.question[:80], "the note", remaining, reason))
        return ""

    def _stop(self, reason: ExitReason) -> Final:
        """End the run early with the rows of the last call that returned any."""
        row_lists = [step.rows for step in self.done if isinstance(step, Observation) and step.rows]
        if not row_lists:
            text = f"No answer: the run ended ({reason}) before anything was found."
            return Final(text, refusal="not_held", exit_reason=reason, complete=False)
        return self._final(list(row_lists[-1][:_MAX_PARTIAL_ROWS]), "", reason)

    def _final(self, cited: Sequence[str], note: str, reason: ExitReason) -> Final:
        rows = {row: self.ledger[row] for row in cited}
        evidence = list(rows.values())
        sources = [
            row
            for quantity in evidence
            if isinstance(quantity, Quantity)
            for row in quantity.derived_from
        ]
        known = [*evidence, *(self.ledger[row] for row in sources if row in self.ledger)]
        others = tuple(
            quantity for quantity in self._related(evidence) if not _is_among(quantity, known)
        )
        pages = pages_shown(self.done, rows, self.ledger.rows)
        heading = self.agent.related_heading
        text = render_answer(rows, others, note, pages=pages, heading=heading)
        complete = reason == "answered"
        if not complete:
            text = f"Not finished ({reason}). Found so far:\n{text}"
        return Final(text, rows, others, note, None, reason, complete)

    def _related(self, evidence: Sequence[Evidence]) -> list[Quantity]:
        """Return related values; exceptions are recorded as losses and do not fail the answer."""
        related = self.agent.related
        if related is None:
            return []
        firsts: dict[tuple[str, str], Quantity] = {}
        for row in evidence:
            if isinstance(row, Quantity):
                firsts.setdefault((row.subject, row.property), row)
        results: dict[Quantity, None] = {}
        for row in list(firsts.values())[:_MAX_RELATED]:
            if time.monotonic() - self.started >= self.agent.limits.max_seconds:
                break
            try:
                results |= dict.fromkeys(related(row))
            except Exception as error:  # noqa: BLE001 - a user-supplied callback may fail in any way
                lost, reason = f"other values of {row.subject} {row.property}", reason_of(error)
                self.losses.append(Loss("agent", self.question[:80], lost, "the answer", reason))
        return list(results)


def _is_among(quantity: Quantity, rows: Sequence[object]) -> bool:
    def key(row: Quantity) -> tuple[object, ...]:
        return row.value, row.unit, row.property, row.subject, row.subject_id, row.source

    return any(isinstance(row, Quantity) and key(row) == key(quantity) for row in rows)


def same_call(one: Action, other: Action) -> bool:
    """Return True if two actions are the same call, ignoring argument order and null arguments."""
    return _call_key(one) == _call_key(other)


def _call_key(action: Action) -> str:
    arguments = {name: value for name, value in action.arguments.items() if value is not None}
    return json.dumps([action.tool, arguments], sort_keys=True, ensure_ascii=False, default=str)
