"""Searchable properties: names, units, descriptions and aliases.

Names are those of the Materials Project's API where they exist; nested fields are flattened
(`bulk_modulus.vrh` is `k_vrh`).
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal, get_args

from ragkit.agents.materials.backend import Endpoint
from ragkit.agents.tools import ToolError

SearchTarget = Endpoint | Literal["formula_tables"]
"""An endpoint, or the tables of values that are identified by formula only."""

Kind = Literal["number", "text", "flag"]

ENERGY_ORDER = "lowest and smallest mean the most negative"


@dataclass(frozen=True, slots=True)
class Property:
    """Property of materials.

    Attributes:
        name: Name in the Materials Project's API.
        unit: Unit in pint's notation, with "atom" as a unit of count; "" for plain numbers and
            texts.
        kind: Type of its values.
        about: One-line description; defines order words if they are ambiguous.
        places: Search targets that provide it.
        main: Search targets that return it if no fields are named.
        aliases: Common names in lower case.
    """

    name: str
    unit: str
    kind: Kind
    about: str
    places: tuple[SearchTarget, ...]
    main: tuple[SearchTarget, ...] = ()
    aliases: tuple[str, ...] = ()


_PLACES: dict[str, SearchTarget] = {
    "s": "summary",
    "t": "thermo",
    "e": "elasticity",
    "m": "magnetism",
    "d": "dielectric",
    "p": "piezoelectric",
    "l": "electronic_structure",
    "f": "formula_tables",
}


def _property(name: str, unit: str, places: str, about: str, aliases: str = "") -> Property:
    """Build a property from a compact notation.

    Args:
        name: Name of the property.
        unit: Unit; "!" marks a flag, "?" a text.
        places: Initials of the search targets, upper case for those in `main`.
        about: Description.
        aliases: Comma-separated common names.
    """
    kind: Kind = "flag" if unit == "!" else "text" if unit == "?" else "number"
    return Property(
        name=name,
        unit="" if unit in "!?" else unit,
        kind=kind,
        about=about,
        places=tuple(_PLACES[initial] for initial in places.lower()),
        main=tuple(_PLACES[initial.lower()] for initial in places if initial.isupper()),
        aliases=tuple(alias.strip() for alias in aliases.split(",") if alias.strip()),
    )


_ORDER = f"in eV per atom; {ENERGY_ORDER}"
_PER_VOLUME = "bohr_magneton/angstrom**3"

PROPERTIES: tuple[Property, ...] = (
    _property("band_gap", "eV", "SLF", "energy gap; 0 for a metal; PBE underestimates it",
              "bandgap, energy gap, gap, electronic gap"),
    _property("is_gap_direct", "!", "sL", "whether the gap is direct", "direct gap, direct"),
    _property("is_metal", "!", "sL", "whether it conducts as a metal", "metal, metallic"),
    _property("efermi", "eV", "sL", f"Fermi level; {ENERGY_ORDER}", "fermi level, fermi energy"),
    _property("formation_energy_per_atom", "eV/atom", "STF",
              f"formation energy from the elements, {_ORDER}",
              "formation energy, formation enthalpy, heat of formation, enthalpy of formation"),
    _property("energy_above_hull", "eV/atom", "STF",
              "distance to the convex hull; 0 is stable, lowest is the most stable polymorph",
              "hull distance, e above hull, ehull, e_above_hull, stability"),
    _property("is_stable", "!", "ST", "whether it lies on the convex hull", "stable"),
    _property("decomposition_enthalpy", "eV/atom", "TF",
              f"energy against the competing phases, {_ORDER}",
              "decomposition energy, enthalpy of decomposition"),
    _property("energy_per_atom", "eV/atom", "st", f"corrected DFT energy, {_ORDER}",
              "total energy"),
    _property("uncorrected_energy_per_atom", "eV/atom", "st", f"DFT energy as computed, {_ORDER}"),
    _property("equilibrium_reaction_energy_per_atom", "eV/atom", "st",
              f"energy of forming it from its stable neighbours, {_ORDER}",
              "equilibrium reaction energy, reaction energy"),
    _property("space_group", "?", "S", "international symbol",
              "spacegroup, spacegroup symbol, space group symbol, symmetry"),
    _property("spacegroup_number", "", "s", "number of the space group, 1 to 230",
              "space group number"),
    _property("crystal_system", "?", "s", "triclinic to cubic", "crystal class, lattice system"),
    _property("point_group", "?", "s", "international symbol", "pointgroup"),
    _property("nsites", "", "s", "atoms in the cell", "number of sites, number of atoms, "
              "number of sites in the cell, number of atoms in the cell"),
    _property("nelements", "", "s", "how many elements", "number of elements"),
    _property("volume", "angstrom**3", "s", "of the cell", "cell volume, unit cell volume"),
    _property("density", "g/cm**3", "s", "mass density", "mass density"),
    _property("k_vrh", "GPa", "SEF", "bulk modulus, Voigt-Reuss-Hill average",
              "bulk modulus, bulk moduli, voigt-reuss-hill bulk modulus, compressibility modulus, "
              "incompressibility, k"),
    _property("k_voigt", "GPa", "se", "bulk modulus, upper bound", "voigt bulk modulus"),
    _property("k_reuss", "GPa", "se", "bulk modulus, lower bound", "reuss bulk modulus"),
    _property("g_vrh", "GPa", "sEF", "shear modulus, Voigt-Reuss-Hill average",
              "shear modulus, shear moduli, rigidity modulus, modulus of rigidity, g"),
    _property("g_voigt", "GPa", "se", "shear modulus, upper bound", "voigt shear modulus"),
    _property("g_reuss", "GPa", "se", "shear modulus, lower bound", "reuss shear modulus"),
    _property("young_modulus", "Pa", "e", "Young's modulus", "young's modulus, youngs modulus"),
    _property("universal_anisotropy", "", "sE", "elastic anisotropy; 0 is isotropic",
              "elastic anisotropy, anisotropy"),
    _property("homogeneous_poisson", "", "sE", "Poisson's ratio",
              "poisson's ratio, poisson ratio, poisson"),
    _property("thermal_conductivity_clarke", "W/m/K", "e", "Clarke's minimum",
              "clarke thermal conductivity, thermal conductivity"),
    _property("thermal_conductivity_cahill", "W/m/K", "e", "Cahill's minimum",
              "cahill thermal conductivity"),
    _property("ordering", "?", "SMl", "FM, AFM, FiM or NM",
              "magnetic ordering, magnetic order, magnetism, magnetic_ordering"),
    _property("is_magnetic", "!", "m", "whether it is magnetic", "magnetic"),
    _property("total_magnetization", "bohr_magneton", "sm", "of the cell",
              "magnetization, magnetisation, magnetic moment, total magnetisation"),
    _property("total_magnetization_normalized_formula_units", "bohr_magneton", "sM",
              "magnetization per formula unit",
              "magnetization per formula unit, magnetisation per formula unit, magnetization_unit, "
              "moment per formula unit"),
    _property("total_magnetization_normalized_vol", _PER_VOLUME, "sm", "magnetization per volume",
              "magnetization per volume, magnetisation per volume"),
    _property("num_magnetic_sites", "", "sm", "magnetic atoms in the cell", "magnetic sites"),
    _property("num_unique_magnetic_sites", "", "sm", "magnetic atoms not related by symmetry",
              "unique magnetic sites"),
    _property("exchange_symmetry", "", "m", "space group number with the moments"),
    _property("e_total", "", "sD", "static dielectric constant, electrons and ions",
              "dielectric constant, static dielectric constant, permittivity, poly_total, "
              "relative permittivity, total dielectric constant"),
    _property("e_electronic", "", "sD", "dielectric constant, electrons only",
              "electronic dielectric constant, poly_electronic, optical dielectric constant, "
              "electronic part of the dielectric constant"),
    _property("e_ionic", "", "sd", "dielectric constant, ions only",
              "ionic dielectric constant, ionic part of the dielectric constant"),
    _property("n", "", "sDF", "refractive index", "refractive index, index of refraction"),
    _property("e_ij_max", "C/m**2", "sP", "largest piezoelectric modulus",
              "piezoelectric modulus, piezoelectric constant, piezoelectric coefficient, "
              "piezo modulus, eij_max, piezoelectricity, largest piezoelectric modulus"),
    _property("last_phdos_peak", "1/cm", "F", "highest phonon peak",
              "phonon peak, highest phonon peak, last phonon dos peak, phonon frequency, phonon"),
    _property("yield_strength", "MPa", "F", "yield strength of a steel", "yield stress, strength"),
    _property("glass_forming", "!", "F", "whether it forms a bulk metallic glass",
              "glass forming ability, metallic glass, glass"),
)  # fmt: skip
_BY_NAME = {spec.name: spec for spec in PROPERTIES}
_BY_ALIAS = {alias: spec.name for spec in PROPERTIES for alias in spec.aliases}
INTEGER_PROPERTIES = frozenset(
    {
        "nsites",
        "nelements",
        "spacegroup_number",
        "num_magnetic_sites",
        "num_unique_magnetic_sites",
        "exchange_symmetry",
    }
)
"""Properties whose values are integers (counts or labels)."""

# Property names by path in the records of the Materials Project.
PATHS = {
    "bulk_modulus.vrh": "k_vrh",
    "bulk_modulus.voigt": "k_voigt",
    "bulk_modulus.reuss": "k_reuss",
    "shear_modulus.vrh": "g_vrh",
    "shear_modulus.voigt": "g_voigt",
    "shear_modulus.reuss": "g_reuss",
    "thermal_conductivity.clarke": "thermal_conductivity_clarke",
    "thermal_conductivity.cahill": "thermal_conductivity_cahill",
    "symmetry.symbol": "space_group",
    "symmetry.number": "spacegroup_number",
    "symmetry.crystal_system": "crystal_system",
    "symmetry.point_group": "point_group",
}


def properties_of(target: SearchTarget) -> tuple[Property, ...]:
    """Return the properties of a search target.

    Raises:
        ToolError: The target is unknown.

    >>> [spec.name for spec in properties_of("piezoelectric")]
    ['e_ij_max']
    """
    known = (*get_args(Endpoint), "formula_tables")
    if target not in known:
        raise ToolError(f"there is no endpoint {target!r}. Use one of {', '.join(known)}.")
    return tuple(spec for spec in PROPERTIES if target in spec.places)


def find_property(name: str, target: SearchTarget | None = None) -> Property:
    """Find a property by name, path or alias.

    Args:
        name: "band_gap", "bulk_modulus.vrh", "refractive index".
        target: Search target that must provide it; None accepts any.

    Raises:
        ToolError: The property is unknown, or the target does not provide it. The message suggests
            similar names.

    >>> find_property("bandgap").name, find_property("Bulk modulus").unit
    ('band_gap', 'GPa')
    """
    plain = " ".join(name.strip().lower().split())
    spec = lookup(plain)
    allowed = PROPERTIES if target is None else properties_of(target)
    if spec in allowed:
        return spec
    suffix = f" of {target}" if target else ""
    names = [candidate.name for candidate in allowed]
    if spec is not None:
        targets = ", ".join(spec.places)
        reason = f"{spec.name!r} is served by {targets}, and is no property{suffix}"
    else:
        near = nearest(plain, names)
        hint = f"; near are {', '.join(near)}" if near else ""
        reason = f"there is no property {name.strip()!r}{suffix}{hint}"
    listed = f" Use one of: {', '.join(names)}." if target else " Use a property's name."
    raise ToolError(f"{reason}.{listed}")


def nearest(name: str, names: list[str]) -> list[str]:
    """Return up to three known names that are contained in a name or spelled similarly."""
    contained = [known for known in names if len(known) > 1 and known in name]
    words = difflib.get_close_matches(name.replace(" ", "_"), [*names, *_BY_ALIAS], 4, 0.6)
    similar = [_BY_ALIAS.get(word, word) for word in words]
    return [match for match in dict.fromkeys([*contained, *similar]) if match in names][:3]


def lookup(name: str) -> Property | None:
    """Find a property by name, path or alias; return None if it is unknown.

    >>> lookup("Energy gap").name, lookup("hardness")
    ('band_gap', None)
    """
    plain = " ".join(name.lower().split())
    snake = re.sub(r"[\s-]+", "_", plain)
    spaced = re.sub(r"[_-]+", " ", plain)
    for candidate in (plain, snake, PATHS.get(plain, "")):
        if candidate in _BY_NAME:
            return _BY_NAME[candidate]
    alias = _BY_ALIAS.get(plain) or _BY_ALIAS.get(spaced)
    return _BY_NAME[alias] if alias else None
