"""Planners for benchmarks: one that knows the right actions, one that makes mistakes on the way.

They send their actions through JSON, as a language model's replies are, so that the loop is tested
and not only the tools.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ragkit.agents.ledger import Quantity
from ragkit.agents.planner import ANSWER, REFUSE, Planner, Proposal, State, Turns, parse_action
from ragkit.agents.steps import Action, Observation
from ragkit.errors import RagkitError
from ragkit.evaluation.materials.question import Call, Plan, Question

_Rows = Mapping[int, tuple[str, ...]]
"""What each call of a plan brought, by its position."""


def assistants_of(agent: str = "materials") -> dict[str, str]:
    """The assistant that has each tool, by the tool's name."""
    from ragkit.agents.definition import load_definition

    assistants = load_definition(agent).assistants
    return {tool: name for name, each in assistants.items() for tool in each.tools}


class PerfectPlanner:
    """Carries out the plans of known questions, alone or as supervisor and assistants.

    Args:
        questions: Whose plans it knows. Their texts, and the requests in their plans, must be what
            it is asked.
        assistants: The assistant that has each tool; `assistants_of()` if None.
    """

    name = "perfect"

    def __init__(
        self, questions: Iterable[Question], assistants: Mapping[str, str] | None = None
    ) -> None:
        self._assistants = assistants_of() if assistants is None else dict(assistants)
        self._plans = {question.text: question.plan for question in questions}
        self._requests: dict[str, tuple[tuple[int, ...], Plan]] = {}
        for plan in self._plans.values():
            for steps in _requested(plan):
                self._requests.setdefault(plan.calls[steps[0]].request, (steps, plan))

    def begin(self) -> Turns:
        """A new run."""
        return _Turns(self)

    def script(self, state: State) -> _Script:
        """What to do for the state's question with the state's tools.

        Raises:
            RagkitError: The question is not known.
        """
        tools = {tool.name for tool in state.tools}
        is_team = bool(tools & set(self._assistants.values()))
        plan = self._plans.get(state.question)
        if plan is not None and is_team:
            return _supervisor(plan, self._assistants)
        has_tools = plan is not None and all(call.tool in tools for call in plan.calls)
        if plan is not None and has_tools:
            return _Script([((n,), call) for n, call in enumerate(plan.calls)], plan)
        if state.question in self._requests:
            steps, plan = self._requests[state.question]
            return _assistant(steps, plan)
        raise RagkitError(f"no plan is known for {state.question!r}; expected a known question")


@dataclass(frozen=True, slots=True)
class _Script:
    """The calls, each with the steps of the plan it stands for, and how it ends.

    `all_rows`: answer with whatever the last call brought, as an assistant does.
    """

    calls: Sequence[tuple[tuple[int, ...], Call]]
    plan: Plan
    all_rows: bool = False


def _requested(plan: Plan) -> list[tuple[int, ...]]:
    """The steps that belong to one request, in order."""
    groups: list[tuple[int, ...]] = []
    for step, call in enumerate(plan.calls):
        if groups and call.request and call.request == plan.calls[groups[-1][0]].request:
            groups[-1] = (*groups[-1], step)
        elif call.request:
            groups.append((step,))
    return groups


def _supervisor(plan: Plan, assistants: Mapping[str, str]) -> _Script:
    calls: list[tuple[tuple[int, ...], Call]] = []
    requested = {steps[0]: steps for steps in _requested(plan)}
    for step, call in enumerate(plan.calls):
        if step in requested:
            asked = Call(assistants[call.tool], {"input": call.request}, "Ask who knows it.")
            calls.append((requested[step], asked))
        elif not call.request:
            calls.append(((step,), call))
    return _Script(calls, plan)


def _assistant(steps: Sequence[int], plan: Plan) -> _Script:
    """One request's calls; the answer is what the whole plan needs of them."""
    wanted = [each for call in plan.calls for each in _templates(call.arguments)]
    wanted += [each for each in plan.rows]
    own = tuple(each for each in wanted if each["row"]["step"] in steps)
    rows = tuple(each for n, each in enumerate(own) if each not in own[:n])
    part = Plan(rows=rows, refusal="" if rows else plan.refusal)
    return _Script([((step,), plan.calls[step]) for step in steps], part, all_rows=not rows)


