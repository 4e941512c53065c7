"""Runs that are recorded as they happen, and played again to see whether anything changed."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ragkit import __version__
from ragkit.agents.canonical import canonical_json
from ragkit.agents.definition import AgentOptions, describe, load_agent
from ragkit.agents.react import Approve, ReAct
from ragkit.agents.steps import Run, Step
from ragkit.agents.tools import Tool
from ragkit.agents.traces import RunRecord, StoredRun, TraceStore, compare
from ragkit.errors import RagkitError


@dataclass(slots=True)
class Approvals:
    """A person's decisions, kept in the order they were taken.

    As `AgentOptions.approve` it sees the decisions of a team's assistants too; `record` wraps any
    other `approve`, and that sees those of the agent itself only.

    Attributes:
        ask: Takes the decision.
        taken: Tool, arguments and decision of each.
    """

    ask: Approve
    taken: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, tool: Tool, arguments: Mapping[str, Any], copied: Sequence[str]) -> bool:
        """The decision, which is kept."""
        decision = bool(self.ask(tool, arguments, copied))
        self.taken.append({"tool": tool.name, "arguments": dict(arguments), "approved": decision})
        return decision


def _again(taken: Sequence[Mapping[str, Any]]) -> Approve:
    """The decisions of a recorded run, one after the other; any other call is not approved."""
    left = iter(taken)

    def approve(tool: Tool, arguments: Mapping[str, Any], _: Sequence[str]) -> bool:
        then = next(left, None)
        if then is None or then["tool"] != tool.name:
            return False
        same = canonical_json(then["arguments"]) == canonical_json(arguments)
        return same and then["approved"] is True

    return approve


def record(
    agent: ReAct,
    question: str,
    store: TraceStore,
    *,
    name: str,
    how: Mapping[str, Any],
    history: Sequence[tuple[str, str]] = (),
) -> Generator[Step, None, tuple[str, Run]]:
    """`agent.stream`, each step stored before it is given out; ends with (run id, run).

    Args:
        agent: What runs.
        question: What is asked.
        store: Where the trace goes.
        name: The agent's name or path, for replay; a path is stored in full.
        how: What `replay` needs to load the same agent: see `load_options`.
        history: Earlier questions and answers.
    """
    settings = {
        **describe(agent),
        "how": dict(how),
        "history": [list(pair) for pair in history],
        "ragkit": __version__,
    }
    started = datetime.now(UTC).isoformat(timespec="seconds")
    if Path(name).suffix == ".toml" and Path(name).is_file():
        name = str(Path(name).resolve())
    approvals = agent.approve
    if approvals is not None and not isinstance(approvals, Approvals):
        approvals = Approvals(approvals)
        agent = replace(agent, approve=approvals)
    n_before = len(approvals.taken) if approvals is not None else 0
    run_id = store.begin(RunRecord(name, question, settings, started))
    steps = agent.stream(question, history=history)
    n_steps = 0
    try:
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                run: Run = end.value
                break
            store.add_step(run_id, n_steps, step.kind, asdict(step))
            n_steps += 1
            yield step
    finally:
        steps.close()
    answer = {
        "final": asdict(run.final),
        "ledger": {k: asdict(v) for k, v in run.ledger.items()},
        "approvals": approvals.taken[n_before:] if approvals is not None else [],
    }
    store.finish(run_id, run.final.exit_reason, answer, asdict(run.usage), run.seconds)
    return run_id, run


def load_options(how: Mapping[str, Any]) -> AgentOptions:
    """The options a trace was recorded with; whoever calls closes their collection.

    Raises:
        RagkitError: It was recorded with a model or planner that has no name to load it by.
    """
    from ragkit.collection import Collection

    try:
        kept = dict(how)
        path = kept.pop("collection", None)
        options = AgentOptions(**kept)
    except TypeError as error:
        raise RagkitError(
            f"this trace cannot be replayed ({error}); it was recorded by another version"
        ) from error
    return replace(options, collection=Collection(path)) if path else options


def replay(stored: StoredRun, store: TraceStore) -> tuple[str, str | None]:
    """Run a recorded question again with the same settings; (new run id, first difference).

    What a person approved is approved again, for the same calls in the same order, and no more.

    Raises:
        RagkitError: The agent or its model is no longer there.
    """
    how = stored.record.settings.get("how")
    if not isinstance(how, Mapping):
        raise RagkitError("this trace cannot be replayed: it does not say how the agent was loaded")
    name, question = stored.record.agent, stored.record.question
    history = [(str(q), str(a)) for q, a in stored.record.settings.get("history", [])]
    taken = (stored.answer or {}).get("approvals", [])
    with ExitStack() as stack:
        options = replace(load_options(how), approve=Approvals(_again(taken)))
        if options.collection is not None:
            stack.enter_context(options.collection)
        agent = load_agent(name, options)
        steps = record(agent, question, store, name=name, how=how, history=history)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                run_id: str = end.value[0]
                break
    return run_id, compare(stored, store.show(run_id))
