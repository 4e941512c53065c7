"""`ragkit agent`: run agents and show their steps."""

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

app = typer.Typer(help="Run agents, which answer questions with tools.", no_args_is_help=True)


class BackendChoice(StrEnum):
    """Sources of materials data."""

    snapshot = "snapshot"
    live = "live"


NameArgument = Annotated[str, typer.Argument(help="Agent: materials, library, or a .toml file.")]
LlmOption = Annotated[
    str | None,
    typer.Option(
        help="Planner: rules (no model), trained (the agent's adapter), auto (rules, then "
        "trained), or a model: smollm2, openai:MODEL, URL#MODEL, hf:ORG/NAME, a path."
    ),
]
BackendOption = Annotated[
    BackendChoice | None,
    typer.Option(help="Data source: snapshot (shipped) or live (needs MP_API_KEY)."),
]
TeamOption = Annotated[bool, typer.Option("--team", help="Use a supervisor with assistants.")]
StepsOption = Annotated[int | None, typer.Option(min=1, help="Maximum number of actions.")]
SecondsOption = Annotated[float | None, typer.Option(min=0.1, help="Time limit in seconds.")]
TemperatureOption = Annotated[float, typer.Option(min=0, help="Temperature of a language model.")]
SeedOption = Annotated[int, typer.Option(help="Random seed of a language model.")]
PermitOption = Annotated[
    list[str] | None,
    typer.Option("--permit", help="Permission: TOOL=allow, ask or deny; repeatable."),
]
TraceOption = Annotated[bool, typer.Option("--trace/--no-trace", help="Store the steps.")]


