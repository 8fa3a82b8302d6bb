"""Determinants and folds in slabs, of thin grids, at nodes that files have rounded; by SimpleITK or the whole grid."""

import itertools
import tracemalloc

import numpy as np
import pytest
import SimpleITK as sitk
from support import spaces
from support.maps import affine, bspline, field

from augreg import Affine, BSpline, Composition, DisplacementField, Grid, folding, jacobian_determinant
from augreg.geometry import jacobian
from augreg.geometry.orientation import never_folds, open_rows
from augreg.geometry.transforms import INJECTIVE

RNG = np.random.default_rng


def whole(transform, grid):
    """The least determinant at every voxel, of a grid in one piece."""
    least = np.linalg.det(transform.jacobian(grid.points() + 1e-6 * (grid.center - grid.points())))
    mapped = transform(grid.points())
    sides = []
    for axis in range(grid.ndim):
        steps = np.diff(mapped, axis=axis) / grid.spacing[axis]
        n = np.arange(grid.shape[axis])
        sides.append([np.take(steps, np.clip(n + shift, 0, len(n) - 2), axis=axis) for shift in (0, -1)])
    for choice in itertools.product((0, 1), repeat=grid.ndim):
        corner = np.stack([sides[axis][side] for axis, side in enumerate(choice)], axis=-1)
        least = np.minimum(least, np.linalg.det(corner) * np.sign(np.linalg.det(np.array(grid.direction))))
    return least


def rough(ndim, name, shape=None):
    """A field that folds at many places."""
    grid = spaces.grid(ndim, name, shape)
    return DisplacementField(RNG(5).normal(scale=0.4, size=(*grid.shape, ndim)) * min(grid.spacing), grid)


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
def test_slabs_give_what_the_whole_grid_gives(ndim, name, monkeypatch):
    grid = spaces.grid(ndim, name)
    transforms = [bspline(ndim, size=12.0, name=name), rough(ndim, name), affine(ndim) @ rough(ndim, name)]
    determinants = [jacobian_determinant(transform, grid) for transform in transforms]
    for slab in (1, 3 * grid.size // grid.shape[0], 10 * grid.size):
        monkeypatch.setattr(jacobian, "_SLAB", slab)
        for transform, determinant in zip(transforms, determinants, strict=True):
            np.testing.assert_allclose(jacobian_determinant(transform, grid), determinant, atol=1e-10)
            share = folding(transform, grid)
            assert share == np.mean(whole(transform, grid) <= 0)
            assert 0.01 < share < 0.99


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
def test_at_a_node_both_sides_count_alike(ndim, name):
    """A field with other slopes before and behind every node: det D phi is that of their mean."""
    grid = spaces.grid(ndim, name)
    turn = np.asarray(grid.direction)
    for axis in range(ndim):
        shift = np.zeros(grid.shape[axis])
        shift[1:] = np.cumsum(RNG(axis).uniform(-0.5, 0.9, len(shift) - 1) * grid.spacing[axis])
        along = shift.reshape([-1 if a == axis else 1 for a in range(ndim)])
        # along the axis, and a shear that the determinant does not see
        values = along[..., None] * (turn[:, axis] + 0.3 * turn[:, axis - 1])
        field = DisplacementField(np.broadcast_to(values, (*grid.shape, ndim)).copy(), grid)
        slopes = np.diff(shift) / grid.spacing[axis]
        inner = np.moveaxis(jacobian_determinant(field, grid), axis, -1)[..., 1:-1]
        np.testing.assert_allclose(inner, np.broadcast_to(1 + (slopes[1:] + slopes[:-1]) / 2, inner.shape), atol=1e-4)
        assert np.abs(slopes[1:] - slopes[:-1]).max() > 0.5


def test_an_affine_map_needs_no_memory_and_large_grids_little():
    grid = Grid((10_000, 6_761))
    tracemalloc.start()
    assert folding(affine(2), grid) == 0
    assert tracemalloc.get_traced_memory()[1] < 1e6
    zoom = Composition((Affine(2 * np.eye(2)), Affine(np.eye(2))))
    assert folding(zoom, Grid((4000, 1000))) == 0
    assert tracemalloc.get_traced_memory()[1] < 300e6
    tracemalloc.stop()


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (1, 1), (1, 20, 18), (20, 1, 18), (20, 18, 1), (1, 1, 7)])
def test_one_voxel_along_an_axis_is_measured_by_the_derivative(shape):
    ndim = len(shape)
    grid = spaces.grid(ndim, shape=shape)
    # as ITK's images, whose matrices are written down
    turn = np.asarray(grid.direction) @ np.diag([-1.0, *np.ones(ndim - 1)]) @ np.asarray(grid.direction).T
    for transform, share in (
        (Affine.identity(ndim), 0.0),
        (Affine(turn), 1.0),
        (bspline(ndim), 0.0),
        (affine(ndim) @ bspline(ndim), 0.0),
    ):
        assert folding(transform, grid) == share
        assert jacobian_determinant(transform, grid).shape == shape
    around = Composition((Affine(turn), bspline(ndim)))
    assert folding(around, grid) == 1.0


