"""Grids: where the values of an image lie in the world.

A grid has a shape, a spacing s (mm), an origin o (mm) and an orthonormal direction matrix Q. The value with index i lies at

    x = o + Q (s * i)                                                                  (world, mm, LPS as in ITK)

Array axes and index components have the same order, x first: `values[i, j, k]` lies at `grid.points_at((i, j, k))`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]


def reals(name: str, values: npt.ArrayLike) -> FloatArray:
    """Numbers as an array of native float64, C-ordered: whatever order, strides and bytes come in, the same come out.

    Raises
    ------
    TypeError : for what is no real number: complex, text, objects, masked entries.
    """
    array = unmasked(name, values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}; convert them first")
    return np.require(array, dtype=np.float64, requirements=["C", "A", "W"])


def unmasked(name: str, values: npt.ArrayLike) -> npt.NDArray[Any]:
    """The array, of which numpy would drop a mask without a word.

    Raises
    ------
    TypeError : if some entries are masked.
    """
    if isinstance(values, np.ma.MaskedArray):
        if np.ma.is_masked(values):
            raise TypeError(f"{name}: expected an array without masked entries, got some; fill them first: array.filled(...)")
        return values.data
    return np.asarray(values)


@dataclass(frozen=True)
class Grid:
    """A regular grid of points in the world; hashable, and equal when all four parts are.

    Parameters
    ----------
    shape : number of points along each index axis, D integers, D = 2 or 3
    spacing : distance of neighbours along each index axis, mm; default 1
    origin : world position of index 0, mm; default 0
    direction : (D, D) orthonormal matrix, kept as nested tuples; column a is the world direction of index
        axis a; default identity

    Raises
    ------
    ValueError : for D other than 2 or 3, sizes below 1, spacings that are not positive, or a direction that is not orthonormal.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...] = ()
    origin: tuple[float, ...] = ()
    direction: npt.ArrayLike = ()

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        ndim = len(shape)
        if ndim not in (2, 3):
            raise ValueError(f"shape: expected 2 or 3 axes, got {ndim} ({shape})")
        if min(shape) < 1:
            raise ValueError(f"shape: expected at least one point along each axis, got {shape}")
        spacing = _vector("spacing", self.spacing, ndim, 1.0)
        if min(spacing) <= 0:
            raise ValueError(f"spacing: expected positive mm, got {spacing}")
        direction = np.asarray(self.direction, dtype=float)
        if direction.size == 0:
            direction = np.eye(ndim)
        if direction.shape != (ndim, ndim):
            raise ValueError(f"direction: expected a {ndim} x {ndim} matrix, got shape {direction.shape}")
        if not np.allclose(direction.T @ direction, np.eye(ndim), atol=1e-4):
            raise ValueError("direction: expected an orthonormal matrix, got columns that are not perpendicular unit vectors")
        for name, value in {
            "shape": shape,
            "spacing": spacing,
            "origin": _vector("origin", self.origin, ndim, 0.0),
            "direction": tuple(tuple(float(v) for v in row) for row in direction),
        }.items():
            object.__setattr__(self, name, value)

    @property
    def ndim(self) -> int:
        """D, the number of axes: 2 or 3."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of points."""
        return int(np.prod(self.shape))

    @cached_property
    def axes(self) -> FloatArray:
        """Q, the direction as an array, (D, D): column a is the world direction of index axis a."""
        return np.asarray(self.direction, dtype=np.float64)

    @cached_property
    def nearest_axes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The index axis that is nearest to each world axis, and whether the two have one sense (1) or not (-1)."""
        from scipy.optimize import linear_sum_assignment  # slow to import

        world, own = linear_sum_assignment(-np.abs(self.axes))
        order = own[np.argsort(world)]
        signs = np.where(self.axes[range(self.ndim), order] < 0, -1, 1)
        return tuple(order.tolist()), tuple(signs.tolist())

    @property
    def sides(self) -> FloatArray:
        """Side lengths of the box of voxels, spacing * shape, (D,) mm."""
        return np.asarray(self.spacing) * np.asarray(self.shape)

    @property
    def last(self) -> npt.NDArray[np.int64]:
        """The index of the last point, shape - 1, (D,)."""
        return np.asarray(self.shape, dtype=np.int64) - 1

    @cached_property
    def index_to_world(self) -> FloatArray:
        """Q diag(s), (D, D): world step per index step, mm."""
        return self.axes * np.asarray(self.spacing)

    @cached_property
    def world_to_index(self) -> FloatArray:
        """The inverse of `index_to_world`, (D, D), 1/mm."""
        # Q is orthonormal only to the precision of its file: invert the product, or round trips lose digits
        return np.linalg.inv(self.index_to_world)

    @property
    def extent(self) -> FloatArray:
        """Side lengths spacing * (shape - 1), from first to last point, (D,) mm."""
        return np.asarray(self.spacing) * self.last

    @property
    def diagonal(self) -> float:
        """Length of the image's diagonal, spacing * shape, mm; the denominator of rtre."""
        return float(np.linalg.norm(self.sides))

    @property
    def center(self) -> FloatArray:
        """World position of the middle, (D,) mm."""
        return self.points_at(self.last / 2)

    def points(self) -> FloatArray:
        """World positions of all grid points, (*shape, D) mm."""
        # one product per axis and a broadcast sum: no (*shape, D) array of indices is formed
        out = np.empty((*self.shape, self.ndim))
        out[...] = self.origin
        for axis, n in enumerate(self.shape):
            steps = np.arange(n)[:, None] * self.index_to_world[:, axis]
            out += steps.reshape((n,) + (1,) * (self.ndim - 1 - axis) + (self.ndim,))
        return out

    def lattice(self, counts: Sequence[int]) -> FloatArray:
        """World positions (N, D) mm of a regular lattice from the first to the last point of every axis, row-major.

        Parameters
        ----------
        counts : number of lattice points along each axis
        """
        axes = [np.linspace(0, n - 1, count) for n, count in zip(self.shape, counts, strict=True)]
        return self.points_at(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, self.ndim))

    def points_at(self, indices: npt.ArrayLike) -> FloatArray:
        """World positions (..., D) mm of (continuous) indices (..., D)."""
        return reals("indices", indices) @ self.index_to_world.T + np.asarray(self.origin)

    def indices_at(self, points: npt.ArrayLike) -> FloatArray:
        """Continuous indices (..., D) of world points (..., D) mm; the inverse of `points_at`."""
        return (reals("points", points) - np.asarray(self.origin)) @ self.world_to_index.T

    def contains(self, points: npt.ArrayLike, margin: float = 0.5) -> npt.NDArray[np.bool_]:
        """Which world points (..., D) lie in the grid's cells, (...) bool.

        A margin of half a voxel (as in ITK) takes every voxel whole; margin 0 is the hull of the voxel centres.
        """
        index = self.indices_at(points)
        return np.all((index >= -margin) & (index <= self.last + margin), axis=-1)

    def with_shape(self, shape: Sequence[int]) -> Grid:
        """The same box of voxels divided into `shape` voxels: the spacing changes, the covered domain does not."""
        new = np.asarray([int(n) for n in shape])
        if new.shape != (self.ndim,) or new.min() < 1:
            raise ValueError(f"shape: expected {self.ndim} sizes of at least 1, got {tuple(shape)}")
        factor = np.asarray(self.shape) / new
        origin = self.points_at((factor - 1) / 2)
        return Grid(tuple(new), tuple(np.asarray(self.spacing) * factor), tuple(origin), self.direction)

    def with_spacing(self, spacing: float | Sequence[float]) -> Grid:
        """The same box of voxels at about `spacing` mm: shapes are rounded, then the spacing is what fills the box exactly."""
        wanted = np.broadcast_to(np.asarray(spacing, dtype=float), (self.ndim,))
        if wanted.min() <= 0:
            raise ValueError(f"spacing: expected positive mm, got {tuple(wanted)}")
        shape = np.maximum(1, np.rint(self.sides / wanted).astype(int))
        return self.with_shape(tuple(shape))

    def padded(self, margin: int | Sequence[int]) -> Grid:
        """The grid with `margin` more points on both sides of each axis (negative: fewer)."""
        pad = np.broadcast_to(np.asarray(margin, dtype=int), (self.ndim,))
        return Grid(tuple(np.asarray(self.shape) + 2 * pad), self.spacing, tuple(self.points_at(-pad)), self.direction)

    def covering(self, points: npt.ArrayLike) -> Grid:
        """The grid with as many more points at its ends as it takes to reach around all given points (..., D) mm."""
        index = self.indices_at(points).reshape(-1, self.ndim)
        # points on the border, up to rounding, are inside
        first = np.minimum(0, np.floor(index.min(axis=0) + 1e-6)).astype(int)
        last = np.maximum(self.last, np.ceil(index.max(axis=0) - 1e-6)).astype(int)
        return Grid(tuple(last - first + 1), self.spacing, tuple(self.points_at(first)), self.direction)

    def matches(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """Whether both grids have the same shape and all their points agree to `tolerance` voxels."""
        if self.shape != other.shape:
            return False
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape], indexing="ij")).reshape(self.ndim, -1).T
        return bool(np.abs(self.indices_at(other.points_at(corners)) - corners).max() <= tolerance)


def _vector(name: str, value: Sequence[float], ndim: int, default: float) -> tuple[float, ...]:
    if len(value) == 0:
        return (default,) * ndim
    vector = tuple(float(v) for v in value)
    if len(vector) != ndim:
        raise ValueError(f"{name}: expected {ndim} numbers, one per axis, got {len(vector)}")
    if not np.all(np.isfinite(vector)):
        raise ValueError(f"{name}: expected finite numbers, got {vector}")
    return vector
