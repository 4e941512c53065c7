"""The published files that the snapshot is made of, read into values with their origins.

Only what databases and laboratories gave is read; the columns in which LLaMP's evaluation keeps
what language models answered are not.
"""

from __future__ import annotations

import ast
import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragkit.agents.ledger import Scalar
from ragkit.agents.materials.crystals.symmetry import crystal_system, space_group_symbol
from ragkit.errors import DatasetError
from tools.materials_snapshot import transcripts

CC_BY = "CC BY 4.0"

DIELECTRIC = "mp_dft_tables/dielectric_constant.csv"
PIEZOELECTRIC = "mp_dft_tables/piezoelectric_tensor.csv"
NOTEBOOKS = "llamp_fig3/llamp_notebook_outputs.json"
BENCHMARK = "llamp_fig3/llamp_fig3_benchmark.json"
EVALUATION = (
    "llamp_eval/6_eval_dataset.csv",
    "llamp_eval/6_eval_dataset_gpt4.csv",
    "llamp_eval/magnetism_test_dataset_100.csv",
    "llamp_eval/6_small_dataset.csv",
    "llamp_eval/7_small_dataset.csv",
)
_PETOUSIS = (
    "Petousis et al., Sci. Data 4, 160134 (2017)",
    "de Jong et al., Sci. Data 2, 150053 (2015)",
)
_MATBENCH = "Matbench v0.1 (Dunn et al., npj Comput. Mater. 6, 138, 2020)"
_TRUTHS = {
    "ordering": "ordering",
    "magnetization_unit": "total_magnetization_normalized_formula_units",
    "total_magnetization_normalized_formula_units": "total_magnetization_normalized_formula_units",
    "volume": "volume",
    "density": "density",
}


@dataclass(frozen=True, slots=True)
class Origin:
    """How and where a value was got.

    Attributes:
        method: "DFT (PBE)", "experiment".
        source: The publication or database.
        licence: Of the value.
    """

    method: str
    source: str
    licence: str = CC_BY


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a material, or of a formula where `material_id` is None.

    Attributes:
        material_id: As in the Materials Project.
        formula: As the source writes it; "" where another record of the material tells it.
        property: Our name.
        value: A number, text or flag.
        origin: How and where it was got.
    """

    material_id: str | None
    formula: str
    property: str
    value: Scalar
    origin: Origin


@dataclass(frozen=True, slots=True)
class Structure:
    """A crystal structure as POSCAR text."""

    material_id: str
    poscar: str


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a material, by rows."""

    material_id: str
    name: str
    rows: list[list[float]]
    unit: str
    origin: Origin


Item = Value | Structure | Tensor


def dielectric(folder: Path) -> Iterator[Item]:
    """Band gaps, dielectric constants and refractive indices of 1,056 compounds."""
    source = _PETOUSIS[0]
    gap = Origin("DFT (PBE, GGA or GGA+U)", source)
    dfpt = Origin("DFPT (PBE, GGA or GGA+U)", source)
    ionic = Origin("e_total - e_electronic, DFPT (PBE, GGA or GGA+U)", source)
    for row in _csv(folder / DIELECTRIC, skip=1):
        meta = ast.literal_eval(row["meta"])
        name, formula = meta["material_id"], meta["formula"]
        yield from _crystal(meta, gap)
        yield Value(name, formula, "band_gap", float(row["band_gap"]), gap)
        yield Value(name, formula, "n", float(row["n"]), dfpt)
        electronic, total = float(row["poly_electronic"]), float(row["poly_total"])
        yield Value(name, formula, "e_electronic", electronic, dfpt)
        yield Value(name, formula, "e_total", total, dfpt)
        yield Value(name, formula, "e_ionic", round(total - electronic, 6), ionic)
        for column in ("e_electronic", "e_total"):
            yield Tensor(name, column, ast.literal_eval(row[column]), "", dfpt)


