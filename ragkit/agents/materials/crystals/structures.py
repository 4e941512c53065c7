"""Tools for crystal structures: fetched, measured, repeated and edited; arithmetic of formulas."""

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
_TOO_CLOSE = 0.7  # angstrom; shorter than the bond of H2


def structure_tools(backend: Backend) -> list[Tool]:
    """The tools of this module over a back end's structures.

    They are get_structure, make_supercell, substitute and add_interstitial, which return a file and
    have `direct` set; structure_facts; formula_facts.
    """
    files = [_get_structure, _make_supercell, _substitute, _add_interstitial]
    giving_file = tool(direct=True, timeout_s=60.0)
    made = [giving_file(make(backend)) for make in files]
    return [*made, tool(_structure_facts(backend), timeout_s=60.0), tool(formula_facts)]


def _get_structure(backend: Backend) -> Callable[..., object]:
    def get_structure(material_id: str, format: Format = "poscar") -> ToolResult:
        """Give the crystal structure file of a material.

        Args:
            material_id: Such as mp-149.
            format: poscar or cif.
        """
        structure = _held(backend, material_id)
        text = cells.write_structure(structure, format, f"{_name(structure)} {material_id}")
        return ToolResult(_measured(backend, material_id, structure), text=text)

    return get_structure


def _structure_facts(backend: Backend) -> Callable[..., object]:
    def structure_facts(material_id: str) -> list[Quantity]:
        """Measure a crystal structure: cell lengths, angles, volume, density, space group.

        Args:
            material_id: Such as mp-149.
        """
        return _measured(backend, material_id, _held(backend, material_id))

    return structure_facts


def _measured(backend: Backend, material_id: str, structure: Structure) -> list[Quantity]:
    return _facts(
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
        made = cells.supercell(_held(backend, material_id), a, b, c)
        rows, text = _edited(backend, made, f"{a}x{b}x{c} supercell of {material_id}")
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
        structure = _held(backend, material_id)
        made, count = cells.substituted(structure, old, new, fraction)
        sites = int(structure.composition[old])
        what = f"{material_id} with {count} of {sites} {old} replaced by {new}"
        more = "" if count == sites else "; the replaced sites are far apart, others are possible"
        rows, text = _edited(backend, made, what + more)
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
        structure = _held(backend, material_id)
        if position.strip():
            place, where = _place(position), "the given position"
            gaps = structure.lattice.get_all_distances(place, structure.frac_coords)
            distance = float(gaps.min())
        else:
            place, distance = largest_void(structure.lattice.matrix, structure.frac_coords)
            where = "the largest void"
        if distance < _TOO_CLOSE:
            raise ToolError(
                f"{position!r} is {distance:.2f} angstrom from an atom; at least {_TOO_CLOSE} are "
                "needed. Leave position out for the largest void."
            )
        made = structure.copy().append(symbol, place)
        at = " ".join(f"{each:.4f}" for each in place)
        what = f"{material_id} with {symbol} added at {at} ({where})"
        rows, text = _edited(backend, made, what)
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
    masses = {each: float(element(each).atomic_mass) * n for each, n in amounts.items()}
    mass, atoms = math.fsum(masses.values()), math.fsum(amounts.values())
    written = formula.strip()

    def row(value: Scalar, name: str, unit: str = "") -> Quantity:
        return Quantity(
            value,
            unit,
            name,
            written,
            kind="material",
            method="computed from the formula and atomic masses",
            source="pymatgen table of the elements",
            licence="MIT",
        )

    per_unit = math.fsum(parse_formula(lowest).values())
    rows = [row(mass, "molar_mass", "g/mol"), row(lowest, "reduced_formula")]
    rows += [row(atoms / per_unit, "formula_units"), row(atoms, "atoms")]
    for each, n in amounts.items():
        rows.append(row(masses[each] / mass, f"mass_fraction.{each}"))
        rows.append(row(n / atoms, f"atom_fraction.{each}"))
    return ToolResult(rows)


def _held(backend: Backend, material_id: str) -> Structure:
    text = backend.structure(material_id.strip())
    if text is None:
        raise ToolError(
            f"no structure is held for {material_id.strip()!r} in the {backend.name}. "
            "Search for the material first and take a material id from there."
        )
    return cells.read_structure(text)


def _name(structure: Structure) -> str:
    return str(structure.composition.reduced_formula)


def _facts(structure: Structure, **origin: Any) -> list[Quantity]:
    """A row for each fact of the cell."""
    facts = dataclasses.asdict(cells.cell_facts(structure))
    formula, symbol = facts.pop("formula"), facts["space_group"]
    rows = []
    for name, value in facts.items():
        row = Quantity(
            value, _UNITS.get(name, ""), name, formula, variant=symbol, kind="material", **origin
        )
        if name.startswith("space_group"):
            by = f"spglib, tolerance {cells.SYMMETRY_TOLERANCE} angstrom"
            row = dataclasses.replace(row, method=f"{row.method} ({by})")
        rows.append(row)
    return rows


def _edited(backend: Backend, structure: Structure, what: str) -> tuple[list[Quantity], str]:
    """The facts of an edited structure, and its POSCAR, which says what it is."""
    rows = _facts(
        structure,
        method=f"computed from an edited structure ({what}), {NOT_RELAXED}",
        source=f"edited from a structure in the {backend.name}",
        version=backend.version,
    )
    comment = f"{structure.composition.formula} | {what} | {NOT_RELAXED}"
    return rows, cells.write_structure(structure, comment=comment)


def _place(position: str) -> np.ndarray[Any, Any]:
    parts = position.replace(",", " ").split()
    try:
        place = np.array([float(each) for each in parts])
    except ValueError:
        place = np.empty(0)
    if place.shape != (3,) or not np.isfinite(place).all():
        raise ToolError(f'{position[:60]!r} is no position. Give three fractions: "0.5 0.5 0.5".')
    return place % 1.0
