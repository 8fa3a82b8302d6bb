"""One grid for several images, none of which is preferred: where their template lies.

Images of one grid keep it. Others get axes along the world's, turned by the mean of what theirs are turned by; voxels of their
geometric mean size; the mean of their centres; and room for the largest of them along each axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from augreg.geometry.grid import FloatArray, Grid


def common_grid(grids: Sequence[Grid]) -> Grid:
    """The grid of a template of images on these grids, whatever their order."""
    first = grids[0]
    if all(grid.matches(first) for grid in grids):
        return first
    turned = [along_the_world(grid) for grid in grids]
    axes = _rotation(np.mean([Q for Q, _, _ in turned], axis=0))
    spacing = np.exp(np.mean([np.log(size) for _, size, _ in turned], axis=0))
    sides = np.max([side for _, _, side in turned], axis=0)
    shape = np.maximum(2, np.ceil(sides / spacing - 1e-6)).astype(int)
    center = np.mean([grid.center for grid in grids], axis=0)
    origin = center - axes @ (spacing * (shape - 1) / 2)
    return Grid(tuple(shape), tuple(spacing), tuple(origin), axes)


def along_the_world(grid: Grid) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Directions, spacings and sides of a grid's axes in the order and the sense of the world axes that they are nearest to."""
    order, signs = list(grid.nearest_axes[0]), np.array(grid.nearest_axes[1])
    return grid.axes[:, order] * signs, np.asarray(grid.spacing)[order], grid.sides[order]


def _rotation(matrix: FloatArray) -> FloatArray:
    """The orthonormal matrix nearest to a matrix, without a mirror."""
    left, _, right = np.linalg.svd(matrix)
    signs = np.ones(len(matrix))
    signs[-1] = np.sign(np.linalg.det(left @ right))
    found: FloatArray = (left * signs) @ right
    return found
