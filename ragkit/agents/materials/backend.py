"""Interface of materials data sources: the shipped snapshot and the live API."""

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
    """Condition `property operator value`; rows without the property do not match."""

    property: str
    operator: Operator
    value: Scalar


@dataclass(frozen=True, slots=True)
class Query:
    """Search query. All filters must match; an empty filter is ignored.

    Attributes:
        material_ids: Match any of these ids.
        formulas: Match any of these formulas, compared in lowest terms ("Ga2As2" finds GaAs).
        chemsys: Match exactly this set of elements: ("Fe", "O").
        elements: Match at least these elements: Fe finds every iron compound.
        exclude_elements: Match none of these elements.
        where: Conditions on properties of any endpoint.
        fields: Properties to return; empty returns the endpoint's properties.
        sort_fields: Property names to sort by, with a "-" prefix for descending order; applied
            before truncation to a page. Rows without the property come last.
        limit: Maximum number of rows to return.
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
    """One material (one polymorph) with its requested values.

    Attributes:
        material_id: Identifier, such as "mp-2534".
        formula: Formula as the database writes it.
        space_group: International symbol, "" if unknown.
        quantities: At most one value for each property and source; conflicting values of different
            sources are all included.
    """

    material_id: str
    formula: str
    space_group: str
    quantities: tuple[Quantity, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """First page of a search result.

    Attributes:
        rows: Rows in sort order, ties by material id.
        total: Number of matching rows.
        dropped: Reasons for records that could not be read.
    """

    rows: tuple[Material, ...]
    total: int
    dropped: tuple[str, ...] = ()


class Backend(Protocol):
    """Source of materials data.

    All methods may raise `ragkit.agents.tools.ToolError`, whose message tells the model what to
    change.
    """

    name: Literal["snapshot", "live"]
    version: str

    def search(self, endpoint: Endpoint, query: Query) -> Page:
        """Return the materials that match and have at least one of the fields.

        Raises:
            ToolError: The endpoint does not have a field or property.
        """

    def structure(self, material_id: str) -> str | None:
        """Return the crystal structure as POSCAR text, or None if it is not available."""

    def syntheses(
        self, formula: str, keywords: Sequence[str], limit: int
    ) -> list[Mapping[str, Any]]:
        """Return text-mined synthesis recipes for a target; live API only."""

    def similar(self, material_id: str, limit: int) -> list[tuple[str, str, float]]:
        """Return (material id, formula, dissimilarity) of similar structures, nearest first."""


def material_order(material_id: str) -> tuple[int, str]:
    """Return the sort key that orders material ids by their number.

    >>> sorted(["mp-10", "mp-9"], key=material_order)
    ['mp-9', 'mp-10']
    """
    digits = re.search(r"\d+", material_id)
    return (int(digits[0]) if digits else 0, material_id)
