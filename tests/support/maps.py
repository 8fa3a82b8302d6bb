"""One transform of every kind, and points to try them on."""

import numpy as np

from augreg import Affine, BSpline, DisplacementField
from support import spaces

RNG = np.random.default_rng


def affine(ndim, seed=0):
    rng = RNG(seed)
    return Affine(np.eye(ndim) + 0.2 * rng.normal(size=(ndim, ndim)), 3 * rng.normal(size=ndim))


def bspline(ndim, seed=0, size=1.0, name="oblique"):
    zero = BSpline.zeros(spaces.grid(ndim, name), 5.0)
    coefficients = zero.coefficients.copy()
    coefficients[zero.free] = size * RNG(seed).uniform(-1, 1, (zero.free.sum(), ndim))
    return BSpline(coefficients, zero.grid)


def field(ndim, seed=0, name="oblique"):
    grid = spaces.grid(ndim, name)
    return DisplacementField(bspline(ndim, seed, name=name).displacement(grid), grid)


def every(ndim, seed=0):
    return [affine(ndim, seed), bspline(ndim, seed), field(ndim, seed), affine(ndim, seed) @ bspline(ndim, seed + 1)]


def points(ndim, count=200, margin=3.0, seed=1, name="oblique"):
    grid = spaces.grid(ndim, name)
    return grid.points_at(RNG(seed).uniform(-margin, np.array(grid.shape) - 1 + margin, (count, ndim)))
