"""What is proven of fields between nodes: nothing of it is sampled, and all of it is true."""

import numpy as np
import pytest
from support import spaces

from augreg import Affine, BSpline, Composition, DisplacementField, Grid, folding
from augreg.geometry.cells import doubtful_cells, never_folds_within

RNG = np.random.default_rng


def field(ndim, name, size, seed=0, rest=True):
    """A random field, of so many steps of its nodes; at rest on its border, or not."""
    grid = spaces.grid(ndim, name)
    steps = RNG(seed).uniform(-size, size, (*grid.shape, ndim))
    if rest:
        inner = np.zeros(grid.shape, bool)
        inner[(slice(1, -1),) * ndim] = True
        steps[~inner] = 0
    return DisplacementField(steps @ grid.index_to_world.T, grid)


def at_random(transform, grid, count=20_000):
    """Determinants at points of the grid's extent."""
    points = grid.points_at(RNG(1).uniform(-0.4, np.array(grid.shape) - 0.6, (count, grid.ndim)))
    return np.linalg.det(transform.jacobian(points))


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
def test_what_is_proven_folds_nowhere(ndim, name):
    proven = []
    for size in (0.05, 0.15, 0.25, 0.35, 0.5):
        phi = field(ndim, name, size, seed=round(100 * size))
        proven.append(never_folds_within(phi, None, phi.grid))
        if proven[-1]:
            assert at_random(phi, phi.grid).min() > 0
    assert proven[0]
    assert not proven[-1]


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
def test_no_proven_map_is_sampled(ndim, name, monkeypatch):
    phi = field(ndim, name, 0.12)
    grid = phi.grid.padded(2).with_shape([2 * n for n in phi.grid.shape])
    turn = Affine.about(np.eye(ndim) + 0.1 * RNG(2).normal(size=(ndim, ndim)), grid.center)
    gentle = BSpline.zeros(grid, 6.0)
    maps = [phi, turn @ phi, phi @ turn, turn @ gentle @ phi, phi @ gentle, phi @ turn @ phi]
    for part in (DisplacementField, Composition):
        monkeypatch.setattr(part, "_map_grid", None)
    for whole in maps:
        assert folding(whole, grid) == 0
    # one fold is enough
    broken = phi.values.copy()
    node = tuple(n // 2 for n in phi.grid.shape)
    broken[node] += 2.5 * phi.grid.axes[:, 0] * phi.grid.spacing[0]
    monkeypatch.undo()
    assert folding(turn @ DisplacementField(broken, phi.grid), phi.grid) > 0


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_field_that_ends_in_a_step_is_proven_within_it_only(ndim):
    phi = field(ndim, "oblique", 0.12, rest=False)
    still = Affine.identity(ndim)
    assert never_folds_within(phi, still, phi.grid)
    assert not never_folds_within(phi, still, phi.grid.padded(1))
    assert not never_folds_within(phi, None, phi.grid)
    # half a step against the axis at the first nodes, one step beyond which nothing moves: those voxels exchange places
    grid = Grid((9,) * ndim)
    values = np.zeros((*grid.shape, ndim))
    values[0, ..., 0] = -1.5
    values[1, ..., 0] = -1.0
    for i in range(2, 9):
        values[i, ..., 0] = -1.0 + 0.1 * (i - 1)
    phi = DisplacementField(values, grid)
    assert folding(phi, grid) == 0
    assert folding(phi, grid.padded(2)) > 0


@pytest.mark.parametrize("shape", [(2, 6, 1, 5), (3, 5, 4, 6)])
def test_cells_are_doubted_by_their_least_corner(shape):
    # a field of one gradient has one determinant
    lattice = np.stack(np.meshgrid(*map(np.arange, shape[1:]), indexing="ij"))
    flat = shape[0] == 2
    axes = [0, 2] if flat else [0, 1, 2]
    for seed in range(6):
        D = 0.35 * RNG(seed).normal(size=(len(axes), len(axes)))
        u = np.tensordot(D, lattice[axes], axes=1).astype(np.float32)
        least = np.linalg.det(np.eye(len(axes)) + D)
        inner = (slice(1, -1), slice(None) if flat else slice(1, -1), slice(1, -1))
        for guard in (least - 0.01, least + 0.01):
            if 0 < guard < 1:
                assert (doubtful_cells(u, guard)[inner] == (guard > least)).all()
