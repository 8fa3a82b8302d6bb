"""Where the inverse of a transform lives: phi goes from fixed to moving space, so phi^-1 starts in moving space.

A field that holds phi^-1 on the fixed image's grid alone is the identity wherever the moving image lies elsewhere. It needs nodes
around phi(fixed domain).
"""

from __future__ import annotations

import numpy as np

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.landmarks import beyond_domain
from augreg.geometry.transforms import BSpline, Composition, DisplacementField, Transform

# points of a lattice along an axis: enough to see where a domain goes
_LATTICE = {2: 256, 3: 64}
# nodes that an inverse may have, as multiples of the reference's points; small references may have some millions anyway
_MOST, _ALWAYS = 8, 1 << 22


def domain_points(transform: Transform, grid: Grid) -> FloatArray:
    """Points (N, D) of the fixed domain: those of the grid where the transform is defined, else of the transform's own domain."""
    lattice = _lattice(grid)
    inside = ~beyond_domain(transform, lattice)
    if inside.any():
        return lattice[inside]
    for part in reversed(transform.transforms if isinstance(transform, Composition) else (transform,)):
        if isinstance(part, BSpline):
            # as fine as makes sense, and clear of the border, where a B-spline may jump
            return _lattice(part.grid.padded(-1).with_shape([4 * (n - 2) for n in part.grid.shape]).padded(-2))
        if isinstance(part, DisplacementField):
            return _lattice(part.grid)
    return lattice


def inverse_grid(transform: Transform, grid: Grid) -> Grid:
    """Nodes for the inverse: those of the grid and more of its spacing, around all of phi(fixed domain).

    Where that would take too many, the grid itself, which lies far away, is left out; where still too many, they are farther
    apart.
    """
    mapped = transform(domain_points(transform, grid))
    most = max(_MOST * grid.size, _ALWAYS)
    index = grid.indices_at(mapped)
    first, last = np.floor(index.min(axis=0)), np.ceil(index.max(axis=0))
    if np.prod(np.maximum(last, np.array(grid.shape) - 1) - np.minimum(first, 0) + 1) <= most:
        return grid.covering(mapped)
    sides = last - first + 1
    coarser = max(1.0, float(np.prod(sides / most ** (1 / grid.ndim))) ** (1 / grid.ndim))
    spacing = np.asarray(grid.spacing) * coarser
    shape = np.ceil(sides / coarser).astype(int) + 1
    return Grid(tuple(shape), tuple(spacing), tuple(grid.points_at(first)), grid.direction)


def _lattice(grid: Grid) -> FloatArray:
    """Some points of a grid, its corners among them."""
    return grid.lattice([min(n, _LATTICE[grid.ndim]) for n in grid.shape])
