"""Planners that were trained for an agent: its adapter, its short prompt, and whether both fit.

An adapter knows the tools it was trained with: digests of their prompts and schemas stand in its
`ragkit.json`, and a run with others is refused before the model is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ragkit import models
from ragkit.agents.planner import LLMPlanner, system_prompt, tools_digest
from ragkit.errors import MissingExtra, ModelError, check_installed
from ragkit.llms import adapters

if TYPE_CHECKING:
    from ragkit.agents.definition import AgentDefinition
    from ragkit.agents.tools import Tool

TASK = "agent"
SECTION = "short"
"""Of the agent's Markdown file: the role in a short prompt."""


def adapter_of(definition: AgentDefinition) -> Path:
    """Where an agent's adapter lies, if it has one."""
    return definition.folder / definition.name / "adapter"


def trained_planner(definition: AgentDefinition, adapter: Path | None = None) -> LLMPlanner:
    """The planner that an adapter makes of its base model.

    Args:
        definition: The agent's.
        adapter: Another adapter than the agent's own.

    Raises:
        ModelError: There is no adapter, or it is for another agent, base or prompt.
        MissingExtra: The packages for local models are not installed.
    """
    from ragkit.llms.llama import load_quickly

    folder = adapter_of(definition) if adapter is None else adapter
    about = adapters.read_about(folder)
    base = str(about["base"])
    about = adapters.check_adapter(folder, base, TASK)
    if about.get("agent") != definition.name:
        raise ModelError(
            f"the adapter {str(folder)!r} was trained for the agent {about.get('agent')!r:.60}, "
            f"not for {definition.name!r}"
        )
    known = frozenset(str(each) for each in about.get("tools", ()))
    if not known:
        raise ModelError(f"the adapter {str(folder)!r} does not say what tools it was trained with")
    if adapter is None and not about.get("promoted"):
        raise ModelError(
            f"the adapter {str(folder)!r} did not pass the gate; `ragkit train agent "
            f"{definition.name}` tests and promotes one"
        )
    role = definition.prompts.get(SECTION, "")
    return LLMPlanner(load_quickly(base, folder), role, "short", known, label=f"{base}, trained")


def why_not_trained(definition: AgentDefinition, tools: Sequence[Tool]) -> str:
    """Why the agent's adapter cannot plan with these tools; "" if it can. No model is loaded."""
    folder = adapter_of(definition)
    if not folder.is_dir():
        return "it has no adapter"
    try:
        about = adapters.read_about(folder)
        check_installed("torch", "transformers", "llguidance", extra="local")
        models.resolve(str(about["base"]))
    except (ModelError, MissingExtra) as error:
        return str(error)
    prompt = system_prompt(definition.prompts.get(SECTION, ""), tools, "short")
    if not about.get("promoted"):
        return "its adapter did not pass the gate"
    if tools_digest(prompt, tools) not in about.get("tools", ()):
        return "its adapter was trained with other tools"
    return ""
