"""Agent definitions: `agents/<name>.toml` says what, `agents/<name>.md` says it to the model."""

from __future__ import annotations

import re
import string
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ragkit.agents.auto import AutoPlanner
from ragkit.agents.planner import LLMPlanner, Planner
from ragkit.agents.react import Approve, ReAct
from ragkit.agents.steps import Limits
from ragkit.agents.team import Assistant, team_tools
from ragkit.agents.tools import Permission, Tool
from ragkit.agents.trained import SECTION, trained_planner, why_not_trained
from ragkit.digests import text_digest
from ragkit.errors import ModelError, RagkitError
from ragkit.recipes import roots

if TYPE_CHECKING:
    from ragkit.collection import Collection
    from ragkit.types import LLM

RULES, TRAINED, AUTO = "rules", "trained", "auto"
_PROMPTED = LLMPlanner, AutoPlanner


class AssistantDefinition(BaseModel):
    """One assistant of a team: what the supervisor is told of it, and its tools."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: str
    tools: list[str] = Field(min_length=1)


class AgentDefinition(BaseModel):
    """`agents/<name>.toml`.

    Attributes:
        name: What it is called.
        about: One sentence.
        toolkits: Where its tools come from: "materials", "calculator", "library", "sql".
        llm: The default planner: "rules" (no language model), "trained" (the agent's adapter),
            "auto" (the adapter where the rules cannot read a question) or a model's name.
        backend: Of the materials toolkit: "snapshot" or "live".
        limits: See `ragkit.agents.steps.Limits`.
        permissions: By tool name: "allow", "ask" or "deny".
        assistants: Of `team=True`, by name.
        database: Of the sql toolkit: a SQLite file, relative to the definition's folder.
        tables: Of the sql toolkit: those that may be read; empty means all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    about: str
    toolkits: list[Literal["materials", "calculator", "library", "sql"]] = Field(min_length=1)
    llm: str = RULES
    backend: Literal["snapshot", "live"] = "snapshot"
    limits: dict[str, int | float] = {}
    permissions: dict[str, Permission] = {}
    assistants: dict[str, AssistantDefinition] = {}
    database: str = ""
    tables: list[str] = []
    folder: Path = Path()
    prompts: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """What may be said otherwise when an agent is loaded; None takes the definition's word.

    Attributes:
        llm: "rules", "trained", "auto", a model's name, or a model or planner itself.
        backend: Of the materials toolkit.
        collection: Of the library toolkit.
        team: A supervisor with assistants instead of one agent with all tools.
        limits: By name, see `Limits`.
        permissions: By tool name.
        approve: See `ReAct`.
        temperature: Of a language model.
        seed: Of a language model.
    """

    llm: str | LLM | Planner | None = None
    backend: Literal["snapshot", "live"] | None = None
    collection: Collection | None = None
    team: bool = False
    limits: Mapping[str, float] = field(default_factory=dict)
    permissions: Mapping[str, Permission] = field(default_factory=dict)
    approve: Approve | None = None
    temperature: float = 0.0
    seed: int = 0


def agent_names() -> list[str]:
    """The agents that can be found by name."""
    folders = [root for root in roots("agents") if root.is_dir()]
    return sorted({path.stem for folder in folders for path in folder.glob("*.toml")})


def load_definition(name: str | Path) -> AgentDefinition:
    """The definition of that name, or at that path.

    Raises:
        RagkitError: It is nowhere, or says something that is not understood.
    """
    given = Path(name)
    looked = [given, *(root / f"{name}.toml" for root in roots("agents"))]
    found = next((path for path in looked if path.suffix == ".toml" and path.is_file()), None)
    if found is None:
        raise RagkitError(
            f"there is no agent {str(name)!r}; known here: {', '.join(agent_names()) or 'none'}. "
            "Give one of them, or the path of a .toml file."
        )
    try:
        table = tomllib.loads(found.read_text("utf-8"))
        prompts = _sections(found.with_suffix(".md").read_text("utf-8"))
        return AgentDefinition(**table, folder=found.parent, prompts=prompts)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError, TypeError) as error:
        raise RagkitError(f"the agent {str(found)!r} cannot be used: {error}") from error
    except OSError as error:
        raise RagkitError(f"{error.filename!r} cannot be read: {error.strerror}") from error


