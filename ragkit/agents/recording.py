"""Record agent runs as traces, and replay traces to detect changes."""

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
    """Approval callback that records its decisions in order.

    Pass it as `AgentOptions.approve` to record the decisions for a team's assistants as well. Any
    other callback is wrapped by `record`, which then sees only the calls of the agent itself.

    Attributes:
        ask: Callback that takes the decision.
        taken: Tool, arguments and decision of each call.
    """

    ask: Approve
    taken: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, tool: Tool, arguments: Mapping[str, Any], copied: Sequence[str]) -> bool:
        """Take and record a decision."""
        decision = bool(self.ask(tool, arguments, copied))
        self.taken.append({"tool": tool.name, "arguments": dict(arguments), "approved": decision})
        return decision


def _replay_decisions(taken: Sequence[Mapping[str, Any]]) -> Approve:
    """Return a callback that repeats recorded decisions in order and rejects any other call."""
    decisions = iter(taken)

    def approve(tool: Tool, arguments: Mapping[str, Any], _: Sequence[str]) -> bool:
        decision = next(decisions, None)
        if decision is None or decision["tool"] != tool.name:
            return False
        same = canonical_json(decision["arguments"]) == canonical_json(arguments)
        return same and decision["approved"] is True

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
    """Yield the steps of `agent.stream`, each stored before it is yielded; return (run id, run).

    Args:
        agent: Agent to run.
        question: The user's question.
        store: Store of the trace.
        name: Name or path of the agent, for replay; a path is stored as an absolute path.
        how: Options to load the same agent with, see `load_options`.
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
    """Return the options that a trace was recorded with; the caller must close their collection.

    Raises:
        RagkitError: The options are not those of this version.
    """
    from ragkit.collection import Collection

    try:
        fields = dict(how)
        path = fields.pop("collection", None)
        options = AgentOptions(**fields)
    except TypeError as error:
        raise RagkitError(
            f"the trace cannot be replayed ({error}); it was recorded by another version of ragkit"
        ) from error
    return replace(options, collection=Collection(path)) if path else options


def replay(stored: StoredRun, store: TraceStore) -> tuple[str, str | None]:
    """Run a recorded question again and return (new run id, first difference or None).

    The settings are those of the trace. Approvals are repeated for the same calls in the same
    order; other calls are rejected.

    Raises:
        RagkitError: The agent or its model is no longer available.
    """
    how = stored.record.settings.get("how")
    if not isinstance(how, Mapping):
        raise RagkitError(
            "the trace cannot be replayed: it does not record how the agent was loaded"
        )
    name, question = stored.record.agent, stored.record.question
    history = [
        (str(asked), str(answered)) for asked, answered in stored.record.settings.get("history", [])
    ]
    approvals = (stored.answer or {}).get("approvals", [])
    with ExitStack() as stack:
        options = replace(load_options(how), approve=Approvals(_replay_decisions(approvals)))
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
