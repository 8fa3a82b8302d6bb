"""Registration by a network, and what comes after it."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from support import spaces
from support.flows import Oracle

from augreg import Affine, Chained, Grid, Image, LPRegistration
from augreg.networks import FlowNetS
from augreg.training import FlowRegistration


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
def test_a_flow_means_voxels_of_the_network_along_the_fixed_axes(ndim, name):
    grid = spaces.grid(ndim, name)
    fixed = Image(np.random.default_rng(0).normal(size=grid.shape), grid)
    other = Grid((19, 25, 14)[:ndim], (1.0,) * ndim, direction=spaces.directions(ndim)["flip"])
    other = Grid(other.shape, other.spacing, tuple(grid.center - other.center + 1), other.direction)
    moving = Image(np.random.default_rng(1).normal(size=other.shape), other)
    oracle = Oracle([1.0, -2.0, 0.5][:ndim])
    phi = FlowRegistration(oracle, grid.spacing)(fixed, moving)
    steps = np.array(oracle.flow)
    expected = grid.points_at(steps) - grid.points_at(0 * steps)
    np.testing.assert_allclose(phi(grid.points()) - grid.points(), np.broadcast_to(expected, (*grid.shape, ndim)), atol=1e-5)
    assert oracle.seen[0].shape == oracle.seen[1].shape == (1, 1, *grid.shape)
    # a network trained at twice the spacing sees half as many voxels, and each means twice as many mm
    coarse = FlowRegistration(oracle, tuple(2 * s for s in grid.spacing))
    working = grid.with_spacing([2 * s for s in grid.spacing])
    wide = working.points_at(steps) - working.points_at(0 * steps)
    inner = grid.center
    np.testing.assert_allclose(coarse(fixed, moving)(inner) - inner, wide, atol=1e-5)


def test_an_initial_transform_stays_the_left_part():
    grid = spaces.grid(2)
    image = Image(np.random.default_rng(0).normal(size=grid.shape), grid)
    start = Affine.about([[0.9, 0.1], [0.0, 1.1]], grid.center)
    phi = FlowRegistration(Oracle([1.0, 2.0]), grid.spacing)(image, image, initial=start)
    step = grid.points_at([1.0, 2.0]) - grid.points_at([0.0, 0.0])
    np.testing.assert_allclose(phi(grid.center), start(grid.center + step), atol=1e-6)


def test_other_dimensions_are_refused():
    volume = Image(np.random.default_rng(0).normal(size=(8, 9, 7)), spaces.grid(3, shape=(8, 9, 7)))
    with pytest.raises(ValueError, match="2-D image for this network"):
        FlowRegistration(Oracle([1.0, 2.0]), (1.0, 1.0))(volume, volume)


def blobs(shift=0.0):
    grid = Grid((72, 60), (1.5, 0.8), (4.0, -7.0))
    x = grid.points() - grid.center - np.asarray(shift)
    values = np.exp(-(((x[..., 0] / 14) ** 2 + (x[..., 1] / 9) ** 2) ** 4)) + 0.5 * np.exp(-((x - [5, 3]) ** 2).sum(-1) / 20)
    return Image(values.astype(np.float32), grid)


def test_a_chain_starts_where_the_first_has_ended():
    fixed, moving = blobs(), blobs([8.0, -3.0])
    network = FlowRegistration(Oracle([4.0, -4.0]), fixed.grid.spacing)
    start = Affine.about(np.diag([1.02, 0.99]), fixed.grid.center)
    both = Chained(network, Chained(network, network))
    once = network(fixed, moving, initial=start)
    points = fixed.grid.points()[20:-20, 20:-20]
    expected = network(fixed, moving, initial=network(fixed, moving, initial=once))
    np.testing.assert_allclose(both(fixed, moving, initial=start)(points), expected(points), atol=1e-9)
    assert np.abs(expected(points) - once(points)).max() > 5


def test_what_a_network_leaves_a_program_finds():
    fixed, moving = blobs(), blobs([8.0, -3.0])
    # (6, -3.2) mm of (8, -3)
    network, program = FlowRegistration(Oracle([4.0, -4.0]), fixed.grid.spacing), LPRegistration(transform="rigid")
    states = list(Chained(network, program).steps(fixed, moving))
    inner = fixed.grid.points()[24:-24, 20:-20]
    error = [np.linalg.norm(phi(inner) - inner - [8, -3], axis=-1).max() for phi in (states[0].transform, states[-1].transform)]
    assert error[0] == pytest.approx(2.01, abs=0.01)
    assert error[1] < 0.3
    levels, seconds = [state.level for state in states], [state.seconds for state in states]
    assert levels == sorted(levels)
    assert levels[:2] == [0, 1]
    assert seconds == sorted(seconds)


def test_a_chain_keeps_the_warnings_of_both():
    fixed = blobs()
    points = fixed.grid.center[None]
    network = FlowRegistration(Oracle([0.0, 0.0]), fixed.grid.spacing)
    *_, last = Chained(network, LPRegistration(transform="rigid")).steps(fixed, fixed, fixed_points=points, moving_points=points)
    assert any("not used by a network" in warning for warning in last.warnings)


@pytest.mark.parametrize("ndim", [2, 3])
def test_an_answer_does_not_change_with_gain_and_offset(ndim):
    torch.manual_seed(1)
    shape, spacing = ((70, 66), (1.0, 1.3)) if ndim == 2 else ((34, 36, 33), (1.0, 1.3, 2.0))
    grid = Grid(shape, spacing)
    rng = np.random.default_rng(0)
    values = [scipy.ndimage.gaussian_filter(rng.normal(size=shape), 2.0) for _ in range(2)]
    register = FlowRegistration(FlowNetS(ndim, width=0.1), grid.spacing)
    # another frame of the moving image, whose outside is filled
    frames = grid, Grid(shape, spacing, (3.0,) * ndim)
    plain = register(*(Image(v, frame) for v, frame in zip(values, frames, strict=True))).displacement(grid)
    changed = (Image(20 * values[0] + 7, frames[0]), Image(0.3 * values[1] - 2, frames[1]))
    # what the images show decides
    assert np.ptp(plain, axis=tuple(range(ndim))).max() > 0.2 * np.abs(plain).max()
    np.testing.assert_allclose(register(*changed).displacement(grid), plain, atol=1e-3 * np.abs(plain).max())
