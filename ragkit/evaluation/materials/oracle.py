"""Planners for benchmarks: one that knows the correct actions, and one that makes mistakes.

They serialise their actions to JSON, as a language model's replies are, so that the agent loop is
tested together with the tools.
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
from ragkit.evaluation.materials.question import Call, MaterialsQuestion, Plan

_Rows = Mapping[int, tuple[str, ...]]
"""Row ids of the results of a plan's calls, by step."""


def tool_assistants(agent: str = "materials") -> dict[str, str]:
    """Return the assistant that has each tool, by tool name."""
    from ragkit.agents.definition import load_definition

    assistants = load_definition(agent).assistants
    return {tool: name for name, assistant in assistants.items() for tool in assistant.tools}


class OraclePlanner:
    """A planner that carries out the plans of known questions, as one agent or as a team.

    Args:
        questions: Questions with their plans. The agent must be asked exactly their texts, and
            assistants the requests in the plans.
        assistants: The assistant that has each tool; `tool_assistants()` if None.
    """

    name = "oracle"

    def __init__(
        self, questions: Iterable[MaterialsQuestion], assistants: Mapping[str, str] | None = None
    ) -> None:
        self._assistants = tool_assistants() if assistants is None else dict(assistants)
        self._plans = {question.text: question.plan for question in questions}
        self._requests: dict[str, tuple[tuple[int, ...], Plan]] = {}
        for plan in self._plans.values():
            for steps in _request_steps(plan):
                self._requests.setdefault(plan.calls[steps[0]].request, (steps, plan))

    def begin(self) -> Turns:
        """Start a new run."""
        return _Turns(self)

    def script(self, state: State) -> _Script:
        """Return the script for the state's question with the state's tools.

        Raises:
            RagkitError: The question is not known.
        """
        tools = {tool.name for tool in state.tools}
        is_team = bool(tools & set(self._assistants.values()))
        plan = self._plans.get(state.question)
        if plan is not None and is_team:
            return _supervisor_script(plan, self._assistants)
        has_tools = plan is not None and all(call.tool in tools for call in plan.calls)
        if plan is not None and has_tools:
            return _Script([((n,), call) for n, call in enumerate(plan.calls)], plan)
        if state.question in self._requests:
            steps, plan = self._requests[state.question]
            return _assistant_script(steps, plan)
        raise RagkitError(
            f"no plan is known for {state.question!r}; expected the text of one of the questions"
        )


@dataclass(frozen=True, slots=True)
class _Script:
    """The calls to make and how the run ends.

    Attributes:
        calls: Each call with the steps of the plan it stands for.
        plan: The plan.
        all_rows: Answer with all rows of the last call, as an assistant does.
    """

    calls: Sequence[tuple[tuple[int, ...], Call]]
    plan: Plan
    all_rows: bool = False


def _request_steps(plan: Plan) -> list[tuple[int, ...]]:
    """Return the steps of each request, in order."""
    groups: list[tuple[int, ...]] = []
    for step, call in enumerate(plan.calls):
        if groups and call.request and call.request == plan.calls[groups[-1][0]].request:
            groups[-1] = (*groups[-1], step)
        elif call.request:
            groups.append((step,))
    return groups


def _supervisor_script(plan: Plan, assistants: Mapping[str, str]) -> _Script:
    calls: list[tuple[tuple[int, ...], Call]] = []
    requested = {steps[0]: steps for steps in _request_steps(plan)}
    for step, call in enumerate(plan.calls):
        if step in requested:
            delegation = Call(assistants[call.tool], {"input": call.request}, "Ask who knows it.")
            calls.append((requested[step], delegation))
        elif not call.request:
            calls.append(((step,), call))
    return _Script(calls, plan)


def _assistant_script(steps: Sequence[int], plan: Plan) -> _Script:
    """Return the script of one request, which ends with the rows that the whole plan needs."""
    templates = [template for call in plan.calls for template in _templates(call.arguments)]
    templates += plan.rows
    own = tuple(template for template in templates if template["row"]["step"] in steps)
    rows = tuple(template for n, template in enumerate(own) if template not in own[:n])
    part = Plan(rows=rows, refusal="" if rows else plan.refusal)
    return _Script([((step,), plan.calls[step]) for step in steps], part, all_rows=not rows)


