"""Laws of the dense registration."""

import itertools

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from support import naive_dense

from augreg import (
    Affine,
    BSpline,
    Chained,
    ConsistentRegistration,
    DenseRegistration,
    DisplacementField,
    Exponential,
    Grid,
    Image,
    Labels,
    folding,
    get_threads,
    read_transform,
    set_threads,
    warp,
    write_transform,
)
from augreg.dense import known

SHAPES = {2: (96, 80), 3: (48, 40, 32)}


def scene(ndim, seed=0, shape=None, spacing=1.0, smooth=2.0):
    """Smooth noise, on a grid that is a little off."""
    shape = shape or SHAPES[ndim]
    values = gaussian_filter(np.random.default_rng(seed).normal(size=shape), smooth / np.broadcast_to(spacing, ndim))
    values = 100 + 20 * values / values.std()
    return Image(values.astype(np.float32), Grid(shape, tuple(np.broadcast_to(spacing, ndim)), (3.0, -2.0, 1.0)[:ndim]))


def bent(grid, amplitude, seed=1, control=16.0):
    """A smooth map, free of folds."""
    spline = BSpline.zeros(grid, control)
    c = np.random.default_rng(seed).uniform(-amplitude, amplitude, spline.coefficients.shape)
    return BSpline(np.where(spline.free[..., None], c, 0.0), spline.grid)


def pair_of(ndim, amplitude=3.0, **how):
    """An image, the same bent, and how: fixed(x) = moving(phi(x))."""
    moving = scene(ndim, **how)
    phi = bent(moving.grid, amplitude, control=16 * max(moving.grid.spacing) if min(moving.grid.spacing) > 1 else 16.0)
    return warp(moving, phi, moving.grid, interpolation="cubic"), moving, phi


def error(found, truth, grid, margin=8.0):
    """Mean distance, mm, away from the border."""
    keep = [
        np.abs(np.arange(n) - (n - 1) / 2) * s <= (n - 1) * s / 2 - margin for n, s in zip(grid.shape, grid.spacing, strict=True)
    ]
    points = grid.points()[np.ix_(*[k if k.any() else ~k for k in keep])]
    return float(np.linalg.norm(found(points) - truth(points), axis=-1).mean())


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_smooth_warp_is_found_without_folds(ndim):
    fixed, moving, phi = pair_of(ndim)
    found = DenseRegistration()(fixed, moving)
    none = error(Affine.identity(ndim), phi, fixed.grid)
    assert none > 1
    assert error(found, phi, fixed.grid) < 0.15 * none
    assert folding(found, fixed.grid) == 0


@pytest.mark.parametrize("guard", [0.05, 0.2])
@pytest.mark.parametrize("ndim", [2, 3])
def test_nothing_folds_whatever_the_images(ndim, guard):
    # two images that have nothing in common pull a field anywhere
    fixed, moving = scene(ndim, 1, smooth=1.0), scene(ndim, 2, smooth=1.0)
    for state in DenseRegistration(guard=guard).steps(fixed, moving):
        if state.iteration:
            field = state.transform.transforms[-1]
            blocks = np.moveaxis(field.values, -1, 0) / np.array(field.grid.spacing).reshape(-1, *[1] * ndim)
            assert naive_dense.determinants(blocks, 4).min() >= guard - 1e-5
    assert np.abs(field.values).max() > 0.5
    back = state.transform.inverse(fixed.grid)
    points = fixed.grid.points()[(slice(12, -12, 3),) * ndim]
    assert np.abs(state.transform(back(points)) - points).max() < (0.5 if guard < 0.1 else 0.3)
    assert np.abs(state.transform.solve(points) - back(points)).max() < 0.5


@pytest.mark.parametrize("guard", [0.05, 0.2])
@pytest.mark.parametrize("ndim", [2, 3])
def test_inverses_exist_to_a_hundredth_of_a_voxel(ndim, guard):
    # two images that have nothing in common squeeze a field down to the guard
    fixed, moving = scene(ndim, 1, smooth=1.0), scene(ndim, 2, smooth=1.0)
    found = DenseRegistration(guard=guard)(fixed, moving)
    points = fixed.grid.points()[(slice(None, None, 2),) * ndim].reshape(-1, ndim)
    back = found.solve(found(points))
    assert np.abs(found(back) - found(points)).max() < 1e-4
    assert np.abs(back - points).max() < 0.01
    # as a field at its nodes, of those that have a preimage in the image
    inverse = found.inverse(fixed.grid)
    nodes = fixed.grid.points()[(slice(12, -12, 3),) * ndim].reshape(-1, ndim)
    assert np.abs(found(inverse(nodes)) - nodes).max() < 0.01


