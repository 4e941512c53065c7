"""`ragkit agent`: questions to agents, their steps as they happen."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragkit.cli import settings
from ragkit.cli.common import (
    NO_EVIDENCE,
    PARTIAL,
    InOption,
    JsonOption,
    QuietOption,
    collection_path,
    err,
    note,
    open_collection,
    out,
    plain,
    print_json,
    print_losses,
    read_argument,
)
from ragkit.errors import RagkitError

if TYPE_CHECKING:
    from ragkit.agents.definition import AgentDefinition
    from ragkit.agents.react import ReAct
    from ragkit.agents.steps import Run, Step
    from ragkit.agents.tools import Tool
    from ragkit.agents.traces import TraceStore

app = typer.Typer(help="Agents: questions answered in steps, with tools.", no_args_is_help=True)


class BackendChoice(StrEnum):
    """Where materials data come from."""

    snapshot = "snapshot"
    live = "live"


NameArgument = Annotated[str, typer.Argument(help="materials, library, or a .toml file.")]
LlmOption = Annotated[
    str | None,
    typer.Option(
        help="rules (no model), trained (the agent's adapter), auto (rules, then trained), "
        "smollm2, openai:MODEL, URL#MODEL, hf:ORG/NAME, a path."
    ),
]
BackendOption = Annotated[
    BackendChoice | None, typer.Option(help="snapshot (shipped) or live (MP_API_KEY).")
]
TeamOption = Annotated[bool, typer.Option("--team", help="A supervisor with assistants.")]
StepsOption = Annotated[int | None, typer.Option(min=1, help="Actions at most.")]
SecondsOption = Annotated[float | None, typer.Option(min=0.1, help="Seconds at most.")]
TemperatureOption = Annotated[float, typer.Option(min=0, help="Of a language model.")]
SeedOption = Annotated[int, typer.Option(help="Of a language model.")]
PermitOption = Annotated[
    list[str] | None,
    typer.Option("--permit", help="TOOL=allow, ask or deny; may be given several times."),
]
TraceOption = Annotated[bool, typer.Option("--trace/--no-trace", help="Keep the steps.")]


@app.command()
def run(
    name: NameArgument,
    question: Annotated[str, typer.Argument(help="The question; - reads it from stdin.")],
    llm: LlmOption = None,
    backend: BackendOption = None,
    team: TeamOption = False,
    in_: InOption = None,
    max_steps: StepsOption = None,
    max_seconds: SecondsOption = None,
    temperature: TemperatureOption = 0.0,
    seed: SeedOption = 0,
    permit: PermitOption = None,
    trace: TraceOption = True,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Answer a question. Exit code 4: no answer; 3: a limit came first; 1: no data or an error."""
    how = _how(llm, backend, team, temperature, seed, permit, max_steps, max_seconds)
    with ExitStack() as stack:
        agent, how = _load(name, how, in_, stack)
        store = _store(stack) if trace else None
        text = read_argument(question)
        run_id, finished = _play(agent, text, (store, name, how), show=not quiet)
    if as_json:
        source = {"source": {"collection": how["collection"]}} if "collection" in how else {}
        print_json({"run": run_id, **as_answer(finished), **source})
    else:
        _print(finished, run_id, quiet=quiet)
    raise typer.Exit(_exit_code(finished))


@app.command()
def chat(
    name: NameArgument,
    llm: LlmOption = None,
    backend: BackendOption = None,
    team: TeamOption = False,
    in_: InOption = None,
    temperature: TemperatureOption = 0.0,
    seed: SeedOption = 0,
    permit: PermitOption = None,
    trace: TraceOption = True,
    quiet: QuietOption = False,
) -> None:
    """Ask one question after the other; a language model sees the last five. Empty line: end."""
    how = _how(llm, backend, team, temperature, seed, permit, None, None)
    history: list[tuple[str, str]] = []
    with ExitStack() as stack:
        agent, how = _load(name, how, in_, stack)
        store = _store(stack) if trace else None
        prompt = "? " if sys.stdin.isatty() else ""
        while True:
            try:
                question = input(prompt).strip()
            except EOFError:
                break
            if not question:
                break
            run_id, finished = _play(
                agent, question, (store, name, how), history=history, show=not quiet
            )
            _print(finished, run_id, quiet=True)
            history = [*history, (question, finished.text)][-5:]


@app.command(name="list")
def list_(as_json: JsonOption = False) -> None:
    """The agents that can be run by name."""
    from ragkit.agents.definition import agent_names, load_definition

    found = [load_definition(name) for name in agent_names()]
    if as_json:
        print_json([{"name": each.name, "about": each.about} for each in found])
    else:
        for each in found:
            out(f"{each.name:10} {each.about}")


@app.command()
def show(
    name: NameArgument,
    llm: LlmOption = None,
    backend: BackendOption = None,
    team: TeamOption = False,
    in_: InOption = None,
    as_json: JsonOption = False,
) -> None:
    """An agent's tools, limits and permissions, and the prompt byte for byte as it is sent."""
    from ragkit.agents.definition import describe, load_definition, system_prompts

    definition = load_definition(name)
    how = _how(llm, backend, team, 0.0, 0, None, None, None)
    with ExitStack() as stack:
        agent, _ = _load(name, how, in_, stack)
        about = describe(agent)
        prompts = [{"planner": who, "system": text} for who, text in system_prompts(agent)]
    if as_json:
        tools = [
            {"name": tool.name, "about": tool.description, "parameters": tool.parameters()}
            for tool in agent.tools
        ]
        print_json({"name": definition.name, **about, "schemas": tools, "prompts": prompts})
        return
    _show(definition, about, agent.tools)
    for prompt in prompts:
        out(f"\nprompt for {prompt['planner']}:\n{prompt['system']}")


