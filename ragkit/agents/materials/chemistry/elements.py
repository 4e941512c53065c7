"""Tool for properties of the chemical elements, from the table in pymatgen-core (MIT licence).

pymatgen does not document the source of each number, so rows cite the table and its version only.
Deviations from the table, each covered by a test:

- Ionization energies are in eV (as NIST tabulates them); the table labels them kJ/mol.
- The period is computed from the atomic number; pymatgen puts f-block elements into separate rows.
  Those elements have no group, because IUPAC assigns none.
- Eleven values on which tables disagree (copper boils at 3200 K here, at 2835 K elsewhere) are
  omitted, and so are columns that depend on the form of the element.
- Deuterium and tritium have the atomic masses of AME2020 (Wang et al., Chinese Physics C 45,
  030003, 2021); the table has the mass of the bare nucleus. Other properties that depend on the
  isotope are omitted.
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
class _TableEntry:
    """Column of a fact in pymatgen's table, with unit, method and scale."""

    key: str
    unit: str = ""
    method: str = "tabulated"
    scale: float = 1.0


_TABLE: dict[Fact, _TableEntry] = {
    "atomic_mass": _TableEntry("Atomic mass", "amu", "tabulated, natural isotopes"),
    "electronegativity": _TableEntry("X", method="tabulated, Pauling scale (revised by Allred)"),
    "melting_point": _TableEntry("Melting point", "K"),
    "boiling_point": _TableEntry("Boiling point", "K"),
    "density_of_solid": _TableEntry("Density of solid", "g/cm**3", scale=1000.0),
    "atomic_radius": _TableEntry("Atomic radius", "angstrom", "tabulated, empirical (Slater)"),
    "van_der_waals_radius": _TableEntry("Van der waals radius", "angstrom"),
    "ionization_energy": _TableEntry("Ionization energies", "eV", "tabulated, first ionization"),
    "bulk_modulus": _TableEntry("Bulk modulus", "GPa"),
    "youngs_modulus": _TableEntry("Youngs modulus", "GPa"),
    "oxidation_states": _TableEntry("Oxidation states"),
    "common_oxidation_states": _TableEntry("Common oxidation states"),
    "electronic_structure": _TableEntry("Electronic structure"),
}
# Values that differ by more than 4 % from the CRC Handbook (97th edition) are omitted.
_DISPUTED_VALUES: dict[Fact, tuple[str, ...]] = {
    "boiling_point": ("C", "Si", "Cu", "Pr", "U"),
    "melting_point": ("Pm", "Th"),
    "density_of_solid": ("B", "S", "Tc", "Yb"),
}
_NOBLE_GASES = (2, 10, 18, 36, 54, 86, 118)
_ISOTOPES = {
    "D": ("D", 2.01410177784),
    "T": ("T", 3.01604928132),
    "deuterium": ("D", 2.01410177784),
    "tritium": ("T", 3.01604928132),
}
_ISOTOPE_INDEPENDENT = ("atomic_number", "atomic_mass", "group", "period", "electronic_structure")


def element_tools() -> list[Tool]:
    """Return the tool `element`."""
    return [tool(element)]


def element(name: str, property: Fact | None = None) -> ToolResult:
    """Look up facts of a chemical element, such as its melting point.

    Args:
        name: Symbol or name, such as Fe or iron.
        property: Leave out for all.
    """
    text = name.strip()
    isotope = _ISOTOPES.get(text) or _ISOTOPES.get(text.lower() if len(text) > 1 else "")
    symbol = "H" if isotope else element_symbol(text)
    facts = _facts(symbol, isotope)
    label = isotope[0] if isotope else symbol
    if property is None:
        missing = [fact for fact in get_args(Fact) if fact not in facts]
        note = f"Not held for {label}: {', '.join(missing)}." if missing else ""
        return ToolResult(list(facts.values()), text=note)
    if property not in facts:
        reason = "the table has no value"
        if isotope:
            reason = "it differs between isotopes"
        elif symbol in _DISPUTED_VALUES.get(property, ()):
            reason = "tables disagree about it"
        available = ", ".join(facts)
        raise ToolError(f"no {property} is held for {label} ({reason}). Held: {available}.")
    return ToolResult([facts[property]])


def _facts(symbol: str, isotope: tuple[str, float] | None) -> dict[Fact, Quantity]:
    data: Mapping[str, Any] = require("pymatgen.core", extra="materials").Element(symbol).data
    number = int(data["Atomic no"])
    version = f"pymatgen-core {importlib.metadata.version('pymatgen-core')}"
    facts: dict[Fact, Quantity] = {}
    for fact in get_args(Fact):
        if isotope and fact not in _ISOTOPE_INDEPENDENT:
            continue
        entry = _TABLE.get(fact, _TableEntry(""))
        value = _value(fact, entry, data, number)
        if value is None or symbol in _DISPUTED_VALUES.get(fact, ()):
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


def _value(fact: Fact, entry: _TableEntry, data: Mapping[str, Any], number: int) -> Scalar | None:
    """Return the value of a fact, or None if the table has none."""
    if fact == "atomic_number":
        return number
    if fact == "period":
        return bisect.bisect_left(_NOBLE_GASES, number) + 1
    if fact == "group":
        return _group(number)
    entry_value = data.get(entry.key)
    if entry_value is None:
        return None
    if fact == "electronic_structure":
        text = entry_value.get("0")
        return text.replace(".", " ") if text else None
    if fact == "ionization_energy":
        return float(entry_value[0]) if entry_value else None
    if isinstance(entry_value, list):
        return _format_oxidation_states(entry_value)
    return float(entry_value) / entry.scale


def _format_oxidation_states(states: Sequence[float]) -> str | None:
    """Format oxidation states with signs: "-2, +2, +3"."""
    return ", ".join(f"{state:+g}" if state else "0" for state in sorted(states)) or None


def _sublimes(data: Mapping[str, Any]) -> bool:
    """Return True if the boiling point is below the melting point, which is then under pressure."""
    melting, boiling = data.get("Melting point"), data.get("Boiling point")
    return melting is not None and boiling is not None and boiling < melting


def _group(number: int) -> int | None:
    """Return the group number (1 to 18), or None for the f block.

    >>> [_group(number) for number in (1, 2, 5, 26, 58, 72, 118)]
    [1, 18, 13, 8, None, 4, 18]
    """
    period = bisect.bisect_left(_NOBLE_GASES, number)
    position = number - (_NOBLE_GASES[period - 1] if period else 0)
    length = _NOBLE_GASES[period] - (_NOBLE_GASES[period - 1] if period else 0)
    if position <= (1 if length == 2 else 2):
        return position
    if length == 32 and position <= 17:
        return None
    return position + 18 - length