@pytest.mark.parametrize("ndim", [2, 3])
def test_beyond_the_border_it_comes_to_rest_without_a_jump(ndim):
    # images that have nothing in common: what lies on the border is pulled far
    fixed, moving = scene(ndim, 1, smooth=1.0), scene(ndim, 2, smooth=1.0)
    found = DenseRegistration()(fixed, moving)
    field = found.transforms[-1]
    outside = field.grid.padded(3).points()
    np.testing.assert_array_equal(found(outside[:2]), outside[:2])
    # a line across the border, in steps of a hundredth voxel
    line = fixed.grid.points_at(np.linspace([-40.0, *[20.3] * (ndim - 1)], [5.0, *[20.3] * (ndim - 1)], 4501))
    steps = np.linalg.norm(np.diff(found(line), axis=0), axis=1)
    assert np.abs(found.displacement(fixed.grid)[0]).max() > 0.5
    assert steps.max() < 0.1


@pytest.mark.parametrize("ndim", [2, 3])
def test_an_image_agrees_with_itself(ndim):
    image = scene(ndim)
    found = DenseRegistration()(image, image)
    assert np.abs(found.displacement(image.grid)).max() < 0.01


@pytest.mark.parametrize("ndim", [2, 3])
def test_gain_and_offset_do_not_matter(ndim):
    fixed, moving, _ = pair_of(ndim)
    found = DenseRegistration()(fixed, moving).displacement(fixed.grid)
    other = DenseRegistration()(fixed.with_values(0.01 * fixed.values - 3), moving.with_values(7 * moving.values + 100))
    assert np.abs(other.displacement(fixed.grid) - found).max() < 0.02


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_order_of_voxels_and_oblique_directions_do_not_matter(ndim):
    fixed, moving, _ = pair_of(ndim)
    points = fixed.grid.points()
    found = DenseRegistration()(fixed, moving)(points)
    flips = np.diag([-1.0, *[1.0] * (ndim - 1)])
    grid = Grid(moving.grid.shape, moving.grid.spacing, moving.grid.points_at([moving.grid.last[0], *[0] * (ndim - 1)]), flips)
    flipped = Image(moving.values[::-1], grid)
    assert np.abs(DenseRegistration()(fixed, flipped)(points) - found).max() < 0.02
    # all of the world turned
    turn = np.eye(ndim)
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    turned = [Image(i.values, Grid(i.grid.shape, i.grid.spacing, turn @ i.grid.origin, turn)) for i in (fixed, moving)]
    assert np.abs(DenseRegistration()(*turned)(points @ turn.T) - found @ turn.T).max() < 0.02


@pytest.mark.parametrize("bending", [False, True])
def test_what_is_masked_does_not_matter(bending):
    fixed, moving, phi = pair_of(2)
    initial = phi if bending else None
    masks = {}
    others = []
    for side, image, where in (("fixed", fixed, np.s_[30:50, 20:40]), ("moving", moving, np.s_[60:75, 50:70])):
        mask = np.ones(image.grid.shape, np.uint8)
        mask[where] = 0
        masks[f"{side}_mask"] = Labels(mask, image.grid)
        values = image.values.copy()
        values[where] = 100 + np.random.default_rng(8).normal(size=values[where].shape) * 30
        others.append(image.with_values(values))
    found = DenseRegistration()(fixed, moving, initial=initial, **masks)
    other = DenseRegistration()(*others, initial=initial, **masks)
    np.testing.assert_array_equal(found.displacement(fixed.grid), other.displacement(fixed.grid))
    assert (
        np.abs(DenseRegistration()(*others, initial=initial).displacement(fixed.grid) - found.displacement(fixed.grid)).max()
        > 0.5
    )


