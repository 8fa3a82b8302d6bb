"""Coarse-to-fine versions of an image: block means, slightly smoothed, on grids that cover the same voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from augreg.grid import FloatArray, Grid
from augreg.image import Image, Labels
from augreg.warp import resample

# voxels: enough to make gradients and profiles insensitive to pixel noise, little enough to keep edges
_SMOOTHING = 0.8


@dataclass(frozen=True, eq=False)
class Raster:
    """One level, ready for the kernels.

    Parameters
    ----------
    values : float32 (n0, n1, n2, C), n0 = 1 in 2-D
    allowed : bool (n0, n1, n2), where the mask permits sampling
    grid : the D-dimensional grid
    """

    values: npt.NDArray[np.float32]
    allowed: npt.NDArray[np.bool_]
    grid: Grid

    @property
    def step(self) -> float:
        """Geometric mean of the spacing, mm: the unit of profiles."""
        return float(np.prod(self.grid.spacing) ** (1 / self.grid.ndim))

    @property
    def frame(self) -> tuple[FloatArray, FloatArray]:
        """Origin and world-to-index matrix, as kernels take them."""
        return np.asarray(self.grid.origin), self.grid.world_to_index


def level_spacings(grid: Grid, least_size: int) -> list[float]:
    """Spacings (mm) of the levels, coarse to fine: halved from the one with about `least_size` voxels along the longest axis."""
    finest = min(grid.spacing)
    sides = np.asarray(grid.shape) * np.asarray(grid.spacing)
    halvings = max(0, int(np.floor(np.log2(sides.max() / finest / least_size))))
    return [finest * 2**k for k in range(halvings, -1, -1)]


def raster(image: Image, mask: Labels | None, spacing: float) -> Raster:
    """The image at about `spacing` mm: axes that are coarser already keep their voxels.

    Block means leave the grid exact: the level's voxels are whole blocks of the image's. Masked voxels take no part in means
    and smoothing, so that what a mask hides does not leak across its border.
    """
    grid, values = image.grid, image.values.astype(np.float32, copy=False)
    factors = np.maximum(1, np.minimum(np.rint(spacing / np.asarray(grid.spacing)), np.asarray(grid.shape) // 4)).astype(int)
    weights = (
        None if mask is None else (mask.values != 0).astype(np.float32).reshape(*grid.shape, *[1] * (values.ndim - grid.ndim))
    )
    if weights is not None:
        values = values * weights
        weights = _block_means(weights, factors)
    values = _block_means(values, factors)
    if factors.max() > 1:
        shape = np.asarray(grid.shape) // factors
        origin = grid.points_at((factors - 1) / 2)
        grid = Grid(tuple(shape), tuple(np.asarray(grid.spacing) * factors), tuple(origin), grid.direction)
    sigma = [_SMOOTHING if n > 4 else 0.0 for n in grid.shape] + [0.0] * (values.ndim - grid.ndim)
    smooth = scipy.ndimage.gaussian_filter(values, sigma, truncate=2.5, mode="nearest")
    spatial = (1, *grid.shape)[-3:]
    allowed = np.ones(spatial, dtype=bool)
    if weights is not None:
        allowed = (weights >= 0.5).reshape(spatial)
        near = scipy.ndimage.gaussian_filter(weights, sigma, truncate=2.5, mode="nearest")
        smooth = np.divide(smooth, near, out=np.zeros_like(smooth), where=np.broadcast_to(near > 0, smooth.shape))
    return Raster(np.ascontiguousarray(smooth).reshape(*spatial, -1), allowed, grid)


def _block_means(values: npt.NDArray[np.float32], factors: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    # an axis at a time, the longest stride first: each step leaves less to do
    for axis, factor in enumerate(factors):
        if factor > 1:
            n = values.shape[axis] // factor
            kept = values[(slice(None),) * axis + (slice(0, n * factor),)]
            split = kept.reshape(*kept.shape[:axis], n, factor, *kept.shape[axis + 1 :])
            values = split.mean(axis=axis + 1, dtype=np.float32)
    return values


def label_raster(labels: Labels, mask: Labels | None, spacing: float) -> Raster:
    """A label map at about `spacing` mm: nearest labels, nothing is smoothed."""
    grid = labels.grid.with_spacing([max(spacing, own) for own in labels.grid.spacing])
    spatial = (1, *grid.shape)[-3:]
    allowed = np.ones(spatial, dtype=bool) if mask is None else (resample(mask, grid).values != 0).reshape(spatial)
    return Raster(resample(labels, grid).values.astype(np.float32).reshape(*spatial, 1), allowed, grid)
