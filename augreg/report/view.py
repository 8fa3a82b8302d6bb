"""Where to look at a pair of images: one plane of a grid, near what is labelled there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from augreg.geometry.grid import Grid
from augreg.geometry.image import Labels

# how much of the structures' size is shown around them, and voxels along the longest side
_MARGIN = 0.8
_SIDE = 320


def view(grid: Grid, maps: Sequence[Labels] = ()) -> Grid:
    """The part of a grid that is worth showing, of a volume one slice thick, with at most 320 voxels along a side.

    Parameters
    ----------
    grid : grid of the image
    maps : label maps on that grid. The view is the square around all their structures, in a volume in the slice in their middle;
        without structures it is the whole of the middle slice
    """
    low, high = np.zeros(grid.ndim), np.array(grid.shape, dtype=float)
    places = np.concatenate([np.argwhere(labels.values != 0) for labels in maps]) if maps else np.empty((0, grid.ndim))
    if len(places):
        first, last = places.min(axis=0), places.max(axis=0) + 1
        spacing = np.asarray(grid.spacing)
        # a square of the world in x and y
        side = (1 + _MARGIN) * ((last - first) * spacing)[:2].max() / spacing[:2]
        side = np.minimum(np.ceil(side), grid.shape[:2])
        low[:2] = np.clip(np.round((first + last)[:2] / 2 - side / 2), 0, grid.shape[:2] - side)
        high[:2] = low[:2] + side
        low[2:], high[2:] = first[2:], last[2:]
    middle = (low[2:] + high[2:]) // 2
    low[2:], high[2:] = middle, middle + 1
    shape = tuple(int(n) for n in high - low)
    part = Grid(shape, grid.spacing, tuple(grid.points_at(low)), grid.direction)
    factor = _SIDE / max(shape)
    if len(places) or factor < 1:
        part = part.with_shape([max(1, round(factor * n)) for n in shape[:2]] + [1] * (grid.ndim - 2))
    return part
