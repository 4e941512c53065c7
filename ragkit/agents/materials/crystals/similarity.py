"""How alike two crystal structures are, from a fingerprint of 64 numbers each.

The fingerprint is that of Oganov and Valle (J. Chem. Phys. 130, 104504, 2009; Valle and Oganov,
Acta Cryst. A 66, 507, 2010): the smeared radial distribution of the periodic crystal minus that of
a structureless one, compared by cosine distance. Deviations, so that it tells structure types and
not substances:

- Lengths are divided by (volume / number of atoms)^(1/3), so NaCl and MgO compare as types.
- Elements count only as "the same" or "another": instead of one function for each pair of elements
  there are two, over all pairs and over pairs of one element. So rock salt differs from simple
  cubic, and ZnS and GaAs in one structure type do not differ.
- Gaussians of a fixed width in reduced length (0.08), distances up to 3.4, 32 bins a function.

A fingerprint does not change with the choice of the cell, the origin or the orientation. Mirror
images are not told apart, and neither are the rare crystals that share all distances.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ragkit.agents.ledger import Quantity
from ragkit.agents.materials.backend import Backend
from ragkit.agents.materials.crystals.cells import Structure, read_structure
from ragkit.agents.materials.crystals.voids import images
from ragkit.agents.tools import Tool, ToolError, ToolResult, tool

DIMENSION = 64
"""Numbers in a fingerprint: 32 over all pairs of atoms, then 32 over pairs of one element."""

METHOD = "radial distribution fingerprint (Valle and Oganov 2010, in reduced lengths), cosine"

Vector = NDArray[np.float32]
Matrix = NDArray[np.float32]
Limit = Annotated[int, Field(ge=1, le=50)]

_BINS = DIMENSION // 2
_FIRST, _LAST, _WIDTH = 0.6, 3.4, 0.08
_REACH = _LAST + 5 * _WIDTH


def fingerprint(poscar: str) -> Vector:
    """The structure's fingerprint, of length 1: float32, (64,).

    Its numbers are within [-1, 1]. float16 (128 bytes a structure) changes distances by less
    than 0.001.

    Args:
        poscar: POSCAR or CIF text.

    Raises:
        ToolError: The text is no structure.

    Source:
        Valle and Oganov 2010, equations 3 and 7, with the deviations of the module's docstring.
    """
    return structure_fingerprint(read_structure(poscar))


def structure_fingerprint(structure: Structure) -> Vector:
    """As `fingerprint`, of a structure that was read already."""
    scale = (structure.volume / len(structure)) ** (1 / 3)
    lattice = np.asarray(structure.lattice.matrix, dtype=float) / scale  # (3, 3)
    positions = np.asarray(structure.frac_coords, dtype=float) % 1.0  # (atoms, 3)
    elements = np.array([site.specie.Z for site in structure])  # (atoms,)
    heights = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)  # (3,)
    n_images = len(images(positions[:1], _REACH / heights))
    if n_images * len(positions) > 2_000_000:
        raise ToolError("the cell is too flat or too skewed for a fingerprint. Reduce it first.")
    total, same = np.zeros(_BINS), np.zeros(_BINS)
    for distances, alike in _pairs(lattice, positions, elements, heights):
        total += _smeared(distances)
        same += _smeared(distances[alike])
    shares = np.unique(elements, return_counts=True)[1] / len(elements)  # (elements,)
    vector = np.concatenate(
        [total / len(positions) - 1.0, same / len(positions) - np.sum(shares**2)]
    )  # (64,)
    norm = np.linalg.norm(vector)
    return (vector / norm if norm else vector).astype(np.float32)


def _pairs(
    lattice: NDArray[np.float64],
    positions: NDArray[np.float64],
    elements: NDArray[np.int64],
    heights: NDArray[np.float64],
) -> list[tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """For each atom the distances of its neighbours, and whether they are of its element."""
    found = []
    for element in np.unique(elements):
        nearby = images(positions[elements == element], _REACH / heights) @ lattice  # (images, 3)
        for i, centre in enumerate(positions @ lattice):
            distances = np.linalg.norm(nearby - centre, axis=1)  # (images,)
            near = distances[(distances > 1e-3) & (distances < _REACH)]
            found.append((near, np.full(len(near), elements[i] == element)))
    return found


def _smeared(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum of Gaussians at the distances over 4 pi r^2, at the centres of the bins."""
    centres = np.linspace(_FIRST, _LAST, _BINS)  # (bins,)
    gaps = (centres[:, None] - distances[None]) / _WIDTH  # (bins, pairs)
    weights = np.exp(-0.5 * gaps**2).sum(axis=1) / (_WIDTH * np.sqrt(2 * np.pi))  # (bins,)
    return np.asarray(weights / (4 * np.pi * centres**2))


def dissimilarity(left: Vector, right: Vector) -> float:
    """The cosine distance (1 - cos) / 2: 0 for the same structure type, 1 for the opposite."""
    return float(dissimilarities(left, right[None])[0])


def dissimilarities(vector: Vector, others: Matrix) -> NDArray[np.float64]:
    """The cosine distances of one fingerprint from many.

    Args:
        vector: (64,).
        others: Any float type, (structures, 64).
    """
    rows = np.asarray(others, dtype=np.float64)  # (structures, 64)
    target = np.asarray(vector, dtype=np.float64)  # (64,)
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(target)  # (structures,)
    cosines = np.divide(rows @ target, norms, out=np.zeros(len(rows)), where=norms > 0)
    return np.asarray(np.clip((1 - cosines) / 2, 0.0, 1.0))  # (structures,)


def nearest(
    vector: Vector, others: Matrix, ids: Sequence[str], *, limit: int = 10, leave_out: str = ""
) -> list[tuple[str, float]]:
    """The most similar structures and how far they are, nearest first, ties by id.

    Args:
        vector: Of the structure in question, (64,).
        others: Fingerprints as rows, (structures, 64).
        ids: Of the rows.
        limit: How many at most.
        leave_out: An id that is not returned: the structure itself.

    Raises:
        ValueError: There are not as many ids as rows.
    """
    if len(ids) != len(others):
        raise ValueError(f"{len(ids)} ids for {len(others)} fingerprints; give one for each")
    distances = np.round(dissimilarities(vector, others), 6)
    order = sorted(range(len(ids)), key=lambda i: (distances[i], ids[i]))
    return [(ids[i], float(distances[i])) for i in order if ids[i] != leave_out][:limit]


def similarity_tools(backend: Backend) -> list[Tool]:
    """The tool of this module, over what a back end finds similar: similar_structures."""

    def similar_structures(material_id: str, limit: Limit = 5) -> ToolResult:
        """Find materials whose crystal structure is most like a material's.

        Args:
            material_id: Such as mp-149.
            limit: How many.
        """
        wanted = material_id.strip()
        method = METHOD if backend.name == "snapshot" else "as the API computes it"
        rows = [
            Quantity(
                distance,
                "",
                "dissimilarity",
                formula,
                found,
                kind="material",
                method=f"distance from {wanted}; {method}",
                source=f"structures of the {backend.name}",
                version=backend.version,
            )
            for found, formula, distance in backend.similar(wanted, limit)
        ]
        return ToolResult(rows, text="Nearest first; 0 is the same structure type.")

    return [tool(similar_structures)]
