"""Kernels of the dense registration against slow twins."""

import numpy as np
import pytest
from support import naive_dense

from augreg import Affine, Grid
from augreg.dense import _field_kernels, _force_kernels, folds
from augreg.dense.known import KnownImage, by_channel
from augreg.dense.level import Level, refined

pytestmark = pytest.mark.kernels
F = np.float32
# shape, spacing: blocks are (2, 2), (2, 2, 2) and, of thick slices, (2, 2, 1)
SCENES = [
    ((12, 10), (1.0, 1.0), 1),
    ((12, 10), (1.0, 1.0), 3),
    ((8, 6, 6), (1.0, 1.2, 1.0), 1),
    ((8, 6, 6), (1.0, 1.2, 1.0), 2),
    ((8, 6, 3), (1.5, 1.5, 10.0), 1),
]
SHAPES = [(2, 5, 1, 6), (3, 4, 5, 3), (3, 4, 1, 3)]


def flat(values, ndim):
    """Without the axis that 2-D arrays have for kernels."""
    return values[..., 0, :] if ndim == 2 else values


def level_of(shape, spacing, channels=1, seed=0, wiener=0.0):
    """Two unlike rasters with holes, and a map between them."""
    rng, ndim = np.random.default_rng(seed), len(shape)
    size = tuple(n + 2 for n in shape)
    fixed = rng.normal(size=(channels, *shape)).astype(F)
    wide = np.pad(fixed, [(0, 0)] + [(1, 1)] * ndim, mode="reflect")
    moving = (wide + 0.5 * rng.normal(size=(channels, *size))).astype(F)
    fixed[(slice(None), *(slice(2),) * ndim)], moving[(slice(None), *(-3,) * ndim)] = np.nan, np.nan
    grids = Grid(shape, spacing, (1.0, 2.0, 3.0)[:ndim]), Grid(size, spacing, (0.5, 2.2, 2.4)[:ndim])
    turn = np.eye(ndim) + 0.05 * rng.normal(size=(ndim, ndim))
    affine = Affine.about(turn, grids[0].center)
    images = [KnownImage(by_channel(values, ndim), grid) for values, grid in zip((fixed, moving), grids, strict=True)]
    return Level(*images, affine, 1, wiener, 0.01)


def field_of(level, size=0.4, seed=1):
    return np.random.default_rng(seed).uniform(-size, size, level.zeros().shape).astype(F)


def parts_of(level, field):
    """What the twin needs: images, blocks, reach, of as many axes as there are."""
    ndim = level.fixed.grid.ndim
    axes = [0, 1, 2] if ndim == 3 else [0, 2]
    matrix, offset = level._to_moving
    blocks, reach = level.blocks[axes], level._window[1][axes]
    fixed, moving = (flat(image.values, ndim).astype(float) for image in (level.fixed, level.moving))
    place = (flat(field, ndim).astype(float), matrix[np.ix_(axes, axes)].astype(float), offset[axes], blocks, fixed.shape[1:])
    moved = np.stack([naive_dense.warped(channel, *place) for channel in moving])
    least, none, _, floor = level._numbers
    return fixed, moved, blocks, reach, (blocks, reach, least, none, floor)


@pytest.mark.parametrize(("shape", "spacing", "channels"), SCENES)
def test_the_moving_image_is_seen_through_field_and_affine_map(shape, spacing, channels):
    level = level_of(shape, spacing, channels)
    field = field_of(level)
    _, moved, *_ = parts_of(level, field)
    seen = flat(level._seen(field), len(shape))
    assert np.isnan(moved).any()
    # a neighbour of weight 0 may be unknown there, which is nobody's loss
    assert (np.isnan(seen) >= np.isnan(moved)).all()
    assert np.isnan(seen).sum() <= np.isnan(moved).sum() + 2 * channels
    np.testing.assert_allclose(seen[np.isfinite(seen)], moved[np.isfinite(seen)], atol=2e-5)


