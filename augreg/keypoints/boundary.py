"""Keypoints on boundaries: the best place in every cell of a coarse lattice, so that they are spread evenly.

In images it is the strongest gradient, with the unit normal n = grad F / |grad F| of the smoothed image F (the strongest
channel's); in label maps and superpixel classes the flattest boundary between two labels. Around every keypoint stands a bundle
of parallel lines, one through it and some beside it in each tangent direction.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from augreg.geometry.grid import FloatArray
from augreg.keypoints import _raster_kernels
from augreg.keypoints.pyramid import Raster
from augreg.threads import shared

# gradients below this share of a strong one (the 90th percentile over cells) are texture of noise
_WEAK = 0.08
# voxels around a place that tell how a boundary between labels runs
_REACH = 2
# nanoseconds per voxel of images and of label maps, about
_VOXEL, _LABEL = 4, 30


@dataclass(frozen=True, eq=False)
class Keypoints:
    """Points on boundaries of the fixed image.

    Parameters
    ----------
    points : p, (N, D) mm
    frames : orthonormal frames, (N, D, D); frames[:, 0] are the normals n, the others tangents
    """

    points: FloatArray
    frames: FloatArray

    @cached_property
    def normals(self) -> FloatArray:
        """n, (N, D) unit vectors."""
        return np.ascontiguousarray(self.frames[:, 0])

    def across(self, half_width: int, step: float) -> FloatArray:
        """Offsets of a bundle's lines, (N, (2 half_width + 1)^(D-1), D) mm: a lattice over the tangents, `step` mm apart."""
        if (half_width, step) not in self._offsets:
            sides = np.arange(-half_width, half_width + 1) * step
            lattice = np.array(list(itertools.product(sides, repeat=self.frames.shape[1] - 1)))
            self._offsets[half_width, step] = np.ascontiguousarray(lattice @ self.frames[:, 1:])
        return self._offsets[half_width, step]

    @cached_property
    def _offsets(self) -> dict[tuple[int, float], FloatArray]:
        """Those that were asked for."""
        return {}

    def __len__(self) -> int:
        return len(self.points)


def find_keypoints(fixed: Raster, count: int, margin: int = 2) -> Keypoints:
    """About `count` keypoints at least `margin` voxels away from the border."""
    grid, lead = fixed.grid, 3 - fixed.grid.ndim
    spacing = np.ones(3)
    spacing[lead:] = grid.spacing
    shape = np.asarray(fixed.values.shape[:3])
    edge = (float(np.prod((shape * spacing)[lead:])) / count) ** (1 / grid.ndim)
    cell = np.maximum(1, np.rint(edge / spacing)).astype(np.int64)
    cell[:lead] = 1
    cells = int(np.prod(-(-shape // cell)))
    indices, gradients = np.empty((cells, 3), dtype=np.int64), np.zeros((cells, 3))
    borders = np.where(shape > 4 * margin, margin, 0)
    work = fixed.values.size / cells
    image = (fixed.values.reshape(-1), fixed.values.shape, fixed.allowed.reshape(-1))
    places = (cell, borders, indices, gradients)
    if fixed.nearest:
        shared(_raster_kernels.flattest_per_cell, cells, _LABEL * work, *image, spacing, _REACH, *places)
    else:
        scale = np.where(shape > 1, 0.5 / spacing, 0.0)
        shared(_raster_kernels.strongest_per_cell, cells, _VOXEL * work, *image, scale, *places)

    strengths = np.linalg.norm(gradients, axis=1)
    found = np.flatnonzero((indices[:, 0] >= 0) & (strengths > 0))
    if found.size:
        strong = np.percentile(strengths[found], 90)
        found = found[strengths[found] >= _WEAK * strong]
    normals = gradients[found, lead:] / strengths[found, None] @ grid.axes.T
    return Keypoints(grid.points_at(indices[found, lead:]), _frames(normals))


def _frames(normals: FloatArray) -> FloatArray:
    """Orthonormal frames (N, D, D) whose first vectors are the normals (N, D)."""
    # the Householder reflection that takes the first axis to -+n takes the other axes to tangents
    v = normals.copy()
    v[:, 0] += np.where(normals[:, 0] >= 0, 1.0, -1.0)
    frames = np.eye(normals.shape[1]) - 2 * v[:, :, None] * v[:, None, :] / np.sum(v**2, axis=1)[:, None, None]
    frames[:, 0] = normals
    return frames
