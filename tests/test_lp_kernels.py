import naive_lp
import numpy as np
import pytest
import spaces

from augreg import BSpline
from augreg.lp import _kernels
from augreg.lp.models import SplineModel
from augreg.lp.pyramid import Raster

pytestmark = pytest.mark.kernels


def raster_of(values, grid, allowed=None):
    spatial = (1, *grid.shape)[-3:]
    everywhere = np.ones(spatial, dtype=bool)
    return Raster(values.reshape(*spatial, -1), everywhere if allowed is None else allowed.reshape(spatial), grid)


def image(ndim, channels, seed=0):
    shape = (9, 7, 6)[:ndim]
    grid = spaces.grid(ndim, shape=shape)
    return np.random.default_rng(seed).uniform(0, 1, (*shape, channels)).astype(np.float32), grid


def profiles(channels, seed=0, ratio=2, shifts=3, half=2, lines=3, count=5):
    """Random profiles with some samples outside; of the last keypoint nearly all."""
    rng = np.random.default_rng(seed)
    fixed = rng.uniform(0, 1, (count, lines, 2 * half + 1, channels)).astype(np.float32)
    moving = rng.uniform(0, 1, (count, lines, 2 * (half * ratio + shifts) + 1, channels)).astype(np.float32)
    fixed[1, 0, 0], moving[2, 1, :4], moving[4, :, 3:] = np.nan, np.nan, np.nan
    return fixed, moving, ratio, 2 * shifts + 1


@pytest.mark.parametrize(("ndim", "channels"), [(2, 1), (2, 3), (3, 1), (3, 2)])
def test_gradients_agree_with_their_twin(ndim, channels):
    values, grid = image(ndim, channels)
    spacing = np.ones(3)
    spacing[3 - ndim :] = grid.spacing
    shape = (1, *grid.shape)[-3:]
    out = np.empty((*shape, 3), dtype=np.float32)
    _kernels.gradient(values.reshape(*shape, channels), np.where(np.array(shape) > 1, 0.5 / spacing, 0.0), out)
    np.testing.assert_allclose(out.reshape(*grid.shape, 3)[..., 3 - ndim :], naive_lp.gradient(values, grid.spacing), atol=1e-6)