def bounded(ndim, name, share, spacing=5.0, seed=0, signs=False):
    """A B-spline whose coefficients are random, up to a share of the bound of injectivity; or all of them that large."""
    zero = BSpline.zeros(spaces.grid(ndim, name), spacing)
    size = share * INJECTIVE[ndim] * np.asarray(zero.grid.spacing)
    shape = (int(zero.free.sum()), ndim)
    draws = RNG(seed).choice([-1.0, 1.0], shape) if signs else RNG(seed).uniform(-1, 1, shape)
    coefficients = np.zeros_like(zero.coefficients)
    coefficients[zero.free] = draws * size @ zero.grid.axes.T
    return BSpline(coefficients, zero.grid)


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
def test_what_is_proven_is_what_all_voxels_say(ndim, name, monkeypatch):
    monkeypatch.setattr(jacobian, "_SLAB", 1)
    grid = spaces.grid(ndim, name)
    before = Affine.about(np.eye(ndim) + 0.1 * RNG(2).normal(size=(ndim, ndim)), grid.center)
    shares, proven = [], []
    for share, spacing in ((0.1, 12.0), (0.4, 5.0), (0.4, 2.0), (1.0, 5.0), (1.0, 2.0), (8.0, 5.0)):
        bent = bounded(ndim, name, share, spacing)
        # calm at one end
        calm = np.linspace(0, 1, bent.grid.shape[0]).reshape([-1] + [1] * ndim)
        spline = BSpline(calm * bent.coefficients, bent.grid)
        for whole_map, inner in ((affine(ndim) @ spline, Affine.identity(ndim)), (spline @ before, before)):
            shares.append(folding(whole_map, grid))
            assert shares[-1] == np.mean(whole(whole_map, grid) <= 0)
            proven.append(np.mean(~open_rows(spline, inner, grid)))
            if never_folds(spline):
                assert jacobian_determinant(whole_map, grid).min() > 0
    # none, some and all of the rows; with folds and without
    assert min(proven) == 0
    assert max(proven) == 1
    assert any(0 < part < 1 for part in proven)
    assert max(shares) > 0.05


@pytest.mark.parametrize("ndim", [2, 3])
def test_no_derivative_folds_within_the_bound_though_differences_may(ndim):
    grid = spaces.grid(ndim)
    differences = []
    for seed in range(6):
        spline = bounded(ndim, "oblique", 1.0, 2.5, seed, signs=True)
        assert never_folds(spline)
        assert np.linalg.det(spline.jacobian(grid.with_shape([2 * n for n in grid.shape]).points())).min() > 0
        twice = spline @ bounded(ndim, "oblique", 1.0, 7.0, seed, signs=True)
        differences.append(folding(twice, grid))
        assert differences[-1] == np.mean(whole(twice, grid) <= 0)
    # seldom in 3-D, where the bound is lower
    assert ndim == 3 or max(differences) > 0
    assert not never_folds(bounded(ndim, "oblique", 1.01, signs=True))
    # a step to the identity around it
    edge = BSpline(np.full_like(spline.coefficients, 0.1), spline.grid)
    assert not never_folds(edge)