@app.command()
def run(
    name: NameArgument,
    question: Annotated[str, typer.Argument(help="Question; - reads stdin.")],
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
    """Answer a question. Exit code 4: no answer; 3: limit reached; 1: no data or an error."""
    config = _run_options(llm, backend, team, temperature, seed, permit, max_steps, max_seconds)
    with ExitStack() as stack:
        agent, config = _load(name, config, in_, stack)
        store = _store(stack) if trace else None
        text = read_argument(question)
        run_id, finished = _stream_run(agent, text, (store, name, config), show=not quiet)
    if as_json:
        source = {"source": {"collection": config["collection"]}} if "collection" in config else {}
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
    """Answer questions interactively; a model sees the last five. An empty line ends the chat."""
    config = _run_options(llm, backend, team, temperature, seed, permit, None, None)
    history: list[tuple[str, str]] = []
    with ExitStack() as stack:
        agent, config = _load(name, config, in_, stack)
        store = _store(stack) if trace else None
        prompt = "? " if sys.stdin.isatty() else ""
        while True:
            try:
                question = input(prompt).strip()
            except EOFError:
                break
            if not question:
                break
            run_id, finished = _stream_run(
                agent, question, (store, name, config), history=history, show=not quiet
            )
            _print(finished, run_id, quiet=True)
            history = [*history, (question, finished.text)][-5:]


@app.command(name="list")
def list_(as_json: JsonOption = False) -> None:
    """List the agents that can be run by name."""
    from ragkit.agents.definition import agent_names, load_definition

    definitions = [load_definition(name) for name in agent_names()]
    if as_json:
        print_json([{"name": agent.name, "about": agent.about} for agent in definitions])
    else:
        for agent in definitions:
            out(f"{agent.name:10} {agent.about}")


@app.command()
def show(
    name: NameArgument,
    llm: LlmOption = None,
    backend: BackendOption = None,
    team: TeamOption = False,
    in_: InOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the tools, limits, permissions and system prompts of an agent."""
    from ragkit.agents.definition import describe, load_definition, system_prompts

    definition = load_definition(name)
    config = _run_options(llm, backend, team, 0.0, 0, None, None, None)
    with ExitStack() as stack:
        agent, _ = _load(name, config, in_, stack)
        description = describe(agent)
        prompts = [{"planner": role, "system": text} for role, text in system_prompts(agent)]
    if as_json:
        tools = [
            {"name": tool.name, "about": tool.description, "parameters": tool.parameters()}
            for tool in agent.tools
        ]
        print_json({"name": definition.name, **description, "schemas": tools, "prompts": prompts})
        return
    _show(definition, description, agent.tools)
    for prompt in prompts:
        out(f"\nprompt for {prompt['planner']}:\n{prompt['system']}")


def _show(
    definition: AgentDefinition, description: Mapping[str, Any], tools: Sequence[Tool]
) -> None:
    out(f"{definition.name}: {definition.about}")
    out(f"planner: {description['planner']}")
    out("limits: " + ", ".join(f"{key} {value:g}" for key, value in description["limits"].items()))
    out("tools:")
    for tool in tools:
        out(f"  {tool.name} [{description['tools'][tool.name]}]: {tool.description}")


def _run_options(
    llm: str | None,
    backend: BackendChoice | None,
    team: bool,
    temperature: float,
    seed: int,
    permit: Sequence[str] | None,
    max_steps: int | None,
    max_seconds: float | None,
) -> dict[str, Any]:
    """Return the options as arguments of `AgentOptions`, which are stored in the trace."""
    limits = {"max_steps": max_steps, "max_seconds": max_seconds}
    permissions = dict(_permission(text) for text in permit or ())
    config: dict[str, Any] = {
        "llm": llm,
        "backend": backend and backend.value,
        "team": team,
        "limits": {key: value for key, value in limits.items() if value is not None},
        "permissions": permissions,
        "temperature": temperature,
        "seed": seed,
    }
    return config


def _permission(text: str) -> tuple[str, str]:
    tool, _, permission = text.partition("=")
    if permission not in ("allow", "ask", "deny"):
        raise ValueError(f"--permit is {text!r}; expected TOOL=allow, TOOL=ask or TOOL=deny")
    return tool, permission


def _load(
    name: str, config: dict[str, Any], in_: Path | None, stack: ExitStack
) -> tuple[ReAct, dict[str, Any]]:
    from ragkit.agents.definition import AgentOptions, load_agent, load_definition
    from ragkit.agents.recording import Approvals

    definition = load_definition(name)
    llm = settings.value("llm", config["llm"])
    config = {**config, "llm": llm or definition.llm}
    collection = None
    if "library" in definition.toolkits:
        collection = stack.enter_context(open_collection(in_))
        config["collection"] = str(collection_path(in_).resolve())
    elif in_ is not None:
        raise ValueError(f"--in is set, but the agent {name!r} uses no collection; omit the option")
    arguments = {key: value for key, value in config.items() if key != "collection"}
    options = AgentOptions(**arguments, collection=collection, approve=Approvals(_approve))
    return load_agent(name, options), config


def _approve(tool: Tool, arguments: Mapping[str, Any], copied: Sequence[str]) -> bool:
    """Ask the user at the terminal; deny if there is no terminal."""
    if not sys.stdin.isatty():
        return False
    call = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    warning = f" ({', '.join(copied)} copied from the output of a tool)" if copied else ""
    return typer.confirm(f"run {tool.name}({call}){warning}?", default=False, err=True)


def _store(stack: ExitStack) -> TraceStore | None:
    """Open the trace store; return None if it cannot be written."""
    from ragkit.agents.traces import TraceStore

    try:
        return stack.enter_context(TraceStore())
    except RagkitError as error:
        note(f"the trace is not stored: {error}")
        return None


def _stream_run(
    agent: ReAct,
    question: str,
    where: tuple[TraceStore | None, str, Mapping[str, Any]],
    *,
    history: Sequence[tuple[str, str]] = (),
    show: bool,
) -> tuple[str, Run]:
    from ragkit.agents.recording import record

    store, name, config = where
    steps: Any = (
        agent.stream(question, history=history)
        if store is None
        else record(agent, question, store, name=name, how=config, history=history)
    )
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            finished: tuple[str, Run] = end.value if store is not None else ("", end.value)
            return finished
        if show:
            print_step(step)


def print_step(step: Step) -> None:
    """Print a step to stderr, except the final one, which is printed to stdout as the answer."""
    if step.kind == "thought":
        err.print(f"thought  {step.text}", style="dim", markup=False, soft_wrap=True)
    elif step.kind == "action":
        arguments = ", ".join(f"{key}={value!r}" for key, value in step.arguments.items())
        err.print(f"action   {step.tool}({arguments})", style="bold", markup=False, soft_wrap=True)
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
    """Convert a run to the JSON object of an answer, which `ragkit verify` can check."""
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
        "also": [asdict(fact) for fact in final.also],
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
