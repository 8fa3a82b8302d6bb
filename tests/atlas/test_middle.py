"""The middle of maps, and the grid of a template."""

import numpy as np
import pytest
from support import spaces
from support.phantoms import bent

from augreg import Affine, BSpline, Composition, Exponential, Grid
from augreg.atlas.common import common_grid
from augreg.atlas.middle import fitted, from_middle, mean_affine


def turn(ndim, degrees, center, scale=1.0):
    matrix = np.eye(ndim)
    a = np.deg2rad(degrees)
    matrix[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    return Affine.about(scale * matrix, center)


def inner(grid):
    """Points clear of the border, where maps meet the identity."""
    return grid.padded([-n // 6 for n in grid.shape]).points().reshape(-1, grid.ndim)


def rms(difference):
    return float(np.sqrt(np.mean(np.sum(difference**2, axis=-1))))


@pytest.mark.parametrize("ndim", [2, 3])
def test_maps_seen_from_the_middle_have_the_identity_as_their_mean(ndim):
    grid = spaces.grid(ndim, shape=((46, 34), (28, 22, 18))[ndim - 2])
    bends = [bent(grid, 6.0, seed) for seed in range(4)]
    back = from_middle(bends, grid)
    x = inner(grid)
    before = rms(np.mean([phi(x) for phi in bends], axis=0) - x)
    after = rms(np.mean([phi(back(x)) for phi in bends], axis=0) - x)
    assert before > 0.2
    assert after < 0.03 * before


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_middle_is_the_same_from_every_start(ndim):
    grid = spaces.grid(ndim, shape=((46, 34), (28, 22, 18))[ndim - 2])
    people = [turn(ndim, 4.0 * (-1) ** i, grid.center, 1.05 ** (i - 1)) @ bent(grid, 6.0, i) for i in range(4)]
    x = inner(grid)
    truth = [person(from_middle(people, grid)(x)) for person in people]
    # the first person is the start: its space leads to all others through it
    starts = [bent(grid, 7.0, 9), people[0]]
    for g in starts:
        back = from_middle([Composition((person, g)) for person in people], grid)
        found = [person(g(back(x))) for person in people]
        assert max(rms(one - other) for one, other in zip(found, truth, strict=True)) < 0.06
        # without the middle each start has a mean of its own
        assert rms(people[1](g(x)) - truth[1]) > 0.3


def test_large_turns_are_averaged_without_shrinking():
    center = np.array([30.0, -12.0])
    found = mean_affine([turn(2, angle, center, scale) for angle, scale in ((80, 2.0), (-40, 0.5), (20, 1.0))])
    np.testing.assert_allclose(found.matrix, turn(2, 20, center).matrix, atol=1e-9)
    np.testing.assert_allclose(found(center), center, atol=1e-9)


def test_the_mean_of_affine_maps_moves_with_them():
    rng = np.random.default_rng(0)
    maps = [Affine(np.eye(3) + rng.normal(0, 0.15, (3, 3)), rng.normal(0, 9, 3)) for _ in range(5)]
    left, right = (Affine(np.eye(3) + rng.normal(0, 0.2, (3, 3)), rng.normal(0, 20, 3)) for _ in range(2))
    found, moved = mean_affine(maps), mean_affine([left @ A @ right for A in maps])
    np.testing.assert_allclose(moved.matrix, (left @ found @ right).matrix, atol=1e-8)
    np.testing.assert_allclose(moved.translation, (left @ found @ right).translation, atol=1e-6)


def test_among_mirrors_there_is_still_a_mean():
    found = mean_affine([Affine(np.eye(2)), Affine(np.diag([-0.5, 1.0]))])
    np.testing.assert_allclose(found.matrix, np.diag([0.25, 1.0]))


def test_opposite_swirls_have_no_swirl_and_no_hole_between_them():
    grid = Grid((61, 53), (1.0, 1.2))
    zero = BSpline.zeros(grid, 3.0)
    x = zero.grid.points() - grid.center
    v = 1.3 * np.exp(-np.sum(x**2, axis=-1, keepdims=True) / (2 * 8.0**2)) * np.stack([-x[..., 1], x[..., 0]], axis=-1)
    velocity = BSpline(np.where(zero.free[..., None], v, 0.0), zero.grid)
    swirls = [Exponential(velocity, 32), Exponential(velocity, 32).inverse()]
    points = inner(grid)
    mean = np.mean([phi(points) for phi in swirls], axis=0)
    # displacements cancel at the centre of a turn by more than a right angle only by shrinking it
    assert rms(mean - points) > 0.9
    assert rms(from_middle(swirls, grid)(points) - points) < 0.1


def test_an_affine_map_is_fitted_as_it_is():
    grid = spaces.grid(3)
    A = turn(3, 12, grid.center, 1.1)
    np.testing.assert_allclose(fitted(A, grid).matrix, A.matrix, atol=1e-10)
    np.testing.assert_allclose(fitted(A, grid).translation, A.translation, atol=1e-8)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_template_s_grid_depends_on_no_order_and_holds_every_image(ndim):
    grids = [spaces.grid(ndim, name) for name in ("flip", "swap", "identity")]
    found = common_grid(grids)
    assert found.matches(common_grid(grids[::-1]))
    np.testing.assert_allclose(found.center, np.mean([grid.center for grid in grids], axis=0))
    np.testing.assert_allclose(found.axes, np.eye(ndim), atol=1e-12)
    assert np.all(found.sides >= np.max([np.abs(grid.axes) @ grid.sides for grid in grids], axis=0) - 1e-6)
    assert common_grid([grids[0]] * 3) == grids[0]


def test_a_template_s_axes_are_turned_like_those_of_the_images():
    grids = [Grid((20, 30), (1.0, 2.0), (3.0, 4.0), turn(2, angle, np.zeros(2)).matrix) for angle in (10, 20, 30)]
    found = common_grid(grids)
    np.testing.assert_allclose(found.axes, turn(2, 20, np.zeros(2)).matrix, atol=1e-12)
    np.testing.assert_allclose(found.spacing, (1.0, 2.0))
