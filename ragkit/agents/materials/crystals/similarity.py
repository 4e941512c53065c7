"""Similarity of crystal structures by fingerprints of 64 numbers.

The fingerprint follows Oganov and Valle (J. Chem. Phys. 130, 104504, 2009; Valle and Oganov, Acta
Cryst. A 66, 507, 2010): the smeared radial distribution function of the periodic crystal minus that
of a structureless one, compared by cosine distance. Deviations, so that it distinguishes structure
types rather than substances:

- Lengths are divided by (volume / number of atoms)^(1/3), so that NaCl and MgO are the same type.
- Instead of one function for each pair of elements there are two: over all pairs of atoms, and over
  pairs of the same element. Rock salt therefore differs from simple cubic, whereas ZnS and GaAs of
  one structure type do not differ.
- Gaussians have a fixed width in reduced length (0.08); distances up to 3.4, 32 bins per function.

A fingerprint is invariant under the choice of cell, origin and orientation. It does not distinguish
mirror images, nor the rare crystals with identical distances.
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
"""Length of a fingerprint: 32 bins over all pairs of atoms, 32 over pairs of the same element."""

METHOD = "radial distribution fingerprint (Valle and Oganov 2010, in reduced lengths), cosine"

Vector = NDArray[np.float32]
Matrix = NDArray[np.float32]
Limit = Annotated[int, Field(ge=1, le=50)]

_BINS = DIMENSION // 2
_MIN_DISTANCE, _MAX_DISTANCE, _WIDTH = 0.6, 3.4, 0.08
_CUTOFF = _MAX_DISTANCE + 5 * _WIDTH


def fingerprint(poscar: str) -> Vector:
    """Compute the fingerprint of a structure file: a unit vector, float32, (64,).

    Rounding to float16 (128 bytes per structure) changes distances by less than 0.001.

    Args:
        poscar: POSCAR or CIF text.

    Raises:
        ToolError: The text is not a valid structure.

    Source:
        Valle and Oganov 2010, equations 3 and 7, with the deviations of the module's docstring.
    """
    return structure_fingerprint(read_structure(poscar))


def structure_fingerprint(structure: Structure) -> Vector:
    """Compute the fingerprint of a parsed structure; see `fingerprint`."""
    scale = (structure.volume / len(structure)) ** (1 / 3)
    lattice = np.asarray(structure.lattice.matrix, dtype=float) / scale  # (3, 3)
    positions = np.asarray(structure.frac_coords, dtype=float) % 1.0  # (atoms, 3)
    elements = np.array([site.specie.Z for site in structure])  # (atoms,)
    heights = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)  # (3,)
    n_images = len(images(positions[:1], _CUTOFF / heights))
    if n_images * len(positions) > 2_000_000:
        raise ToolError("the cell is too flat or too skewed for a fingerprint. Reduce it first.")
    total, same = np.zeros(_BINS), np.zeros(_BINS)
    for distances, alike in _neighbour_distances(lattice, positions, elements, heights):
        total += _smear(distances)
        same += _smear(distances[alike])
    shares = np.unique(elements, return_counts=True)[1] / len(elements)  # (elements,)
    vector = np.concatenate(
        [total / len(positions) - 1.0, same / len(positions) - np.sum(shares**2)]
    )  # (64,)
    norm = np.linalg.norm(vector)
    return (vector / norm if norm else vector).astype(np.float32)


def _neighbour_distances(
    lattice: NDArray[np.float64],
    positions: NDArray[np.float64],
    elements: NDArray[np.int64],
    heights: NDArray[np.float64],
) -> list[tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """Return distances of neighbours and a mask of equal elements, by atom and element."""
    pairs = []
    for element in np.unique(elements):
        nearby = images(positions[elements == element], _CUTOFF / heights) @ lattice  # (images, 3)
        for i, centre in enumerate(positions @ lattice):
            distances = np.linalg.norm(nearby - centre, axis=1)  # (images,)
            near = distances[(distances > 1e-3) & (distances < _CUTOFF)]
            pairs.append((near, np.full(len(near), elements[i] == element)))
    return pairs


def _smear(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Evaluate a sum of Gaussians at the distances, divided by 4 pi r^2, at the bin centres."""
    centres = np.linspace(_MIN_DISTANCE, _MAX_DISTANCE, _BINS)  # (bins,)
    gaps = (centres[:, None] - distances[None]) / _WIDTH  # (bins, pairs)
    weights = np.exp(-0.5 * gaps**2).sum(axis=1) / (_WIDTH * np.sqrt(2 * np.pi))  # (bins,)
    return np.asarray(weights / (4 * np.pi * centres**2))


def dissimilarity(left: Vector, right: Vector) -> float:
    """Return the cosine distance (1 - cos) / 2 in [0, 1]; 0 is the same structure type."""
    return float(dissimilarities(left, right[None])[0])


def dissimilarities(vector: Vector, others: Matrix) -> NDArray[np.float64]:
    """Return the cosine distances of one fingerprint to others.

    Args:
        vector: Fingerprint, (64,).
        others: Fingerprints as rows, any float type, (structures, 64).
    """
    rows = np.asarray(others, dtype=np.float64)  # (structures, 64)
    target = np.asarray(vector, dtype=np.float64)  # (64,)
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(target)  # (structures,)
    cosines = np.divide(rows @ target, norms, out=np.zeros(len(rows)), where=norms > 0)
    return np.asarray(np.clip((1 - cosines) / 2, 0.0, 1.0))  # (structures,)


def nearest(
    vector: Vector, others: Matrix, ids: Sequence[str], *, limit: int = 10, leave_out: str = ""
) -> list[tuple[str, float]]:
    """Return ids and distances of the most similar structures, nearest first, ties by id.

    Args:
        vector: Fingerprint of the query structure, (64,).
        others: Fingerprints as rows, (structures, 64).
        ids: Ids of the rows.
        limit: Maximum number of results.
        leave_out: Id to exclude, such as that of the query structure.

    Raises:
        ValueError: The number of ids differs from the number of rows.
    """
    if len(ids) != len(others):
        raise ValueError(f"{len(ids)} ids for {len(others)} fingerprints; expected equal numbers")
    distances = np.round(dissimilarities(vector, others), 6)
    order = sorted(range(len(ids)), key=lambda i: (distances[i], ids[i]))
    return [(ids[i], float(distances[i])) for i in order if ids[i] != leave_out][:limit]


def similarity_tools(backend: Backend) -> list[Tool]:
    """Return the tool `similar_structures` over a back end."""

    def similar_structures(material_id: str, limit: Limit = 5) -> ToolResult:
        """Find materials whose crystal structure is most like a material's.

        Args:
            material_id: Such as mp-149.
            limit: How many.
        """
        query_id = material_id.strip()
        method = METHOD if backend.name == "snapshot" else "as the API computes it"
        rows = [
            Quantity(
                distance,
                "",
                "dissimilarity",
                formula,
                neighbour,
                kind="material",
                method=f"distance from {query_id}; {method}",
                source=f"structures of the {backend.name}",
                version=backend.version,
            )
            for neighbour, formula, distance in backend.similar(query_id, limit)
        ]
        return ToolResult(rows, text="Nearest first; 0 is the same structure type.")

    return [tool(similar_structures)]
