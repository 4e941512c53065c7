"""Read, write, analyse and edit crystal structures with pymatgen-core and spglib.

Files are checked before pymatgen-core (MIT) parses them, because a file may declare more atoms than
fit into memory, and because pymatgen guesses the elements of a POSCAR that does not name them.
"""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ragkit.agents.materials.crystals.voids import images
from ragkit.agents.tools import ToolError
from ragkit.errors import require

Format = Literal["poscar", "cif"]
Structure = Any
"""A `pymatgen.core.Structure` in which every site is fully occupied by one element."""

MAX_BYTES = 1_000_000
MAX_SITES = 5000
MAX_SUPERCELL_SITES = 2000
SYMMETRY_TOLERANCE = 0.1  # angstrom, as the Materials Project determines space groups
_MAX_EXPANSION = 10_000  # sites times symmetry operations of a CIF; parsing time is quadratic
_MIN_DISTANCE = 0.5  # angstrom, shorter than any bond


def read_structure(text: str) -> Structure:
    """Parse the text of a CIF or POSCAR file (VASP 5 format, with a line of elements).

    Args:
        text: File content of at most 1 MB and 5,000 sites in the cell.

    Raises:
        ToolError: The file is invalid or too large, or the structure is disordered or has
            overlapping atoms.

    >>> read_structure(WURTZITE).composition.reduced_formula
    'ZnS'
    """
    if len(text) > MAX_BYTES:
        raise ToolError(f"the structure file has {len(text):,} characters; at most {MAX_BYTES:,}.")
    cif = re.search(r"^\s*(data_|loop_|_cell_)", text, re.MULTILINE | re.IGNORECASE) is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings about rounding
        structure = _from_cif(text) if cif else _from_poscar(text)
    _check(structure)
    return structure


def _from_poscar(text: str) -> Structure:
    _check_poscar(text)
    core = require("pymatgen.core", extra="materials")
    try:
        return core.Structure.from_str(text, fmt="poscar")
    except Exception as error:
        raise _invalid_file("POSCAR", error) from error


def _check_poscar(text: str) -> None:
    """Validate the header of a POSCAR: scale, three vectors, elements, counts."""
    lines = text.splitlines()
    if len(lines) < 9:
        raise ToolError(f"no structure file: {len(lines)} lines, a POSCAR has at least 9.")
    try:
        numbers = [float(token) for line in lines[1:5] for token in line.split("!")[0].split()[:3]]
    except ValueError as error:
        raise _invalid_file("POSCAR", error) from error
    if len(numbers) < 10 or not all(map(math.isfinite, numbers)) or not numbers[0]:
        raise ToolError("broken POSCAR: lines 2 to 5 are a scale and three lattice vectors.")
    elements = [token.split("_")[0].split("/")[0] for token in lines[5].split()]
    is_element = require("pymatgen.core", extra="materials").Element.is_valid_symbol
    if not elements or not all(map(is_element, elements)):
        raise ToolError(f"broken POSCAR: line 6 names the elements, not {lines[5][:60]!r}.")
    counts = lines[6].split("!")[0].split()
    if len(counts) != len(elements) or not all(re.fullmatch(r"\d{1,6}", count) for count in counts):
        raise ToolError(
            f"broken POSCAR: line 7 has a count for each element, not {lines[6][:60]!r}."
        )
    _check_size(sum(map(int, counts)))


def _from_cif(text: str) -> Structure:
    cif = require("pymatgen.io.cif", extra="materials")
    try:
        n_sites, n_expanded = 0, 0
        for block in cif.CifFile.from_str(text).data.values():
            n_block_sites = len(block.data.get("_atom_site_fract_x", ()))
            operations = [v for k, v in block.data.items() if "_symop" in k or "_equiv" in k]
            has_space_group = any("space_group" in k or "Int_Tables" in k for k in block.data)
            n_sites += n_block_sites
            n_expanded += n_block_sites * max(
                (len(v) for v in operations), default=192 if has_space_group else 1
            )
        _check_size(n_sites)
        if n_expanded > _MAX_EXPANSION:
            raise ToolError(
                f"the CIF expands to up to {n_expanded:,} sites; at most {_MAX_EXPANSION:,} are "
                "expanded. Give the structure of a primitive cell."
            )
        return cif.CifParser.from_str(text).parse_structures(primitive=False)[0]
    except ToolError:
        raise
    except Exception as error:
        raise _invalid_file("CIF", error) from error