def _show(definition: AgentDefinition, about: Mapping[str, Any], tools: Sequence[Tool]) -> None:
    out(f"{definition.name}: {definition.about}")
    out(f"planner: {about['planner']}")
    out("limits: " + ", ".join(f"{key} {value:g}" for key, value in about["limits"].items()))
    out("tools:")
    for tool in tools:
        out(f"  {tool.name} [{about['tools'][tool.name]}]: {tool.description}")


def _how(
    llm: str | None,
    backend: BackendChoice | None,
    team: bool,
    temperature: float,
    seed: int,
    permit: Sequence[str] | None,
    max_steps: int | None,
    max_seconds: float | None,
) -> dict[str, Any]:
    """What was asked for, as `AgentOptions` takes it and as a trace keeps it."""
    limits = {"max_steps": max_steps, "max_seconds": max_seconds}
    permissions = dict(_permission(each) for each in permit or ())
    how: dict[str, Any] = {
        "llm": llm,
        "backend": backend and backend.value,
        "team": team,
        "limits": {key: value for key, value in limits.items() if value is not None},
        "permissions": permissions,
        "temperature": temperature,
        "seed": seed,
    }
    return how


def _permission(text: str) -> tuple[str, str]:
    tool, _, permission = text.partition("=")
    if permission not in ("allow", "ask", "deny"):
        raise ValueError(f"--permit is {text!r}; expected TOOL=allow, TOOL=ask or TOOL=deny")
    return tool, permission


def _load(
    name: str, how: dict[str, Any], in_: Path | None, stack: ExitStack
) -> tuple[ReAct, dict[str, Any]]:
    from ragkit.agents.definition import AgentOptions, load_agent, load_definition
    from ragkit.agents.recording import Approvals

    definition = load_definition(name)
    named = settings.value("llm", how["llm"])
    how = {**how, "llm": named or definition.llm}
    collection = None
    if "library" in definition.toolkits:
        collection = stack.enter_context(open_collection(in_))
        how["collection"] = str(collection_path(in_).resolve())
    elif in_ is not None:
        raise ValueError(
            f"--in was given, and the agent {name!r} reads no collection; leave it out"
        )
    kept = {key: value for key, value in how.items() if key != "collection"}
    options = AgentOptions(**kept, collection=collection, approve=Approvals(_approve))
    return load_agent(name, options), how


def _approve(tool: Tool, arguments: Mapping[str, Any], copied: Sequence[str]) -> bool:
    """Ask at the terminal; without one the answer is no."""
    if not sys.stdin.isatty():
        return False
    given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    warning = f" ({', '.join(copied)} was copied from what a tool returned)" if copied else ""
    return typer.confirm(f"run {tool.name}({given}){warning}?", default=False, err=True)


def _store(stack: ExitStack) -> TraceStore | None:
    """The trace store; where it cannot be written the question is answered all the same."""
    from ragkit.agents.traces import TraceStore

    try:
        return stack.enter_context(TraceStore())
    except RagkitError as error:
        note(f"no trace is kept: {error}")
        return None


def _play(
    agent: ReAct,
    question: str,
    where: tuple[TraceStore | None, str, Mapping[str, Any]],
    *,
    history: Sequence[tuple[str, str]] = (),
    show: bool,
) -> tuple[str, Run]:
    from ragkit.agents.recording import record

    store, name, how = where
    recorded: Any = (
        agent.stream(question, history=history)
        if store is None
        else record(agent, question, store, name=name, how=how, history=history)
    )
    while True:
        try:
            step = next(recorded)
        except StopIteration as end:
            finished: tuple[str, Run] = end.value if store is not None else ("", end.value)
            return finished
        if show:
            print_step(step)


def print_step(step: Step) -> None:
    """One step on stderr; the final one is the answer and goes to stdout elsewhere."""
    if step.kind == "thought":
        err.print(f"thought  {step.text}", style="dim", markup=False, soft_wrap=True)
    elif step.kind == "action":
        given = ", ".join(f"{key}={value!r}" for key, value in step.arguments.items())
        err.print(f"action   {step.tool}({given})", style="bold", markup=False, soft_wrap=True)
    elif step.kind == "observation":
        style = "red" if step.error else "dim"
        err.print(step.text, style=style, markup=False, soft_wrap=True)


def _print(finished: Run, run_id: str, *, quiet: bool) -> None:
    print_losses(finished.losses)
    for step in finished.steps:
        if step.kind == "observation" and step.file:
            out(step.file)
    out(finished.text)
    if run_id and not quiet:
        note(f"trace {run_id}: ragkit trace show {run_id}")


def as_answer(finished: Run) -> dict[str, Any]:
    """The run as JSON: the answer first; with quotations, as `ragkit verify` reads it."""
    from ragkit.agents.render import citations_of

    final = finished.final
    rows = {row_id: asdict(row) for row_id, row in final.rows.items()}
    citations, sentences = citations_of(final.rows)
    checked = {"sentences": plain(sentences), "citations": plain(citations)} if citations else {}
    return {
        "question": finished.question,
        "text": final.text,
        "exit_reason": final.exit_reason,
        "complete": final.complete,
        "refusal": final.refusal and {"reason": final.refusal},
        "rows": rows,
        "also": [asdict(each) for each in final.also],
        "note": final.note,
        **checked,
        "steps": [asdict(step) for step in finished.steps[:-1]],
        "usage": asdict(finished.usage),
        "seconds": round(finished.seconds, 3),
        "losses": [asdict(loss) for loss in finished.losses],
    }


def _exit_code(finished: Run) -> int:
    if finished.final.refusal is not None:
        return 1 if finished.final.refusal == "unavailable" else NO_EVIDENCE
    return 0 if finished.final.complete else PARTIAL
