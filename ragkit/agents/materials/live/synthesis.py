"""Tool for text-mined synthesis recipes, which only the live back end has."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ragkit.agents.materials.backend import Backend
from ragkit.agents.tools import Tool, ToolResult, tool

_MAX_RECIPES = 5  # rule 6 of LLaMP, see `ragkit.agents.materials.tools`
Limit = Annotated[int, Field(ge=1, le=_MAX_RECIPES)]


def synthesis_tools(backend: Backend) -> list[Tool]:
    """Return the tool `search_synthesis` if the back end is live."""
    if backend.name != "live":
        return []

    def search_synthesis(
        target_formula: str, keywords: str | None = None, limit: Limit = _MAX_RECIPES
    ) -> ToolResult:
        """Published recipes for making a material: precursors, operations, temperatures.

        Args:
            target_formula: What is made: LiFePO4.
            keywords: Words the recipe must have, comma-separated.
            limit: Recipes to return, 1 to 5.
        """
        words = [word.strip() for word in (keywords or "").split(",") if word.strip()]
        rows = backend.syntheses(target_formula, words, limit)
        return ToolResult(rows=rows, text="" if rows else "no recipe is held for it")

    return [tool(search_synthesis)]
