"""Coarse-to-fine versions of an image: block means, slightly smoothed, on grids that cover the same voxels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Image, Labels
from augreg.geometry.resampling import resample
from augreg.keypoints import _raster_kernels
from augreg.threads import shared

# voxels: enough to make gradients and profiles insensitive to pixel noise, little enough to keep edges
_SMOOTHING = 0.65
_RADIUS = 2
# an axis keeps at least so many voxels
_FEWEST = 4
# values of an image of integers that are float32 at a time, about
_SLAB = 1 << 22
# voxels above which a level is not made: it would take 4 bytes for each
_MOST = 200_000_000
# nanoseconds per voxel, about
_VOXEL = 4


@dataclass(frozen=True, eq=False)
class Raster:
    """One level, ready for the kernels.

    Parameters
    ----------
    values : float32 (n0, n1, n2, C), n0 = 1 in 2-D
    allowed : bool (n0, n1, n2), where the mask permits sampling; without elements where there is no mask
    grid : the D-dimensional grid
    nearest : values are labels, which are not interpolated
    """

    values: npt.NDArray[np.float32]
    allowed: npt.NDArray[np.bool_]
    grid: Grid
    nearest: bool = False

    @property
    def step(self) -> float:
        """Geometric mean of the spacing, mm: the unit of profiles."""
        return float(np.prod(self.grid.spacing) ** (1 / self.grid.ndim))

    @property
    def frame(self) -> tuple[FloatArray, FloatArray]:
        """Origin and world-to-index matrix, as kernels take them."""
        return np.asarray(self.grid.origin), self.grid.world_to_index


# values, weights and grid of a level before it is smoothed
_Means = tuple[npt.NDArray[Any], npt.NDArray[np.float32] | None, Grid]
EVERYWHERE = np.ones((0, 0, 0), dtype=bool)


def level_spacings(grid: Grid, least_size: int) -> list[float]:
    """Spacings (mm) of the levels, coarse to fine: halved from the one with about `least_size` voxels along the longest axis.

    They end before a level would be too large for float32.
    """
    finest = min(grid.spacing)
    halvings = max(0, int(np.floor(np.log2(grid.sides.max() / finest / least_size))))
    spacings = [finest * 2**k for k in range(halvings, -1, -1)]
    while len(spacings) > 1 and grid.size > _MOST * np.prod(_factors(grid, spacings[-1])):
        spacings.pop()
    return spacings


class Pyramid:
    """An image at about each of some spacings (mm, coarse to fine); axes that are coarser already keep their voxels.

    Every level is made of the next finer one by block means, so its voxels are whole blocks of the image's. Masked voxels take
    no part in means and smoothing, so that what a mask hides does not leak across its border. A level is smoothed when it is
    asked for.
    """

    def __init__(self, image: Image, mask: Labels | None, spacings: Sequence[float]) -> None:
        grid, lead = image.grid, 3 - image.ndim
        values = np.ascontiguousarray(image.values).reshape(*(1, *grid.shape)[-3:], -1)
        if mask is not None or values.dtype.kind not in "iu":
            values = values.astype(np.float32, copy=False)
        weights = None
        if mask is not None:
            weights = np.ascontiguousarray(mask.values != 0, dtype=np.float32).reshape(*values.shape[:3], 1)
            values = values * weights
        done = np.ones(image.ndim, dtype=np.int64)
        levels: list[_Means] = []
        for spacing in reversed(spacings):
            wanted = _factors(image.grid, spacing)
            factors = np.ones(3, dtype=np.int64)
            factors[lead:] = wanted // done
            done = wanted
            if factors.max() > 1:
                values = _block_means(values, factors)
                weights = None if weights is None else _block_means(weights, factors)
                origin = grid.points_at((factors[lead:] - 1) / 2)
                size = np.asarray(grid.spacing) * factors[lead:]
                grid = Grid(values.shape[lead:3], tuple(size), tuple(origin), grid.direction)
            levels.append((values, weights, grid))
        self._levels: dict[int, _Means] = dict(enumerate(reversed(levels)))

    def raster(self, number: int) -> Raster:
        """A level, 0 the coarsest; once, since what it is made of is let go."""
        return _smoothed(*self._levels.pop(number))


def rasters(image: Image, mask: Labels | None, spacings: Sequence[float]) -> list[Raster]:
    """All levels of the image's pyramid, coarse to fine."""
    pyramid = Pyramid(image, mask, spacings)
    return [pyramid.raster(number) for number in range(len(spacings))]