def _templates(value: object) -> list[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        if _is_template(value):
            return [value]
        return [each for part in value.values() for each in _templates(part)]
    if isinstance(value, list | tuple):
        return [each for part in value for each in _templates(part)]
    return []


def _is_template(value: Mapping[str, Any]) -> bool:
    return isinstance(value.get("row"), Mapping) and "step" in value["row"]


class _Turns:
    def __init__(self, planner: PerfectPlanner) -> None:
        self._planner = planner
        self._script: _Script | None = None
        self._at = 0
        self._brought: dict[int, tuple[str, ...]] = {}

    def next(self, state: State) -> Proposal:
        if self._script is None:
            self._script = self._planner.script(state)
        if self._at:
            steps, _ = self._script.calls[self._at - 1]
            rows = _last(state).rows
            self._brought |= dict.fromkeys(steps, rows)
        if self._at < len(self._script.calls):
            _, call = self._script.calls[self._at]
            self._at += 1
            return _said(call.thought, call.tool, _filled(call.arguments, self._brought, state))
        return self._end(self._script, state)

    def _end(self, script: _Script, state: State) -> Proposal:
        if script.plan.refusal:
            return _said("There is no answer.", REFUSE, {"reason": script.plan.refusal})
        rows: list[str] = []
        for template in script.plan.rows:
            rows += [_found(template["row"], self._brought, state)]
        if script.all_rows:
            rows = list(_last(state).rows)
        return _said("These rows answer it.", ANSWER, {"rows": list(dict.fromkeys(rows))})


def _said(thought: str, name: str, arguments: Mapping[str, Any]) -> Proposal:
    """The action as a model would have written it, read as a model's reply is."""
    text = json.dumps({"thought": thought, "action": {"name": name, "arguments": arguments}})
    said, action, error = parse_action(text)
    return Proposal(action, said, error)


def _filled(value: Any, brought: _Rows, state: State) -> Any:
    """The arguments with row ids in place of templates."""
    if isinstance(value, Mapping):
        if _is_template(value):
            return _found(value["row"], brought, state)
        return {name: _filled(each, brought, state) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(each, brought, state) for each in value]
    return value


def _found(wanted: Mapping[str, Any], brought: _Rows, state: State) -> str:
    """The id of the row that a template means.

    A row that is not there gives "r0", which no ledger has: the loop tells so, and the run fails.
    """
    for row in brought.get(wanted["step"], ()):
        held = state.ledger[row]
        if not isinstance(held, Quantity) or held.property != wanted["property"]:
            continue
        if wanted["material_id"] in ("", held.material_id):
            return row
    return "r0"


def _last(state: State) -> Observation:
    return next(step for step in reversed(state.steps) if isinstance(step, Observation))


@dataclass(frozen=True, slots=True)
class FaultyPlanner:
    """Another planner with its actions spoilt now and then, as a language model spoils them.

    The faults are a misspelt argument, a wrong type, an unknown field, an unknown tool, a formula
    that is none, a row or reason that does not exist, and text that is no JSON.

    Args:
        planner: Plans the right actions.
        rate: The share of right actions that are spoilt at first.
        seed: Of the faults; each question has its own.
        retry: Whether it says the right action after it was told of the error. If not, it gives up
            and refuses: nothing is held. That is right by luck where nothing is.
    """

    planner: Planner
    rate: float = 0.3
    seed: int = 0
    retry: bool = True

    @property
    def name(self) -> str:
        """The planner's name, and the faults'."""
        return f"{self.planner.name}, {self.rate:.0%} faults, {'' if self.retry else 'no '}retry"

    def begin(self) -> Turns:
        """A new run."""
        return _FaultyTurns(self, self.planner.begin())


@dataclass(slots=True)
class _FaultyTurns:
    planner: FaultyPlanner
    turns: Turns
    right: Proposal | None = None
    rng: random.Random = field(default_factory=random.Random)
    started: bool = False

    def next(self, state: State) -> Proposal:
        if not self.started:
            self.rng, self.started = random.Random(f"{self.planner.seed} {state.question}"), True
        if self.right is not None:
            right, self.right = self.right, None
            gives_up = Action(REFUSE, {"reason": "not_held"})
            return right if self.planner.retry else Proposal(gives_up, "That did not work.")
        proposal = self.turns.next(state)
        if proposal.action is None or self.rng.random() >= self.planner.rate:
            return proposal
        self.right = proposal
        return _spoilt(proposal, proposal.action, self.rng)


def _spoilt(proposal: Proposal, action: Action, rng: random.Random) -> Proposal:
    """The proposal with one fault, of those that its action can have."""
    given = dict(action.arguments)
    faults: list[Action | None] = [None]
    if action.tool == ANSWER:
        faults.append(Action(ANSWER, {"rows": ["r9999"]}))
    elif action.tool == REFUSE:
        faults.append(Action(REFUSE, {"reason": "unknown"}))
    else:
        first = next(iter(given))
        misspelt = {f"{first}_": given[first], **{k: v for k, v in given.items() if k != first}}
        faults += [Action(f"{action.tool}s", given), Action(action.tool, misspelt)]
        if "fields" in given:
            faults.append(Action(action.tool, given | {"limit": "a few"}))
            faults.append(Action(action.tool, given | {"fields": f"{given['fields']}_value"}))
        if "formula" in given:
            faults.append(Action(action.tool, given | {"formula": f"{given['formula']})x"}))
    chosen = rng.choice(faults)
    if chosen is not None:
        return replace(proposal, action=chosen)
    written = json.dumps({"action": {"name": action.tool, "arguments": given}})
    said, spoilt, error = parse_action(written[:-3])
    return Proposal(spoilt, said, error)
