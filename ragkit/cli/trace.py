"""`ragkit trace`: what agents did."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from ragkit.cli.common import JsonOption, note, out, plain, print_json

app = typer.Typer(help="Traces of agent runs: list, show, replay, prune.", no_args_is_help=True)

RunArgument = Annotated[str, typer.Argument(help="A run's id, the beginning of one, or last.")]


@app.command(name="list")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="How many, the latest first.")] = 20,
    agent: Annotated[str | None, typer.Option(help="Of this agent only.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The latest runs."""
    from ragkit.agents.traces import TraceStore

    with TraceStore() as store:
        runs = store.list(limit, agent)
    if as_json:
        print_json(runs)
        return
    for each in runs:
        question = " ".join(each.question.split())
        out(f"{each.id}  {each.agent:10} {each.exit_reason:12} {each.n_steps:3} steps  {question}")
    if not runs:
        note("no runs yet; make one with: ragkit agent run materials QUESTION")


@app.command()
def show(run: RunArgument = "last", as_json: JsonOption = False) -> None:
    """One run: its settings, every step, its end."""
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
    """Run it again with the same settings and compare. Exit code 0: the same bytes; 1: not."""
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
        out(f"{new_id} is the same as {stored.id}, byte for byte")
    if difference:
        raise typer.Exit(1)


@app.command()
def prune(
    keep: Annotated[int, typer.Option(min=0, help="How many of the latest runs stay.")],
    as_json: JsonOption = False,
) -> None:
    """Remove all runs but the latest."""
    from ragkit.agents.traces import TraceStore

    with TraceStore() as store:
        removed = store.prune(keep=keep)
    if as_json:
        print_json({"removed": removed})
    else:
        out(f"removed {removed} runs")
