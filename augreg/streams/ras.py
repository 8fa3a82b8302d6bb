"""Grids and vectors for software whose world is RAS (nibabel, MONAI, TorchIO): x and y of LPS with the other sign.

Both are three-dimensional there; a plane lies at z = 0.
"""

from __future__ import annotations

import numpy as np

from augreg.geometry.grid import FloatArray, Grid

_SIGN = np.array([-1.0, -1.0, 1.0])


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
