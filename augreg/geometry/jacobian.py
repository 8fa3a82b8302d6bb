"""The Jacobian of a transform on a grid: local change of volume, and where the transform folds.

Both need the neighbourhood of a point only, so grids are taken in slabs along the first axis: the memory is that of the result
and some slabs. D phi of an affine map is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

import numpy as np

from augreg.geometry._fields import three_axes
from augreg.geometry._small import determinants
from augreg.geometry.cells import never_folds_within
from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.kernels.corners import least_corners
from augreg.geometry.orientation import never_folds, open_rows
from augreg.geometry.transforms import Affine, BSpline, Composition, DisplacementField, Transform
from augreg.threads import shared

# nanoseconds that a voxel's determinants take, about
_CORNERS = 50
# points of a slab, about: their matrices take 20 MB; so many slabs take as much without
_SLAB = 1 << 18
_BARE = 3
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


def mirrors(transform: Transform) -> bool:
    """Whether the affine maps of a transform together have a negative determinant: it turns left into right everywhere."""
    parts = transform.transforms if isinstance(transform, Composition) else (transform,)
    return bool(np.prod([np.sign(determinants(part.matrix)) for part in parts if isinstance(part, Affine)]) < 0)


def unmirrored(transform: Transform) -> Transform:
    """The transform seen in a mirror if it mirrors: to a mirrored image folds are what has the other orientation."""
    return Affine(np.diag([-1.0] + [1.0] * (transform.ndim - 1))) @ transform if mirrors(transform) else transform


def folding(transform: Transform, grid: Grid) -> float:
    """The share of voxels where phi folds: the least determinant there is not positive; 1 where it mirrors (see `unmirrored`).

    At every voxel the determinant is taken of the transform's derivative and of all 2^D combinations of one-sided differences to
    its neighbours: a multilinear cell may fold although central differences look well. Along an axis of one voxel the transform's
    own derivative stands for both differences.

    What is known is not sampled. Affine maps have one determinant. One B-spline, among affine maps, is judged by its coefficients
    (see `augreg.geometry.orientation`). Of several within the bound of Choi and Lee the derivatives are known, and only
    differences are looked at. Fields that have no fold in any point of any cell (see `augreg.geometry.cells`), among affine
    maps and splines within that bound, have none. Other fields and exponentials, whose integration is not exact, are sampled.
    """
    parts = transform.transforms if isinstance(transform, Composition) else (transform,)
    turned = float(np.prod([determinants(part.matrix) for part in parts if isinstance(part, Affine)]))
    curved = [part for part in parts if not isinstance(part, Affine)]
    smooth = all(never_folds(part) for part in curved)
    if turned <= 0 and smooth:
        return 1.0
    if not curved:
        return 0.0
    # neighbours of slabs are mapped twice
    slabs = list(_slabs(grid, _BARE if smooth else 1))
    if turned > 0:
        if any(isinstance(part, DisplacementField) for part in curved) and _is_proven(parts, grid):
            return 0.0
        if len(curved) == 1 and isinstance(curved[0], BSpline):
            inner = reduce(Affine.after, _leading(parts), Affine.identity(grid.ndim))
            rows = open_rows(curved[0], inner, grid)
            slabs = [slab for slab in slabs if rows[slab].any()]
    return sum(_folded(transform, grid, slab, smooth) for slab in slabs) / grid.size


def _is_proven(parts: tuple[Transform, ...], grid: Grid) -> bool:
    """Whether all B-splines are within the bound, and all fields have no fold in any point of any cell."""
    inner = reduce(Affine.after, _leading(parts), Affine.identity(grid.ndim))
    first = parts[len(parts) - 1 - len(_leading(parts))]
    for part in parts:
        if isinstance(part, DisplacementField):
            if not never_folds_within(part, inner if part is first else None, grid):
                return False
        elif not isinstance(part, Affine) and not never_folds(part):
            return False
    return True


def _leading(parts: tuple[Transform, ...]) -> list[Affine]:
    """The affine maps that are applied before all others, in the order in which they are written."""
    found: list[Affine] = []
    for part in reversed(parts):
        if not isinstance(part, Affine):
            break
        found.insert(0, part)
    return found


def _folded(transform: Transform, grid: Grid, rows: slice, smooth: bool) -> int:
    """The number of voxels of some rows of the first axis where phi folds; `smooth` if the derivative is known not to."""
    ndim, size = grid.ndim, grid.shape[0]
    first, last = max(0, rows.start - 1), min(size, rows.stop + 1)
    wide, own = _part(grid, slice(first, last)), _part(grid, rows)
    thin = min(grid.shape) == 1
    slopes = np.empty((0, ndim, ndim))
    least = np.full(own.size, np.inf)
    if thin or not smooth:
        # inward of the nodes, or rounding decides whether the border is seen from outside, where fields are constant
        inner = _on_nodes(own.points(), transform).reshape(-1, ndim)
        jacobian = transform.jacobian(inner + _ASIDE * (grid.center - inner))
        least = determinants(jacobian)
        slopes = jacobian @ grid.axes if thin else slopes
    # det(D phi Q) = det(D phi) det Q: a flipped direction must not look like a fold
    sign = float(np.sign(np.linalg.det(grid.axes)))
    mapped = three_axes(transform._map_grid(wide).reshape(*wide.shape, ndim))
    kept = least.reshape((1, *own.shape)[-3:])
    skipped = rows.start - first
    lines = kept.shape[0] * kept.shape[1]
    shape = (np.array(grid.spacing), slopes, sign, skipped if ndim == 3 else 0, skipped if ndim == 2 else 0)
    shared(least_corners, lines, _CORNERS * kept.shape[2], mapped, *shape, kept)
    return int(np.count_nonzero(least <= 0))


def _slabs(grid: Grid, times: int = 1) -> Iterator[slice]:
    """Rows of the first axis, in pieces so many times as large as a slab."""
    thickness = max(1, times * _SLAB * grid.shape[0] // grid.size)
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
