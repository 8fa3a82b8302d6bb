"""Grids and vectors for software whose world is RAS (nibabel, MONAI, TorchIO): x and y of LPS with the other sign.

Both are three-dimensional there; a plane lies at z = 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray, Grid

_SIGN = np.array([-1.0, -1.0, 1.0])
# how far a plane's axes may leave the x-y plane, as of files
_TILT = 1e-3


def ras_affine(grid: Grid) -> FloatArray:
    """The matrix (4, 4) from indices to world coordinates in mm."""
    affine = np.eye(4)
    affine[: grid.ndim, : grid.ndim] = grid.index_to_world
    affine[: grid.ndim, 3] = grid.origin
    affine[:3] *= _SIGN[:, None]
    return affine


def ras_vectors(vectors: FloatArray) -> FloatArray:
    """World vectors (..., D) in LPS as (..., 3) in RAS."""
    missing = 3 - vectors.shape[-1]
    return np.pad(vectors, [(0, 0)] * (vectors.ndim - 1) + [(0, missing)]) * _SIGN


def grid_of_ras(name: str, shape: Sequence[int], affine: npt.ArrayLike, *, lps: bool = False) -> Grid:
    """The grid of D axes whose indices an affine (3, 3) or (4, 4) maps to RAS, or with `lps` to LPS, in mm: `ras_affine` undone.

    Raises
    ------
    ValueError : for shears, for planes out of the world's x-y plane, for other shapes of affines.
    """
    matrix, ndim = np.asarray(affine, dtype=np.float64), len(shape)
    if matrix.shape not in ((3, 3), (4, 4)) or len(matrix) <= ndim or not np.isfinite(matrix).all():
        raise ValueError(f"{name}: expected a finite affine of {ndim + 1} x {ndim + 1} numbers, got shape {matrix.shape}")
    linear, origin = matrix[:-1, :-1].copy(), matrix[:-1, -1].copy()
    if not lps:
        linear, origin = linear * _SIGN[: len(linear), None], origin * _SIGN[: len(linear)]
    lengths = np.linalg.norm(linear, axis=0)
    if lengths.min() <= 0:
        raise ValueError(f"{name}: expected an affine with voxels of some size, got columns of length {lengths.tolist()}")
    if ndim == 2 and len(linear) == 3 and np.abs(linear[2, :2] / lengths[:2]).max() > _TILT:
        raise ValueError(
            f"{name}: expected an axial slice, whose place is kept in 2-D, got one of another orientation; give it as a volume"
        )
    spacing, direction = lengths[:ndim], (linear / lengths)[:ndim, :ndim]
    u, _, vt = np.linalg.svd(direction)
    if not np.allclose(direction, u @ vt, atol=_TILT):
        raise ValueError(f"{name}: expected perpendicular axes, got an affine with a shear; resample the image first")
    return Grid(tuple(shape), tuple(spacing), tuple(origin[:ndim]), u @ vt)
