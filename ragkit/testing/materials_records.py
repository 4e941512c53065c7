"""Documents of `MaterialsProjectServer`: a few named materials and many generated ones."""

from __future__ import annotations

import functools
import json
import math
import struct
import zlib
from collections.abc import Mapping
from typing import Any

from ragkit.agents.materials.chemistry.formulas import chemsys, parse_formula
from ragkit.agents.materials.crystals.symmetry import (
    crystal_system,
    point_group,
    space_group_symbol,
)

N_GENERATED = 340
_MIX = "GGA_GGA+U_R2SCAN"
# id, formula, space group, sites, band gap, formation energy, hull, bulk and shear modulus, order
_NAMED: tuple[tuple[Any, ...], ...] = (
    ("mp-2534", "GaAs", 216, 2, 0.1861, -0.4244, 0.0, 60.6, 32.5, "NM"),
    ("mp-8883", "GaAs", 186, 4, 0.1402, -0.4171, 0.0073, 60.1, 31.9, "NM"),
    ("mp-10048", "GaAs", 63, 4, 0.0, -0.2261, 0.1983, None, None, "NM"),
    ("mp-149", "Si", 227, 2, 0.6105, 0.0, 0.0, 88.9, 62.4, "NM"),
    ("mp-7000", "SiO2", 152, 9, 5.7021, -3.2735, 0.0, 35.9, 41.3, "NM"),
    ("mp-6930", "SiO2", 154, 9, 5.7394, -3.2712, 0.0023, 36.4, 41.9, "NM"),
    ("mp-6947", "SiO2", 136, 6, 5.1712, -3.0821, 0.1914, 286.1, 212.6, "NM"),
    ("mp-390", "TiO2", 141, 6, 2.0571, -3.5121, 0.0, 177.4, 48.5, "NM"),
    ("mp-2657", "TiO2", 136, 6, 1.7812, -3.4782, 0.0339, 211.2, 113.6, "NM"),
    ("mp-1840", "TiO2", 61, 24, 2.2794, -3.5061, 0.0060, 209.7, 97.0, "NM"),
    ("mp-5020", "BaTiO3", 160, 5, 2.2211, -3.5310, 0.0, 94.4, 46.7, "NM"),
    ("mp-13", "Fe", 229, 1, 0.0, 0.0, 0.0, 182.0, 76.8, "FM"),
    ("mp-23", "Ni", 225, 1, 0.0, 0.0, 0.0, 197.7, 92.6, "FM"),
    ("mp-19009", "NiO", 225, 2, 2.2971, -1.2162, 0.0, 199.4, 83.1, "AFM"),
    ("mp-19770", "Fe2O3", 167, 10, 1.6021, -1.7110, 0.0, 169.9, 77.5, "AFM"),
    ("mp-19306", "Fe3O4", 227, 14, 0.0, -1.6240, 0.0, 174.2, 56.6, "FiM"),
)
_MOMENTS = {"Fe": 2.2, "Ni": 0.6, "Fe3O4": 4.0}
_DIELECTRIC = {"mp-2534": (14.86, 2.14), "mp-149": (13.0, 0.0), "mp-390": (7.3, 37.2)}
_PIEZOELECTRIC = {"mp-7000": 0.19, "mp-5020": 6.5}
_PAGE = "_skip _limit _page _per_page _fields _all_fields _sort_fields _facets"
_SIZES = "nsites nelements volume density density_atomic"
_ENERGIES = (
    "uncorrected_energy_per_atom energy_per_atom formation_energy_per_atom energy_above_hull "
    "equilibrium_reaction_energy_per_atom"
)
_MODULI = "k_voigt k_reuss k_vrh g_voigt g_reuss g_vrh"
_MOMENT_FIELDS = (
    "total_magnetization total_magnetization_normalized_vol "
    "total_magnetization_normalized_formula_units num_magnetic_sites num_unique_magnetic_sites"
)
# Query parameters of each route: those with ranges (name_min, name_max), and the others.
_PARAMETERS = {
    "summary": (
        f"{_SIZES} {_ENERGIES} {_MODULI} {_MOMENT_FIELDS} band_gap efermi universal_anisotropy "
        "homogeneous_poisson e_total e_ionic e_electronic n e_ij_max",
        "material_ids formula chemsys elements exclude_elements possible_species crystal_system "
        "spacegroup_number spacegroup_symbol is_stable theoretical ordering is_gap_direct "
        "is_metal has_props deprecated batch_id batch_id_not_eq",
    ),
    "thermo": (
        f"{_SIZES} {_ENERGIES} decomposition_enthalpy",
        "thermo_ids material_ids thermo_types formula chemsys is_stable",
    ),
    "elasticity": (f"{_MODULI} elastic_anisotropy poisson", "material_ids"),
    "magnetism": (_MOMENT_FIELDS, "material_ids ordering"),
    "dielectric": ("e_total e_ionic e_electronic n", "material_ids"),
    "piezoelectric": ("piezo_modulus", "material_ids"),
    "electronic_structure": (
        f"{_SIZES} band_gap efermi",
        "material_ids magnetic_ordering is_gap_direct is_metal formula chemsys elements "
        "exclude_elements deprecated",
    ),
    "synthesis": ("", "keywords synthesis_type target_formula precursor_formula operations"),
    "similarity": ("", "material_ids"),
    "similarity/match": ("", "feature_vector_hex feature_vector_norm"),
}


