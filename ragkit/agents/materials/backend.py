"""One interface to the two places materials data come from: a shipped snapshot, the live API."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from ragkit.agents.ledger import Quantity, Scalar

Endpoint = Literal[
    "summary",
    "thermo",
    "elasticity",
    "magnetism",
    "dielectric",
    "piezoelectric",
    "electronic_structure",
]
ENDPOINTS: tuple[Endpoint, ...] = get_args(Endpoint)

Operator = Literal["<", "<=", "=", ">=", ">"]


@dataclass(frozen=True, slots=True)
class Condition:
    """`property operator value`; a row without the property does not match."""

    property: str
    operator: Operator
    value: Scalar


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for. All that is given must hold; empty means no restriction.

    Attributes:
        material_ids: Any of these.
        formulas: Any of these, compared after reduction to lowest terms ("Ga2As2" finds GaAs).
        chemsys: Exactly these elements: ("Fe", "O").
        elements: At least these elements: Fe finds every iron compound.
        exclude_elements: None of these.
        where: Conditions on properties of any endpoint.
        fields: The properties to return; empty takes the endpoint's own.
        sort_fields: Property names, "-" before one for descending; applied to all matching rows
            before the page is cut. Rows without the property come last.
        limit: The size of the page.
    """

    material_ids: tuple[str, ...] = ()
    formulas: tuple[str, ...] = ()
    chemsys: tuple[str, ...] = ()
    elements: tuple[str, ...] = ()
    exclude_elements: tuple[str, ...] = ()
    where: tuple[Condition, ...] = ()
    fields: tuple[str, ...] = ()
    sort_fields: tuple[str, ...] = ()
    limit: int = 10


@dataclass(frozen=True, slots=True)
class Material:
    """A row: one material (one polymorph) and the values asked for.

    Attributes:
        material_id: "mp-2534".
        formula: As the database writes it.
        space_group: International symbol, "" if not known.
        quantities: At most one a property and source; values that disagree are all here.
    """

    material_id: str
    formula: str
    space_group: str
    quantities: tuple[Quantity, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """The first `limit` rows and how many there are.

    Attributes:
        rows: In the order asked for, ties by material id.
        total: All that match.
        dropped: Records that could not be read, each with its reason.
    """

    rows: tuple[Material, ...]
    total: int
    dropped: tuple[str, ...] = ()


class Backend(Protocol):
    """Where materials data come from.

    Everything may raise `ragkit.agents.tools.ToolError`, whose text tells a model what to change.
    """

    name: Literal["snapshot", "live"]
    version: str

    def search(self, endpoint: Endpoint, query: Query) -> Page:
        """The materials that match and have at least one of the fields.

        Raises:
            ToolError: A field or property is unknown to the endpoint.
        """

    def structure(self, material_id: str) -> str | None:
        """The crystal structure as POSCAR text; None if none is held."""

    def syntheses(
        self, formula: str, keywords: Sequence[str], limit: int
    ) -> list[Mapping[str, Any]]:
        """Text-mined recipes for a target; only live."""

    def similar(self, material_id: str, limit: int) -> list[tuple[str, str, float]]:
        """(material id, formula, dissimilarity) of the most similar structures, nearest first."""


def material_order(material_id: str) -> tuple[int, str]:
    """The key that sorts material ids by their number.

    >>> sorted(["mp-10", "mp-9"], key=material_order)
    ['mp-9', 'mp-10']
    """
    digits = re.search(r"\d+", material_id)
    return (int(digits[0]) if digits else 0, material_id)
