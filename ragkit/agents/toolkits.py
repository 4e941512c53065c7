"""Toolkits: named sets of tools for agent definitions.

A package registers a toolkit as an entry point of the group `ragkit.toolkits`: a name, and a
function that takes `ToolkitSettings` and returns a `Toolkit`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ragkit.agents.ledger import Evidence, Quantity
from ragkit.agents.planner import Planner, State
from ragkit.agents.tools import Tool
from ragkit.errors import RagkitError

if TYPE_CHECKING:
    from ragkit.collection import Collection

GROUP = "ragkit.toolkits"


class RulePlanner(Planner, Protocol):
    """Rule-based planner for the domain of a toolkit."""

    def may_misread(self, state: State, reason: str) -> bool:
        """Return True if the rules may have misread the question that they refused.

        Args:
            state: The run at the refusal.
            reason: One of `ragkit.agents.steps.REFUSALS`.
        """


@dataclass(frozen=True, slots=True)
class ToolkitSettings:
    """Fields of an agent definition that toolkits read.

    Attributes:
        agent: Name of the agent, for messages.
        folder: Folder of the definition; relative paths start there.
        backend: Name of the data source, for toolkits with several; "" takes the toolkit's default.
        database: SQLite file.
        tables: Tables that may be read; empty allows all.
        collection: An open collection.
    """

    agent: str
    folder: Path
    backend: str = ""
    database: str = ""
    tables: Sequence[str] = ()
    collection: Collection | None = None


@dataclass(frozen=True, slots=True)
class Toolkit:
    """Tools with the planner, related values and provenance that belong to them.

    Attributes:
        tools: Tools in the order they are offered.
        related: Finds other values of the same property, which are shown below an answer.
        related_heading: Line above these values.
        left_out: Returns what an answer leaves out of a question, see `ReAct`.
        planner: Rule-based planner for the toolkit's questions, or None.
        provenance: Data sources of the tools, recorded with every run.
    """

    tools: Sequence[Tool]
    related: Callable[[Quantity], Sequence[Quantity]] | None = None
    related_heading: str = "Other values:"
    left_out: Callable[[str, Sequence[Evidence], Sequence[Evidence]], str] | None = None
    planner: RulePlanner | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


def toolkit_names() -> list[str]:
    """Return the names of all registered toolkits."""
    return sorted(metadata.entry_points(group=GROUP).names)


def check_toolkits(agent: str, names: Sequence[str]) -> None:
    """Raise RagkitError if an agent asks for a toolkit that is not registered."""
    unknown = sorted(set(names) - set(toolkit_names()))
    if unknown:
        raise RagkitError(
            f"the agent {agent!r} asks for the toolkits {', '.join(unknown)}; registered are "
            f"{', '.join(toolkit_names()) or 'none'}. After updating a checkout, reinstall it: "
            "pip install -e ."
        )


def load_toolkit(name: str, settings: ToolkitSettings) -> Toolkit:
    """Build a toolkit.

    Raises:
        RagkitError: No toolkit has the name, or one of its parts is missing.
    """
    check_toolkits(settings.agent, [name])
    points = metadata.entry_points(group=GROUP, name=name)
    build: Callable[[ToolkitSettings], Toolkit] = next(iter(points)).load()
    return build(settings)
