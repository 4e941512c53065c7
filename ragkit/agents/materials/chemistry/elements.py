"""Facts about the chemical elements, from the table that pymatgen-core carries (MIT licence).

pymatgen does not say where each number of its table was measured, so the rows name the table and
its version, and nothing more. Deviations, each checked by a test:

- Ionization energies are in eV (as NIST tabulates them); the table labels them kJ/mol.
- The period is counted from the atomic number; pymatgen gives f-block elements rows of their own.
  Those have no group here, because IUPAC gives them none.
- Eleven values that tables disagree about (copper boils at 3200 K here, at 2835 K elsewhere) are
  left out, and so are columns that depend on the form of the element.
- Deuterium and tritium have atomic masses of AME2020 (Wang et al., Chinese Physics C 45, 030003,
  2021); the table has the mass of the bare nucleus. Other properties that an isotope does not share
  with hydrogen are not given.
"""

from __future__ import annotations

import bisect
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ragkit.agents.ledger import Quantity, Scalar
from ragkit.agents.materials.chemistry.formulas import element_symbol
from ragkit.agents.tools import Tool, ToolError, ToolResult, tool
from ragkit.errors import require

Fact = Literal[
    "atomic_number",
    "atomic_mass",
    "group",
    "period",
    "electronegativity",
    "melting_point",
    "boiling_point",
    "density_of_solid",
    "atomic_radius",
    "van_der_waals_radius",
    "oxidation_states",
    "common_oxidation_states",
    "electronic_structure",
    "ionization_energy",
    "bulk_modulus",
    "youngs_modulus",
]


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where a fact stands in the table, in which unit, and how it was got."""

    key: str
    unit: str = ""
    method: str = "tabulated"
    scale: float = 1.0


_TABLE: dict[Fact, _Entry] = {
    "atomic_mass": _Entry("Atomic mass", "amu", "tabulated, natural isotopes"),
    "electronegativity": _Entry("X", method="tabulated, Pauling scale (revised by Allred)"),
    "melting_point": _Entry("Melting point", "K"),
    "boiling_point": _Entry("Boiling point", "K"),
    "density_of_solid": _Entry("Density of solid", "g/cm**3", scale=1000.0),
    "atomic_radius": _Entry("Atomic radius", "angstrom", "tabulated, empirical (Slater)"),
    "van_der_waals_radius": _Entry("Van der waals radius", "angstrom"),
    "ionization_energy": _Entry("Ionization energies", "eV", "tabulated, first ionization"),
    "bulk_modulus": _Entry("Bulk modulus", "GPa"),
    "youngs_modulus": _Entry("Youngs modulus", "GPa"),
    "oxidation_states": _Entry("Oxidation states"),
    "common_oxidation_states": _Entry("Common oxidation states"),
    "electronic_structure": _Entry("Electronic structure"),
}
# Values that are off by more than 4 % from the CRC Handbook (97th edition), and so not given.
_DISPUTED: dict[Fact, tuple[str, ...]] = {
    "boiling_point": ("C", "Si", "Cu", "Pr", "U"),
    "melting_point": ("Pm", "Th"),
    "density_of_solid": ("B", "S", "Tc", "Yb"),
}
_NOBLE = (2, 10, 18, 36, 54, 86, 118)
_ISOTOPES = {
    "D": ("D", 2.01410177784),
    "T": ("T", 3.01604928132),
    "deuterium": ("D", 2.01410177784),
    "tritium": ("T", 3.01604928132),
}
_OF_ANY_ISOTOPE = ("atomic_number", "atomic_mass", "group", "period", "electronic_structure")


def element_tools() -> list[Tool]:
    """The tool of this module: element."""
    return [tool(element)]


def element(name: str, property: Fact | None = None) -> ToolResult:
    """Look up facts of a chemical element, such as its melting point.

    Args:
        name: Symbol or name, such as Fe or iron.
        property: Leave out for all.
    """
    given = name.strip()
    isotope = _ISOTOPES.get(given) or _ISOTOPES.get(given.lower() if len(given) > 1 else "")
    symbol = "H" if isotope else element_symbol(given)
    facts = _facts(symbol, isotope)
    shown = isotope[0] if isotope else symbol
    if property is None:
        missing = [each for each in get_args(Fact) if each not in facts]
        text = f"Not held for {shown}: {', '.join(missing)}." if missing else ""
        return ToolResult(list(facts.values()), text=text)
    if property not in facts:
        why = "the table has no value"
        if isotope:
            why = "it differs between isotopes"
        elif symbol in _DISPUTED.get(property, ()):
            why = "tables disagree about it"
        held = ", ".join(facts)
        raise ToolError(f"no {property} is held for {shown} ({why}). Held: {held}.")
    return ToolResult([facts[property]])


def _facts(symbol: str, isotope: tuple[str, float] | None) -> dict[Fact, Quantity]:
    data: Mapping[str, Any] = require("pymatgen.core", extra="materials").Element(symbol).data
    number = int(data["Atomic no"])
    version = f"pymatgen-core {importlib.metadata.version('pymatgen-core')}"
    facts: dict[Fact, Quantity] = {}
    for fact in get_args(Fact):
        if isotope and fact not in _OF_ANY_ISOTOPE:
            continue
        entry = _TABLE.get(fact, _Entry(""))
        value = _value(fact, entry, data, number)
        if value is None or symbol in _DISPUTED.get(fact, ()):
            continue
        source, licence = "pymatgen table of the elements", "MIT"
        method = entry.method
        if fact in ("melting_point", "boiling_point") and _sublimes(data):
            method += "; sublimes at normal pressure"
        if isotope and fact == "atomic_mass":
            value, method = isotope[1], "tabulated, one isotope"
            source, licence = "AME2020 (Wang et al. 2021)", ""
        facts[fact] = Quantity(
            value,
            entry.unit,
            fact,
            isotope[0] if isotope else symbol,
            kind="material",
            method=method,
            source=source,
            licence=licence,
            version="" if source.startswith("AME") else version,
        )
    return facts


def _value(fact: Fact, entry: _Entry, data: Mapping[str, Any], number: int) -> Scalar | None:
    """The fact; None where the table has none."""
    if fact == "atomic_number":
        return number
    if fact == "period":
        return bisect.bisect_left(_NOBLE, number) + 1
    if fact == "group":
        return _group(number)
    found = data.get(entry.key)
    if found is None:
        return None
    if fact == "electronic_structure":
        text = found.get("0")
        return text.replace(".", " ") if text else None
    if fact == "ionization_energy":
        return float(found[0]) if found else None
    if isinstance(found, list):
        return _signed(found)
    return float(found) / entry.scale


def _signed(states: Sequence[float]) -> str | None:
    """Oxidation states as chemists write them: "-2, +2, +3"."""
    return ", ".join(f"{state:+g}" if state else "0" for state in sorted(states)) or None


def _sublimes(data: Mapping[str, Any]) -> bool:
    """Whether the table's boiling point is below its melting point, which is one under pressure."""
    melting, boiling = data.get("Melting point"), data.get("Boiling point")
    return melting is not None and boiling is not None and boiling < melting


def _group(number: int) -> int | None:
    """The column of the 18-column table; None in the f block.

    >>> [_group(number) for number in (1, 2, 5, 26, 58, 72, 118)]
    [1, 18, 13, 8, None, 4, 18]
    """
    period = bisect.bisect_left(_NOBLE, number)
    place = number - (_NOBLE[period - 1] if period else 0)
    length = _NOBLE[period] - (_NOBLE[period - 1] if period else 0)
    if place <= (1 if length == 2 else 2):
        return place
    if length == 32 and place <= 17:
        return None
    return place + 18 - length
