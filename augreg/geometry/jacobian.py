"""The Jacobian of a transform on a grid: local change of volume, and where the transform folds.

Both need the neighbourhood of a point only, so grids are taken in slabs along the first axis: the memory is that of the result
and some slabs. D phi of an affine map is the same everywhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from augreg.geometry._small import determinants
from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.transforms import Affine, Composition, DisplacementField, Transform

# points of a slab, about: their matrices take 20 MB
_SLAB = 1 << 18
# how far beside the nodes of a field to look, as a share of the spacing or of the way to the centre
_ASIDE = 1e-6
# voxels by which nodes of a field may miss the points of a grid and still be the same: NIfTI keeps its geometry in float32
_SAME = 1e-3


def jacobian_determinant(transform: Transform, grid: Grid) -> FloatArray:
    """Det D phi at the points of a grid, (*shape): the local change of volume; 1 without any, below 0 where phi folds.

    The derivative is the transform's own; that of a displacement field is the mean of the two one-sided ones at its nodes.
    """
    if isinstance(transform, Affine):
        return np.full(grid.shape, float(determinants(transform.matrix)))
    # at the nodes of a multilinear field a derivative exists only from each side: look just beside them, on both sides
    aside = _ASIDE * min(grid.spacing) * grid.axes.sum(axis=1)
    out = np.empty(grid.shape)
    for rows in _slabs(grid):
        points = _on_nodes(_part(grid, rows).points(), transform)
        jacobian = (transform.jacobian(points - aside) + transform.jacobian(points + aside)) / 2
        out[rows] = determinants(jacobian)
    return out


def folding(transform: Transform, grid: Grid) -> float:
    """The share of voxels where phi folds: the least determinant there is not positive.

    At every voxel the determinant is taken of the transform's derivative and of all 2^D combinations of one-sided differences to
    its neighbours: a multilinear cell may fold although central differences look well. Along an axis of one voxel the transform's
    own derivative stands for both differences.
    """
    if isinstance(transform, Affine):
        return float(determinants(transform.matrix) <= 0)
    return sum(_folded(transform, grid, rows) for rows in _slabs(grid)) / grid.size


def _folded(transform: Transform, grid: Grid, rows: slice) -> int:
    """The number of voxels of some rows of the first axis where phi folds."""
    ndim, size = grid.ndim, grid.shape[0]
    first, last = max(0, rows.start - 1), min(size, rows.stop + 1)
    own = slice(rows.start - first, rows.stop - first)
    wide = _part(grid, slice(first, last))
    points = wide.points()
    # inward of the nodes, or rounding decides whether the border is seen from outside, where fields are constant
    inner = _on_nodes(points[own], transform)
    jacobian = transform.jacobian(inner + _ASIDE * (grid.center - inner))
    mapped = points + transform.displacement(wide)
    differences = [_sides(mapped, grid.spacing[0], np.arange(rows.start, rows.stop), size, first)]
    for axis in range(1, ndim):
        n = grid.shape[axis]
        along = np.moveaxis(mapped[own], axis, 0)
        sides = _sides(along, grid.spacing[axis], np.arange(n), n, 0)
        differences.append([np.moveaxis(side, 0, axis) for side in sides])
    direction = grid.axes
    for axis, sides in enumerate(differences):
        if not sides:
            differences[axis] = [jacobian @ direction[:, axis]] * 2
    # det(D phi Q) = det(D phi) det Q: a flipped direction must not look like a fold
    sign = np.sign(np.linalg.det(direction))
    least = determinants(jacobian)
    for choice in itertools.product((0, 1), repeat=ndim):
        corner = np.stack([differences[axis][side] for axis, side in enumerate(choice)], axis=-1)
        least = np.minimum(least, sign * determinants(corner))
    return int(np.count_nonzero(least <= 0))


def _sides(mapped: FloatArray, spacing: float, at: npt.NDArray[np.int64], size: int, first: int) -> list[FloatArray]:
    """Differences to the next and the previous point along the first axis, of which `mapped` has the points from `first` on.

    At the border the only difference serves for both sides; a lone point has none.
    """
    if size == 1:
        return []
    forward = np.diff(mapped, axis=0) / spacing
    return [forward[np.minimum(at, size - 2) - first], forward[np.maximum(at - 1, 0) - first]]


def _slabs(grid: Grid) -> Iterator[slice]:
    """Rows of the first axis, in pieces."""
    thickness = max(1, _SLAB * grid.shape[0] // grid.size)
    for start in range(0, grid.shape[0], thickness):
        yield slice(start, min(start + thickness, grid.shape[0]))


def _part(grid: Grid, rows: slice) -> Grid:
    """Some rows of the first axis."""
    corner = grid.points_at([rows.start] + [0] * (grid.ndim - 1))
    return Grid((rows.stop - rows.start, *grid.shape[1:]), grid.spacing, tuple(corner), grid.direction)


def _on_nodes(points: FloatArray, transform: Transform) -> FloatArray:
    """The points, moved onto the nodes of the field that is applied first where only the rounding of files parts them."""
    inner = transform.transforms[-1] if isinstance(transform, Composition) else transform
    if not isinstance(inner, DisplacementField):
        return points
    index = inner.grid.indices_at(points)
    node = np.rint(index)
    return inner.grid.points_at(np.where(np.abs(index - node) < _SAME, node, index))
