import numpy as np
import pytest
import scipy.ndimage
from support import naive_lp, spaces

from augreg import BSpline
from augreg.keypoints import _raster_kernels
from augreg.keypoints.pyramid import EVERYWHERE, Raster
from augreg.lp import _bundle_kernels, _cost_kernels, _patch_kernels
from augreg.lp.criteria import _Ncc as Ncc
from augreg.lp.criteria import _Ssd as Ssd
from augreg.lp.level import continued
from augreg.lp.models import SplineModel
from augreg.lp.profiles import HERE, Bundle, Profiles

pytestmark = pytest.mark.kernels


def raster_of(values, grid, allowed=EVERYWHERE, nearest=False):
    spatial = (1, *grid.shape)[-3:]
    return Raster(values.reshape(*spatial, -1), allowed.reshape(spatial) if allowed.size else allowed, grid, nearest)


def image(ndim, channels, seed=0):
    shape = (9, 7, 6)[:ndim]
    grid = spaces.grid(ndim, shape=shape)
    return np.random.default_rng(seed).uniform(0, 1, (*shape, channels)).astype(np.float32), grid


def profiles(channels, seed=0, ratio=2, shifts=3, half=2, lines=3, count=5):
    """Random profiles with some samples outside; of the last keypoint nearly all; of the first none."""
    rng = np.random.default_rng(seed)
    fixed = rng.uniform(0, 1, (count, channels, lines, 2 * half + 1)).astype(np.float32)
    moving = rng.uniform(0, 1, (count, channels, lines, 2 * (half * ratio + shifts) + 1)).astype(np.float32)
    fixed[1, :, 0, 0], moving[2, :, 1, :4], moving[4, :, :, 3:] = np.nan, np.nan, np.nan
    return fixed, moving, ratio, 2 * shifts + 1


def flat(samples):
    return samples.reshape(*samples.shape[:2], -1)


