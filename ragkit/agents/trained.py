"""Load planners that were trained for an agent, and check that they fit the agent's tools.

The `ragkit.json` of an adapter stores the system message of each set of tools that it was trained
with, and the templates of its conversations; both are used verbatim. A set of tools is identified
by its structure (`tools_digest`), so descriptions and prompts may change without retraining.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragkit.agents.planner import LLMPlanner, system_prompt, tools_digest
from ragkit.agents.templates import TEMPLATES, Templates
from ragkit.errors import MissingExtra, ModelError
from ragkit.llms import adapters

if TYPE_CHECKING:
    from ragkit.agents.definition import AgentDefinition
    from ragkit.agents.tools import Tool

TASK = "agent"
SECTION = "short"
"""Section of the agent's Markdown file with the role for short prompts."""


def adapter_of(definition: AgentDefinition) -> Path:
    """Return the folder of the agent's adapter, which may not exist."""
    return definition.folder / definition.name / "adapter"


def trained_planner(definition: AgentDefinition, adapter: Path | None = None) -> LLMPlanner:
    """Load the base model of an adapter with the adapter as a planner.

    Args:
        definition: Definition of the agent.
        adapter: Folder of the adapter; None uses the agent's own.

    Raises:
        ModelError: The adapter is missing, or was trained for another agent or base model.
        MissingExtra: The packages for local models are not installed.
    """
    from ragkit.llms.load import load_fast_llm

    folder = adapter_of(definition) if adapter is None else adapter
    about = adapters.read_metadata(folder)
    base = str(about["base"])
    about = adapters.check_adapter(folder, base, TASK)
    if about.get("agent") != definition.name:
        raise ModelError(
            f"the adapter {str(folder)!r} was trained for the agent {about.get('agent')!r:.60}, "
            f"not for {definition.name!r}"
        )
    prompts, templates = trained_prompts(about), Templates.from_json(about.get("templates"))
    if adapter is None and not about.get("promoted"):
        raise ModelError(
            f"the adapter {str(folder)!r} did not pass the gate; `ragkit train agent "
            f"{definition.name}` tests and promotes one"
        )
    llm = load_fast_llm(base, folder)
    role = definition.prompts.get(SECTION, "")
    return LLMPlanner(llm, role, "short", prompts, templates, label=f"{base}, trained")


def trained_prompts(about: Mapping[str, Any]) -> dict[str, str]:
    """Return the system messages of an adapter's `ragkit.json`, by digest of the tools.

    Raises:
        ModelError: There are none, as in adapters of older versions.
    """
    prompts = about.get("tools")
    if not isinstance(prompts, Mapping) or not prompts:
        raise ModelError(
            "the adapter does not say with which tools it was trained; train it again with "
            "`ragkit train agent`"
        )
    return {str(digest): str(prompt) for digest, prompt in prompts.items()}


def why_not_trained(definition: AgentDefinition, tools: Sequence[Tool]) -> str:
    """Return why the agent's adapter cannot plan with these tools; "" if it can.

    No model is loaded.
    """
    from ragkit.llms.llama import check_packages

    folder = adapter_of(definition)
    if not folder.is_dir():
        return "it has no adapter"
    try:
        about = adapters.read_metadata(folder)
        check_packages(str(about["base"]))
        prompts = trained_prompts(about)
    except (ModelError, MissingExtra) as error:
        return str(error)
    if not about.get("promoted"):
        return "its adapter did not pass the gate"
    if tools_digest(tools) not in prompts:
        return "its adapter was trained with other tools"
    return ""


def trained_prompt(definition: AgentDefinition, tools: Sequence[Tool]) -> str:
    """Return the system message that the agent's adapter is used with; no model is loaded.

    Without a fitting adapter it is the short prompt that training would use.
    """
    fallback = system_prompt(definition.prompts.get(SECTION, ""), tools, "short")
    try:
        prompts = trained_prompts(adapters.read_metadata(adapter_of(definition)))
    except ModelError:
        return fallback
    return prompts.get(tools_digest(tools), fallback)


def trained_templates(definition: AgentDefinition) -> Templates:
    """Return the templates of the agent's adapter; the defaults without an adapter."""
    try:
        return Templates.from_json(adapters.read_metadata(adapter_of(definition)).get("templates"))
    except ModelError:
        return TEMPLATES
