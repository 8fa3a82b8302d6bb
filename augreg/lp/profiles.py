"""Profiles: both images sampled on bundles of lines across the boundary at every keypoint.

A bundle has a line along the normal and lines beside it. With phi the current transform and J = D phi(p), the fixed image is
sampled at p + h n + t, the moving image at phi(p) + (h + xi) m / |J^-T n| + J t, where m = J^-T n / |J^-T n| is the normal of the
moved boundary. So xi is measured along the fixed normal, mm: if v is a small displacement on the fixed side, xi = n . v(p).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray
from augreg.geometry.transforms import Transform
from augreg.keypoints.boundary import Keypoints
from augreg.keypoints.pyramid import Raster
from augreg.lp import _bundle_kernels
from augreg.threads import shared

# nanoseconds per sample, and per line of a moved bundle, about
_SAMPLE, _LINE = 8, 10


@dataclass(frozen=True)
class Bundle:
    """The shape of the bundles, one level spacing between samples and between lines.

    Parameters
    ----------
    half_length : samples along the normal on each side of the boundary
    half_width : lines on each side in every tangent direction
    """

    half_length: int
    half_width: int

    @property
    def side(self) -> int:
        """Lines along each tangent direction."""
        return 2 * self.half_width + 1


@dataclass(frozen=True)
class Window:
    """Where a minimum is searched.

    Parameters
    ----------
    shifts : X, the search reaches X / ratio level spacings to each side
    ratio : shifts per level spacing
    """

    shifts: int
    ratio: int

    @property
    def reach(self) -> float:
        """Largest shift in level spacings."""
        return self.shifts / self.ratio


# no search: the cost where the transform stands
HERE = Window(0, 1)


@dataclass(frozen=True, eq=False)
class Profiles:
    """Samples: fixed (N, C, L, 2H+1), moving (N, C, L, 2(H ratio + X)+1); NaN outside the image or its mask.

    `least` is the share of a bundle's samples that must lie inside both images.
    """

    fixed: npt.NDArray[np.float32]
    moving: npt.NDArray[np.float32]
    bundle: Bundle
    window: Window
    least: float = 0.5

    @property
    def lines(self) -> int:
        """L, lines of a bundle of the fixed image."""
        return self.fixed.shape[2]


def fixed_bundles(fixed: Raster, keypoints: Keypoints, bundle: Bundle) -> npt.NDArray[np.float32]:
    """The fixed image around all keypoints, (N, C, L, 2H+1)."""
    across = keypoints.across(bundle.half_width, fixed.step)
    return sampled(fixed, keypoints.points, keypoints.normals, across, bundle.half_length, fixed.step)


def moving_bundles(
    moving: Raster, keypoints: Keypoints, bundle: Bundle, transform: Transform, step: float, window: Window, margin: int = 0
) -> npt.NDArray[np.float32]:
    """The moving image around all moved keypoints, (N, C, L, 2(H ratio + X)+1), with `margin` more samples and lines all around.

    `step` is the level's, mm on the fixed side.
    """
    normals = keypoints.normals
    across = keypoints.across(bundle.half_width + margin, step)
    along, moved_across = np.empty_like(normals), np.empty_like(across)
    jacobian = transform.jacobian(keypoints.points).reshape(len(normals), -1)
    shared(_bundle_kernels.moved_bundles, len(normals), _LINE * across.shape[1], normals, across, jacobian, along, moved_across)
    half = bundle.half_length * window.ratio + window.shifts + margin
    return sampled(moving, transform(keypoints.points), along, moved_across, half, step / window.ratio)


def sampled(
    raster: Raster, centers: FloatArray, along: FloatArray, across: FloatArray, half: int, step: float
) -> npt.NDArray[np.float32]:
    """Values on lines at centers[i] + across[i, l] + (-half .. half) step along[i], (N, C, L, 2 half + 1); NaN where unknown.

    centers, along (N, D), across (N, L, D) mm.
    """
    out = np.empty((len(centers), raster.values.shape[-1], across.shape[1], 2 * half + 1), dtype=np.float32)
    image = (raster.values.reshape(-1), raster.values.shape, raster.allowed.reshape(-1), raster.nearest, *raster.frame)
    work = _SAMPLE * out[:1].size
    shared(_bundle_kernels.sample_lines, len(out), work, *image, centers, along, across, float(-half), step, out)
    return out