@pytest.mark.parametrize("ndim", [2, 3])
def test_every_cell_gives_its_strongest_allowed_voxel(ndim):
    rng = np.random.default_rng(0)
    shape = (1, 11, 8) if ndim == 2 else (5, 11, 8)
    gradients = rng.normal(size=(*shape, 3)).astype(np.float32)
    allowed = rng.uniform(size=shape) < 0.6
    cell, margin = np.array([1 if ndim == 2 else 2, 4, 3]), np.array([0, 1, 1])
    cells = -(-np.array(shape) // cell)
    indices, strengths = np.empty((cells.prod(), 3), dtype=np.int64), np.empty(cells.prod())
    _kernels.strongest_per_cell(gradients, allowed, cell, margin, indices, strengths)
    size = (gradients.astype(float) ** 2).sum(-1) * allowed
    for axis in (1, 2):
        ends = [slice(None)] * 3
        for end in (slice(0, 1), slice(-1, None)):
            ends[axis] = end
            size[tuple(ends)] = 0
    for number, where in enumerate(np.ndindex(*cells)):
        block = tuple(slice(w * c, (w + 1) * c) for w, c in zip(where, cell, strict=True))
        assert strengths[number] == pytest.approx(size[block].max())
        if size[block].max() > 0:
            assert size[tuple(indices[number])] == pytest.approx(size[block].max())
        else:
            assert indices[number, 0] == -1


@pytest.mark.parametrize(("ndim", "channels"), [(2, 1), (2, 3), (3, 1), (3, 2)])
def test_bundles_of_lines_agree_with_their_twin(ndim, channels):
    values, grid = image(ndim, channels)
    rng = np.random.default_rng(1)
    centers = grid.points_at(rng.uniform(0, np.array(grid.shape) - 1, (6, ndim)))
    along = rng.normal(size=(6, ndim))
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = rng.normal(0, 0.5, (6, 3, ndim))
    out = np.empty((6, 3, 9, channels), dtype=np.float32)
    r = raster_of(values, grid)
    _kernels.sample_lines(r.values, r.allowed, *r.frame, centers, along, across, -4.0, 0.7, False, out)
    expected = naive_lp.lines(values, grid, centers, along, across, -4.0, 0.7, 9)
    assert np.isnan(expected).any()
    assert np.isfinite(expected).any()
    np.testing.assert_allclose(out, expected, atol=2e-6)


def test_masked_voxels_are_not_sampled_and_labels_are_not_mixed():
    values, grid = image(2, 1)
    labels = np.round(10 * values)
    allowed = np.ones(grid.shape, dtype=bool)
    allowed[4:] = False
    index = np.array([[2.3, 3.4], [3.4, 2.0], [3.6, 2.0], [6.0, 1.0]])
    out = np.empty((4, 1, 1, 1), dtype=np.float32)
    r = raster_of(labels, grid, allowed)
    centers = grid.points_at(index)
    _kernels.sample_lines(r.values, r.allowed, *r.frame, centers, np.ones((4, 2)), np.zeros((4, 1, 2)), 0.0, 1.0, True, out)
    np.testing.assert_array_equal(out.ravel()[:2], [labels[2, 3, 0], labels[3, 2, 0]])
    assert np.isnan(out.ravel()[2:]).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_ncc_and_ssd_agree_with_their_twins(channels):
    fixed, moving, ratio, shifts = profiles(channels)
    floor = np.random.default_rng(2).uniform(0.01, 0.1, (2, channels))
    out = np.empty((len(fixed), shifts))
    _kernels.ncc_costs(fixed, moving, ratio, floor, 0.5, out)
    expected = naive_lp.ncc(fixed, moving, ratio, shifts, floor, 0.5)
    assert np.isnan(expected).any()
    np.testing.assert_allclose(out, expected, rtol=1e-5)
    _kernels.ssd_costs(fixed, moving, ratio, floor[0], 0.5, out)
    np.testing.assert_allclose(out, naive_lp.ssd(fixed, moving, ratio, shifts, floor[0], 0.5), rtol=1e-5)


def test_table_costs_and_histogram_agree_with_their_twins():
    fixed, moving, ratio, shifts = profiles(1)
    f, m = (np.where(np.isnan(part[..., 0]), -1, np.nan_to_num(part[..., 0]) * 3.99).astype(np.int64) for part in (fixed, moving))
    rho = np.random.default_rng(3).normal(size=(4, 4))
    out = np.empty((len(f), shifts))
    _kernels.table_costs(f, m, ratio, rho, 0.5, out)
    np.testing.assert_allclose(out, naive_lp.table(f, m, ratio, shifts, rho, 0.5), rtol=1e-9)
    counts = np.zeros((4, 4))
    _kernels.joint_histogram(f, m, ratio, 3, counts)
    expected = np.zeros((4, 4))
    for i, line, h in np.ndindex(f.shape):
        pair = f[i, line, h], m[i, line, h * ratio + 3]
        if min(pair) >= 0:
            expected[pair] += 1
    np.testing.assert_array_equal(counts, expected)


def test_envelopes_agree_with_their_twin_and_merge_equal_slopes():
    costs = np.random.default_rng(4).integers(0, 6, (40, 9)).astype(float)
    costs[0] = np.abs(np.arange(9.0) - 3)
    costs[1] = 0.0
    knots, counts = np.empty(costs.shape, dtype=np.int64), np.empty(len(costs), dtype=np.int64)
    _kernels.lower_envelopes(costs, knots, counts)
    for row, at, n in zip(costs, knots, counts, strict=True):
        np.testing.assert_allclose(np.interp(np.arange(9), at[:n], row[at[:n]]), naive_lp.envelope(row), atol=1e-12)
        slopes = np.diff(row[at[:n]]) / np.diff(at[:n])
        assert np.all(np.diff(slopes) > 1e-12)
    assert list(knots[0, : counts[0]]) == [0, 3, 8]
    assert list(knots[1, : counts[1]]) == [0, 8]


@pytest.mark.parametrize("ndim", [2, 3])
def test_spline_rows_are_the_displacement_along_a_direction(ndim):
    domain = spaces.grid(ndim)
    model = SplineModel(BSpline.zeros(domain, 6.0), 1.0, True)
    rng = np.random.default_rng(5)
    c = rng.normal(size=model.unknowns)
    points = domain.points_at(rng.uniform(0, np.array(domain.shape) - 1, (30, ndim)))
    directions = rng.normal(size=(30, ndim))
    moved = model.coefficients(c)(points) - points
    np.testing.assert_allclose(model.rows(points, directions) @ c, (moved * directions).sum(1), atol=1e-10)
