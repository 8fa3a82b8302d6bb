"""Keypoints on boundaries: the strongest gradient in every cell of a coarse lattice, so that they are spread evenly.

The unit normal is n = grad F / |grad F| of the smoothed image F (the strongest channel's).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from augreg.grid import FloatArray
from augreg.lp import _kernels
from augreg.lp.pyramid import Raster

# gradients below this share of a strong one (the 90th percentile over cells) are texture of noise
_WEAK = 0.08


@dataclass(frozen=True, eq=False)
class Keypoints:
    """Points on boundaries of the fixed image.

    Parameters
    ----------
    points : p, (N, D) mm
    normals : n, (N, D) unit vectors
    """

    points: FloatArray
    normals: FloatArray

    def __len__(self) -> int:
        return len(self.points)


def find_keypoints(fixed: Raster, count: int, margin: int = 2) -> Keypoints:
    """About `count` keypoints at least `margin` voxels away from the border."""
    grid, lead = fixed.grid, 3 - fixed.grid.ndim
    spacing = np.ones(3)
    spacing[lead:] = grid.spacing
    shape = np.asarray(fixed.values.shape[:3])
    scale = np.where(shape > 1, 0.5 / spacing, 0.0)
    gradients = np.empty((*shape, 3), dtype=np.float32)
    _kernels.gradient(fixed.values, scale, gradients)

    volume = float(np.prod((shape * spacing)[lead:]))
    edge = (volume / count) ** (1 / grid.ndim)
    cell = np.maximum(1, np.rint(edge / spacing)).astype(np.int64)
    cell[:lead] = 1
    cells = int(np.prod(-(-shape // cell)))
    indices, strengths = np.empty((cells, 3), dtype=np.int64), np.empty(cells)
    borders = np.where(shape > 4 * margin, margin, 0)
    _kernels.strongest_per_cell(gradients, fixed.allowed, cell, borders, indices, strengths)

    strengths = np.sqrt(strengths)
    found = np.flatnonzero((indices[:, 0] >= 0) & (strengths > 0))
    if found.size:
        strong = np.percentile(strengths[found], 90)
        found = found[strengths[found] >= _WEAK * strong]
    where = indices[found]
    normals = gradients[tuple(where.T)].astype(np.float64)[:, lead:]
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Keypoints(grid.points_at(where[:, lead:]), normals @ np.asarray(grid.direction).T)
