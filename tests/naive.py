"""Slow twins of the interpolation kernels: the definitions, one point at a time."""

import itertools

import numpy as np


def cubic(t: float) -> float:
    """The centred cubic B-spline, by its two pieces."""
    t = abs(t)
    if t < 1:
        return 2 / 3 - t**2 + t**3 / 2
    return (2 - t) ** 3 / 6 if t < 2 else 0.0


def linear(t: float) -> float:
    return max(0.0, 1 - abs(t))


def bspline_displacement(point, coefficients, grid):
    index = grid.indices_at(point)
    if not all(1 <= i <= n - 2 for i, n in zip(index, grid.shape, strict=True)):
        return np.zeros(grid.ndim)
    total = np.zeros(grid.ndim)
    for control in itertools.product(*map(range, grid.shape)):
        total += np.prod([cubic(i - c) for i, c in zip(index, control, strict=True)]) * coefficients[control]
    return total


def sample_linear(values, grid, point, fill):
    """Multilinear interpolation; constant over the outer half voxels, `fill` outside them."""
    index = grid.indices_at(point)
    if not all(-0.5 <= i <= n - 0.5 for i, n in zip(index, grid.shape, strict=True)):
        return np.full(values.shape[grid.ndim :], fill)
    index = np.clip(index, 0, np.array(grid.shape) - 1)
    total = np.zeros(values.shape[grid.ndim :])
    for voxel in itertools.product(*map(range, grid.shape)):
        weight = np.prod([linear(i - v) for i, v in zip(index, voxel, strict=True)])
        if weight > 0:
            total += weight * values[voxel]
    return total


def sample_nearest(values, grid, point, fill):
    index = grid.indices_at(point)
    if not all(-0.5 <= i <= n - 0.5 for i, n in zip(index, grid.shape, strict=True)):
        return np.full(values.shape[grid.ndim :], fill)
    return values[tuple(np.clip(np.floor(index + 0.5).astype(int), 0, np.array(grid.shape) - 1))]