def _templates(value: object) -> list[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        if _is_template(value):
            return [value]
        return [template for part in value.values() for template in _templates(part)]
    if isinstance(value, list | tuple):
        return [template for part in value for template in _templates(part)]
    return []


def _is_template(value: Mapping[str, Any]) -> bool:
    return isinstance(value.get("row"), Mapping) and "step" in value["row"]


class _Turns:
    def __init__(self, planner: OraclePlanner) -> None:
        self._planner = planner
        self._script: _Script | None = None
        self._position = 0
        self._results: dict[int, tuple[str, ...]] = {}

    def next(self, state: State) -> Proposal:
        if self._script is None:
            self._script = self._planner.script(state)
        if self._position:
            steps, _ = self._script.calls[self._position - 1]
            rows = _last_observation(state).rows
            self._results |= dict.fromkeys(steps, rows)
        if self._position < len(self._script.calls):
            _, call = self._script.calls[self._position]
            self._position += 1
            return _proposal(
                call.thought, call.tool, _fill_templates(call.arguments, self._results, state)
            )
        return self._end(self._script, state)

    def _end(self, script: _Script, state: State) -> Proposal:
        if script.plan.refusal:
            return _proposal("There is no answer.", REFUSE, {"reason": script.plan.refusal})
        rows: list[str] = []
        for template in script.plan.rows:
            rows.append(_find_row(template["row"], self._results, state))
        if script.all_rows:
            rows = list(_last_observation(state).rows)
        return _proposal("These rows answer it.", ANSWER, {"rows": list(dict.fromkeys(rows))})


def _proposal(thought: str, name: str, arguments: Mapping[str, Any]) -> Proposal:
    """Return the proposal that a language model's reply with this action is parsed into."""
    text = json.dumps({"thought": thought, "action": {"name": name, "arguments": arguments}})
    parsed_thought, action, error = parse_action(text)
    return Proposal(action, parsed_thought, error)


def _fill_templates(value: Any, results: _Rows, state: State) -> Any:
    """Return the arguments with templates replaced by row ids."""
    if isinstance(value, Mapping):
        if _is_template(value):
            return _find_row(value["row"], results, state)
        return {name: _fill_templates(part, results, state) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_fill_templates(part, results, state) for part in value]
    return value


def _find_row(template: Mapping[str, Any], results: _Rows, state: State) -> str:
    """Return the id of the row that a template refers to.

    If there is no such row, return "r0", which is in no ledger: the loop reports an error and the
    run fails.
    """
    for row in results.get(template["step"], ()):
        quantity = state.ledger[row]
        if not isinstance(quantity, Quantity) or quantity.property != template["property"]:
            continue
        if template["material_id"] in ("", quantity.subject_id):
            return row
    return "r0"


def _last_observation(state: State) -> Observation:
    return next(step for step in reversed(state.steps) if isinstance(step, Observation))


@dataclass(frozen=True, slots=True)
class FaultyPlanner:
    """A planner whose actions are sometimes corrupted, in ways typical of language models.

    The faults are a misspelt argument, a wrong type, an unknown field, an unknown tool, an invalid
    formula, a row or reason that does not exist, and invalid JSON.

    Args:
        planner: Plans the correct actions.
        rate: Share of correct actions that are corrupted.
        seed: Seed of the faults; each question has its own generator.
        retry: If True, it makes the correct call after the error message. If False, it gives up and
            refuses because the value is not in the database, which is sometimes right by chance.
    """

    planner: Planner
    rate: float = 0.3
    seed: int = 0
    retry: bool = True

    @property
    def name(self) -> str:
        """The planner's name with the settings of the faults."""
        return f"{self.planner.name}, {self.rate:.0%} faults, {'' if self.retry else 'no '}retry"

    def begin(self) -> Turns:
        """Start a new run."""
        return _FaultyTurns(self, self.planner.begin())


@dataclass(slots=True)
class _FaultyTurns:
    planner: FaultyPlanner
    turns: Turns
    correct: Proposal | None = None
    rng: random.Random = field(default_factory=random.Random)
    started: bool = False

    def next(self, state: State) -> Proposal:
        if not self.started:
            self.rng, self.started = random.Random(f"{self.planner.seed} {state.question}"), True
        if self.correct is not None:
            correct, self.correct = self.correct, None
            gives_up = Action(REFUSE, {"reason": "not_held"})
            return correct if self.planner.retry else Proposal(gives_up, "That did not work.")
        proposal = self.turns.next(state)
        if proposal.action is None or self.rng.random() >= self.planner.rate:
            return proposal
        self.correct = proposal
        return _corrupt(proposal, proposal.action, self.rng)


def _corrupt(proposal: Proposal, action: Action, rng: random.Random) -> Proposal:
    """Return the proposal with one of the faults that its action can have."""
    arguments = dict(action.arguments)
    faults: list[Action | None] = [None]
    if action.tool == ANSWER:
        faults.append(Action(ANSWER, {"rows": ["r9999"]}))
    elif action.tool == REFUSE:
        faults.append(Action(REFUSE, {"reason": "unknown"}))
    else:
        first = next(iter(arguments))
        misspelt = {
            f"{first}_": arguments[first],
            **{k: v for k, v in arguments.items() if k != first},
        }
        faults += [Action(f"{action.tool}s", arguments), Action(action.tool, misspelt)]
        if "fields" in arguments:
            faults.append(Action(action.tool, arguments | {"limit": "a few"}))
            faults.append(
                Action(action.tool, arguments | {"fields": f"{arguments['fields']}_value"})
            )
        if "formula" in arguments:
            faults.append(Action(action.tool, arguments | {"formula": f"{arguments['formula']})x"}))
    chosen = rng.choice(faults)
    if chosen is not None:
        return replace(proposal, action=chosen)
    written = json.dumps({"action": {"name": action.tool, "arguments": arguments}})
    thought, corrupted, error = parse_action(written[:-3])
    return Proposal(corrupted, thought, error)