def label_raster(labels: Labels, mask: Labels | None, spacing: float) -> Raster:
    """A label map at about `spacing` mm: nearest labels, nothing is smoothed."""
    grid = labels.grid.with_spacing([max(spacing, own) for own in labels.grid.spacing])
    spatial = (1, *grid.shape)[-3:]
    allowed = EVERYWHERE if mask is None else (resample(mask, grid).values != 0).reshape(spatial)
    return Raster(resample(labels, grid).values.astype(np.float32).reshape(*spatial, 1), allowed, grid, nearest=True)


def _factors(grid: Grid, spacing: float) -> npt.NDArray[np.int64]:
    """Powers of two, (D,), that bring the voxels nearest to `spacing`."""
    halvings = np.rint(np.log2(spacing / np.asarray(grid.spacing))).astype(np.int64)
    most = np.floor(np.log2(np.maximum(np.asarray(grid.shape) / _FEWEST, 1))).astype(np.int64)
    return 2 ** np.clip(halvings, 0, most)


def _block_means(values: npt.NDArray[Any], factors: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    if values.dtype != np.float32:
        axis = _slab_axis(values)
        whole = int(values.shape[axis] // factors[axis] * factors[axis])
        values = values[:whole] if axis == 0 else values[:, :whole]
        slabs = _real_slabs(values, int(factors[axis]), 0)
        return np.concatenate([_block_means(part, factors) for part, _ in slabs], axis=axis)
    out = np.empty((*(np.asarray(values.shape[:3]) // factors), values.shape[3]), dtype=np.float32)
    lines = out.shape[0] * out.shape[1]
    shared(_raster_kernels.block_means, lines, _VOXEL * values.size / lines, values, factors, out)
    return out


def _smoothed(values: npt.NDArray[Any], weights: npt.NDArray[np.float32] | None, grid: Grid) -> Raster:
    out = _smooth(values)
    if weights is None:
        return Raster(out, EVERYWHERE, grid)
    near = _smooth(weights)
    out = np.divide(out, near, out=np.zeros_like(out), where=np.broadcast_to(near > 0, out.shape))
    return Raster(out, np.ascontiguousarray(weights[..., 0] >= 0.5), grid)


def _smooth(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    taps = _taps(values.shape[:3])
    if values.dtype == np.float32:
        return _convolved(values, taps)
    axis, start = _slab_axis(values), 0
    out = np.empty(values.shape, dtype=np.float32)
    whole = np.moveaxis(out, axis, 0)
    for part, own in _real_slabs(values, 1, _RADIUS):
        rows = np.moveaxis(_convolved(part, taps), axis, 0)[own]
        whole[start : start + len(rows)] = rows
        start += len(rows)
    return out


def _slab_axis(values: npt.NDArray[Any]) -> int:
    """The first axis, of 2-D images the second one."""
    return 0 if values.shape[0] > 1 else 1


def _real_slabs(values: npt.NDArray[Any], unit: int, halo: int) -> Iterator[tuple[npt.NDArray[np.float32], slice]]:
    """Rows of integers (n0, n1, n2, C) as float32, with up to `halo` more at both ends, and which of them are the slab's own.

    Their number is a multiple of `unit`, at the end of the image what is left.
    """
    axis = _slab_axis(values)
    along = np.moveaxis(values, axis, 0)
    rows = max(1, _SLAB // (unit * along[0].size)) * unit
    for start in range(0, len(along), rows):
        first, stop = max(0, start - halo), min(len(along), start + rows)
        part = np.moveaxis(along[first : stop + halo], 0, axis)
        yield np.ascontiguousarray(part, dtype=np.float32), slice(start - first, stop - first)


def _taps(shape: Sequence[int]) -> npt.NDArray[np.float32]:
    """Weights along every axis, (3, 2 R + 1); short axes are left alone."""
    offsets = np.arange(-_RADIUS, _RADIUS + 1)
    gauss = np.exp(-0.5 * (offsets / _SMOOTHING) ** 2)
    return np.array([gauss / gauss.sum() if n > _FEWEST else offsets == 0 for n in shape], dtype=np.float32)


def _convolved(values: npt.NDArray[np.float32], taps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    n0, n1, n2, channels = values.shape
    out = np.empty((n0, n1, n2 * channels), dtype=np.float32)
    shared(_raster_kernels.smooth, n0 * n1, _VOXEL * out[0, 0].size, values.reshape(out.shape), channels, taps, out)
    return out.reshape(values.shape)