def parameters(route: str) -> set[str]:
    """Return the query parameters that a route accepts."""
    bounded, plain = _PARAMETERS[route]
    page = "_skip _limit" if route == "synthesis" else _PAGE
    limits = {f"{name}_{end}" for name in bounded.split() for end in ("min", "max")}
    return {*limits, *plain.split(), *page.split()}


ROUTES = tuple(_PARAMETERS)


class Documents(dict[str, list[Any]]):
    """Documents by route; each route is copied lazily, so that tests can modify it."""

    def __missing__(self, route: str) -> list[Any]:
        self[route] = json.loads(_serialized_documents()[route])
        return self[route]


@functools.cache
def _serialized_documents() -> dict[str, str]:
    materials = [_summary(*row) for row in _NAMED]
    materials += [_summary(*_generated(number)) for number in range(N_GENERATED)]
    documents = {
        "summary": materials,
        "thermo": [document for material in materials for document in _thermo(material)],
        "elasticity": [_elastic(material) for material in materials if material["bulk_modulus"]],
        "magnetism": [_magnetic(material) for material in materials],
        "dielectric": [_dielectric(material) for material in materials if material["n"]],
        "piezoelectric": [
            _piezoelectric(material) for material in materials if material["e_ij_max"]
        ],
        "electronic_structure": [_electronic(material) for material in materials],
        "synthesis": [_recipe(number) for number in range(12)],
        "similarity": _similar(),
        "similarity/match": [
            {key: material[key] for key in ("material_id", "formula_pretty")} | {"vector": vector}
            for material, vector in zip(materials, ([1, 0], [0.8, 0.6], [0, 1]), strict=False)
        ],
    }
    return {route: json.dumps(rows) for route, rows in documents.items()}


