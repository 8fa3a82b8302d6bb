"""Where an image lies, roughly: an affine map from what a registration finds with a few voxels.

    thinned images of some thousand voxels -> phi,        A = argmin sum_j |A(x_j) - phi(x_j)|^2 over their nodes x_j

It costs little beside the registration of all voxels, and any registration can do it.
"""

from __future__ import annotations

import numpy as np

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Image
from augreg.geometry.transforms import Affine, Transform
from augreg.registration.method import Registration, as_method
from augreg.registration.pair import Pair
from augreg.registration.thinning import thinned

# voxels along an axis that a rough look needs; that tell how alike two images are, by dimension; nodes that tell an affine map
_ENOUGH = 64
_TELLING = {2: 128, 3: 64}
_NODES = 24


def rough(registration: Registration, fixed: Image, moving: Image) -> Affine:
    """An affine map fixed space -> moving space."""
    pair = thinned(Pair(fixed=fixed, moving=moving), _factor(fixed.grid, _ENOUGH))
    return affine_part(as_method("registration", registration)(pair.fixed, pair.moving), fixed.grid)


def small(image: Image, side: int | None = None) -> Image:
    """Every k-th voxel of an image, some of these along an axis; by default as many as tell how alike two images are."""
    return thinned(Pair(fixed=image, moving=image), _factor(image.grid, side or _TELLING[image.ndim])).fixed


def _factor(grid: Grid, side: int) -> int:
    factor = 1
    while np.prod(grid.shape) > (1.5 * factor * side) ** grid.ndim:
        factor *= 2
    return factor


def affine_part(phi: Transform, grid: Grid) -> Affine:
    """The affine map that is nearest to phi on a grid, by least squares."""
    if isinstance(phi, Affine):
        return phi
    places = [np.linspace(0, n - 1, min(n, _NODES)) for n in grid.shape]
    points = grid.points_at(np.stack(np.meshgrid(*places, indexing="ij"), axis=-1).reshape(-1, grid.ndim))
    return _least_squares(points, phi(points))


def _least_squares(points: FloatArray, mapped: FloatArray) -> Affine:
    center, middle = points.mean(axis=0), mapped.mean(axis=0)
    matrix, *_ = np.linalg.lstsq(points - center, mapped - middle, rcond=None)
    return Affine(matrix.T, middle - matrix.T @ center)
