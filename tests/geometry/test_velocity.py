import numpy as np
import pytest
import scipy.linalg
import torch
from support.spaces import directions

from augreg import BSpline, Grid
from augreg.geometry.splines import through
from augreg.geometry.velocity import Exponential, logarithm, runge_kutta


def velocity(ndim, size, seed=0):
    grid = Grid((14, 11, 9)[:ndim], (1.3, 0.9, 1.7)[:ndim], (4.0, -7.0, 2.0)[:ndim], directions(ndim)["oblique"])
    zero = BSpline.zeros(grid, 4.0)
    c = np.random.default_rng(seed).normal(0, size, zero.coefficients.shape)
    return BSpline(np.where(zero.free[..., None], c, 0.0), zero.grid), grid


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_flow_of_minus_v_leads_back(ndim):
    v, grid = velocity(ndim, 1.5)
    psi = Exponential(v)
    there = psi(grid.points())
    assert np.linalg.norm(there - grid.points(), axis=-1).max() > 1.5
    assert np.abs(psi.inverse()(there) - grid.points()).max() < 2e-3
    assert np.abs(psi(psi.solve(grid.points(), tolerance=1e-9)) - grid.points()).max() < 1e-8


def test_the_integration_is_of_fourth_order():
    v, grid = velocity(2, 1.5)
    best = Exponential(v, 128)(grid.points())
    coarse, fine = (np.abs(Exponential(v, n)(grid.points()) - best).mean() for n in (6, 12))
    assert 8 < coarse / fine < 32


def test_the_method_serves_arrays_and_tensors_alike():
    turn = np.array([[-0.3, 1.1], [-1.4, 0.2]])
    start = np.random.default_rng(0).normal(size=(5, 2))
    exact = start @ scipy.linalg.expm(-0.7 * turn).T
    found = runge_kutta(lambda y: y @ turn.T, start, -0.7, 20)
    assert np.abs(found - exact).max() < 1e-6
    matrix = torch.from_numpy(turn)
    tensors = runge_kutta(lambda y: y @ matrix.T, torch.from_numpy(start), -0.7, 20)
    assert np.abs(tensors.numpy() - found).max() < 1e-14


def test_half_the_velocity_twice_is_the_whole():
    v, grid = velocity(2, 1.5)
    half = Exponential(BSpline(0.5 * v.coefficients, v.grid), 32)
    assert np.abs((half @ half)(grid.points()) - Exponential(v, 64)(grid.points())).max() < 1e-8


@pytest.mark.parametrize("ndim", [2, 3])
def test_jacobians_are_those_of_differences_and_never_fold(ndim):
    # a velocity whose displacement id + v folds
    v, grid = velocity(ndim, 6.0)
    points = grid.points().reshape(-1, ndim)
    assert np.linalg.det(v.jacobian(points)).min() < 0
    psi = Exponential(v, 64)
    J = psi.jacobian(points)
    assert np.linalg.det(J).min() > 0
    h = 1e-5
    differences = [(psi(points + h * e) - psi(points - h * e)) / (2 * h) for e in np.eye(ndim)]
    assert np.allclose(J, np.stack(differences, axis=-1), atol=1e-4 * np.abs(J).max())


def test_logarithms_displace_the_nodes_as_wanted():
    v, _ = velocity(2, 1.0)
    control = v.grid
    u = Exponential(v)(control.points()) - control.points()
    found = logarithm(u, control)
    again = Exponential(BSpline(through(found[None], control)[0], control))(control.points()) - control.points()
    assert np.abs(again - u).max() < 0.05 * np.abs(u).max()
    # u itself as the velocity is farther off
    plain = Exponential(BSpline(through(u[None], control)[0], control))(control.points()) - control.points()
    assert np.sqrt(np.mean((plain - u) ** 2)) > 5 * np.sqrt(np.mean((again - u) ** 2))


def test_steps_have_to_be_positive():
    with pytest.raises(ValueError, match="steps"):
        Exponential(velocity(2, 1.0)[0], 0)
