"""Conditions of a live search: what the server applies, under its names, and what holds here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ragkit.agents.materials.backend import ENDPOINTS, Condition, Endpoint, Operator
from ragkit.agents.materials.chemistry.properties import WHOLE, Property, find_property
from ragkit.agents.materials.crystals.symmetry import space_group_symbol
from ragkit.agents.materials.live.parse import Record
from ragkit.agents.materials.snapshot.statements import OPERATORS, TOLERANCE, checked_value, loose
from ragkit.agents.tools import ToolError

_ORDERINGS = ("FM", "AFM", "FiM", "NM")
_SYSTEMS = "Triclinic Monoclinic Orthorhombic Tetragonal Trigonal Hexagonal Cubic".split()
# Properties whose limits the server applies, and what it calls them where that differs.
_RANGES: dict[Endpoint, dict[str, str]] = {
    "summary": {
        name: name
        for name in (
            "energy_per_atom formation_energy_per_atom uncorrected_energy_per_atom "
            "equilibrium_reaction_energy_per_atom energy_above_hull nsites nelements volume "
            "density band_gap efermi total_magnetization total_magnetization_normalized_vol "
            "total_magnetization_normalized_formula_units num_magnetic_sites "
            "num_unique_magnetic_sites k_voigt k_reuss k_vrh g_voigt g_reuss g_vrh "
            "universal_anisotropy homogeneous_poisson e_total e_ionic e_electronic n e_ij_max"
        ).split()
    },
    "thermo": {
        name: name
        for name in (
            "energy_per_atom formation_energy_per_atom uncorrected_energy_per_atom "
            "equilibrium_reaction_energy_per_atom energy_above_hull nelements"
        ).split()
    },
    "elasticity": {
        "universal_anisotropy": "elastic_anisotropy",
        "homogeneous_poisson": "poisson",
        **{name: name for name in "k_voigt k_reuss k_vrh g_voigt g_reuss g_vrh".split()},
    },
    "magnetism": {
        name: name
        for name in (
            "total_magnetization total_magnetization_normalized_vol "
            "total_magnetization_normalized_formula_units num_magnetic_sites "
            "num_unique_magnetic_sites"
        ).split()
    },
    "dielectric": {name: name for name in "e_total e_ionic e_electronic n".split()},
    "piezoelectric": {"e_ij_max": "piezo_modulus"},
    "electronic_structure": {name: name for name in "band_gap efermi nelements".split()},
}
_EQUAL: dict[Endpoint, dict[str, str]] = {
    "summary": {
        "is_stable": "is_stable",
        "is_gap_direct": "is_gap_direct",
        "is_metal": "is_metal",
        "ordering": "ordering",
        "spacegroup_number": "spacegroup_number",
        "space_group": "spacegroup_number",
        "crystal_system": "crystal_system",
    },
    "thermo": {"is_stable": "is_stable"},
    "magnetism": {"ordering": "ordering"},
    "electronic_structure": {
        "is_gap_direct": "is_gap_direct",
        "is_metal": "is_metal",
        "ordering": "magnetic_ordering",
    },
}


@dataclass(frozen=True, slots=True)
class Clause:
    """A condition, its property found and its value checked; flags as 0 and 1."""

    spec: Property
    operator: Operator
    value: float | str

    @classmethod
    def of(cls, condition: Condition) -> Clause:
        """The clause of a condition.

        Raises:
            ToolError: No endpoint has the property, or the value does not suit it.
        """
        spec = find_property(condition.property)
        home(spec)
        return cls(spec, condition.operator, checked_value(spec, condition))

    def holds(self, record: Record) -> bool:
        """Whether the record has the property and it satisfies the condition."""
        quantity = record.quantities.get(self.spec.name)
        if quantity is None:
            return False
        if isinstance(self.value, str):
            return loose(str(quantity.value)) == loose(self.value)
        number = float(quantity.value)
        if self.operator == "=":
            return math.isclose(number, self.value, rel_tol=TOLERANCE, abs_tol=0.0)
        return bool(OPERATORS[self.operator](number, self.value))


def home(spec: Property, preferred: Endpoint | None = None) -> Endpoint:
    """The endpoint to ask for a property.

    Raises:
        ToolError: No endpoint has it.
    """
    for place in (preferred, *ENDPOINTS):
        if place is not None and place in spec.places:
            return place
    raise ToolError(
        f"{spec.name!r} is not in the live database. Use the snapshot's formula tables for it."
    )


def server_conditions(place: Endpoint, clauses: Sequence[Clause]) -> dict[str, str]:
    """The parameters for the conditions that the server can apply.

    They may let more through than the conditions do, never less.
    """
    bounds: dict[str, float] = {}
    params: dict[str, str] = {}
    for clause in clauses:
        name = clause.spec.name
        if name in _RANGES[place] and not isinstance(clause.value, str):
            base = _RANGES[place][name]
            slack = abs(clause.value) * TOLERANCE if clause.operator == "=" else 0.0
            whole = name in WHOLE
            if clause.operator in (">", ">=", "="):
                low = math.ceil(clause.value) if whole else clause.value - slack
                bounds[f"{base}_min"] = max(low, bounds.get(f"{base}_min", low))
            if clause.operator in ("<", "<=", "="):
                high = math.floor(clause.value) if whole else clause.value + slack
                bounds[f"{base}_max"] = min(high, bounds.get(f"{base}_max", high))
        elif clause.operator == "=" and (value := _equal(place, clause)) is not None:
            params[_EQUAL[place][name]] = value
    return params | {name: repr(value) for name, value in bounds.items()}


def _equal(place: Endpoint, clause: Clause) -> str | None:
    """What the server should find equal; None for a value that it might write differently."""
    name, value = clause.spec.name, clause.value
    if name not in _EQUAL.get(place, {}):
        return None
    if not isinstance(value, str):
        flag = "true" if value else "false"
        return (
            flag if clause.spec.kind == "flag" else str(int(value)) if value.is_integer() else None
        )
    known: Sequence[str] = _ORDERINGS if name == "ordering" else _SYSTEMS
    if name == "space_group":
        known = [space_group_symbol(number) for number in range(1, 231)]
    same = [index for index, each in enumerate(known) if loose(each) == loose(value)]
    if len(same) != 1:
        return None
    return str(same[0] + 1) if name == "space_group" else known[same[0]]
