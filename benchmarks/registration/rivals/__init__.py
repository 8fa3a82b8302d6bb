"""The competitors, one module each; a module is imported only in the process that runs its methods.

Every module has `use(threads)`, `image(values, spacing)` from a grey (nx, ny) or colour (nx, ny, 3) array, or, where it can,
from a volume (nx, ny, nz), and one function `(fixed, moving) -> Maps` per method, of which only the call itself is timed: what a
`Maps` does happens later. The spacing is in mm, one number per axis, and the origin 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

Array = npt.NDArray[np.floating[Any]]
# points (N, D) of the fixed image, voxels, to points of the moving image
Maps = Callable[[Array], Array]
Kind = Literal["affine", "elastic"]
_PIXELS = (np.ones(1), np.ones(1))


@dataclass(frozen=True)
class Method:
    """A row of the tables.

    Parameters
    ----------
    name, kind : unique together
    module, function : where it is
    """

    name: str
    kind: Kind
    module: str
    function: str


METHODS = (
    Method("augreg", "affine", "augreg", "affine"),
    Method("augreg, MI", "affine", "augreg", "affine_mi"),
    Method("SimpleITK", "affine", "simpleitk", "affine"),
    Method("elastix", "affine", "elastix", "affine"),
    Method("elastix, quick", "affine", "elastix", "affine_quick"),
    Method("ANTs Affine", "affine", "ants", "affine"),
    Method("ANTs SyNQuick[a]", "affine", "ants", "affine_quick"),
    Method("greedy", "affine", "greedy", "affine"),
    Method("OpenCV ECC", "affine", "opencv", "ecc"),
    Method("OpenCV SIFT", "affine", "opencv", "sift"),
    Method("augreg", "elastic", "augreg", "bspline"),
    Method("augreg, MI", "elastic", "augreg", "bspline_mi"),
    Method("augreg, quick", "elastic", "augreg", "bspline_quick"),
    Method("augreg, fine", "elastic", "augreg", "bspline_fine"),
    Method("SimpleITK B-spline", "elastic", "simpleitk", "bspline"),
    Method("elastix B-spline", "elastic", "elastix", "bspline"),
    Method("elastix B-spline, quick", "elastic", "elastix", "bspline_quick"),
    Method("ANTs SyNQuick[s]", "elastic", "ants", "syn_quick"),
    Method("ANTs SyN", "elastic", "ants", "syn"),
    Method("greedy", "elastic", "greedy", "deformable"),
    Method("OpenCV ECC + DIS", "elastic", "opencv", "ecc_dis"),
)

# the package on the registry behind each module
DISTRIBUTIONS = {
    "augreg": "augreg",
    "simpleitk": "SimpleITK",
    "elastix": "itk-elastix",
    "ants": "antspyx",
    "greedy": "picsl-greedy",
    "opencv": "opencv-python-headless",
    "convexadam": "convexadam",
}


def levels(shape: tuple[int, ...], coarsest: int = 64) -> int:
    """How many levels a pyramid needs until the longest side has about `coarsest` pixels."""
    return 1 + max(0, round(math.log2(max(shape) / coarsest)))


def luminance(values: npt.NDArray[Any], ndim: int = 2) -> npt.NDArray[Any]:
    """(nx, ny) of a grey or colour image; ITU-R BT.601, as `augreg.Image.luminance`. Volumes, `ndim` 3, are grey."""
    return values if values.ndim == ndim else (values @ np.array([0.299, 0.587, 0.114], values.dtype))


def matrix_maps(matrix: Array, translation: Array, spacings: tuple[Array, Array] = _PIXELS) -> Maps:
    """x -> A x + t, in mm; spacings are those of the fixed and of the moving image."""
    fixed, moving = spacings
    return lambda points: (points * fixed @ np.asarray(matrix).T + np.asarray(translation)) / moving


def field_maps(displacement: Array, spacings: tuple[Array, Array] = _PIXELS) -> Maps:
    """x -> x + u(x), in mm, u (*shape, D) given at the voxels of the fixed image, linear between them."""
    fixed, moving = spacings

    def maps(points: Array) -> Array:
        moved = [map_coordinates(displacement[..., d], points.T, order=1, mode="nearest") for d in range(points.shape[1])]
        return (points * fixed + np.stack(moved, axis=-1)) / moving

    return maps
