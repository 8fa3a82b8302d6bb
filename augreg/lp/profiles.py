"""Profiles: both images sampled on bundles of lines across the boundary at every keypoint.

A bundle has a line along the normal and lines beside it. With phi the current transform and J = D phi(p), the fixed image is
sampled at p + h n + t, the moving image at phi(p) + (h + xi) m / |J^-T n| + J t, where m = J^-T n / |J^-T n| is the normal of the
moved boundary. So xi is measured along the fixed normal, mm: if v is a small displacement on the fixed side, xi = n . v(p).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from augreg.grid import FloatArray
from augreg.lp import _kernels
from augreg.lp.boundary import Keypoints
from augreg.lp.pyramid import Raster
from augreg.transforms import Transform


@dataclass(frozen=True)
class Window:
    """What is sampled.

    Parameters
    ----------
    half_length : H, profile samples on each side of the boundary, one level spacing apart
    half_width : lines on each side in every tangent direction, one level spacing apart
    shifts : X, the search reaches X / ratio level spacings to each side
    ratio : shifts per level spacing
    """

    half_length: int
    half_width: int
    shifts: int
    ratio: int

    @property
    def reach(self) -> float:
        """Largest shift in level spacings."""
        return self.shifts / self.ratio


@dataclass(frozen=True, eq=False)
class Profiles:
    """Samples: fixed (N, L, 2H+1, C), moving (N, L, 2(H ratio + X)+1, C); NaN outside the image or its mask."""

    fixed: npt.NDArray[np.float32]
    moving: npt.NDArray[np.float32]
    window: Window


def sample_profiles(
    fixed: Raster, moving: Raster, keypoints: Keypoints, transform: Transform, window: Window, *, nearest: bool = False
) -> Profiles:
    """Sample both images around all keypoints."""
    return Profiles(
        _fixed_profiles(fixed, keypoints, window, nearest),
        _moving_profiles(moving, keypoints, transform, window, fixed.step, nearest),
        window,
    )


def _fixed_profiles(fixed: Raster, keypoints: Keypoints, window: Window, nearest: bool) -> npt.NDArray[np.float32]:
    across = _across(keypoints.normals, window.half_width, fixed.step)
    shape = (len(keypoints), across.shape[1], 2 * window.half_length + 1, fixed.values.shape[-1])
    out = np.empty(shape, dtype=np.float32)
    first = float(-window.half_length)
    raster = (fixed.values, fixed.allowed, *fixed.frame)
    _kernels.sample_lines(*raster, keypoints.points, keypoints.normals, across, first, fixed.step, nearest, out)
    return out


def _moving_profiles(
    moving: Raster, keypoints: Keypoints, transform: Transform, window: Window, step: float, nearest: bool
) -> npt.NDArray[np.float32]:
    jacobian = transform.jacobian(keypoints.points)
    along, _ = moved_normals(jacobian, keypoints.normals)
    across = np.einsum("nab,nlb->nla", jacobian, _across(keypoints.normals, window.half_width, step))
    half = window.half_length * window.ratio + window.shifts
    out = np.empty((len(keypoints), across.shape[1], 2 * half + 1, moving.values.shape[-1]), dtype=np.float32)
    centers = transform(keypoints.points)
    raster = (moving.values, moving.allowed, *moving.frame)
    _kernels.sample_lines(*raster, centers, along, np.ascontiguousarray(across), float(-half), step / window.ratio, nearest, out)
    return out


def moved_normals(jacobian: FloatArray, normals: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The vectors m / |J^-T n|, moving mm per fixed mm along the normal, and J^-T n itself, (N, D) each."""
    covectors = np.linalg.solve(np.swapaxes(jacobian, 1, 2), normals[..., None])[..., 0]
    return covectors / np.sum(covectors**2, axis=1, keepdims=True), covectors


def _across(normals: FloatArray, half_width: int, step: float) -> FloatArray:
    """Offsets of the lines of every bundle, (N, L, D) mm: 0, then +-1 .. +-half_width steps along each tangent."""
    count, ndim = normals.shape
    # the Householder reflection that takes the first axis to -+n takes the other axes to tangents
    v = normals.copy()
    v[:, 0] += np.where(normals[:, 0] >= 0, 1.0, -1.0)
    reflection = np.eye(ndim) - 2 * v[:, :, None] * v[:, None, :] / np.sum(v**2, axis=1)[:, None, None]
    sides = [k * step for k in range(-half_width, half_width + 1) if k != 0]
    offsets = [np.zeros((count, ndim))] + [side * reflection[:, :, axis] for axis in range(1, ndim) for side in sides]
    return np.stack(offsets, axis=1)