def _invalid_file(kind: str, error: Exception) -> ToolError:
    detail = " ".join(str(error).split())[:120] or type(error).__name__
    return ToolError(f"broken {kind}: {detail}. Give a complete {kind} file of an ordered crystal.")


def _check_size(n_sites: int) -> None:
    if not 0 < n_sites <= MAX_SITES:
        raise ToolError(f"the structure has {n_sites:,} sites; 1 to {MAX_SITES:,} are possible.")


def _check(structure: Structure) -> None:
    _check_size(len(structure))
    if not (
        np.isfinite(structure.frac_coords).all() and np.isfinite(structure.lattice.matrix).all()
    ):
        raise ToolError("broken structure: a coordinate is not a finite number.")
    if not structure.is_ordered:
        raise ToolError("the structure is disordered (partly occupied sites). Give an ordered one.")
    if any(type(species).__name__ == "DummySpecies" for species in structure.composition):
        raise ToolError("broken structure: a site is occupied by something that is no element.")
    if structure.volume < 1.0 or min(structure.lattice.abc) < _MIN_DISTANCE:
        raise ToolError("broken structure: the cell has next to no volume.")
    if max(structure.lattice.abc) > 1000:
        raise ToolError("broken structure: a cell edge is longer than 1000 angstrom.")
    structure.remove_oxidation_states()
    if _min_distance(structure) < _MIN_DISTANCE:
        raise ToolError(
            f"broken structure: two atoms are less than {_MIN_DISTANCE} angstrom apart."
        )


def _min_distance(structure: Structure) -> float:
    """Return the shortest interatomic distance, exact if it is below `_MIN_DISTANCE`."""
    lattice = structure.lattice.matrix
    heights = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)  # (3,)
    nearby = images(structure.frac_coords, _MIN_DISTANCE / heights) @ lattice  # (images, 3)
    if len(nearby) < 2:
        return math.inf
    tree = require("scipy.spatial", extra="materials").cKDTree(nearby)
    return float(tree.query(nearby, k=2)[0][:, 1].min())


def write_structure(structure: Structure, format: Format = "poscar", comment: str = "") -> str:
    """Write a structure as POSCAR (direct coordinates) or CIF (in P1, which preserves the cell).

    Args:
        structure: The structure.
        format: "poscar" or "cif".
        comment: Comment for the first line; "" uses the formula.
    """
    line = " ".join(comment.split()) or structure.composition.formula
    if format == "cif":
        labelled = structure.copy()
        for i, site in enumerate(labelled, 1):
            site.label = f"{site.specie.symbol}{i}"
        body = str(require("pymatgen.io.cif", extra="materials").CifWriter(labelled))
        return f"# {line}\n" + body.split("\n", 1)[1]  # replaces pymatgen's comment line
    poscar = require("pymatgen.io.vasp.inputs", extra="materials").Poscar(
        structure, comment=line, sort_structure=True
    )
    return str(poscar.get_str(significant_figures=10))


@dataclass(frozen=True, slots=True)
class CellFacts:
    """Geometry and symmetry of a unit cell.

    Attributes:
        formula: Reduced formula.
        a: Length of edge a in angstrom; likewise b and c.
        alpha: Angle alpha in degrees; likewise beta and gamma.
        volume: Volume of the cell in angstrom**3.
        density: Density in g/cm**3.
        nsites: Number of atoms in the cell.
        space_group: International symbol, determined by spglib with a tolerance of 0.1 angstrom.
        space_group_number: Number of the space group, 1 to 230.
    """

    formula: str
    a: float
    b: float
    c: float
    alpha: float
    beta: float
    gamma: float
    volume: float
    density: float
    nsites: int
    space_group: str
    space_group_number: int


