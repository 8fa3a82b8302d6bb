"""Where a B-spline cannot fold, known from its coefficients: no point of the map is looked at.

In units of the control points, y -> y + v(y) with v(y) = sum_j b_j(y) c_j. Its derivative along axis b is a mean of neighbouring
differences of coefficients along b, with weights that are not negative; so is the mean of the derivative over any way, and the
difference quotient of the map between two points is the mean of the derivative between them. Therefore all entries of all of
these matrices around one cell of control points lie in one interval each,

    (I + Dv)_db  in  m_db +- r_db,

of the differences that reach the cell. Q has the directions in which differences are taken, a column each. A matrix whose
columns are A_a q_a, each with an A_a of its own in the intervals, is m Q (I + E) with |E| <= |Q^-1 m^-1| r |Q|: if all row sums
of that are below 1, no such matrix is singular, and all have the sign of det m det Q ("strongly regular" in Neumaier 1990,
Interval Methods for Systems of Equations). Where this fails, nothing is known, and the map has to be sampled.

The bound of Choi and Lee (`augreg.geometry.transforms.INJECTIVE`) says that a map does not fold, but not that the differences
on a grid do not: these are determinants of columns from different places.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from augreg.geometry._small import determinants
from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.transforms import INJECTIVE, Affine, BSpline, Transform

Mask = npt.NDArray[np.bool_]

# row sums may be so large: what rounding does is far below
_LARGEST = 1 - 1e-6
# determinants of the middle that are too small to be inverted
_LEAST = 1e-3
# steps of the grid, in control points, from which on cells tell nothing
_COARSE = 4.0
# directions this much off an axis of the control points, per step, are along it
_ALONG = 1e-9


def never_folds(transform: Transform) -> bool:
    """Whether the derivative of a transform is known to have a positive determinant everywhere: the bound of Choi and Lee.

    A B-spline must join the identity around it without a step.
    """
    if not isinstance(transform, BSpline) or transform.coefficients[~transform.free].any():
        return False
    shares = np.abs(transform.coefficients @ transform.grid.world_to_index.T)
    # programs reach the bound, up to rounding and axes that are not quite perpendicular; it is 0.4887 and 0.4033 in full
    return bool(shares.max() <= INJECTIVE[transform.ndim] * (1 + 1e-3))


def open_rows(spline: BSpline, inner: Affine, grid: Grid) -> Mask:
    """Which rows of a grid's first axis have voxels where spline @ inner may change the orientation; all if nothing is known.

    Beyond its domain the map is the identity: it must join it smoothly, or the grid must lie inside.
    """
    everywhere = np.ones(grid.shape[0], dtype=bool)
    control = spline.grid
    steps = control.world_to_index @ inner.matrix @ grid.index_to_world
    if abs(np.linalg.det(steps)) < 1e-12 * np.prod(np.linalg.norm(steps, axis=0)) or np.abs(steps).max() > _COARSE:
        return everywhere
    steps = np.where(np.abs(steps) > _ALONG, steps, 0.0)
    start = control.indices_at(inner(np.asarray(grid.origin)))
    if spline.coefficients[~spline.free].any():
        index = control.indices_at(inner(grid.lattice([2] * grid.ndim)))
        if np.any(index < 1) or np.any(index > control.last - 1):
            return everywhere
    reach = np.ceil(np.abs(steps)).astype(int)
    # all cells whose voxels or their neighbours move
    pad = 2 * int(reach.max())
    c = np.pad(spline.coefficients @ control.world_to_index.T, [(pad, pad)] * grid.ndim + [(0, 0)])
    cells = np.argwhere(_open(c, steps, reach)) + 1 - pad // 2
    # rows from the cells' middles and extents
    back = np.linalg.inv(steps)
    at, half = (cells + 0.5 - start) @ back[0], np.abs(back[0]).sum() / 2
    low = np.clip(np.floor(at - half), 0, grid.shape[0]).astype(int)
    high = np.clip(np.ceil(at + half) + 1, 0, grid.shape[0]).astype(int)
    begun = np.bincount(low, minlength=grid.shape[0] + 1) - np.bincount(high, minlength=grid.shape[0] + 1)
    return np.cumsum(begun)[:-1] > 0


def _open(c: FloatArray, steps: FloatArray, reach: npt.NDArray[np.int64]) -> Mask:
    """Which cells of coefficients c (*shape, D), in units of the control points, are not known to keep the orientation.

    Differences are taken in the directions `steps` (D, D), a column each, which reach over so many cells. The first cell begins
    at the coefficient number 1 + max reach, along every axis.
    """
    ndim, most = len(steps), int(reach.max())
    shape = [n - 3 - 2 * most for n in c.shape[:-1]]
    low, high = np.empty((2, *shape, ndim, ndim))
    for b in range(ndim):
        # only these directions see the derivative along b
        far = reach[:, steps[b] != 0].max(axis=1)
        slopes = np.diff(c, axis=b)
        for out, extreme in ((low, np.minimum), (high, np.maximum)):
            part = slopes
            for axis, n in enumerate(shape):
                start, length = most - far[axis], 3 + (axis != b) + 2 * far[axis]
                along = np.moveaxis(part, axis, 0)
                widest = along[start : start + n].copy()
                for shift in range(start + 1, start + length):
                    extreme(widest, along[shift : shift + n], out=widest)
                part = np.moveaxis(widest, 0, axis)
            out[..., b] = part
    middle, radius = (low + high) / 2 + np.eye(ndim), (high - low) / 2
    right = determinants(middle) > _LEAST
    inverse = np.linalg.inv(steps) @ np.linalg.inv(np.where(right[..., None, None], middle, np.eye(ndim)))
    sums = (np.abs(inverse) @ radius @ np.abs(steps)).sum(axis=-1).max(axis=-1)
    return ~right | (sums >= _LARGEST)