@pytest.mark.parametrize(("ndim", "channels"), [(2, 1), (2, 3), (3, 1), (3, 2)])
@pytest.mark.parametrize("masked", [False, True])
def test_every_cell_gives_its_strongest_allowed_voxel(ndim, channels, masked):
    shape = (11, 8) if ndim == 2 else (5, 11, 8)
    grid = spaces.grid(ndim, shape=shape)
    rng = np.random.default_rng(0)
    values = rng.normal(size=(*shape, channels)).astype(np.float32)
    allowed = rng.uniform(size=shape) < 0.6 if masked else EVERYWHERE
    cell, margin = np.array([2, 4, 3]), np.array([0, 1, 1])
    if ndim == 2:
        cell[0] = 1
    raster = raster_of(values, grid, allowed)
    spatial = np.array(raster.values.shape[:3])
    spacing = np.ones(3)
    spacing[3 - ndim :] = grid.spacing
    cells = -(-spatial // cell)
    indices, gradients = np.empty((cells.prod(), 3), dtype=np.int64), np.zeros((cells.prod(), 3))
    scale = np.where(spatial > 1, 0.5 / spacing, 0.0)
    parts = (raster.values.reshape(-1), raster.values.shape, raster.allowed.reshape(-1))
    _raster_kernels.strongest_per_cell(0, len(indices), *parts, scale, cell, margin, indices, gradients)
    expected = np.zeros((*spatial, 3))
    expected[..., 3 - ndim :] = naive_lp.gradient(values, grid.spacing).reshape(*spatial, ndim)
    size = (expected**2).sum(-1)
    if masked:
        size = size * raster.allowed
    for axis in (1, 2):
        ends = [slice(None)] * 3
        for end in (slice(0, 1), slice(-1, None)):
            ends[axis] = end
            size[tuple(ends)] = 0
    for number, where in enumerate(np.ndindex(*cells)):
        block = tuple(slice(w * c, (w + 1) * c) for w, c in zip(where, cell, strict=True))
        if size[block].max() == 0:
            assert indices[number, 0] == -1
            continue
        assert size[tuple(indices[number])] == pytest.approx(size[block].max())
        np.testing.assert_allclose(gradients[number], expected[tuple(indices[number])], atol=1e-6)


@pytest.mark.parametrize("ndim", [2, 3])
def test_every_cell_gives_the_flattest_boundary_between_labels(ndim):
    shape = (12, 9) if ndim == 2 else (6, 8, 7)
    grid = spaces.grid(ndim, shape=shape)
    labels = np.random.default_rng(0).integers(0, 2, [-(-n // 3) for n in shape])
    labels = np.kron(labels, np.ones((3,) * ndim, dtype=int))[tuple(slice(0, n) for n in shape)]
    raster = raster_of(labels.astype(np.float32), grid, nearest=True)
    spatial = np.array(raster.values.shape[:3])
    cell, margin, spacing = np.array([1 if ndim == 2 else 3, 4, 5]), np.zeros(3, dtype=int), np.ones(3)
    spacing[3 - ndim :] = grid.spacing
    cells = -(-spatial // cell)
    indices, normals = np.empty((cells.prod(), 3), dtype=np.int64), np.zeros((cells.prod(), 3))
    parts = (raster.values.reshape(-1), raster.values.shape, raster.allowed.reshape(-1))
    _raster_kernels.flattest_per_cell(0, len(indices), *parts, spacing, 2, cell, margin, indices, normals)
    size = np.zeros(shape)
    for index in np.ndindex(shape):
        neighbours = [np.clip(np.array(index) + step * np.eye(ndim, dtype=int)[a], 0, np.array(shape) - 1)
                      for a in range(ndim) for step in (-1, 1)]  # fmt: skip
        if any(labels[tuple(n)] != labels[index] for n in neighbours):
            size[index] = np.sum(naive_lp.outward(labels, index, np.array(grid.spacing), 2) ** 2)
    size = size.reshape(spatial)
    for number, where in enumerate(np.ndindex(*cells)):
        block = tuple(slice(w * c, (w + 1) * c) for w, c in zip(where, cell, strict=True))
        if size[block].max() == 0:
            assert indices[number, 0] == -1
            continue
        found = indices[number]
        assert size[tuple(found)] == pytest.approx(size[block].max())
        expected = naive_lp.outward(labels, found[3 - ndim :], np.array(grid.spacing), 2)
        # sums that cancel leave rounding
        np.testing.assert_allclose(normals[number, 3 - ndim :], expected, atol=1e-12)


@pytest.mark.parametrize("factors", [(1, 2, 2), (2, 1, 3)])
def test_block_means_and_smoothing_agree_with_their_twins(factors):
    values = np.random.default_rng(6).uniform(0, 1, (5, 7, 9, 2)).astype(np.float32)
    out = np.empty((5 // factors[0], 7 // factors[1], 9 // factors[2], 2), dtype=np.float32)
    _raster_kernels.block_means(0, out.shape[0] * out.shape[1], values, np.array(factors), out)
    for index in np.ndindex(out.shape[:3]):
        block = tuple(slice(i * f, (i + 1) * f) for i, f in zip(index, factors, strict=True))
        np.testing.assert_allclose(out[index], values[block].mean((0, 1, 2)), rtol=1e-5)
    taps = np.array([[0, 0, 1, 0, 0], [0.1, 0.2, 0.4, 0.2, 0.1], [0.05, 0.25, 0.4, 0.25, 0.05]], dtype=np.float32)
    smooth = np.empty_like(values)
    _raster_kernels.smooth(0, 35, values.reshape(5, 7, 18), 2, taps, smooth.reshape(5, 7, 18))
    expected = values.astype(float)
    for axis in range(3):
        expected = scipy.ndimage.correlate1d(expected, taps[axis], axis, mode="nearest")
    np.testing.assert_allclose(smooth, expected, rtol=1e-5)


@pytest.mark.parametrize("ndim", [2, 3])
def test_bundles_move_with_the_map(ndim):
    rng = np.random.default_rng(8)
    jacobian = np.eye(ndim) + rng.normal(0, 0.3, (4, ndim, ndim))
    jacobian[3, 0] = jacobian[3, 1]
    normals, across = rng.normal(size=(4, ndim)), rng.normal(size=(4, 5, ndim))
    along, moved = np.empty_like(normals), np.empty_like(across)
    _bundle_kernels.moved_bundles(0, 4, normals, across, jacobian.reshape(4, -1), along, moved)
    assert np.isnan(along[3]).all()
    for J, n, t, a, m in zip(jacobian[:3], normals, across, along, moved, strict=False):
        expected = np.linalg.inv(J).T @ n
        np.testing.assert_allclose(a, expected / (expected @ expected))
        np.testing.assert_allclose(m, t @ J.T)


@pytest.mark.parametrize(("ndim", "channels"), [(2, 1), (2, 3), (3, 1), (3, 2)])
def test_bundles_of_lines_agree_with_their_twin(ndim, channels):
    values, grid = image(ndim, channels)
    rng = np.random.default_rng(1)
    centers = grid.points_at(rng.uniform(0, np.array(grid.shape) - 1, (6, ndim)))
    # one bundle wholly inside
    centers[0] = grid.center
    along = rng.normal(size=(6, ndim))
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    along[0] *= 0.2
    across = rng.normal(0, 0.5, (6, 3, ndim))
    out = np.empty((6, channels, 3, 9), dtype=np.float32)
    r = raster_of(values, grid)
    arguments = (r.values.reshape(-1), r.values.shape, r.allowed.reshape(-1), r.nearest, *r.frame)
    _bundle_kernels.sample_lines(0, 6, *arguments, centers, along, across, -4.0, 0.7, out)
    expected = naive_lp.lines(values, grid, centers, along, across, -4.0, 0.7, 9)
    assert np.isnan(expected).any()
    assert np.isfinite(expected[0]).all()
    np.testing.assert_allclose(out, expected, atol=2e-6)


def test_masked_voxels_are_not_sampled_and_labels_are_not_mixed():
    values, grid = image(2, 1)
    labels = np.round(10 * values)
    allowed = np.ones(grid.shape, dtype=bool)
    allowed[4:] = False
    index = np.array([[2.3, 3.4], [3.4, 2.0], [3.6, 2.0], [6.0, 1.0]])
    out = np.empty((4, 1, 1, 1), dtype=np.float32)
    r = raster_of(labels, grid, allowed, nearest=True)
    lines = (grid.points_at(index), np.ones((4, 2)), np.zeros((4, 1, 2)))
    _bundle_kernels.sample_lines(
        0, 4, r.values.reshape(-1), r.values.shape, r.allowed.reshape(-1), r.nearest, *r.frame, *lines, 0.0, 1.0, out
    )
    np.testing.assert_array_equal(out.ravel()[:2], [labels[2, 3, 0], labels[3, 2, 0]])
    assert np.isnan(out.ravel()[2:]).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_ncc_and_ssd_agree_with_their_twins(channels):
    fixed, moving, ratio, shifts = profiles(channels)
    floor = np.random.default_rng(2).uniform(0.01, 0.1, (2, channels))
    out = np.empty((len(fixed), shifts))
    bundles = (0, len(fixed), flat(fixed), flat(moving), fixed.shape[2], ratio)
    _cost_kernels.ncc_costs(*bundles, floor, 0.5, out)
    expected = naive_lp.ncc(fixed, moving, ratio, shifts, floor, 0.5)
    assert np.isnan(expected).any()
    np.testing.assert_allclose(out, expected, rtol=1e-5)
    _cost_kernels.ssd_costs(*bundles, floor[0], 0.5, out)
    np.testing.assert_allclose(out, naive_lp.ssd(fixed, moving, ratio, shifts, floor[0], 0.5), rtol=1e-5)


def test_table_costs_and_histogram_agree_with_their_twins():
    fixed, moving, ratio, shifts = profiles(1)
    bounds = np.array([0.25, 0.5, 0.75, np.inf])
    f, m = (np.empty((part.shape[0], *part.shape[2:]), dtype=np.int16) for part in (fixed, moving))
    for part, classes in ((fixed, f), (moving, m)):
        _cost_kernels.classify(0, len(part), flat(part), bounds, classes.reshape(len(part), -1))
        np.testing.assert_array_equal(classes, np.where(np.isnan(part[:, 0]), -1, np.searchsorted(bounds, part[:, 0])))
    rho = np.random.default_rng(3).normal(size=(4, 4))
    out = np.empty((len(f), shifts))
    bundles = (f.reshape(len(f), -1), m.reshape(len(m), -1), f.shape[1], ratio)
    _cost_kernels.table_costs(0, len(f), *bundles, rho, 0.5, out)
    np.testing.assert_allclose(out, naive_lp.table(f, m, ratio, shifts, rho, 0.5), rtol=1e-9)
    counts = np.zeros((4, 4))
    _cost_kernels.joint_histogram(*bundles, 3, counts)
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
    weights = np.random.default_rng(5).uniform(0.5, 2.0, 40)
    counts, widths, slopes = np.empty(40, dtype=np.int64), np.empty(320), np.empty(320)
    _bundle_kernels.lower_envelopes(costs, 0.5, weights, np.empty(9, dtype=np.int64), counts, widths, slopes)
    used = counts.sum()
    for row, weight, w, s in zip(
        costs, weights, *(np.split(a[:used], np.cumsum(counts)[:-1]) for a in (widths, slopes)), strict=True
    ):
        knots = np.concatenate([[0], np.cumsum(w)])
        heights = weight * row[0] + np.concatenate([[0], np.cumsum(w * s)])
        np.testing.assert_allclose(np.interp(0.5 * np.arange(9), knots, heights), weight * naive_lp.envelope(row), atol=1e-12)
        assert np.all(np.diff(s) > 1e-12)
    assert list(counts[:2]) == [2, 1]
    assert list(widths[:3]) == [1.5, 2.5, 4.0]


@pytest.mark.parametrize(("ndim", "side"), [(2, 5), (3, 3)])
@pytest.mark.parametrize("name", ["ncc", "ssd"])
def test_tensors_are_the_derivatives_of_the_costs(ndim, side, name):
    """On a linear moving image central differences are exact, and so is the gradient by a shift of the bundle."""
    rng = np.random.default_rng(7)
    lines, length, step, channels = side ** (ndim - 1), 5, 0.7, 2
    fixed = rng.uniform(0, 1, (3, channels, lines, length)).astype(np.float32)
    slopes = rng.normal(size=(3, channels, ndim))
    lattice = np.stack(np.meshgrid(*[np.arange(-1, side + 1)] * (ndim - 1), indexing="ij"), axis=-1).reshape(-1, ndim - 1)
    places = np.concatenate([np.broadcast_to(np.arange(-1, length + 1)[None, :, None], (len(lattice), length + 2, 1)),
                             np.broadcast_to(lattice[:, None], (len(lattice), length + 2, ndim - 1))], axis=-1)  # fmt: skip
    values = np.einsum("lta,nca->nclt", step * places, slopes)
    moving = values.astype(np.float32)
    inner = np.all((lattice >= 0) & (lattice < side), axis=1)
    # only a derivative along the normal sees it
    moving[2, 0, np.flatnonzero(inner)[0], 0] = np.nan
    floor = rng.uniform(0.1, 0.2, (2, channels))
    criterion = Ncc(floor) if name == "ncc" else Ssd(floor[0])
    samples = Profiles(fixed, moving, Bundle(length // 2, side // 2), HERE)
    hessian, gradient = criterion.tensors(samples, step, ndim)

    def cost(w):
        shifted = (values + (slopes @ w)[:, :, None, None])[:, :, inner, 1:-1]
        if name == "ncc":
            return naive_lp.ncc(fixed, shifted, 1, 1, floor, 0.5)[:, 0]
        return naive_lp.ssd(fixed, shifted, 1, 1, floor[0], 0.5)[:, 0]

    for axis, h in enumerate(1e-4 * np.eye(ndim)):
        np.testing.assert_allclose(gradient[:2, axis], ((cost(h) - cost(-h)) / 2e-4)[:2], atol=1e-5)
    assert not gradient[2].any()
    assert not hessian[2].any()
    np.testing.assert_allclose(hessian, hessian.swapaxes(1, 2))
    if name == "ssd":
        expected = 2 * np.einsum("nca,ncb,c->nab", slopes, slopes, 1 / floor[0]) / channels
        np.testing.assert_allclose(hessian[:2], expected[:2], rtol=1e-4)
    else:
        assert np.linalg.eigvalsh(hessian).min() > -1e-12


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


@pytest.mark.parametrize("shape", [(1, 14, 11), (7, 9, 8)])
def test_blocks_match_as_their_twin_says(shape):
    rng = np.random.default_rng(4)
    shape = np.array(shape)
    half, reach = np.minimum((1, 2, 1), shape - 1), np.minimum((2, 1, 2), shape - 1)
    moved = rng.normal(size=shape + 2 * reach).astype(np.float32)
    inner = tuple(slice(r + (r > 0), r + (r > 0) + n) for r, n in zip(reach, shape, strict=True))
    # what fixed shows lies one voxel further in moved, and some of both is not known
    fixed = (moved[inner] + 0.3 * rng.normal(size=shape)).astype(np.float32)
    fixed[rng.random(shape) < 0.2] = np.nan
    moved[:, :4, :4] = np.nan
    centers = rng.integers(0, shape, (20, 3))
    floor = np.array([0.01, 0.02])
    offsets, scores = np.zeros_like(centers), np.zeros((20, 3))
    _patch_kernels.best_offsets(0, 20, fixed, moved, reach, centers, half, reach, floor, 0.5, offsets, scores)
    expected, values = naive_lp.best_offsets(fixed, moved, reach, centers, half, reach, floor, 0.5)
    assert np.isnan(values).any()
    assert np.isfinite(values).any()
    np.testing.assert_array_equal(offsets, expected)
    np.testing.assert_allclose(scores, values, atol=1e-6)


def test_costs_go_on_where_a_shift_leads_out():
    nan = np.nan
    costs = np.array([[nan, 3, 1, 2, nan], [5, nan, 1, 0, 4], [1, 2, nan, 2, 1], [4, 3, 2, 1, 0.0]])
    np.testing.assert_array_equal(continued(costs), [[3, 3, 1, 2, 3], [4, 4, 1, 0, 4], [nan] * 5, [4, 3, 2, 1, 0]])


@pytest.mark.parametrize("ndim", [2, 3])
def test_ranges_of_the_outermost_index_make_up_the_whole(ndim):
    """Threads get ranges: what a kernel does for an index does not depend on the others."""
    values, grid = image(ndim, 2)
    r = raster_of(values, grid)
    rng = np.random.default_rng(2)
    centers = grid.points_at(rng.uniform(0, np.array(grid.shape) - 1, (7, ndim)))
    lines = (centers, rng.normal(size=(7, ndim)), rng.normal(size=(7, 3, ndim)))
    whole, parts = (np.full((7, 2, 3, 9), -1, dtype=np.float32) for _ in range(2))
    arguments = (r.values.reshape(-1), r.values.shape, r.allowed.reshape(-1), False, *r.frame, *lines, -4.0, 0.7)
    _bundle_kernels.sample_lines(0, 7, *arguments, whole)
    _bundle_kernels.sample_lines(3, 7, *arguments, parts)
    assert (parts[:3] == -1).all()
    _bundle_kernels.sample_lines(0, 3, *arguments, parts)
    np.testing.assert_array_equal(whole, parts)