def test_gentle_splines_and_reflections_are_not_sampled(monkeypatch):
    for name in ("_map", "_map_grid", "_jacobian"):
        monkeypatch.setattr(BSpline, name, None)
    for ndim, wide in ((2, Grid((9000, 8000))), (3, Grid((900, 800, 700)))):
        zero = BSpline.zeros(wide, 80.0)
        coefficients = zero.coefficients.copy()
        coefficients[zero.free] = RNG(0).uniform(-6, 6, (zero.free.sum(), ndim))
        gentle = BSpline(coefficients, zero.grid)
        mirror = Affine(np.diag([-1.0, *np.ones(ndim - 1)]))
        assert folding(affine(ndim) @ gentle, wide) == 0
        assert folding(gentle @ affine(ndim), wide) == 0
        assert folding(mirror @ gentle @ gentle, wide) == 1
        assert folding(mirror @ gentle @ mirror, wide) == 0


def test_large_grids_take_little_memory():
    wide = Grid((3000, 2000))
    spline = BSpline.zeros(wide, 300.0)
    tracemalloc.start()
    assert folding(spline @ spline, wide) == 0
    assert tracemalloc.get_traced_memory()[1] < 90e6
    tracemalloc.stop()


def itk_field(values, grid):
    image = sitk.GetImageFromArray(np.ascontiguousarray(np.moveaxis(values, -1, 0).T), isVector=True)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(np.asarray(grid.direction).ravel().tolist())
    return image


def central(transform, grid, indices):
    """Determinants of central differences over whole voxels, by SimpleITK."""
    found = []
    for index in indices:
        columns = []
        for axis in np.eye(grid.ndim):
            ends = [transform.TransformPoint(grid.points_at(index + s * axis).tolist()) for s in (1, -1)]
            columns.append(np.subtract(*ends) / 2)
        found.append(np.linalg.det(np.stack(columns, axis=1)) / np.linalg.det(grid.index_to_world))
    return np.array(found)


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
def test_at_nodes_the_determinant_is_of_central_differences_however_files_round_the_grid(ndim, name):
    flow = field(ndim, name=name)
    peer = sitk.DisplacementFieldTransform(itk_field(flow.values, flow.grid))
    inner = RNG(0).integers(2, np.array(flow.grid.shape) - 2, (40, ndim))
    grid = flow.grid
    # NIfTI: the geometry in float32; a part of the grid; every second node
    single = [np.asarray(part, dtype=np.float32).tolist() for part in (grid.spacing, grid.origin, grid.direction)]
    part = Grid([n - 2 for n in grid.shape], grid.spacing, tuple(grid.points_at(np.ones(ndim)) + 3e-6), grid.direction)
    second = Grid([(n + 1) // 2 for n in grid.shape], tuple(2 * np.array(grid.spacing)), grid.origin, grid.direction)
    for other, at in ((grid, inner), (Grid(grid.shape, *single), inner), (part, inner - 1), (second, inner // 2)):
        determinant = jacobian_determinant(flow, other)[tuple(at.T)]
        nodes = np.rint(grid.indices_at(other.points_at(at)))
        np.testing.assert_allclose(determinant, central(peer, grid, nodes), atol=2e-6)
    assert np.ptp(central(peer, grid, inner)) > 0.05


def test_the_derivative_at_a_node_is_the_mean_of_both_sides():
    # a kink: nothing happens on one side, everything on the other
    grid = Grid((9, 6), (0.5, 2.0))
    values = np.zeros((9, 6, 2))
    values[5:, :, 0] = 0.3 * np.arange(1, 5)[:, None] * 0.5
    determinant = jacobian_determinant(DisplacementField(values, grid), grid)
    np.testing.assert_allclose(determinant[3, 3], 1.0, atol=1e-9)
    np.testing.assert_allclose(determinant[4, 3], 1.15, atol=1e-9)
    np.testing.assert_allclose(determinant[5, 3], 1.3, atol=1e-9)
