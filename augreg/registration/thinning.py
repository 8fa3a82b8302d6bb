"""Coarse first: a pair of which every k-th voxel is looked at, for those who have no time for all of them.

    thinned(x_j) = image(x_(k j + k // 2)),        k a power of two; axes that are coarser already keep their voxels

The cost is that of the voxels that are left. Samples and not means: values that mark padding and frames stay what they are, and
so do masks; what is above the new sampling rate is folded back, which levels twice as coarse average away.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import Grid
from augreg.geometry.image import Image, Labels
from augreg.registration.clock import Clock
from augreg.registration.pair import Pair

# an axis keeps at least so many voxels
_FEWEST = 16
# seconds of the scenes of an image: whatever its size, by as many values as distributions are known from, and per voxel
_ALWAYS, _SAMPLED, _ENOUGH, _VOXEL = 9e-4, 1.2e-7, 20000, 4.5e-9
# share of what is left that seeing the coarsest may take
_LAST = 0.6
# kind of the step, for clocks
SEEING = "seeing"


def thinned(pair: Pair, factor: int) -> Pair:
    """Images, masks and start of a pair, every `factor`-th voxel of the finest axes."""
    if factor == 1:
        return pair
    parts = {
        name: _thin(part, _steps(part.grid, factor))
        for name in ("fixed", "moving", "fixed_mask", "moving_mask")
        if (part := getattr(pair, name)) is not None
    }
    return Pair(**parts, initial=pair.initial)


def work(pair: Pair, factor: int, voxel: float) -> float:
    """Seconds that it takes to see the thinned pair on a usual core, `voxel` of them for every voxel besides."""
    total = 0.0
    for image in (pair.fixed, pair.moving):
        count = float(np.prod(np.asarray(image.grid.shape) // _steps(image.grid, factor)))
        known = factor == 1 and pair.seen
        total += count * voxel * image.channels
        total += 0.0 if known else _ALWAYS + _SAMPLED * min(count, _ENOUGH) + _VOXEL * count * image.channels
    return total


def factor_in_time(pair: Pair, clock: Clock, most: int, voxel: float, share: float = 0.25) -> int | None:
    """The smallest thinning, a power of two up to `most`, that takes a share of the time that is left; None if none does."""
    factor = 1
    while factor <= most:
        # at the coarsest there is nothing to be saved
        if clock.allows(SEEING, work(pair, factor, voxel), max(share, _LAST) if factor == most else share):
            return factor
        factor *= 2
    return None


def _steps(grid: Grid, factor: int) -> npt.NDArray[np.int64]:
    """Of each axis, (D,): powers of two that bring its voxels to `factor` times the least ones, about."""
    spacing = np.asarray(grid.spacing)
    halvings = np.rint(np.log2(factor * spacing.min() / spacing)).astype(np.int64)
    most = np.floor(np.log2(np.maximum(np.asarray(grid.shape) / _FEWEST, 1))).astype(np.int64)
    return 2 ** np.clip(halvings, 0, most)


def _thin(part: Image | Labels, steps: npt.NDArray[np.int64]) -> Any:
    grid = part.grid
    first, shape = steps // 2, np.asarray(grid.shape) // steps
    places = tuple(slice(int(a), int(a + k * n), int(k)) for a, k, n in zip(first, steps, shape, strict=True))
    thin = Grid(tuple(shape), tuple(np.asarray(grid.spacing) * steps), tuple(grid.points_at(first)), grid.direction)
    return type(part)(np.ascontiguousarray(part.values[places]), thin)
