"""Coefficients within their bounds, on grids that lie obliquely in the world."""

import numpy as np
import pytest
from support import spaces
from support.phantoms import blobs

from augreg import BSpline, Grid, Image, LPRegistration
from augreg.geometry.resampling import sample
from augreg.lp.models import SplineModel


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
def test_clipping_is_the_projection_to_the_bounds(ndim, name):
    domain = spaces.grid(ndim, name)
    model = SplineModel(BSpline.zeros(domain, 6.0), 0.0, True)
    rng = np.random.default_rng(ndim)
    turn = np.asarray(model.spline.grid.direction)
    limits = model.limits.reshape(-1, ndim)

    def world(along):
        return (along @ turn.T).ravel()

    within = world(limits * rng.uniform(-1, 1, limits.shape))
    np.testing.assert_allclose(model.clipped(within), within, atol=1e-12)
    far = world(limits * rng.uniform(-3, 3, limits.shape))
    clipped = model.clipped(far)
    along = clipped.reshape(-1, ndim) @ turn
    assert np.all(np.abs(along) <= limits * (1 + 1e-12))
    np.testing.assert_allclose(model.clipped(clipped), clipped, atol=1e-12)
    # nothing within the bounds is nearer
    distances = np.linalg.norm((clipped - far).reshape(-1, ndim), axis=1)
    for _ in range(20):
        other = world(limits * rng.uniform(-1, 1, limits.shape))
        assert np.all(np.linalg.norm((other - far).reshape(-1, ndim), axis=1) >= distances - 1e-12)


def test_elastic_recovery_does_not_depend_on_how_the_grid_lies():
    shape, spacing = (110, 100), (1.0, 1.3)
    upright = Grid(shape, spacing)
    picture = blobs(upright, 60)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)

    def bent(at):
        return at + 4.0 * np.sin(2 * np.pi * at[..., ::-1] / 70)

    moving = sample(picture, upright.points_at(bent(index)), fill=0.0).astype(np.float32)
    errors = []
    for direction in (np.eye(2), spaces.directions(2)["oblique"]):
        grid = Grid(shape, spacing, (30.0, -7.0), direction)
        phi = LPRegistration(grid_spacing=9.0, search=False)(Image(picture.values, grid), Image(moving, grid))
        back = bent(grid.indices_at(phi(grid.points())))
        errors.append(np.linalg.norm(back - index, axis=-1)[14:-14, 14:-14].mean())
    assert errors[0] < 0.7
    assert errors[1] == pytest.approx(errors[0], rel=0.15)
