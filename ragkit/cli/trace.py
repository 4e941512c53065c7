"""`ragkit trace`: list, show, replay and delete traces of agent runs."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from ragkit.cli.common import JsonOption, note, out, plain, print_json

app = typer.Typer(help="List, show, replay and delete traces of agent runs.", no_args_is_help=True)

RunArgument = Annotated[str, typer.Argument(help="Id of a run or a prefix of it, or last.")]


@app.command(name="list")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="Number of runs, latest first.")] = 20,
    agent: Annotated[str | None, typer.Option(help="List only runs of this agent.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the latest runs."""
    from ragkit.agents.traces import TraceStore

    with TraceStore() as store:
        runs = store.list(limit, agent)
    if as_json:
        print_json(runs)
        return
    for run in runs:
        question = " ".join(run.question.split())
        out(f"{run.id}  {run.agent:10} {run.exit_reason:12} {run.n_steps:3} steps  {question}")
    if not runs:
        note("there are no runs; create one with: ragkit agent run materials QUESTION")


@app.command()
def show(run: RunArgument = "last", as_json: JsonOption = False) -> None:
    """Show a run: its settings and all steps."""
    from ragkit.agents.traces import TraceStore

    with TraceStore() as store:
        stored = store.show(run)
    if as_json:
        print_json(plain(stored))
        return
    out(f"{stored.id}  {stored.record.agent}  {stored.record.started}  {stored.exit_reason}")
    out(f"question: {stored.record.question}")
    for name, value in stored.record.settings.items():
        out(f"{name}: {json.dumps(value, ensure_ascii=False)}")
    for number, step in enumerate(stored.steps, start=1):
        out(f"{number:3} {step.kind:11} {_line(step.kind, step.body)}")


def _line(kind: str, body: dict[str, Any]) -> str:
    if kind == "action":
        return f"{body['tool']}({json.dumps(body['arguments'], ensure_ascii=False)})"
    return str(body.get("text", "")).replace("\n", f"\n{' ' * 16}")


@app.command()
def replay(run: RunArgument = "last", as_json: JsonOption = False) -> None:
    """Repeat a run with the same settings and compare. Exit code 0: identical; 1: different."""
    from ragkit.agents.recording import replay as replay_run
    from ragkit.agents.traces import TraceStore

    with TraceStore() as store:
        stored = store.show(run)
        new_id, difference = replay_run(stored, store)
    if as_json:
        print_json(
            {"of": stored.id, "run": new_id, "same": not difference, "difference": difference}
        )
    elif difference:
        out(f"{new_id} differs from {stored.id}: {difference}")
    else:
        out(f"{new_id} is identical to {stored.id}")
    if difference:
        raise typer.Exit(1)


@app.command()
def prune(
    keep: Annotated[int, typer.Option(min=0, help="Number of latest runs to keep.")],
    as_json: JsonOption = False,
) -> None:
    """Delete all runs except the latest."""
    from ragkit.agents.traces import TraceStore

    with TraceStore() as store:
        n_removed = store.prune(keep=keep)
    if as_json:
        print_json({"removed": n_removed})
    else:
        out(f"deleted {n_removed} runs")