def piezoelectric(folder: Path) -> Iterator[Item]:
    """Piezoelectric moduli, tensors and cell volumes of 941 compounds."""
    origin = Origin("DFPT (PBE, GGA)", _PETOUSIS[1])
    relaxed = Origin("DFT (PBE, GGA)", _PETOUSIS[1])
    # The header lacks the name of the first column, a row number.
    for row in _csv(folder / PIEZOELECTRIC, skip=1, unnamed=1):
        meta = ast.literal_eval(row["meta"])
        name, formula = meta["material_id"], meta["formula"]
        yield from _crystal(meta, relaxed)
        yield Value(name, formula, "volume", float(meta["volume"]), relaxed)
        yield Value(name, formula, "e_ij_max", float(row["eij_max"]), origin)
        tensor = ast.literal_eval(row["piezoelectric_tensor"])
        yield Tensor(name, "piezoelectric_tensor", tensor, "C/m**2", origin)


def _crystal(meta: Mapping[str, Any], origin: Origin) -> Iterator[Item]:
    """What is known of the crystal itself."""
    name, formula, number = meta["material_id"], meta["formula"], int(meta["space_group"])
    yield Structure(name, meta["poscar"])
    yield Value(name, formula, "space_group", space_group_symbol(number), origin)
    yield Value(name, formula, "spacegroup_number", number, origin)
    yield Value(name, formula, "crystal_system", crystal_system(number), origin)
    yield Value(name, formula, "point_group", meta["point_group"], origin)
    yield Value(name, formula, "nsites", int(meta["nsites"]), origin)


def evaluation(folder: Path) -> Iterator[Item]:
    """The truth columns of LLaMP's evaluation sets; rows without a truth give nothing."""
    for path in EVALUATION:
        origin = Origin(
            "DFT (GGA/GGA+U)",
            f"Materials Project, as recorded in LLaMP's {path.rsplit('/', 1)[1]}",
        )
        for row in _csv(folder / path):
            for column, name in _TRUTHS.items():
                given = (row.get(column) or "").strip()
                if given:
                    value = given if name == "ordering" else float(given)
                    yield Value(row["material_id"], row["formula"], name, value, origin)


def notebooks(folder: Path) -> Iterator[Item]:
    """What the Materials Project's API answered in LLaMP's notebooks."""
    for notebook in json.loads((folder / NOTEBOOKS).read_text("utf-8")):
        stem = notebook["notebook"].rsplit("/", 1)[-1]
        source = f"Materials Project, as recorded in LLaMP's {stem}"
        for cell in notebook["cells"]:
            for record in transcripts.records("\n".join(cell["output"])):
                yield from _record(record, source)


def _record(record: Mapping[str, Any], source: str) -> Iterator[Item]:
    name, formula = record.get("material_id"), record.get("formula_pretty", "")
    functional = str(record.get("thermo_id", "")).partition("_")[2]
    for property_name, value in transcripts.values(record).items():
        origin = Origin(_method(property_name, functional), source)
        yield Value(name, formula, property_name, value, origin)
    elastic = record.get("elastic_tensor")
    if name and isinstance(elastic, Mapping) and elastic.get("ieee_format"):
        origin = Origin(_method("k_vrh", ""), source)
        yield Tensor(name, "elastic_tensor", elastic["ieee_format"], "GPa", origin)


_ENERGIES = (
    "formation_energy_per_atom",
    "energy_above_hull",
    "is_stable",
    "decomposition_enthalpy",
)
_ELASTIC = ("k_", "g_", "universal_", "homogeneous_", "young_", "thermal_conductivity_")


def _method(property_name: str, functional: str) -> str:
    """The method of a record of the Materials Project; a thermo id names its functionals."""
    if property_name in _ENERGIES:
        mixes = {
            "GGA_GGA+U_R2SCAN": "DFT (mixed GGA/GGA+U/r2SCAN)",
            "GGA_GGA+U": "DFT (mixed GGA/GGA+U)",
            "R2SCAN": "DFT (r2SCAN)",
        }
        return mixes.get(functional, "DFT (functional mix not recorded)")
    if property_name.startswith(_ELASTIC):
        return "DFT (PBE), elastic tensor"
    return "DFT (GGA/GGA+U)"