def cell_facts(structure: Structure) -> CellFacts:
    """Compute cell parameters, density and space group of a structure.

    Raises:
        ToolError: spglib fails to determine a space group.
    """
    symbol, number = _space_group(structure)
    a, b, c = (float(value) for value in structure.lattice.abc)
    alpha, beta, gamma = (float(value) for value in structure.lattice.angles)
    return CellFacts(
        formula=structure.composition.reduced_formula,
        a=a,
        b=b,
        c=c,
        alpha=alpha,
        beta=beta,
        gamma=gamma,
        volume=float(structure.volume),
        density=float(structure.density),
        nsites=len(structure),
        space_group=symbol,
        space_group_number=number,
    )


def _space_group(structure: Structure) -> tuple[str, int]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # spglib's deprecation warning about error handling
            symbol, number = structure.get_space_group_info(symprec=SYMMETRY_TOLERANCE)
    except Exception as error:
        raise ToolError(f"no space group was found ({type(error).__name__}).") from error
    return str(symbol), int(number)


def supercell(structure: Structure, a: int, b: int, c: int) -> Structure:
    """Repeat a structure along its cell edges.

    Raises:
        ToolError: The supercell would have more than 2,000 sites.
    """
    n_sites = len(structure) * a * b * c
    if min(a, b, c) < 1 or n_sites > MAX_SUPERCELL_SITES:
        raise ToolError(
            f"{a}x{b}x{c} of {len(structure)} sites is {n_sites:,}; 1 to {MAX_SUPERCELL_SITES:,} "
            "are possible. Take smaller multiples."
        )
    return structure.make_supercell((a, b, c), in_place=False)


def substituted(
    structure: Structure, old: str, new: str, fraction: float = 1.0
) -> tuple[Structure, int]:
    """Replace atoms of one element; return the new structure and the number of replaced atoms.

    A partial substitution uses farthest-point sampling: the first site of the element, then
    repeatedly the site with the largest distance to its nearest replaced site. This is one of many
    possible arrangements.

    Raises:
        ToolError: The element is absent, or the fraction is not an integer number of its sites.
    """
    sites = [i for i, site in enumerate(structure) if site.specie.symbol == old]
    if not sites:
        elements = ", ".join(sorted(element.symbol for element in structure.composition))
        raise ToolError(f"there is no {old} in it. It has: {elements}.")
    if old == new:
        raise ToolError(f"{old} cannot be replaced by itself. Name another element.")
    exact_count = fraction * len(sites)
    count = round(exact_count)
    if not (
        0 < fraction <= 1 and count >= 1 and math.isclose(exact_count, count, abs_tol=1e-3 * count)
    ):
        raise ToolError(
            f"{fraction:g} of {len(sites)} {old} sites is no whole number of atoms. "
            f"Take a multiple of 1/{len(sites)}; a supercell has more sites."
        )
    edited = structure.copy()
    for i in _spread_sites(structure, sites, count):
        edited.replace(i, new)
    return edited, count


def _spread_sites(structure: Structure, sites: list[int], count: int) -> list[int]:
    if count == len(sites):
        return sites
    points = structure.frac_coords[sites]  # (sites, 3)
    chosen = [0]
    nearest = np.full(len(sites), np.inf)  # (sites,)
    while len(chosen) < count:
        to_last = structure.lattice.get_all_distances(points[chosen[-1]], points)[0]  # (sites,)
        nearest = np.minimum(nearest, to_last)
        nearest[chosen] = -1.0
        chosen.append(int(np.argmax(np.round(nearest, 6))))
    return [sites[i] for i in sorted(chosen)]


# The example of `read_structure`.
WURTZITE = """ZnS
3.81
1.0 0.0 0.0
-0.5 0.8660254 0.0
0.0 0.0 1.638
Zn S
2 2
direct
0.3333333 0.6666667 0.0
0.6666667 0.3333333 0.5
0.3333333 0.6666667 0.375
0.6666667 0.3333333 0.875
"""
