"""What a benchmark question consists of: its text, its truth, and the actions that answer it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ragkit.agents.ledger import Scalar

Kind = Literal[
    "lookup",
    "filter",
    "extremum",
    "count",
    "comparison",
    "conversion",
    "polymorph",
    "missing",
    "ambiguous",
    "misspelt",
    "multi_hop",
    "irrelevant",
]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Fact:
    """A value that is right.

    Attributes:
        property: "band_gap"; "count" and "difference" for what is computed.
        value: A number, a text or a flag.
        unit: Of the value; "" for plain numbers and texts.
        formula: As the database writes it; "" where it belongs to no material.
        material_id: The id the answer must name; None where there is none.
    """

    property: str
    value: Scalar
    unit: str = ""
    formula: str = ""
    material_id: str | None = None


@dataclass(frozen=True, slots=True)
class Truth:
    """What an answer must hold.

    Attributes:
        facts: One group a needed value, the groups in order of importance; any fact of a group is
            right, as where sources disagree or several polymorphs are held.
        also: Facts that may stand beside them: the value before its conversion.
        material_ids: Where it is not empty, the answer must name exactly these materials.
        refusal: Where it is not empty, the reason for which the agent must refuse.
        exact_unit: Whether the first value must be in the unit of its fact.
    """

    facts: tuple[tuple[Fact, ...], ...] = ()
    also: tuple[Fact, ...] = ()
    material_ids: frozenset[str] = frozenset()
    refusal: str = ""
    exact_unit: bool = False

    @property
    def all_facts(self) -> Iterator[Fact]:
        """Every fact that is accepted."""
        yield from (fact for group in self.facts for fact in group)
        yield from self.also


@dataclass(frozen=True, slots=True)
class Call:
    """A right call.

    Attributes:
        tool: Its name.
        arguments: With `row` templates where they name ledger rows.
        thought: Why.
        request: What a supervisor asks the assistant that has the tool; calls in a row with one
            request are one assistant's. "" for the supervisor's own tools.
    """

    tool: str
    arguments: Mapping[str, Any]
    thought: str = ""
    request: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """The calls that answer a question, then the rows to answer with, or the reason to refuse."""

    calls: tuple[Call, ...] = ()
    rows: tuple[Mapping[str, Any], ...] = ()
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its truth.

    Attributes:
        id: The kind and a digest of the text.
        kind: One of `KINDS`.
        text: As asked.
        truth: Computed from the database, not by the tools.
        plan: A right sequence of actions.
        materials: The reduced formulas of the materials it is about, for splits.
    """

    id: str
    kind: Kind
    text: str
    truth: Truth
    plan: Plan
    materials: frozenset[str]


def row(step: int, property_name: str, material_id: str | None = "") -> dict[str, Any]:
    """A template for the row that a call brought: the first with this property and material.

    Args:
        step: The position of the call in the plan.
        property_name: Of the row.
        material_id: Of the row; "" takes any, None those without one.
    """
    return {"row": {"step": step, "property": property_name, "material_id": material_id}}