def references(folder: Path) -> Iterator[Item]:
    """The reference values of LLaMP's figure 3, by formula."""
    names = ("k_vrh", "formation_energy_per_atom", "band_gap", "band_gap")
    origin = Origin(
        "Materials Project value used as reference in LLaMP, figure 3",
        "Materials Project, as recorded in LLaMP's 03-plot.ipynb",
    )
    panels = json.loads((folder / BENCHMARK).read_text("utf-8"))["panels"]
    for name, panel in zip(names, panels, strict=True):
        for formula, value in zip(panel["materials"], panel["ref"], strict=True):
            yield Value(None, formula, name, float(value), origin)


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of Matbench: its file, our property, and how its number becomes a value."""

    file: str
    property: str
    origin: Origin
    value: Callable[[float], Scalar] = float


def _ten_to(logarithm: float) -> float:
    return round(10**logarithm, 6)


def _tables() -> Iterator[_Table]:
    def origin(method: str, paper: str, licence: str = CC_BY) -> Origin:
        return Origin(method, f"{_MATBENCH}: {paper}", licence)

    elastic = origin(
        "DFT (PBE), Voigt-Reuss-Hill average, Materials Project",
        "de Jong et al., Sci. Data 2, 150009 (2015)",
    )
    yield _Table(
        "expt_gap.csv",
        "band_gap",
        origin("experiment", "Zhuo et al., J. Phys. Chem. Lett. 9, 1668 (2018)", "MIT"),
    )
    yield _Table("elasticity_log10(K_VRH).csv", "k_vrh", elastic, _ten_to)
    yield _Table("elasticity_log10(G_VRH).csv", "g_vrh", elastic, _ten_to)
    yield _Table("dielectric.csv", "n", origin("DFPT (PBE), Materials Project", _PETOUSIS[0]))
    yield _Table(
        "phonons.csv",
        "last_phdos_peak",
        origin("DFPT (PBEsol)", "Petretto et al., Sci. Data 5, 180065 (2018)"),
    )
    yield _Table(
        "steels_yield.csv", "yield_strength", origin("experiment", "Citrine 153092", "MIT")
    )
    yield _Table(
        "glass.csv",
        "glass_forming",
        origin("experiment", "Kawazoe et al., Landolt-Börnstein III/37A (1997)", "MIT"),
        bool,
    )


def matbench(folder: Path) -> Iterator[Item]:
    """The composition tables of Matbench; a formula may have several values, its polymorphs."""
    for table in _tables():
        for row in _csv(folder / "matbench_tables" / table.file):
            value = table.value(float(row["target"]))
            yield Value(None, row["formula"], table.property, value, table.origin)


def files() -> list[str]:
    """The files that are read, relative to the data folder, sorted."""
    tables = [f"matbench_tables/{table.file}" for table in _tables()]
    return sorted([DIELECTRIC, PIEZOELECTRIC, NOTEBOOKS, BENCHMARK, *EVALUATION, *tables])


def read_all(folder: Path) -> Iterable[Item]:
    """Everything, the most precise origin of a repeated value first."""
    return [
        *sorted(notebooks(folder), key=_vague),
        *evaluation(folder),
        *dielectric(folder),
        *piezoelectric(folder),
        *references(folder),
        *matbench(folder),
    ]


def _vague(item: Item) -> bool:
    return isinstance(item, Value) and "not recorded" in item.origin.method


def _csv(path: Path, *, skip: int = 0, unnamed: int = 0) -> Iterator[dict[str, str]]:
    """The rows of a file, after `skip` lines, with `unnamed` columns before the header's."""
    with path.open(encoding="utf-8", newline="") as stream:
        for _ in range(skip):
            stream.readline()
        reader = csv.reader(stream)
        header = [f"column {index}" for index in range(unnamed)] + next(reader)
        for row in reader:
            if len(row) != len(header):
                raise DatasetError(
                    f"{path.name}: a row has {len(row)} columns where {len(header)} are expected. "
                    "Use the file as published."
                )
            yield dict(zip(header, row, strict=True))
