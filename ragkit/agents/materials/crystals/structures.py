"""Tools that return, analyse, repeat and edit crystal structures, and compute with formulas."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ragkit.agents.ledger import Quantity, Scalar
from ragkit.agents.materials.backend import Backend
from ragkit.agents.materials.chemistry.formulas import element_symbol, parse_formula, reduced
from ragkit.agents.materials.crystals import cells
from ragkit.agents.materials.crystals.cells import Format, Structure
from ragkit.agents.materials.crystals.voids import largest_void
from ragkit.agents.tools import Tool, ToolError, ToolResult, tool
from ragkit.errors import require

Times = Annotated[int, Field(ge=1, le=10)]
Fraction = Annotated[float, Field(gt=0, le=1)]

NOT_RELAXED = "not relaxed, not a calculated material: no property is known for it"

_UNITS = {
    "a": "angstrom",
    "b": "angstrom",
    "c": "angstrom",
    "alpha": "degree",
    "beta": "degree",
    "gamma": "degree",
    "volume": "angstrom**3",
    "density": "g/cm**3",
}
_MIN_DISTANCE = 0.7  # angstrom, shorter than the bond of H2


def structure_tools(backend: Backend) -> list[Tool]:
    """Return the structure tools over a back end.

    They are get_structure, make_supercell, substitute and add_interstitial (which return a file and
    are `direct`), structure_facts and formula_facts.
    """
    file_factories = [_get_structure, _make_supercell, _substitute, _add_interstitial]
    file_tool = tool(direct=True, timeout_s=60.0)
    file_tools = [file_tool(factory(backend)) for factory in file_factories]
    return [*file_tools, tool(_structure_facts(backend), timeout_s=60.0), tool(formula_facts)]


def _get_structure(backend: Backend) -> Callable[..., object]:
    def get_structure(material_id: str, format: Format = "poscar") -> ToolResult:
        """Give the crystal structure file of a material.

        Args:
            material_id: Such as mp-149.
            format: poscar or cif.
        """
        structure = _load_structure(backend, material_id)
        text = cells.write_structure(
            structure, format, f"{_reduced_formula(structure)} {material_id}"
        )
        return ToolResult(_structure_rows(backend, material_id, structure), text=text)

    return get_structure


def _structure_facts(backend: Backend) -> Callable[..., object]:
    def structure_facts(material_id: str) -> list[Quantity]:
        """Measure a crystal structure: cell lengths, angles, volume, density, space group.

        Args:
            material_id: Such as mp-149.
        """
        return _structure_rows(backend, material_id, _load_structure(backend, material_id))

    return structure_facts


def _structure_rows(backend: Backend, material_id: str, structure: Structure) -> list[Quantity]:
    return _cell_rows(
        structure,
        subject_id=material_id,
        method="computed from the structure",
        source=f"structure of {material_id} in the {backend.name}",
        version=backend.version,
    )


def _make_supercell(backend: Backend) -> Callable[..., object]:
    def make_supercell(material_id: str, a: Times, b: Times, c: Times) -> ToolResult:
        """Repeat a crystal structure along its cell edges.

        Args:
            material_id: Such as mp-149.
            a: Times along a.
            b: Times along b.
            c: Times along c.
        """
        repeated = cells.supercell(_load_structure(backend, material_id), a, b, c)
        rows, text = _edited_results(backend, repeated, f"{a}x{b}x{c} supercell of {material_id}")
        return ToolResult(rows, text=text)

    return make_supercell


def _substitute(backend: Backend) -> Callable[..., object]:
    def substitute(
        material_id: str, from_element: str, to_element: str, fraction: Fraction = 1.0
    ) -> ToolResult:
        """Replace an element of a crystal structure by another.

        Args:
            material_id: Such as mp-149.
            from_element: Symbol of the element to replace.
            to_element: Symbol of the new element.
            fraction: Of the sites; leave out for all.
        """
        old, new = element_symbol(from_element), element_symbol(to_element)
        structure = _load_structure(backend, material_id)
        edited, count = cells.substituted(structure, old, new, fraction)
        sites = int(structure.composition[old])
        description = f"{material_id} with {count} of {sites} {old} replaced by {new}"
        remark = "" if count == sites else "; the replaced sites are far apart, others are possible"
        rows, text = _edited_results(backend, edited, description + remark)
        return ToolResult(rows, text=text)

    return substitute


def _add_interstitial(backend: Backend) -> Callable[..., object]:
    def add_interstitial(material_id: str, element: str, position: str = "") -> ToolResult:
        """Put an extra atom into a crystal structure.

        Args:
            material_id: Such as mp-149.
            element: Symbol of the atom.
            position: Fractions "x y z"; leave out for the largest void.
        """
        symbol = element_symbol(element)
        structure = _load_structure(backend, material_id)
        if position.strip():
            point, origin = _parse_position(position), "the given position"
            distances = structure.lattice.get_all_distances(point, structure.frac_coords)
            distance = float(distances.min())
        else:
            point, distance = largest_void(structure.lattice.matrix, structure.frac_coords)
            origin = "the largest void"
        if distance < _MIN_DISTANCE:
            raise ToolError(
                f"{position!r} is {distance:.2f} angstrom from an atom; at least {_MIN_DISTANCE} "
                "are needed. Leave position out for the largest void."
            )
        edited = structure.copy().append(symbol, point)
        coordinates = " ".join(f"{fraction:.4f}" for fraction in point)
        description = f"{material_id} with {symbol} added at {coordinates} ({origin})"
        rows, text = _edited_results(backend, edited, description)
        gap = dataclasses.replace(
            rows[0], value=distance, unit="angstrom", property="distance_to_nearest_atom"
        )
        return ToolResult([*rows, gap], text=text)

    return add_interstitial


def formula_facts(formula: str) -> ToolResult:
    """Compute molar mass, mass fractions and atom fractions of a formula.

    Args:
        formula: Such as Ca(OH)2.
    """
    amounts = parse_formula(formula)
    lowest = reduced(formula)
    element = require("pymatgen.core", extra="materials").Element
    masses = {symbol: float(element(symbol).atomic_mass) * n for symbol, n in amounts.items()}
    mass, atoms = math.fsum(masses.values()), math.fsum(amounts.values())
    subject = formula.strip()

    def row(value: Scalar, name: str, unit: str = "") -> Quantity:
        return Quantity(
            value,
            unit,
            name,
            subject,
            kind="material",
            method="computed from the formula and atomic masses",
            source="pymatgen table of the elements",
            licence="MIT",
        )

    per_unit = math.fsum(parse_formula(lowest).values())
    rows = [row(mass, "molar_mass", "g/mol"), row(lowest, "reduced_formula")]
    rows += [row(atoms / per_unit, "formula_units"), row(atoms, "atoms")]
    for symbol, n in amounts.items():
        rows.append(row(masses[symbol] / mass, f"mass_fraction.{symbol}"))
        rows.append(row(n / atoms, f"atom_fraction.{symbol}"))
    return ToolResult(rows)


def _load_structure(backend: Backend, material_id: str) -> Structure:
    text = backend.structure(material_id.strip())
    if text is None:
        raise ToolError(
            f"no structure is held for {material_id.strip()!r} in the {backend.name}. "
            "Search for the material first and take a material id from there."
        )
    return cells.read_structure(text)


def _reduced_formula(structure: Structure) -> str:
    return str(structure.composition.reduced_formula)


def _cell_rows(structure: Structure, **origin: Any) -> list[Quantity]:
    """Return a row for each fact of the cell."""
    facts = dataclasses.asdict(cells.cell_facts(structure))
    formula, symbol = facts.pop("formula"), facts["space_group"]
    rows = []
    for name, value in facts.items():
        row = Quantity(
            value, _UNITS.get(name, ""), name, formula, variant=symbol, kind="material", **origin
        )
        if name.startswith("space_group"):
            settings = f"spglib, tolerance {cells.SYMMETRY_TOLERANCE} angstrom"
            row = dataclasses.replace(row, method=f"{row.method} ({settings})")
        rows.append(row)
    return rows


def _edited_results(
    backend: Backend, structure: Structure, description: str
) -> tuple[list[Quantity], str]:
    """Return rows and the POSCAR of an edited structure, both with a description of the edit."""
    rows = _cell_rows(
        structure,
        method=f"computed from an edited structure ({description}), {NOT_RELAXED}",
        source=f"edited from a structure in the {backend.name}",
        version=backend.version,
    )
    comment = f"{structure.composition.formula} | {description} | {NOT_RELAXED}"
    return rows, cells.write_structure(structure, comment=comment)


def _parse_position(position: str) -> np.ndarray[Any, Any]:
    parts = position.replace(",", " ").split()
    try:
        point = np.array([float(part) for part in parts])
    except ValueError:
        point = np.empty(0)
    if point.shape != (3,) or not np.isfinite(point).all():
        raise ToolError(f'{position[:60]!r} is no position. Give three fractions: "0.5 0.5 0.5".')
    return point % 1.0
