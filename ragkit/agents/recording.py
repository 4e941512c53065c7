"""Runs that are recorded as they happen, and played again to see whether anything changed."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from ragkit import __version__
from ragkit.agents.definition import AgentOptions, describe, load_agent
from ragkit.agents.react import ReAct
from ragkit.agents.steps import Run, Step
from ragkit.agents.traces import RunRecord, StoredRun, TraceStore, compare
from ragkit.errors import RagkitError


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
        name: The agent's name or path, for replay.
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
    answer = {"final": asdict(run.final), "ledger": {k: asdict(v) for k, v in run.ledger.items()}}
    store.finish(run_id, run.final.exit_reason, answer, asdict(run.usage), run.seconds)
    return run_id, run


def load_options(how: Mapping[str, Any]) -> AgentOptions:
    """The options a trace was recorded with.

    Raises:
        RagkitError: It was recorded with a model or planner that has no name to load it by.
    """
    from ragkit.collection import Collection

    try:
        kept = dict(how)
        path = kept.pop("collection", None)
        return AgentOptions(**kept, collection=Collection(path) if path else None)
    except TypeError as error:
        raise RagkitError(
            f"this trace cannot be replayed ({error}); it was recorded by another version"
        ) from error


def replay(stored: StoredRun, store: TraceStore) -> tuple[str, str | None]:
    """Run a recorded question again with the same settings; (new run id, first difference).

    Raises:
        RagkitError: The agent or its model is no longer there.
    """
    how = stored.record.settings.get("how")
    if not isinstance(how, Mapping):
        raise RagkitError("this trace cannot be replayed: it does not say how the agent was loaded")
    agent = load_agent(stored.record.agent, load_options(how))
    history = [(str(q), str(a)) for q, a in stored.record.settings.get("history", [])]
    steps = record(
        agent, stored.record.question, store, name=stored.record.agent, how=how, history=history
    )
    while True:
        try:
            next(steps)
        except StopIteration as end:
            run_id: str = end.value[0]
            return run_id, compare(stored, store.show(run_id))