def _sections(text: str) -> dict[str, str]:
    """The text under each `## name`."""
    parts = re.split(r"^## (\w+)\n", text, flags=re.MULTILINE)
    return {name: body.strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def load_agent(name: str | Path, options: AgentOptions | None = None) -> ReAct:
    """The agent of that name, ready to run.

    Raises:
        RagkitError: The definition is missing or wrong, or a part of it cannot be had (a model, a
            snapshot, a key).
        ValueError: An option makes no sense for this agent.

    >>> run = load_agent("materials").run("What is the band gap of GaAs?")
    >>> run.text.splitlines()[0][:37]
    'GaAs (mp-2534, F-43m): band gap 0.186'
    """
    options = options or AgentOptions()
    definition = load_definition(name)
    tools, related = _toolkits(definition, options)
    wanted = {**definition.permissions, **options.permissions}
    offered = [tool for tool in tools if wanted.get(tool.name, tool.permission) != "deny"]
    planner = _planner(definition, options, offered)
    agent = ReAct(
        planner,
        tools,
        role=_prompt(definition, "agent"),
        limits=_limits(definition, options),
        approve=options.approve,
        related=related,
        temperature=options.temperature,
        seed=options.seed,
    )
    if options.team:
        agent = _team(definition, agent, wanted)
    names = {tool.name for tool in agent.tools}
    unknown = sorted(set(options.permissions) - {tool.name for tool in tools} - names)
    if unknown:
        raise ValueError(
            f"{definition.name!r} has no tool {', '.join(unknown)}; "
            f"it has {', '.join(tool.name for tool in agent.tools)}"
        )
    return replace(agent, permissions=_permissions(wanted, agent.tools))


def _prompt(definition: AgentDefinition, section: str, **values: str) -> str:
    if section not in definition.prompts:
        raise RagkitError(f"the prompt of {definition.name!r} has no section '## {section}'")
    return string.Template(definition.prompts[section]).substitute(values)


def _limits(definition: AgentDefinition, options: AgentOptions) -> Limits:
    known = {each.name for each in fields(Limits)}
    given = {**definition.limits, **options.limits}
    unknown = sorted(set(given) - known)
    if unknown:
        raise RagkitError(f"unknown limits {', '.join(unknown)}; known are {', '.join(known)}")
    return Limits(**given)  # type: ignore[arg-type]


def _planner(
    definition: AgentDefinition, options: AgentOptions, tools: Sequence[Tool]
) -> LLM | Planner:
    named = options.llm if options.llm is not None else definition.llm
    if not isinstance(named, str):
        return named
    if named == AUTO and options.team:
        named = TRAINED  # the rules need no team
    if named == TRAINED:
        found = _trained(definition, tools)
        if isinstance(found, str):
            raise ModelError(f"the agent {definition.name!r} has no trained planner here: {found}")
        return found
    if named not in (RULES, AUTO):
        from ragkit.llms import load_llm

        return load_llm(named)
    if "materials" not in definition.toolkits:
        raise ValueError(
            f"the planner {named!r} knows materials only, and {definition.name!r} has not those "
            "tools; name a language model with --llm"
        )
    if options.team:
        raise ValueError("the planner 'rules' needs no team; name a language model with --llm")
    from ragkit.agents.materials.question.rules import RulePlanner

    if named == RULES:
        return RulePlanner()
    find = partial(_trained, definition, tools)
    return AutoPlanner(RulePlanner(), find, definition.prompts.get(SECTION, ""))


def _trained(definition: AgentDefinition, tools: Sequence[Tool]) -> Planner | str:
    """The planner that the agent's adapter makes, or why there is none."""
    return why_not_trained(definition, tools) or trained_planner(definition)


def _toolkits(definition: AgentDefinition, options: AgentOptions) -> tuple[list[Tool], Any]:
    tools: list[Tool] = []
    related = None
    for kit in definition.toolkits:
        if kit == "materials":
            from ragkit.agents.materials.toolkit import materials_toolkit

            found, related = materials_toolkit(options.backend or definition.backend)
            tools += found
        elif kit == "calculator":
            from ragkit.agents.calculator import calculator_tools

            tools += calculator_tools()
        elif kit == "sql":
            tools.append(_sql(definition))
        else:
            tools += _library(definition, options)
    return tools, related


def _sql(definition: AgentDefinition) -> Tool:
    from ragkit.agents.sql import sql_tool

    if not definition.database:
        raise RagkitError(f"the agent {definition.name!r} has the sql toolkit and no `database`")
    return sql_tool(definition.folder / definition.database, tables=definition.tables or None)


def _library(definition: AgentDefinition, options: AgentOptions) -> list[Tool]:
    from ragkit.agents.library import library_tools
    from ragkit.pipeline import QA
    from ragkit.readers import load_reader

    if options.collection is None:
        raise ValueError(f"the agent {definition.name!r} reads a collection; name one (--in PATH)")
    retriever = options.collection.retriever("hybrid")
    return library_tools(retriever, QA(retriever, load_reader("auto", options.collection.embedder)))


def _permissions(wanted: Mapping[str, Permission], tools: Sequence[Tool]) -> dict[str, Permission]:
    return {tool.name: wanted[tool.name] for tool in tools if tool.name in wanted}


def _team(definition: AgentDefinition, flat: ReAct, permissions: Mapping[str, Permission]) -> ReAct:
    if not definition.assistants:
        raise ValueError(f"the agent {definition.name!r} defines no assistants; leave --team out")
    by_name = {tool.name: tool for tool in flat.tools}
    assistants: list[Assistant] = []
    given: set[str] = set()
    for name, each in definition.assistants.items():
        held = [by_name[tool] for tool in each.tools if tool in by_name]
        held = [tool for tool in held if permissions.get(tool.name, tool.permission) != "deny"]
        given |= set(each.tools)
        if held:
            role = _prompt(definition, "assistant", name=name.replace("_", " "), about=each.about)
            limits = replace(flat.limits, max_steps=min(5, flat.limits.max_steps))
            agent = replace(
                flat,
                tools=held,
                role=role,
                limits=limits,
                related=None,
                permissions=_permissions(permissions, held),
            )
            assistants.append(Assistant(name, each.about, agent))
    own = [tool for tool in flat.tools if tool.name not in given]
    role = _prompt(definition, "supervisor")
    return replace(flat, tools=team_tools(assistants, own), role=role)


def describe(agent: ReAct) -> dict[str, Any]:
    """What a trace records of an agent: enough to know whether another one is the same."""
    from ragkit.agents.materials.toolkit import Related

    planner = agent.turns_of
    prompt = planner.prompt(agent.offered) if isinstance(planner, _PROMPTED) else ""
    backend: dict[str, Any] = {}
    if isinstance(agent.related, Related):
        source = agent.related.backend
        # The live version is not known before the first search, so it would differ between turns.
        version = {"version": source.version} if source.name == "snapshot" else {}
        backend = {"backend": {"name": source.name, **version}}
    return {
        "planner": planner.name,
        **backend,
        "tools": {
            tool.name: agent.permissions.get(tool.name, tool.permission) for tool in agent.tools
        },
        "prompt": text_digest(prompt) if prompt else "",
        "limits": {each.name: getattr(agent.limits, each.name) for each in fields(Limits)},
        "temperature": agent.temperature,
        "seed": agent.seed,
    }


def system_prompts(agent: ReAct) -> Sequence[tuple[str, str]]:
    """(who, system message) of a language-model agent, byte for byte as it is sent."""
    planner = agent.turns_of
    return [(planner.name, planner.prompt(agent.offered))] if isinstance(planner, _PROMPTED) else []