def _generated(number: int) -> tuple[Any, ...]:
    """Return an invented binary compound, determined by its number."""
    cations = "Li Na K Rb Cs Mg Ca Sr Ba Zn Cd Al In Sc Y La Cu".split()
    anions = "O S Se Te N P F Cl Br I".split()
    cation, anion = cations[number % 17], anions[number // 17 % 10]
    formula = f"{cation}{anion}" if number < 170 else f"{cation}{anion}2"
    gap = round(number * 37 % 101 / 20, 4)
    hull = round(number * 13 % 29 / 100, 4)
    bulk = 20.0 + number * 7 % 191 if number % 3 == 0 else None
    shear = None if bulk is None else round(bulk * 0.6, 2)
    sites = len(parse_formula(formula)) + (number >= 170)
    return (
        f"mp-{900_000 + number}", formula, 1 + number * 11 % 230, sites, gap,
        round(-0.5 - number % 23 / 10, 4), hull, bulk, shear, "NM",
    )  # fmt: skip


def _base(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that all endpoints share."""
    names = (
        "builder_meta nsites elements nelements composition_reduced formula_pretty chemsys volume "
        "density density_atomic symmetry material_id deprecated last_updated warnings"
    ).split()
    return {name: row[name] for name in names}


def _summary(
    material_id: str, formula: str, number: int, nsites: int, gap: float, *rest: Any
) -> dict[str, Any]:
    formation, hull, bulk, shear, order = rest
    volume = round(nsites * 11.7 + number / 50, 4)
    return {
        **_crystal(material_id, formula, number, nsites, volume),
        "property_name": "summary",
        "origins": [],
        "structure": _structure(formula, volume),
        "uncorrected_energy_per_atom": round(formation - 4, 4),
        "energy_per_atom": round(formation - 4.1, 4),
        "formation_energy_per_atom": formation,
        "energy_above_hull": hull,
        "is_stable": hull == 0.0,
        "equilibrium_reaction_energy_per_atom": round(formation / 5, 4) if hull == 0.0 else None,
        "band_gap": gap,
        "efermi": round(2 + gap, 4),
        "is_gap_direct": number > 200,
        "is_metal": gap == 0.0,
        "bulk_modulus": _modulus(bulk),
        "shear_modulus": _modulus(shear),
        "universal_anisotropy": None if bulk is None else 0.4,
        "homogeneous_poisson": None if bulk is None else 0.25,
        **_moments(order, _MOMENTS.get(formula, 0.0), nsites, volume),
        **_response(material_id, elastic=bulk is not None),
        "theoretical": False,
        "database_IDs": {},
    }


def _crystal(
    material_id: str, formula: str, number: int, nsites: int, volume: float
) -> dict[str, Any]:
    return {
        "builder_meta": {"emmet_version": "0.86.4", "pull_request": None},
        "nsites": nsites,
        "elements": sorted(parse_formula(formula)),
        "nelements": len(parse_formula(formula)),
        "composition_reduced": parse_formula(formula),
        "formula_pretty": formula,
        "chemsys": chemsys(formula),
        "volume": volume,
        "density": round(2 + number / 60, 4),
        "density_atomic": volume / nsites,
        "symmetry": {
            "crystal_system": crystal_system(number),
            "symbol": space_group_symbol(number),
            "number": number,
            "point_group": point_group(number),
            "symprec": 0.1,
            "version": "2.6.0",
        },
        "material_id": material_id,
        "deprecated": False,
        "last_updated": "2025-09-25T00:00:00.000000",
        "warnings": [],
    }


def _moments(order: str, moment: float, nsites: int, volume: float) -> dict[str, Any]:
    return {
        "is_magnetic": order != "NM",
        "ordering": order,
        "total_magnetization": moment,
        "total_magnetization_normalized_vol": moment / volume,
        "total_magnetization_normalized_formula_units": moment,
        "num_magnetic_sites": nsites if moment else 0,
        "num_unique_magnetic_sites": 1 if moment else 0,
        "types_of_magnetic_species": [],
    }


def _response(material_id: str, *, elastic: bool) -> dict[str, Any]:
    """Return dielectric and piezoelectric values, and the endpoints that have the material."""
    polar = _DIELECTRIC.get(material_id)
    charge = _PIEZOELECTRIC.get(material_id)
    known = {"elasticity": elastic, "dielectric": polar, "piezoelectric": charge}
    return {
        "e_total": sum(polar) if polar else None,
        "e_ionic": polar[1] if polar else None,
        "e_electronic": polar[0] if polar else None,
        "n": round(math.sqrt(polar[0]), 6) if polar else None,
        "e_ij_max": charge,
        "has_props": dict.fromkeys(("materials", "thermo", "electronic_structure"), True)
        | {name: bool(value) for name, value in known.items()},
    }


def _modulus(vrh: float | None) -> dict[str, float] | None:
    return None if vrh is None else {"voigt": vrh + 0.5, "reuss": vrh - 0.5, "vrh": vrh}


def _structure(formula: str, volume: float) -> dict[str, Any]:
    """Return a cubic cell with the atoms on its diagonal, in pymatgen's JSON format."""
    edge = round(volume ** (1 / 3), 6)
    symbols = [
        symbol for symbol, amount in parse_formula(formula).items() for _ in range(int(amount))
    ]
    return {
        "@module": "pymatgen.core.structure",
        "@class": "Structure",
        "charge": 0,
        "lattice": {
            "matrix": [[edge, 0.0, 0.0], [0.0, edge, 0.0], [0.0, 0.0, edge]],
            "pbc": [True, True, True],
        },
        "properties": {},
        "sites": [
            {
                "species": [{"element": symbol, "occu": 1}],
                "abc": [index / len(symbols)] * 3,
                "properties": {"magmom": -0.0},
                "label": symbol,
            }
            for index, symbol in enumerate(symbols)
        ],
    }


def _derived_document(row: Mapping[str, Any], names: str, endpoint: str) -> dict[str, Any]:
    task = {"name": endpoint, "task_id": f"mp-1{row['material_id'].removeprefix('mp-')}"}
    origins = {"origins": [task | {"last_updated": "2025-01-01T00:00:00"}]}
    return _base(row) | {"property_name": endpoint} | origins | {
        name: row[name] for name in names.split()
    }  # fmt: skip


def _thermo(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one document for each functional mix, with slightly different energies."""
    documents = []
    for mix, shift in ((_MIX, 0.0), ("GGA_GGA+U", 0.01)):
        document = _derived_document(row, f"{_ENERGIES} is_stable", "thermo")
        document["formation_energy_per_atom"] = row["formation_energy_per_atom"] + shift
        document |= {
            "thermo_type": mix,
            "thermo_id": f"{row['material_id']}_{mix}",
            "energy_type": "GGA",
            "decomposition_enthalpy": row["equilibrium_reaction_energy_per_atom"],
        }
        documents.append(document)
    return documents


def _elastic(row: Mapping[str, Any]) -> dict[str, Any]:
    names = "bulk_modulus shear_modulus universal_anisotropy homogeneous_poisson"
    extra = {"young_modulus": 1.0e11, "order": 2, "fitting_method": "finite_difference"}
    thermal = {"thermal_conductivity": {"clarke": 0.7, "cahill": 0.8}}
    return _derived_document(row, names, "elasticity") | extra | thermal


def _magnetic(row: Mapping[str, Any]) -> dict[str, Any]:
    names = f"{_MOMENT_FIELDS} ordering is_magnetic types_of_magnetic_species"
    return _derived_document(row, names, "magnetism") | {
        "exchange_symmetry": row["symmetry"]["number"]
    }


def _dielectric(row: Mapping[str, Any]) -> dict[str, Any]:
    return _derived_document(row, "e_total e_ionic e_electronic n", "dielectric")


def _piezoelectric(row: Mapping[str, Any]) -> dict[str, Any]:
    return _derived_document(row, "e_ij_max", "piezoelectric") | {"max_direction": [0, 0, 1]}


def _electronic(row: Mapping[str, Any]) -> dict[str, Any]:
    names = "band_gap efermi is_gap_direct is_metal"
    order = {"magnetic_ordering": row["ordering"]}
    return _derived_document(row, names, "electronic_structure") | order


def _recipe(number: int) -> dict[str, Any]:
    """Return a text-mined recipe: LiFePO4 for even numbers, BaTiO3 for odd ones."""
    target, precursors = (
        ("LiFePO4", ["Li2CO3", "FeC2O4", "NH4H2PO4"]) if number % 2 == 0
        else ("BaTiO3", ["BaCO3", "TiO2"])
    )  # fmt: skip
    empty: dict[str, Any] = {
        "heating_temperature": [], "heating_time": [], "heating_atmosphere": [],
        "mixing_device": None, "mixing_media": None,
    }  # fmt: skip
    low = 600.0 + 10 * number
    heated = empty | {
        "heating_temperature": [
            {"min_value": low, "max_value": low + 100, "values": [], "units": "°C"}
        ],
        "heating_time": [{"min_value": 5.0, "max_value": 5.0, "values": [5.0], "units": "h"}],
        "heating_atmosphere": ["argon" if number % 2 == 0 else "air"],
    }
    return {
        "doi": f"10.0000/example.{number}",
        "paragraph_string": f"{target} was made by ball milling and heating, example {number}.",
        "synthesis_type": "solid-state",
        "reaction_string": f"{' + '.join(precursors)} == {target}",
        "reaction": {"left_side": [], "right_side": []},
        "target": _extracted_material(target),
        "targets_formula": [target],
        "targets_formula_s": [target],
        "precursors_formula_s": precursors,
        "precursors": [_extracted_material(formula) for formula in precursors],
        "operations": [
            {
                "type": "MixingOperation",
                "token": "milled",
                "conditions": empty | {"mixing_device": "ball mill"},
            },
            {"type": "HeatingOperation", "token": "heated", "conditions": heated},
        ],
        "search_score": None,
    }


def _extracted_material(formula: str) -> dict[str, Any]:
    return {
        "material_string": formula,
        "material_formula": formula,
        "material_name": "",
        "phase": None,
        "is_acronym": False,
        "composition": [],
        "additives": [],
        "oxygen_deficiency": None,
    }


def _similar() -> list[dict[str, Any]]:
    """Return one material with a list of neighbours, and one with a fingerprint only."""
    near = [
        {"task_id": "mp-149", "formula": "Si", "nelements": 1, "dissimilarity": 1.5},
        {"task_id": "mp-8883", "formula": "GaAs", "nelements": 2, "dissimilarity": 0.5},
    ]
    return [
        {"material_id": "mp-2534", "formula_pretty": "GaAs", "sim": near, "feature_vector": None},
        {"material_id": "mp-8883", "formula_pretty": "GaAs", "sim": [], "feature_vector": [4, 3]},
    ]


def fingerprint_score(rows: list[Any], params: Mapping[str, str]) -> list[dict[str, Any]]:
    """Score rows by the cosine similarity to the requested fingerprint, in descending order."""
    packed = zlib.decompress(bytes.fromhex(params["feature_vector_hex"]))
    unit = struct.unpack(f"<{len(packed) // 8}d", packed)
    scores = []
    for row in rows:
        named = {key: row[key] for key in ("material_id", "formula_pretty")}
        score = sum(a * b for a, b in zip(unit, row["vector"], strict=True))
        scores.append({**named, "score": score})
    return sorted(scores, key=lambda row: -row["score"])
