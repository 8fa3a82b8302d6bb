"""Fold-free by construction: a hunt for counterexamples, in the files as they are read back."""

import itertools

import numpy as np
import pytest
from support import phantoms, spaces

from augreg import Affine, BSpline, DisplacementField, Grid, Image, LPRegistration
from augreg.io import read_transform, write_transform
from augreg.lp.models import SplineModel


def dense(grid: Grid, per_voxel: float) -> Grid:
    """Points over the domain and half a control cell beyond its borders."""
    return grid.padded(2).with_shape([int(per_voxel * (n + 4)) for n in grid.shape])


def least_determinant(transform, grid: Grid) -> float:
    """The least of the derivative's determinant and of all corners' one-sided differences on a grid."""
    least = np.linalg.det(transform.jacobian(grid.points())).min()
    mapped = transform(grid.points())
    sign = np.sign(np.linalg.det(np.asarray(grid.direction)))
    inner = (slice(1, -1),) * grid.ndim
    sides = [[np.roll(mapped, -1, axis) - mapped, mapped - np.roll(mapped, 1, axis)] for axis in range(grid.ndim)]
    for corner in itertools.product((0, 1), repeat=grid.ndim):
        steps = [sides[axis][side] / grid.spacing[axis] for axis, side in enumerate(corner)]
        least = min(least, (sign * np.linalg.det(np.stack(steps, axis=-1)))[inner].min())
    return float(least)


def extreme(domain: Grid, spacing: float, seed: int, factor: float = 1.0) -> BSpline:
    """Coefficients at the corners of their bounds, in patterns that bring neighbours as near to each other as they can."""
    model = SplineModel(BSpline.zeros(domain, spacing), 0.0, True)
    grid, ndim = model.spline.grid, model.spline.ndim
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0], index.shape)
    if seed % 2:
        # towards one plane from both sides, component by component
        signs = np.where(index < np.array(grid.shape) // 2 + rng.integers(-1, 2, ndim), 1.0, -1.0)
    # the components along the grid's axes are bounded, so they are what is pushed to the corners
    far = 1e3 * (signs * np.asarray(grid.spacing)) @ np.asarray(grid.direction).T
    return BSpline(factor * model.coefficients(model.clipped(far[model.spline.free].ravel())).coefficients, grid)


@pytest.mark.parametrize(("ndim", "seed"), [(2, s) for s in range(12)] + [(3, s) for s in range(4)])
def test_no_coefficients_within_the_bounds_fold(ndim, seed, tmp_path):
    domain = spaces.grid(ndim, shape=(40, 30, 24)[:ndim])
    turn = spaces.directions(ndim)["oblique"] @ np.diag([1.2, 0.8, 1.1][:ndim])
    turn *= np.sign(np.linalg.det(turn))
    phi = Affine.about(turn if ndim == 2 else np.abs(np.linalg.det(turn)) * np.eye(3), domain.center, 3.0)
    phi = phi @ extreme(domain, 16.0, seed) @ extreme(domain, 8.0, seed + 1)
    write_transform(phi, tmp_path / "phi.h5")
    assert least_determinant(read_transform(tmp_path / "phi.h5"), dense(domain, 4.0 if ndim == 2 else 1.3)) > 0


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_hunt_finds_folds_where_there_are_some(ndim):
    domain = spaces.grid(ndim, shape=(40, 30, 24)[:ndim])
    assert min(least_determinant(extreme(domain, 8.0, seed, 1.7), dense(domain, 1.3)) for seed in range(4)) < 0


def test_registering_what_does_not_belong_together_does_not_fold():
    grid = Grid((160, 160), (1.0, 1.4), (3.0, -8.0), spaces.directions(2)["oblique"])
    fixed, moving = (
        Image(phantoms.photograph(name)[::3, ::3][:160, :160].T.astype(np.float32), grid) for name in ("camera", "coins")
    )
    bend = {"smoothness": 0.0, "grid_spacing": 8.0, "search": False, "dense": None}
    points = dense(grid, 2.0)
    assert least_determinant(LPRegistration(**bend)(fixed, moving), points) > 0
    assert least_determinant(LPRegistration(fold_free=False, **bend)(fixed, moving), points) < 0
    # with the dense stage, everywhere: where its field has kinks differences see several cells at once, derivatives do not
    found = LPRegistration(smoothness=0.0, grid_spacing=8.0, search=False)(fixed, moving)
    assert isinstance(found.transforms[-1], DisplacementField)
    assert np.linalg.det(found.jacobian(points.padded(60).points())).min() > 0
