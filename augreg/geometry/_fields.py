"""Vectors on grids as the kernels take them, and grids around points."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray, Grid, reals
from augreg.geometry.kernels import points as kernels
from augreg.threads import shared

# nanoseconds that a point takes, about
POINT, GRADIENT = 10, 100


def checked_vectors(name: str, values: npt.ArrayLike, grid: Grid) -> FloatArray:
    """Vectors (*grid.shape, D) as contiguous float64, checked: ValueError or TypeError for what is none."""
    array = reals(name, values)
    if array.shape != (*grid.shape, grid.ndim):
        raise ValueError(f"{name}: expected shape {(*grid.shape, grid.ndim)}, a vector per grid point, got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")
    return array


def three_axes(vectors: FloatArray) -> FloatArray:
    """(n0, n1, n2, D), with n0 = 1 in 2-D."""
    return vectors if vectors.ndim == 4 else vectors[None]


def frame(grid: Grid) -> tuple[FloatArray, FloatArray]:
    """Origin and world-to-index matrix."""
    return np.asarray(grid.origin), grid.world_to_index


def stencils(index: FloatArray, size: int) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """First indices and cubic weights along one axis."""
    first, weights = np.empty(len(index), dtype=np.int64), np.empty((len(index), 4))
    kernels.stencils(index, size, first, weights)
    return first, weights


def grid_points(grid: Grid) -> FloatArray:
    """World points of a grid, (N, D)."""
    out = np.empty((*grid.shape, grid.ndim))
    room = three_axes(out)
    shared(kernels.grid_points, room.shape[0] * room.shape[1], room.shape[2], np.asarray(grid.origin), grid.index_to_world, room)
    return out.reshape(-1, grid.ndim)


def field_jacobian(points: FloatArray, grid: Grid, vectors: FloatArray, order: int) -> FloatArray:
    """Jacobians (N, D, D) of x + u(x), u of that order (`kernels.LINEAR`, `CUBIC`)."""
    out = np.empty((len(points), grid.ndim, grid.ndim))
    shared(kernels.displacement_gradient_at, len(points), GRADIENT, points, *frame(grid), three_axes(vectors), order, out)
    out += np.eye(grid.ndim)
    return out


def covering(grid: Grid, points: FloatArray, domain: Grid) -> Grid:
    """The grid with more nodes at its ends: around those points (N, D) that lie in the domain, where there is something to do.

    Where they have left the grid altogether, nodes like its own around them alone.
    """
    corners = np.stack(np.meshgrid(*[(-0.5, n - 0.5) for n in domain.shape]), axis=-1).reshape(-1, grid.ndim)
    there, bounds = grid.indices_at(points), grid.indices_at(domain.points_at(corners))
    first = np.floor(np.maximum(there.min(axis=0), bounds.min(axis=0)))
    last = np.ceil(np.minimum(there.max(axis=0), bounds.max(axis=0)))
    if np.all(first <= last) and (np.any(last < 0) or np.any(first > grid.last)):
        return Grid(tuple((last - first + 1).astype(int)), grid.spacing, tuple(grid.points_at(first)), grid.direction)
    return grid.covering(grid.points_at(np.stack([first, last])))
