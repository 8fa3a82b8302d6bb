"""Slow twins of interpolation and of what networks compare: the definitions, one point at a time."""

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


def correlation(f, g, reach, step):
    """Products of features (C, *shape) at all displacements, pixel by pixel."""
    shape = f.shape[1:]
    ways = list(itertools.product(range(-reach, reach + 1, step), repeat=len(shape)))
    out = np.zeros((len(ways), *shape))
    for number, way in enumerate(ways):
        for x in np.ndindex(shape):
            y = tuple(a + b for a, b in zip(x, way, strict=True))
            if all(0 <= a < n for a, n in zip(y, shape, strict=True)):
                out[(number, *x)] = np.mean(f[(slice(None), *x)] * g[(slice(None), *y)])
    return out


def local_correlation(f, m, window, least):
    """1 - cov^2 / (var var) around every pixel, averaged."""
    half, total = window // 2, 0.0
    for x in np.ndindex(f.shape):
        around = tuple(slice(max(0, a - half), a + half + 1) for a in x)
        a, b = f[around].ravel(), m[around].ravel()
        cov = np.mean(a * b) - a.mean() * b.mean()
        total += 1 - cov**2 / (max(a.var(), least) * max(b.var(), least))
    return total / f.size