@pytest.mark.parametrize(("shape", "spacing", "channels"), SCENES)
def test_forces_are_those_of_the_equations(shape, spacing, channels):
    level, ndim = level_of(shape, spacing, channels), len(shape)
    field = field_of(level)
    fixed, _, blocks, reach, how = parts_of(level, field)
    moved = flat(level._seen(field), ndim).astype(float)
    found, means = naive_dense.windows(fixed, moved, *how)
    pulls, weight = naive_dense.pulls(fixed, moved, found, means, blocks, reach)
    scale = min(spacing) / np.array(spacing)
    systems = [naive_dense.system(m, s, weight, blocks, scale) for m, s in zip(moved, pulls, strict=True)]
    G, T = (sum(parts) for parts in zip(*systems, strict=True))
    system, agreement = level.system(field)
    system = flat(system, ndim)
    assert agreement == pytest.approx((found[4] * found[3]).sum() / found[4].sum(), abs=1e-5)
    pairs = [(a, b) for a in range(ndim) for b in range(a, ndim)]
    expected = np.concatenate([G, np.stack([T[pair] for pair in pairs])])
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(system, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("channels", [1, 2])
def test_forces_are_the_derivative_of_the_objective(channels):
    level = level_of((12, 10), (1.0, 1.0), channels)
    fixed, moved, blocks, reach, how = parts_of(level, field_of(level))
    found, means = naive_dense.windows(fixed, moved, *how)
    s, _ = naive_dense.pulls(fixed, moved, found, means, blocks, reach)
    known = np.argwhere(np.isfinite(fixed + moved))
    for voxel in map(tuple, known[:: len(known) // 8]):
        values = []
        for change in (-1e-4, 1e-4):
            other = moved.copy()
            other[voxel] += change
            values.append(naive_dense.objective(fixed, other, found[4], *how))
        assert s[voxel] == pytest.approx((values[1] - values[0]) / 2e-4, abs=1e-6)


@pytest.mark.parametrize("repeat", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_filters_are_sums_of_taps(shape, repeat):
    rng = np.random.default_rng(2)
    values, taps = rng.normal(size=shape).astype(F), rng.uniform(size=(3, 3)).astype(F)
    reach = np.array([2, 1 if shape[2] > 1 else 0, 2])
    out = np.empty_like(values)
    _field_kernels.filtered(0, shape[0] * shape[1], values, taps, reach, repeat, out)
    for mine, given in zip(out, values, strict=True):
        np.testing.assert_allclose(mine, naive_dense.filtered(given, taps, reach, repeat), atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_composition_is_multilinear(shape):
    rng, ndim = np.random.default_rng(3), shape[0]
    field, step = rng.normal(size=shape).astype(F), rng.uniform(-0.99, 0.99, shape).astype(F)
    out = np.empty_like(field)
    _field_kernels.composed(0, shape[1] * shape[2], field, step, out)
    expected = naive_dense.composed(flat(field, ndim), flat(step, ndim))
    np.testing.assert_allclose(flat(out, ndim), expected, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_steps_solve_their_systems_and_are_capped(shape):
    rng, ndim = np.random.default_rng(4), shape[0]
    half = rng.normal(size=(ndim, ndim + 1, *shape[1:]))
    T = np.einsum("ac...,bc...->ab...", half, half)
    G = rng.normal(size=shape) * rng.uniform(size=shape) ** 2
    pairs = [(a, b) for a in range(ndim) for b in range(a, ndim)]
    system = np.concatenate([G, np.stack([T[pair] for pair in pairs])]).astype(F)
    out, scale = np.empty(shape, F), np.array([1.0, 0.5, 0.25], F)
    _force_kernels.steps(0, shape[1] * shape[2], system, F(0.1), F(0.8), scale, out)
    wide = np.moveaxis(T, (0, 1), (-2, -1)) + 0.1 * np.eye(ndim)
    v = np.linalg.solve(wide, np.moveaxis(G, 0, -1)[..., None])[..., 0]
    norm = np.linalg.norm(v, axis=-1, keepdims=True)
    assert norm.min() < 0.8 < norm.max()
    v = v * np.minimum(1, 0.8 / norm) * scale[[0, 2] if ndim == 2 else [0, 1, 2]]
    np.testing.assert_allclose(np.moveaxis(out, 0, -1), v, atol=2e-4)


@pytest.mark.parametrize("size", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_determinant_is_below_the_guard_where_no_cell_is_doubtful(shape, size):
    field = np.random.default_rng(5).uniform(-size, size, shape).astype(F)
    for guard in (0.05, 0.2, 0.7):
        cells = folds.doubtful_cells(field, guard)
        least = naive_dense.determinants(flat(field, shape[0]), 5).reshape(cells.shape)
        assert (least[cells == 0] >= guard - 1e-6).all()
        if shape[0] == 2:
            # corners are enough: no cell is doubted in vain
            np.testing.assert_array_equal(cells, least < guard)
        else:
            # in vain hardly ever
            assert (cells & (least > guard + 0.3)).sum() <= 0.2 * cells.size


@pytest.mark.parametrize("shape", SHAPES)
def test_what_folds_is_unfolded(shape):
    field = np.random.default_rng(6).uniform(-2, 2, shape).astype(F)
    for guard in (0.05, 0.2):
        assert naive_dense.determinants(flat(field, shape[0]), 5).min() < 0
        mended = folds.unfolded(field, guard)
        assert naive_dense.determinants(flat(mended, shape[0]), 7).min() >= guard - 1e-6
        assert folds.unfolded(mended, guard) is mended
        assert np.abs(mended).max() > 0


@pytest.mark.parametrize(("shape", "blocks"), [((2, 5, 1, 4), [2, 1, 2]), ((3, 4, 3, 5), [2, 2, 1])])
def test_a_finer_lattice_shows_the_same_field(shape, blocks):
    field, blocks, ndim = np.random.default_rng(7).normal(size=shape).astype(F), np.array(blocks), shape[0]
    fine = flat(refined(field, blocks), ndim)
    own = blocks[[0, 2]] if ndim == 2 else blocks
    expected = naive_dense.displacement(flat(field, ndim).astype(float), own, fine.shape[1:])
    np.testing.assert_allclose(np.moveaxis(fine, 0, -1), expected, atol=1e-5)
