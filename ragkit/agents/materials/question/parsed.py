"""A parsed question about materials, and the patterns that several parsers share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ragkit.agents.materials.backend import Condition, Operator
from ragkit.agents.materials.chemistry.properties import PROPERTIES

Order = Literal["highest", "lowest"]


@dataclass(frozen=True, slots=True)
class Limit:
    """A condition on a property, its unit as written; "" is the property's own."""

    property: str
    operator: Operator
    value: float
    unit: str = ""


@dataclass(frozen=True, slots=True)
class ParsedQuestion:
    """A question, parsed by rules.

    Attributes:
        formulas: Materials named, as written or by the formula of their name, in order.
        misspelt: Words that look like formulas and are none.
        material_ids: "mp-2534".
        properties: The properties' names, in the order of the question.
        order: Whether an extreme is asked for, and of which property.
        order_by: See `order`.
        count: Whether a number of materials is asked for.
        compare: Whether the materials named are to be compared.
        polymorphs: Whether it asks about polymorphs.
        measured: Whether it wants experimental values.
        unit: The unit the answer should have; "" is the property's own.
        elements: Elements that must be in it.
        without: Elements that must not.
        chemsys: "Fe-O": exactly these elements.
        limits: Conditions on numbers.
        conditions: Other conditions: ordering, stability, space group.
        unrecognized: Words that no rule recognizes: what they ask for is not in the rest.
    """

    formulas: tuple[str, ...] = ()
    misspelt: tuple[str, ...] = ()
    material_ids: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()
    order: Order | None = None
    order_by: str = ""
    count: bool = False
    compare: bool = False
    polymorphs: bool = False
    measured: bool = False
    unit: str = ""
    elements: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    chemsys: str = ""
    limits: tuple[Limit, ...] = ()
    conditions: tuple[Condition, ...] = ()
    unrecognized: tuple[str, ...] = ()

    @property
    def asked(self) -> tuple[str, ...]:
        """Every property that plays a part."""
        limited = (limit.property for limit in self.limits)
        return tuple(dict.fromkeys([*self.properties, *limited, *filter(None, [self.order_by])]))

    @property
    def filters(self) -> bool:
        """Whether anything restricts a search, besides materials named."""
        return bool(self.elements or self.chemsys or self.limits or self.conditions)


ABOVE = (
    r"above|over|greater than|larger than|higher than|more than|exceeding|exceeds?|wider than|>=?|"
    r"at least|no less than|stiffer than"
)
BELOW = (
    r"below|under|less than|smaller than|lower than|fewer than|narrower than|<=?|at most|"
    r"no more than|up to|softer than"
)
INCLUSIVE = ("at least", "no less than", ">=", "at most", "no more than", "<=", "up to")
NUMBER = r"[-\u2212]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
UNIT = r"(?:%|[A-Za-zÅµμ][\w/^*Åµμ-]*(?:\^?\d)?)"
LIMIT = (
    rf"(?:\b(?:between|from) ({NUMBER})\s*{UNIT}? ?(?:and|to) ({NUMBER})|"
    rf"(?<!\w)({ABOVE}|{BELOW}) ({NUMBER}))(?:\s*({UNIT}))?"
)
FAMILIES = {
    "oxide": "O", "nitride": "N", "sulfide": "S", "sulphide": "S", "selenide": "Se",
    "telluride": "Te", "fluoride": "F", "chloride": "Cl", "bromide": "Br", "iodide": "I",
    "carbide": "C", "phosphide": "P", "arsenide": "As", "antimonide": "Sb", "hydride": "H",
    "boride": "B", "silicide": "Si", "germanide": "Ge",
}  # fmt: skip
ALIASES = sorted(
    (
        (alias, each.name)
        for each in PROPERTIES
        for alias in {*each.aliases, each.name, each.name.replace("_", " ")}
        if len(alias) > 2
    ),
    key=lambda pair: (-len(pair[0]), pair[0]),
)


def property_spans(lower: str) -> list[tuple[int, int, str]]:
    """(start, end, property), longest names first so that parts of names do not count."""
    found: list[tuple[int, int, str]] = []
    taken = [False] * len(lower)
    for alias, name in ALIASES:
        for match in re.finditer(rf"(?<![\w-]){re.escape(alias)}s?(?![\w])", lower):
            span = range(match.start(), match.end())
            if not any(taken[at] for at in span):
                found.append((match.start(), match.end(), name))
                for at in span:
                    taken[at] = True
    return sorted(found)