@pytest.mark.parametrize("ndim", [2, 3])
def test_outside_the_moving_image_there_is_nothing(ndim):
    # a moving image that shows a part: beyond it nothing is pulled towards its border
    fixed, moving, phi = pair_of(ndim)
    part = (slice(0, moving.grid.shape[0] * 2 // 3),)
    cut = Image(moving.values[part], Grid(moving.values[part].shape, moving.grid.spacing, moving.grid.origin))
    found = DenseRegistration()(fixed, cut)
    seen = Grid((cut.grid.shape[0] - 8, *fixed.grid.shape[1:]), fixed.grid.spacing, fixed.grid.origin)
    assert error(found, phi, seen) < 0.4 * error(Affine.identity(ndim), phi, seen)
    assert np.linalg.norm(found.displacement(fixed.grid), axis=-1).max() < 8


def test_thick_slices_are_millimetres_too():
    fixed, moving, phi = pair_of(3, 5.0, shape=(64, 60, 8), spacing=(1.5, 1.5, 10.0), smooth=6.0)
    found = DenseRegistration()(fixed, moving)
    none = error(Affine.identity(3), phi, fixed.grid)
    assert none > 0.5
    assert error(found, phi, fixed.grid) < 0.4 * none
    field = found.transforms[-1]
    assert field.grid.spacing == (3.0, 3.0, 10.0)
    assert folding(found, fixed.grid) == 0


@pytest.mark.parametrize("shape", [(2, 2), (3, 40), (7, 5), (2, 3, 2), (33, 5, 2), (17, 16, 4)])
def test_any_size_has_a_result(shape):
    rng, grid = np.random.default_rng(3), Grid(shape)
    fixed, moving = (Image(rng.normal(size=shape).astype(np.float32), grid) for _ in range(2))
    found = DenseRegistration()(fixed, moving)
    assert folding(found, grid) == 0


@pytest.mark.parametrize("ndim", [2, 3])
def test_very_large_images_are_halved_first_in_slabs(ndim, monkeypatch):
    fixed, moving, phi = pair_of(ndim, 4.0, smooth=3.0)
    mask = np.ones(fixed.grid.shape, np.uint8)
    mask[:7] = 0
    masks = {"fixed_mask": Labels(mask, fixed.grid)}
    exact = DenseRegistration()(fixed, moving, **masks)
    whole = known.KnownImage.of(fixed, masks["fixed_mask"]).reduced(np.array([2, 2, 2] if ndim == 3 else [2, 1, 2]))
    monkeypatch.setattr(known, "_MOST", fixed.values.size // 2)
    # two rows, and seven
    for slab in (1, 8 * fixed.values[0].size):
        monkeypatch.setattr(known, "_SLAB", slab)
        half = known.KnownImage.of(fixed, masks["fixed_mask"])
        assert half.grid == whole.grid
        seen = np.isfinite(half.values)
        np.testing.assert_array_equal(seen, np.isfinite(whole.values))
        # up to the deviation of the smaller image
        np.testing.assert_allclose(np.corrcoef(half.values[seen], whole.values[seen])[0, 1], 1, atol=1e-6)
    found = DenseRegistration()(fixed, moving, **masks)
    assert found.transforms[-1].grid.spacing == tuple(2 * s for s in exact.transforms[-1].grid.spacing)
    assert error(found, phi, fixed.grid) < 0.5 * error(Affine.identity(ndim), phi, fixed.grid)


@pytest.mark.parametrize("smaller", [False, True])
def test_behind_a_start_that_bends_large_images_keep_every_second_voxel(smaller):
    moving = scene(2, shape=(2100, 96), smooth=4.0)
    phi = bent(moving.grid, 3.0, control=32.0)
    fixed = warp(moving, phi, moving.grid, interpolation="cubic")
    start = BSpline(0.2 * phi.coefficients, phi.grid)
    if smaller:
        # of a pair the smaller image decides: none of its voxels is left out
        moving = Image(moving.values[:1000], Grid((1000, 96), origin=moving.grid.origin))
    found = DenseRegistration()(fixed, moving, initial=start)
    spacing = found.transforms[-1].grid.spacing
    np.testing.assert_allclose(spacing, 2.0 if smaller else 4.0)
    if not smaller:
        assert error(found, phi, fixed.grid) < 0.75 * error(start, phi, fixed.grid)
    # behind an affine start everything counts
    assert DenseRegistration()(fixed, moving).transforms[-1].grid.spacing[0] == 2.0


def test_what_is_said_of_large_images_counts_all_of_their_voxels():
    moving = scene(2, shape=(2100, 64))
    fixed = moving.with_values(np.where(np.arange(2100)[:, None] % 2 == 0, np.float32("nan"), moving.values))
    start = bent(moving.grid, 0.5, control=64.0)
    *_, state = DenseRegistration().steps(fixed, moving, initial=start)
    assert any("67200 of 134400 voxels of fixed" in text for text in state.warnings)


def test_where_there_is_no_structure_nothing_is_pulled():
    # a scene in the middle of nothing: the far field is smooth and small, and the scene is found as without its surroundings
    fixed, moving, phi = pair_of(2)
    wide = [np.pad(image.values, 48, constant_values=0.0) for image in (fixed, moving)]
    found = DenseRegistration()(*wide)
    inner = Grid(fixed.grid.shape, (1.0, 1.0), (48.0, 48.0))
    truth = phi.displacement(fixed.grid)
    assert np.linalg.norm(found.displacement(inner) - truth, axis=-1)[8:-8, 8:-8].mean() < 0.25
    assert np.abs(found.displacement(Grid((20, 20)))).max() < 1


@pytest.mark.parametrize("kind", ["affine", "affine parts", "bspline", "field", "velocity", "composition"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_starts_of_every_kind_stay_the_left_part(ndim, kind):
    fixed, moving, phi = pair_of(ndim)
    A = Affine.about(np.eye(ndim) * 1.02, fixed.grid.center, [1.0] * ndim)
    near = DisplacementField(0.8 * phi.displacement(fixed.grid), fixed.grid)
    starts = {
        "affine": A,
        "affine parts": A @ A.inverse(),
        "bspline": BSpline(0.2 * phi.coefficients, phi.grid),
        "field": near,
        "velocity": Exponential(near),
        "composition": A @ near,
    }
    start = starts[kind]
    found = DenseRegistration()(fixed, moving, initial=start)
    assert isinstance(found.transforms[-1], DisplacementField)
    points = fixed.grid.points()[(slice(None, None, 7),) * ndim]
    np.testing.assert_allclose(found(points), start(found.transforms[-1](points)))
    assert error(found, phi, fixed.grid) < max(0.6 * error(start, phi, fixed.grid), 0.35)


def test_a_budget_is_kept_and_said():
    fixed, moving, _ = pair_of(3)
    (begin,) = DenseRegistration(budget=1e-6).steps(fixed, moving)
    assert (begin.iteration, begin.stage, begin.late) == (0, "start", True)
    states = list(DenseRegistration(budget=1e-6).steps(fixed, moving))
    assert "budget" in states[-1].warnings[-1]
    assert folding(states[-1].transform, fixed.grid) == 0


def test_states_tell_of_the_way():
    fixed, moving, _ = pair_of(2)
    states = list(DenseRegistration().steps(fixed, moving))
    assert (states[0].level, states[0].iteration) == (0, 0)
    assert [s.level for s in states] == sorted(s.level for s in states)
    assert all(a.seconds <= b.seconds for a, b in itertools.pairwise(states))
    finest = [s.objective for s in states if s.level == states[-1].level]
    assert finest[-1] < 0.5 * states[0].objective
    assert states[-1].warnings == ()


def test_bits_do_not_depend_on_threads(monkeypatch):
    # any work is worth a thread
    monkeypatch.setattr("augreg.threads._WORTH", 1.0)
    count = get_threads()
    fixed, moving, _ = pair_of(3)
    found = []
    try:
        for threads in (1, count):
            set_threads(threads)
            found.append(DenseRegistration()(fixed, moving).transforms[-1].values)
    finally:
        set_threads(count)
    np.testing.assert_array_equal(*found)


def test_what_is_not_used_is_said():
    fixed, moving, _ = pair_of(2)
    labels = Labels((fixed.values > 100).astype(np.uint8), fixed.grid)
    *_, state = DenseRegistration().steps(fixed, moving, fixed_labels=labels, rigid_mask=labels)
    assert [w.split(":")[0] for w in state.warnings] == ["fixed_labels, rigid_mask"]
    *_, state = DenseRegistration().steps(fixed, moving.with_values(-moving.values))
    assert "local correlation" in state.warnings[-1]


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("bending", [False, True])
def test_colours_are_vectors(ndim, bending):
    fixed, moving, phi = pair_of(ndim)
    start = BSpline(0.3 * phi.coefficients, phi.grid) if bending else Affine.identity(ndim)
    grey = DenseRegistration()(fixed, moving, initial=start)
    # three times the same is what one is
    same = [image.with_values(np.stack([image.values] * 3, axis=-1)) for image in (fixed, moving)]
    found = DenseRegistration()(*same, initial=start)
    np.testing.assert_allclose(found.displacement(fixed.grid), grey.displacement(fixed.grid), atol=0.05)
    # of one luminance: only the colours tell, and their signs do not cancel
    even = [image.with_values(np.stack([image.values, 200 - image.values], axis=-1)) for image in (fixed, moving)]
    found = DenseRegistration()(*even, initial=start)
    assert np.ptp(even[0].luminance().values) < 1e-3
    assert error(found, phi, fixed.grid) < 0.15 * error(Affine.identity(ndim), phi, fixed.grid)


def test_wrappers_take_it(tmp_path):
    fixed, moving, phi = pair_of(2)
    both = ConsistentRegistration(Chained(DenseRegistration(), DenseRegistration()))
    found = both(fixed, moving)
    assert error(found, phi, fixed.grid) < 0.2 * error(Affine.identity(2), phi, fixed.grid)
    write_transform(found, tmp_path / "dense.h5", fixed.grid)
    again = read_transform(tmp_path / "dense.h5")
    points = fixed.grid.points()[::5, ::5]
    np.testing.assert_allclose(again(points), found(points), atol=1e-4)


@pytest.mark.parametrize(("option", "value"), [("guard", 0.0), ("guard", 1.0), ("budget", 0.0), ("budget", float("nan"))])
def test_options_that_mean_nothing_are_refused(option, value):
    with pytest.raises(ValueError, match=f"^{option}: expected"):
        DenseRegistration(**{option: value})
