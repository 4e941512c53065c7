"""Load agents from `agents/<name>.toml` (configuration) and `agents/<name>.md` (prompts)."""

from __future__ import annotations

import re
import string
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ragkit.agents.auto import AutoPlanner
from ragkit.agents.planner import LLMPlanner, Planner
from ragkit.agents.react import Approve, ReAct
from ragkit.agents.steps import RunLimits
from ragkit.agents.team import Assistant, team_tools
from ragkit.agents.templates import TEMPLATES, Templates
from ragkit.agents.toolkits import Toolkit, ToolkitSettings, check_toolkits, load_toolkit
from ragkit.agents.tools import Permission, Tool
from ragkit.agents.trained import (
    trained_planner,
    trained_prompt,
    trained_templates,
    why_not_trained,
)
from ragkit.digests import text_digest
from ragkit.errors import ModelError, RagkitError
from ragkit.recipes import search_folders

if TYPE_CHECKING:
    from ragkit.collection import Collection
    from ragkit.types import LLM

RULES, TRAINED, AUTO = "rules", "trained", "auto"
_PROMPTED = LLMPlanner, AutoPlanner


class AssistantDefinition(BaseModel):
    """Assistant of a team: its description for the supervisor, and its tools."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: str
    tools: list[str] = Field(min_length=1)


class AgentDefinition(BaseModel):
    """Contents of `agents/<name>.toml`.

    Attributes:
        name: Name of the agent.
        about: One-sentence description.
        toolkits: Names of the toolkits that provide its tools, see `ragkit.agents.toolkits`.
        llm: Default planner: "rules" (no language model), "trained" (the agent's adapter), "auto"
            (rules, with the adapter as fallback) or the name of a model.
        backend: Data source, for toolkits with several; "" selects the toolkit's default.
        limits: Fields of `ragkit.agents.steps.RunLimits`.
        permissions: "allow", "ask" or "deny" by tool name.
        assistants: Assistants for `team=True`, by name.
        database: SQLite file of the sql toolkit, relative to the definition's folder.
        tables: Tables that the sql toolkit may read; empty means all.
        folder: Folder of the file, set on loading.
        prompts: Sections of `agents/<name>.md`, set on loading.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    about: str
    toolkits: list[str] = Field(min_length=1)
    llm: str = RULES
    backend: str = ""
    limits: dict[str, int | float] = {}
    permissions: dict[str, Permission] = {}
    assistants: dict[str, AssistantDefinition] = {}
    database: str = ""
    tables: list[str] = []
    folder: Path = Path()
    prompts: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """Overrides of an agent's definition; None keeps the definition's value.

    Attributes:
        llm: "rules", "trained", "auto", the name of a model, or a model or planner instance.
        backend: Data source, for toolkits with several.
        collection: Collection for the toolkits that search one.
        team: Build a supervisor with assistants instead of one agent with all tools.
        limits: Values for fields of `RunLimits`, by name.
        permissions: "allow", "ask" or "deny" by tool name.
        approve: Callback for tools with permission "ask", see `ReAct`.
        temperature: Sampling temperature of a language model.
        seed: Random seed of a language model.
    """

    llm: str | LLM | Planner | None = None
    backend: str | None = None
    collection: Collection | None = None
    team: bool = False
    limits: Mapping[str, float] = field(default_factory=dict)
    permissions: Mapping[str, Permission] = field(default_factory=dict)
    approve: Approve | None = None
    temperature: float = 0.0
    seed: int = 0


def agent_names() -> list[str]:
    """Return the names of the agents that can be loaded by name."""
    folders = [root for root in search_folders("agents") if root.is_dir()]
    return sorted({path.stem for folder in folders for path in folder.glob("*.toml")})


def load_definition(name: str | Path) -> AgentDefinition:
    """Load an agent definition by name or from the path of a .toml file.

    Raises:
        RagkitError: The file is missing, unreadable or invalid.
    """
    path = Path(name)
    candidates = [path, *(root / f"{name}.toml" for root in search_folders("agents"))]
    file = next(
        (
            candidate
            for candidate in candidates
            if candidate.suffix == ".toml" and candidate.is_file()
        ),
        None,
    )
    if file is None:
        raise RagkitError(
            f"there is no agent {str(name)!r}; known agents: {', '.join(agent_names()) or 'none'}. "
            "Pass one of these names or the path of a .toml file."
        )
    try:
        table = tomllib.loads(file.read_text("utf-8"))
        prompts = _sections(file.with_suffix(".md").read_text("utf-8"))
        definition = AgentDefinition(**table, folder=file.parent, prompts=prompts)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError, TypeError) as error:
        raise RagkitError(f"the agent definition {str(file)!r} is invalid: {error}") from error
    except OSError as error:
        raise RagkitError(f"{error.filename!r} cannot be read: {error.strerror}") from error
    check_toolkits(definition.name, definition.toolkits)
    return definition


