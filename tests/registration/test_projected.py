"""Volumes registered by what lies along an axis."""

import numpy as np
import pytest
import scipy.ndimage

from augreg import Affine, BSpline, Grid, Image, Labels, projected, warp
from augreg.registration import Chained, Projected
from augreg.registration.projected import lifted

TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]) @ np.array([[1.0, 0, 0], [0, 0.6, -0.8], [0, 0.8, 0.6]])
GRID = Grid((24, 20, 16), (2.0, 1.5, 2.5), (30.0, -20.0, 7.0), TURN)


def volume():
    values = scipy.ndimage.gaussian_filter(np.random.default_rng(0).uniform(0, 100, GRID.shape), 2)
    return Image(values.astype(np.float32), GRID)


def in_the_plane(degrees=7.0, shift=(2.0, -1.5)):
    angle = np.deg2rad(degrees)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return Affine(matrix, np.array([22.0, 15.0]) + shift - matrix @ [22.0, 15.0])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_what_moves_in_the_plane_is_seen_alike_before_and_after_projection(axis):
    phi = in_the_plane()
    moved = warp(volume(), lifted(phi, GRID, axis), GRID)
    before = projected(volume(), axis, ("mean",))
    wanted = warp(before, phi, before.grid)
    inner = (slice(6, -6), slice(6, -6))
    assert projected(moved, axis, ("mean",)).values[inner] == pytest.approx(wanted.values[inner], abs=0.02)
    assert np.abs(wanted.values - before.values)[inner].max() > 0.2


def test_what_is_found_of_pictures_is_lifted_onto_the_start_and_may_be_chained():
    seen, start = [], Affine(TURN.T, np.array([1.0, 2.0, 3.0]))

    def found(fixed, moving):
        seen.append((fixed, moving))
        return in_the_plane()

    grid = Grid((30, 30, 30), (2.0, 2.0, 2.0), (-80.0, -80.0, -80.0))
    moving = Image(np.random.default_rng(1).uniform(0, 1, grid.shape).astype(np.float32), grid)
    mask = Labels(np.ones(GRID.shape, np.uint8), GRID)
    method = Projected(found, axis=1, kinds=("mean", "max"))
    (state,) = method.steps(volume(), moving, initial=start, fixed_mask=mask)
    points = GRID.points().reshape(-1, 3)[::97]
    assert state.transform(points) == pytest.approx(start(lifted(in_the_plane(), GRID, 1)(points)))
    assert "fixed_mask: not used by projections" in state.warnings
    ((fixed, other),) = seen
    assert fixed.channels == 2
    assert fixed.grid == other.grid == Grid((24, 16), (2.0, 2.5))
    twice = Chained(method, Projected(found, axis=2))(volume(), volume())
    assert twice(points) == pytest.approx(lifted(in_the_plane(), GRID, 1)(lifted(in_the_plane(), GRID, 2)(points)))


def test_what_cannot_be_lifted_is_refused():
    bent = BSpline.zeros(projected(volume(), 2).grid, 10.0)
    with pytest.raises(TypeError, match="registration: expected a callable"):
        Projected(None)
    with pytest.raises(TypeError, match="registration: expected an affine map of the projections, got BSpline"):
        Projected(lambda fixed, moving: bent)(volume(), volume())
