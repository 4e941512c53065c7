"""Conditions of a live search: translated to server parameters, and checked on records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ragkit.agents.materials.backend import ENDPOINTS, Condition, Endpoint, Operator
from ragkit.agents.materials.chemistry.properties import INTEGER_PROPERTIES, Property, find_property
from ragkit.agents.materials.crystals.symmetry import space_group_symbol
from ragkit.agents.materials.live.parse import Record
from ragkit.agents.materials.snapshot.statements import (
    OPERATORS,
    TOLERANCE,
    checked_value,
    comparison_key,
)
from ragkit.agents.tools import ToolError

_ORDERINGS = ("FM", "AFM", "FiM", "NM")
_CRYSTAL_SYSTEMS = "Triclinic Monoclinic Orthorhombic Tetragonal Trigonal Hexagonal Cubic".split()
# Properties that the server filters by range, with the name of the parameter.
_RANGE_PARAMETERS: dict[Endpoint, dict[str, str]] = {
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
_EQUALITY_PARAMETERS: dict[Endpoint, dict[str, str]] = {
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
    """Condition with resolved property and validated value; flags are 0 and 1."""

    spec: Property
    operator: Operator
    value: float | str

    @classmethod
    def of(cls, condition: Condition) -> Clause:
        """Resolve and validate a condition.

        Raises:
            ToolError: No endpoint has the property, or the value has the wrong type.
        """
        spec = find_property(condition.property)
        endpoint_of(spec)
        return cls(spec, condition.operator, checked_value(spec, condition))

    def matches(self, record: Record) -> bool:
        """Return True if the record has the property and satisfies the condition."""
        quantity = record.quantities.get(self.spec.name)
        if quantity is None:
            return False
        if isinstance(self.value, str):
            return comparison_key(str(quantity.value)) == comparison_key(self.value)
        number = float(quantity.value)
        if self.operator == "=":
            return math.isclose(number, self.value, rel_tol=TOLERANCE, abs_tol=0.0)
        return bool(OPERATORS[self.operator](number, self.value))


def endpoint_of(spec: Property, preferred: Endpoint | None = None) -> Endpoint:
    """Return an endpoint that provides a property, preferably a given one.

    Raises:
        ToolError: No endpoint has it.
    """
    for endpoint in (preferred, *ENDPOINTS):
        if endpoint is not None and endpoint in spec.places:
            return endpoint
    raise ToolError(
        f"{spec.name!r} is not in the live database. Use the snapshot's formula tables for it."
    )


def server_conditions(endpoint: Endpoint, clauses: Sequence[Clause]) -> dict[str, str]:
    """Return the request parameters for the conditions that the server can apply.

    The server's result is a superset of the matching records.
    """
    bounds: dict[str, float] = {}
    params: dict[str, str] = {}
    for clause in clauses:
        name = clause.spec.name
        if name in _RANGE_PARAMETERS[endpoint] and not isinstance(clause.value, str):
            parameter = _RANGE_PARAMETERS[endpoint][name]
            slack = abs(clause.value) * TOLERANCE if clause.operator == "=" else 0.0
            is_integer = name in INTEGER_PROPERTIES
            if clause.operator in (">", ">=", "="):
                low = math.ceil(clause.value) if is_integer else clause.value - slack
                bounds[f"{parameter}_min"] = max(low, bounds.get(f"{parameter}_min", low))
            if clause.operator in ("<", "<=", "="):
                high = math.floor(clause.value) if is_integer else clause.value + slack
                bounds[f"{parameter}_max"] = min(high, bounds.get(f"{parameter}_max", high))
        elif clause.operator == "=" and (value := _equality_value(endpoint, clause)) is not None:
            params[_EQUALITY_PARAMETERS[endpoint][name]] = value
    return params | {name: repr(value) for name, value in bounds.items()}


def _equality_value(endpoint: Endpoint, clause: Clause) -> str | None:
    """Return the parameter value of an equality, or None if the server's spelling is uncertain."""
    name, value = clause.spec.name, clause.value
    if name not in _EQUALITY_PARAMETERS.get(endpoint, {}):
        return None
    if not isinstance(value, str):
        flag = "true" if value else "false"
        return (
            flag if clause.spec.kind == "flag" else str(int(value)) if value.is_integer() else None
        )
    candidates: Sequence[str] = _ORDERINGS if name == "ordering" else _CRYSTAL_SYSTEMS
    if name == "space_group":
        candidates = [space_group_symbol(number) for number in range(1, 231)]
    matches = [
        index
        for index, candidate in enumerate(candidates)
        if comparison_key(candidate) == comparison_key(value)
    ]
    if len(matches) != 1:
        return None
    return str(matches[0] + 1) if name == "space_group" else candidates[matches[0]]
