"""Images as the kernels take them: float32 (C, n0, n1, n2), n1 = 1 in 2-D, NaN where nothing is known; pyramids by blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import Grid
from augreg.geometry.image import Image, Labels
from augreg.geometry.resampling import warp
from augreg.geometry.transforms import Transform

Values = npt.NDArray[np.float32]
# spacings up to so many times the least one are halved together with it
_ALIKE = 1.5
# voxels of an image above which it is halved, and values that are read at a time
_MOST, _SLAB = 1 << 25, 1 << 22
# share of a voxel's neighbours that must be known for what lies between them
_KNOWN = 0.999


@dataclass(frozen=True, eq=False)
class KnownImage:
    """One level of an image, as far as it is known.

    Parameters
    ----------
    values : intensities of C channels, NaN where nothing is known, (C, n0, n1, n2)
    grid : grid of the image, D-dimensional
    """

    values: Values
    grid: Grid

    @staticmethod
    def of(image: Image, mask: Labels | None) -> KnownImage:
        """The image, its channels centred and divided by the deviation of all of them; halved until it is not too large."""
        raster = _read(image, mask, slice(None)) if image.values.size <= _MOST else _halved(image, mask)
        while raster.values.size > _MOST:
            raster = raster.reduced(raster.blocks)
        values = raster.values
        for channel in values:
            channel -= np.float32(np.nanmean(channel, dtype=np.float64))
        variance = sum(np.nanvar(channel, dtype=np.float64) for channel in values)
        values /= np.float32(max(np.sqrt(variance), 1e-12))
        return raster

    @property
    def shape(self) -> tuple[int, ...]:
        """n0, n1, n2."""
        return self.values.shape[1:]

    @property
    def blocks(self) -> npt.NDArray[np.int64]:
        """Voxels of a block along each of three axes: 2 where the spacing is near the least one, 1 along others."""
        near = [2 if size <= _ALIKE * min(self.grid.spacing) else 1 for size in self.grid.spacing]
        return along_three(near, 1).astype(np.int64)

    def padded(self, multiple: npt.NDArray[np.int64]) -> KnownImage:
        """With unknown voxels at the ends of the axes, to multiples of (3,)."""
        more = -np.asarray(self.shape) % multiple
        if not more.any():
            return self
        values = np.pad(self.values, [(0, 0), *((0, n) for n in more)], constant_values=np.nan)
        grid = self.grid
        return KnownImage(values, Grid(_two(values.shape[1:], grid), grid.spacing, grid.origin, grid.direction))

    def reduced(self, factors: npt.NDArray[np.int64]) -> KnownImage:
        """Means of blocks, of what is known in them; unknown where less than half of the voxels are known."""
        padded = self.padded(factors)
        known = np.isfinite(padded.values)
        count = known.astype(np.float32)
        total = np.where(known, padded.values, np.float32(0))
        for axis in np.flatnonzero(factors == 2).tolist():
            total, count = _paired(total, axis + 1), _paired(count, axis + 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            values = np.where(2 * count >= np.prod(factors), total / count, np.float32(np.nan))
        grid = padded.grid
        steps = _two(factors, grid)
        spacing = tuple(s * f for s, f in zip(grid.spacing, steps, strict=True))
        origin = grid.points_at((np.asarray(steps) - 1) / 2)
        return KnownImage(values, Grid(_two(values.shape[1:], grid), spacing, tuple(origin), grid.direction))

    def near(self, spacing: float) -> KnownImage:
        """Reduced along the axes whose voxels are smaller, until they are about as large."""
        halves = [2 if _ALIKE * s <= spacing and n >= 4 else 1 for s, n in zip(self.grid.spacing, self.grid.shape, strict=True)]
        factors = along_three(halves, 1).astype(np.int64)
        return self if factors.max() == 1 else self.reduced(factors).near(spacing)

    def through(self, transform: Transform, grid: Grid) -> KnownImage:
        """Seen through a transform on a grid: cubic; unknown where a neighbour is."""
        known = np.isfinite(self.values).all(axis=0)
        inside = self._warped(np.asarray(known, dtype=np.float32), transform, grid, "linear") >= np.float32(_KNOWN)
        filled = np.where(known, self.values, np.float32(0))
        seen = np.stack([self._warped(channel, transform, grid, "cubic") for channel in filled])
        return KnownImage(by_channel(np.where(inside, seen, np.float32(np.nan)), grid.ndim), grid)

    def _warped(self, values: Values, transform: Transform, grid: Grid, way: Literal["linear", "cubic"]) -> Values:
        seen = warp(Image(values.reshape(self.grid.shape), self.grid), transform, grid, interpolation=way)
        return np.asarray(seen.values, dtype=np.float32)


def _read(image: Image, mask: Labels | None, rows: slice) -> KnownImage:
    """Some rows."""
    ndim, grid = image.ndim, image.grid
    values = np.asarray(image.values[rows], dtype=np.float32).reshape(-1, *grid.shape[1:], image.channels)
    values = by_channel(np.moveaxis(values, -1, 0), ndim)
    if image.values.dtype == np.float32:
        values = values.copy()
    if mask is not None:
        values[:, by_channel(mask.values[rows], ndim)[0] == 0] = np.nan
    first = grid.points_at([rows.start or 0, *[0] * (ndim - 1)])
    return KnownImage(values, Grid(_two(values.shape[1:], grid), grid.spacing, tuple(first), grid.direction))


def _halved(image: Image, mask: Labels | None) -> KnownImage:
    """As reduced, some rows at a time: the whole is never a copy of floats."""
    step = 2 * max(1, _SLAB // (2 * image.values[0].size))
    starts = range(0, len(image.values), step)
    parts = [part.reduced(part.blocks) for part in (_read(image, mask, slice(i, i + step)) for i in starts)]
    values, grid = np.concatenate([part.values for part in parts], axis=1), parts[0].grid
    return KnownImage(values, Grid(_two(values.shape[1:], grid), grid.spacing, grid.origin, grid.direction))


def pyramid(raster: KnownImage, levels: int) -> list[KnownImage]:
    """So many levels, coarse to fine, all of whole blocks: the blocks of one are the voxels of the next coarser one."""
    factors, spacing = np.ones(3, dtype=np.int64), np.asarray(raster.grid.spacing)
    for _ in range(levels):
        blocks = np.where(spacing <= _ALIKE * spacing.min(), 2, 1)
        factors, spacing = factors * along_three(blocks, 1).astype(np.int64), spacing * blocks
    found = [raster.padded(factors)]
    while len(found) < levels:
        found.append(found[-1].reduced(found[-1].blocks))
    return found[::-1]


def noise(raster: KnownImage) -> float:
    """Variance of white noise, the sum over channels.

    From second mixed differences along the two axes of the least spacing, where they are not 0.
    """
    first, second = sorted(np.argsort(along_three(raster.grid.spacing, np.inf), kind="stable")[:2])
    total = 0.0
    for channel in raster.values:
        planes = np.moveaxis(channel, (first, second), (0, 1))
        d = planes[1:, 1:] - planes[1:, :-1] - planes[:-1, 1:] + planes[:-1, :-1]
        d = np.abs(d[np.isfinite(d) & (d != 0)])
        total += float((np.median(d) / 0.6745 / 2) ** 2) if d.size else 0.0
    return total


def by_channel(values: npt.NDArray[Any], ndim: int) -> npt.NDArray[Any]:
    """(*shape) or (C, *shape) as (C, n0, n1, n2)."""
    channels = values if values.ndim > ndim else values[None]
    return np.ascontiguousarray(channels if ndim == 3 else channels[:, :, None, :])


def along_three(
    numbers: Sequence[float] | npt.NDArray[np.floating] | npt.NDArray[np.integer], middle: float
) -> npt.NDArray[np.float64]:
    """One number per axis, as three: in 2-D `middle` stands between them."""
    wide = list(numbers)
    return np.array(wide if len(wide) == 3 else [wide[0], middle, wide[1]], dtype=np.float64)


def _two(numbers: Sequence[int] | npt.NDArray[np.int64], grid: Grid) -> tuple[int, ...]:
    """Those of the grid's axes among three."""
    return tuple(int(n) for n in (numbers if grid.ndim == 3 else (numbers[0], numbers[2])))


def _paired(values: Values, axis: int) -> Values:
    rows = np.moveaxis(values, axis, 0)
    return np.moveaxis(rows[0::2] + rows[1::2], 0, axis)
