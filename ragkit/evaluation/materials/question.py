"""Data types of a benchmark question: its text, its true answer, and the actions that find it."""

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
    """A true value.

    Attributes:
        property: Property name, such as "band_gap"; "count" and "difference" for computed values.
        value: A number, a text or a flag.
        unit: Unit of the value; "" for plain numbers and texts.
        formula: Formula as in the database; "" if the value belongs to no material.
        material_id: Material id that the answer must name, if any.
    """

    property: str
    value: Scalar
    unit: str = ""
    formula: str = ""
    material_id: str | None = None


@dataclass(frozen=True, slots=True)
class Truth:
    """The requirements of a correct answer.

    Attributes:
        facts: One group for each required value, the most important first. Any fact of a group is
            correct: sources may disagree, and a formula may have several polymorphs.
        also: Facts that may be given in addition, such as the value before its conversion.
        material_ids: If not empty, the answer must name exactly these materials.
        refusal: If not empty, the agent must refuse for this reason.
        exact_unit: True if the first value must be given in the unit of its fact.
    """

    facts: tuple[tuple[Fact, ...], ...] = ()
    also: tuple[Fact, ...] = ()
    material_ids: frozenset[str] = frozenset()
    refusal: str = ""
    exact_unit: bool = False

    @property
    def all_facts(self) -> Iterator[Fact]:
        """All accepted facts."""
        yield from (fact for group in self.facts for fact in group)
        yield from self.also


@dataclass(frozen=True, slots=True)
class Call:
    """A correct tool call.

    Attributes:
        tool: Name of the tool.
        arguments: Arguments, with `row` templates in place of ledger rows.
        thought: Reason for the call.
        request: Request by which a supervisor delegates the call to the assistant that has the
            tool; consecutive calls with the same request go to one assistant. "" for the
            supervisor's own tools.
    """

    tool: str
    arguments: Mapping[str, Any]
    thought: str = ""
    request: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """The calls that answer a question, then the rows of the answer, or the reason to refuse."""

    calls: tuple[Call, ...] = ()
    rows: tuple[Mapping[str, Any], ...] = ()
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class MaterialsQuestion:
    """A question with its true answer.

    Attributes:
        id: The kind and a digest of the text.
        kind: One of `KINDS`.
        text: Text of the question.
        truth: True answer, computed from the database without the tools.
        plan: A correct sequence of actions.
        materials: Reduced formulas of the materials it is about, for splits.
    """

    id: str
    kind: Kind
    text: str
    truth: Truth
    plan: Plan
    materials: frozenset[str]


def row_template(step: int, property_name: str, material_id: str | None = "") -> dict[str, Any]:
    """Make a template for a row of a call's result: the first with this property and material.

    Args:
        step: Index of the call in the plan.
        property_name: Property of the row.
        material_id: Material of the row; "" matches any, None only rows without a material.
    """
    return {"row": {"step": step, "property": property_name, "material_id": material_id}}
