"""The materials toolkit: tools over the shipped snapshot or the live API."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ragkit.agents.ledger import Quantity
from ragkit.agents.materials.backend import Backend
from ragkit.agents.materials.question.coverage import left_out
from ragkit.agents.materials.question.rules import MaterialsRulePlanner
from ragkit.agents.toolkits import Toolkit, ToolkitSettings

RELATED_HEADING = "Also held for this composition (other polymorphs, methods or sources):"


def open_backend(name: str) -> Backend:
    """Open the shipped snapshot, or the live API with the key of MP_API_KEY.

    Raises:
        RagkitError: The snapshot is missing or damaged; the key is missing, or RAGKIT_OFFLINE is
            set and the API is not on this machine.
        ValueError: The name is unknown.
    """
    if name == "snapshot":
        from ragkit.agents.materials.snapshot.backend import SnapshotBackend

        return SnapshotBackend()
    if name == "live":
        from ragkit.agents.materials.live.backend import LiveMaterialsProject

        return LiveMaterialsProject()
    raise ValueError(f"backend is {name!r}; expected 'snapshot' or 'live'")


@dataclass(frozen=True, slots=True)
class RelatedValues:
    """Finds other values of the same composition and property in a back end.

    Returns nothing for the live back end, whose requests would not be covered by a tool's time
    limit.
    """

    backend: Backend

    def __call__(self, quantity: Quantity) -> list[Quantity]:
        """Return the values of polymorphs, other methods and other sources."""
        from ragkit.agents.materials.tools import related

        return [] if self.backend.name == "live" else related(self.backend, quantity)


def build(settings: ToolkitSettings) -> Toolkit:
    """Build the toolkit "materials"."""
    return materials_toolkit(open_backend(settings.backend or "snapshot"))


def materials_toolkit(backend: Backend) -> Toolkit:
    """Build all materials tools over a back end.

    Tools of the live back end send their arguments to a server, so arguments copied from tool
    output require approval.
    """
    from ragkit.agents.materials.chemistry.elements import element_tools
    from ragkit.agents.materials.crystals.similarity import similarity_tools
    from ragkit.agents.materials.crystals.structures import structure_tools
    from ragkit.agents.materials.live.synthesis import synthesis_tools
    from ragkit.agents.materials.tools import search_tools

    tools = [
        *search_tools(backend),
        *structure_tools(backend),
        *similarity_tools(backend),
        *synthesis_tools(backend),
    ]
    if backend.name == "live":
        tools = [replace(tool, sends=True) for tool in tools]
    # The live version is unknown before the first search, so it would differ between runs.
    version = {"version": backend.version} if backend.name == "snapshot" else {}
    return Toolkit(
        [*tools, *element_tools()],
        related=RelatedValues(backend),
        related_heading=RELATED_HEADING,
        left_out=left_out,
        planner=MaterialsRulePlanner(),
        provenance={"backend": {"name": backend.name, **version}},
    )
