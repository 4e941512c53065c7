"""Find the largest void of a crystal, where an interstitial atom has most space.

The centre of the largest sphere that contains no atom centre is a vertex of the Voronoi diagram of
the periodic atoms (a local maximum of the distance to the nearest atom). Willems et al.,
Microporous and Mesoporous Materials 149, 134, 2012, use the same diagram for pores; deviation: all
atoms are points of equal size. Steps:

1. A grid gives an upper bound R of the void's radius (largest distance + half a grid diagonal).
2. The Voronoi vertices of the cell's atoms and of all images within R of the cell are computed; an
   empty sphere centred in the cell can touch no other atoms.
3. The vertex in the cell that is farthest from its nearest atom is returned; ties by coordinates.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from ragkit.agents.tools import ToolError
from ragkit.errors import require

Floats = NDArray[np.float64]

_GRID = 8  # points along each edge
_EDGE = 1e-6
_MAX_IMAGES = 300_000


def largest_void(lattice: Floats, positions: Floats) -> tuple[Floats, float]:
    """Return the centre of the largest void (fractional) and the distance to its nearest atom.

    Args:
        lattice: Cell edges as rows in angstrom, (3, 3).
        positions: Fractional coordinates of the atoms, (atoms, 3).

    Source:
        The module's docstring.

    >>> centre, distance = largest_void(4 * np.eye(3), np.zeros((1, 3)))
    >>> centre.tolist(), round(distance, 3)
    ([0.5, 0.5, 0.5], 3.464)
    """
    spatial = require("scipy.spatial", extra="materials")
    heights = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)  # (3,)
    bound = _upper_bound(lattice, positions, heights)
    atoms = images(positions, bound / heights)  # (points, 3)
    diagram = spatial.Voronoi(atoms @ lattice)
    vertices = diagram.vertices @ np.linalg.inv(lattice)  # (vertices, 3)
    inside = vertices[np.all((vertices > -_EDGE) & (vertices < 1 + _EDGE), axis=1)]
    inside = np.round(inside, 6) % 1.0
    inside[inside > 1 - 2 * _EDGE] = 0.0  # rounding may turn 0 into 1
    distances = spatial.cKDTree(atoms @ lattice).query(inside @ lattice)[0]  # (inside,)
    best = inside[distances > distances.max() - 1e-4]
    centre = best[np.lexsort(np.round(best, 4).T[::-1])[0]]
    return centre, float(spatial.cKDTree(atoms @ lattice).query(centre @ lattice)[0])


def images(positions: Floats, margin: Floats) -> Floats:
    """Return the atoms of the cell and their periodic images within a margin around it.

    Args:
        positions: Fractional coordinates of the atoms, (atoms, 3).
        margin: Margin as fractions of the edges, (3,).

    Raises:
        ToolError: There would be too many images.
    """
    wrapped = positions % 1.0  # (atoms, 3)
    ranges = [range(-int(np.ceil(width)), int(np.ceil(width)) + 1) for width in margin]
    if math.prod(map(len, ranges)) * len(positions) > _MAX_IMAGES:
        raise ToolError("the cell is too flat or too skewed for a search. Use a reduced cell.")
    shifts = np.array(list(itertools.product(*ranges)), dtype=float)  # (shifts, 3)
    points = (wrapped[None] + shifts[:, None]).reshape(-1, 3)  # (shifts * atoms, 3)
    inside = np.all((points >= -margin - _EDGE) & (points <= 1 + margin + _EDGE), axis=1)
    return np.asarray(points[inside])


def _upper_bound(lattice: Floats, positions: Floats, heights: Floats) -> float:
    spatial = require("scipy.spatial", extra="materials")
    steps = np.arange(_GRID) / _GRID
    grid = np.array(list(itertools.product(steps, repeat=3)))  # (grid, 3)
    nearby = images(positions, np.minimum(1.0, 10.0 / heights)) @ lattice
    largest = spatial.cKDTree(nearby).query(grid @ lattice)[0].max()
    diagonals = np.array(list(itertools.product((-1, 1), repeat=3))) @ lattice / _GRID  # (8, 3)
    return float(largest + np.linalg.norm(diagonals, axis=1).max() / 2)
