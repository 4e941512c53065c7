"""The tools of the materials agent, over either back end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ragkit.agents.ledger import Quantity
from ragkit.agents.materials.backend import Backend
from ragkit.agents.tools import Tool


def open_backend(name: Literal["snapshot", "live"]) -> Backend:
    """The shipped snapshot, or the live API with the key of MP_API_KEY.

    Raises:
        RagkitError: The snapshot is missing or damaged; the key is missing, or RAGKIT_OFFLINE is
            set and the API is not on this machine.
        ValueError: There is no back end of that name.
    """
    if name == "snapshot":
        from ragkit.agents.materials.snapshot.backend import Snapshot

        return Snapshot()
    if name == "live":
        from ragkit.agents.materials.live.backend import LiveMaterialsProject

        return LiveMaterialsProject()
    raise ValueError(f"backend is {name!r}; expected 'snapshot' or 'live'")


@dataclass(frozen=True, slots=True)
class Related:
    """Other values that a back end holds for a quantity; see `ragkit.agents.materials.tools`.

    Of the live one none: looking them up would send requests outside of every tool's time.
    """

    backend: Backend

    def __call__(self, quantity: Quantity) -> list[Quantity]:
        """The other values of the same composition and property."""
        from ragkit.agents.materials.tools import related

        return [] if self.backend.name == "live" else related(self.backend, quantity)


def materials_toolkit(
    backend: Backend | Literal["snapshot", "live"],
) -> tuple[list[Tool], Related]:
    """All tools, and the function that finds other values of the same property.

    The tools of the live back end send their arguments away, so none of them may be copied out of
    tool text without a person's consent. Its answers show no other values.
    """
    from ragkit.agents.materials.chemistry.elements import element_tools
    from ragkit.agents.materials.crystals.similarity import similarity_tools
    from ragkit.agents.materials.crystals.structures import structure_tools
    from ragkit.agents.materials.live.synthesis import synthesis_tools
    from ragkit.agents.materials.tools import search_tools

    source = open_backend(backend) if isinstance(backend, str) else backend
    reading = [
        *search_tools(source),
        *structure_tools(source),
        *similarity_tools(source),
        *synthesis_tools(source),
    ]
    if source.name == "live":
        reading = [replace(tool, sends=True) for tool in reading]
    return [*reading, *element_tools()], Related(source)