def _sections(text: str) -> dict[str, str]:
    """Split a Markdown text into its level-2 sections, by title."""
    parts = re.split(r"^## (\w+)\n", text, flags=re.MULTILINE)
    return {name: body.strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def load_agent(name: str | Path, options: AgentOptions | None = None) -> ReAct:
    """Load an agent that is ready to run.

    Args:
        name: Name of the agent, or path of its .toml file.
        options: Overrides of the definition.

    Raises:
        RagkitError: The definition is missing or invalid, or something it needs is unavailable (a
            model, a snapshot, a key).
        ValueError: An option does not apply to this agent.

    >>> run = load_agent("materials").run("What is the band gap of GaAs?")
    >>> run.text.splitlines()[0][:37]
    'GaAs (mp-2534, F-43m): band gap 0.186'
    """
    options = options or AgentOptions()
    definition = load_definition(name)
    toolkits = _toolkits(definition, options)
    tools = [tool for toolkit in toolkits for tool in toolkit.tools]
    related = next((toolkit for toolkit in toolkits if toolkit.related is not None), Toolkit([]))
    permissions = {**definition.permissions, **options.permissions}
    offered = [tool for tool in tools if permissions.get(tool.name, tool.permission) != "deny"]
    planner = _planner(definition, options, offered, toolkits)
    agent = ReAct(
        planner,
        tools,
        role=_prompt(definition, "agent"),
        limits=_limits(definition, options),
        approve=options.approve,
        related=related.related,
        related_heading=related.related_heading,
        left_out=next((kit.left_out for kit in toolkits if kit.left_out is not None), None),
        templates=_templates(definition, planner),
        provenance={
            key: value for toolkit in toolkits for key, value in toolkit.provenance.items()
        },
        temperature=options.temperature,
        seed=options.seed,
    )
    if options.team:
        agent = _team(definition, agent, permissions)
    names = {tool.name for tool in agent.tools}
    unknown = sorted(set(options.permissions) - {tool.name for tool in tools} - names)
    if unknown:
        raise ValueError(
            f"{definition.name!r} has no tool {', '.join(unknown)}; "
            f"it has {', '.join(tool.name for tool in agent.tools)}"
        )
    return replace(agent, permissions=_permissions(permissions, agent.tools))


def _prompt(definition: AgentDefinition, section: str, **values: str) -> str:
    if section not in definition.prompts:
        raise RagkitError(f"the prompt file of {definition.name!r} has no section '## {section}'")
    return string.Template(definition.prompts[section]).substitute(values)


def _limits(definition: AgentDefinition, options: AgentOptions) -> RunLimits:
    known = {limit.name for limit in fields(RunLimits)}
    values = {**definition.limits, **options.limits}
    unknown = sorted(set(values) - known)
    if unknown:
        raise RagkitError(f"unknown limits {', '.join(unknown)}; expected {', '.join(known)}")
    return RunLimits(**values)  # type: ignore[arg-type]


def _planner(
    definition: AgentDefinition,
    options: AgentOptions,
    tools: Sequence[Tool],
    toolkits: list[Toolkit],
) -> LLM | Planner:
    choice = options.llm if options.llm is not None else definition.llm
    if not isinstance(choice, str):
        return choice
    if choice == AUTO and options.team:
        choice = TRAINED  # the rules cannot use assistants
    if choice == TRAINED:
        planner = _trained(definition, tools)
        if isinstance(planner, str):
            raise ModelError(
                f"the trained planner of {definition.name!r} is unavailable: {planner}"
            )
        return planner
    if choice not in (RULES, AUTO):
        from ragkit.llms import load_llm

        return load_llm(choice)
    rules = next((toolkit.planner for toolkit in toolkits if toolkit.planner is not None), None)
    if rules is None:
        raise ValueError(
            f"the planner {choice!r} needs a toolkit with rules, but the toolkits of "
            f"{definition.name!r} have none: {', '.join(definition.toolkits)}. Choose a language "
            "model with --llm"
        )
    if options.team:
        raise ValueError(
            "the planner 'rules' cannot run a team; choose a language model with --llm"
        )
    if choice == RULES:
        return rules
    load = partial(_trained, definition, tools)
    return AutoPlanner(rules, load, partial(trained_prompt, definition))


def _templates(definition: AgentDefinition, planner: LLM | Planner) -> Templates:
    """Return the templates that the planner's model was trained with."""
    if isinstance(planner, LLMPlanner):
        return planner.templates
    return trained_templates(definition) if isinstance(planner, AutoPlanner) else TEMPLATES


def _trained(definition: AgentDefinition, tools: Sequence[Tool]) -> Planner | str:
    """Load the planner of the agent's adapter, or return the reason why it is unavailable."""
    return why_not_trained(definition, tools) or trained_planner(definition)


def _toolkits(definition: AgentDefinition, options: AgentOptions) -> list[Toolkit]:
    settings = ToolkitSettings(
        definition.name,
        definition.folder,
        backend=options.backend or definition.backend,
        database=definition.database,
        tables=definition.tables,
        collection=options.collection,
    )
    return [load_toolkit(name, settings) for name in definition.toolkits]


def _permissions(
    permissions: Mapping[str, Permission], tools: Sequence[Tool]
) -> dict[str, Permission]:
    return {tool.name: permissions[tool.name] for tool in tools if tool.name in permissions}


def _team(definition: AgentDefinition, flat: ReAct, permissions: Mapping[str, Permission]) -> ReAct:
    if not definition.assistants:
        raise ValueError(f"the agent {definition.name!r} has no assistants; run it without --team")
    by_name = {tool.name: tool for tool in flat.tools}
    assistants: list[Assistant] = []
    assigned: set[str] = set()
    for name, assistant in definition.assistants.items():
        assistant_tools = [by_name[tool] for tool in assistant.tools if tool in by_name]
        assistant_tools = [
            tool
            for tool in assistant_tools
            if permissions.get(tool.name, tool.permission) != "deny"
        ]
        assigned |= set(assistant.tools)
        if assistant_tools:
            role = _prompt(
                definition, "assistant", name=name.replace("_", " "), about=assistant.about
            )
            limits = replace(flat.limits, max_steps=min(5, flat.limits.max_steps))
            agent = replace(
                flat,
                tools=assistant_tools,
                role=role,
                limits=limits,
                related=None,
                left_out=None,
                permissions=_permissions(permissions, assistant_tools),
            )
            assistants.append(Assistant(name, assistant.about, agent))
    own = [tool for tool in flat.tools if tool.name not in assigned]
    role = _prompt(definition, "supervisor")
    return replace(flat, tools=team_tools(assistants, own), role=role)


def describe(agent: ReAct) -> dict[str, Any]:
    """Return the agent's configuration for traces; equal configurations mean equal agents."""
    planner = agent.resolve_planner()
    prompt = planner.prompt(agent.offered) if isinstance(planner, _PROMPTED) else ""
    return {
        "planner": planner.name,
        **agent.provenance,
        "tools": {
            tool.name: agent.permissions.get(tool.name, tool.permission) for tool in agent.tools
        },
        "prompt": text_digest(prompt) if prompt else "",
        "limits": {limit.name: getattr(agent.limits, limit.name) for limit in fields(RunLimits)},
        "temperature": agent.temperature,
        "seed": agent.seed,
    }


def system_prompts(agent: ReAct) -> Sequence[tuple[str, str]]:
    """Return (planner name, system message) of a language-model agent, exactly as sent."""
    planner = agent.resolve_planner()
    return [(planner.name, planner.prompt(agent.offered))] if isinstance(planner, _PROMPTED) else []
