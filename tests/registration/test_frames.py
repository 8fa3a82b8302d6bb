"""What belongs to the images and not to the scene: padding, frames, extreme voxels, order of arrays. Truth by SimpleITK."""

import functools

import numpy as np
import pytest
import SimpleITK as sitk
from support import phantoms

from augreg import Grid, Image, Labels
from augreg.lp import LPRegistration
from augreg.registration import Pair, frames

N = 200


@functools.cache
def scene():
    """Fixed and moving of a photograph, (x, y) arrays of 0 to 1000, points of fixed and where SimpleITK puts them."""
    small = phantoms.skimage.transform.resize(phantoms.photograph("camera"), (N, N), anti_aliasing=True)
    image = sitk.GetImageFromArray((1000 * small).astype(np.float32))
    truth = sitk.Euler2DTransform([(N - 1) / 2] * 2, 0.12, (14.0, -10.0))
    moved = sitk.GetArrayFromImage(sitk.Resample(image, image, truth.GetInverse(), sitk.sitkLinear, 0.0))
    noise = np.random.default_rng(0).normal(0, 8, (2, N, N))
    fixed, moving = 1000 * small + noise[0], moved + noise[1] * (moved != 0)
    points = np.random.default_rng(1).uniform(0.3, 0.7, (200, 2)) * N
    targets = np.array([truth.TransformPoint(p) for p in points.tolist()])
    return fixed.T.astype(np.float32), moving.T.astype(np.float32), points, targets


def keep(what: str) -> np.ndarray:
    x, y = np.mgrid[:N, :N]
    return {
        "circle": (x - N / 2) ** 2 + (y - N / 2) ** 2 < (0.42 * N) ** 2,
        "fan": np.abs(np.arctan2(x - N / 2, y + 20)) < 0.5,
        "columns": (x // 5) % 8 != 0,
        "wedge": x + y > 0.55 * N,
        "band": (x > 12) & (x < N - 12) & (y > 20) & (y < N - 20),
    }[what]


def registered(fixed, moving, transform="rigid", criterion="ncc", **known):
    points, targets = scene()[2:]
    grids = Grid(fixed.shape), Grid(moving.shape)
    *_, state = LPRegistration(transform=transform, criterion=criterion).steps(
        Image(fixed, grids[0]), Image(moving, grids[1]), **known
    )
    return float(np.median(np.linalg.norm(state.transform(points) - targets, axis=1))), state.warnings


@pytest.mark.parametrize("fill", [-2000.0, -1024.0, 0.0, 1000.0])
@pytest.mark.parametrize("what", ["circle", "fan", "columns", "wedge", "band"])
def test_a_frame_of_the_images_does_not_hold_the_scene(what, fill):
    fixed, moving, _, _ = scene()
    inside = keep(what)
    off, warnings = registered(np.where(inside, fixed, fill).astype("f4"), np.where(inside, moving, fill).astype("f4"))
    assert off < 0.5
    assert any("masked" in text for text in warnings)


@pytest.mark.parametrize("transform", ["rigid", "bspline"])
def test_a_frame_is_found_in_images_of_other_size(transform):
    fixed, moving, _, _ = scene()
    inside = keep("circle")
    framed = np.where(inside, fixed, -1024).astype("f4")
    # a moving image with a margin of the scanner: its circle is wider, and lies at the same share of its sides
    wide = np.full((N + 40, N + 40), -1024, "f4")
    x, y = np.mgrid[: N + 40, : N + 40] - (N + 40) / 2
    wide[20:-20, 20:-20] = moving
    wide[x**2 + y**2 >= (0.42 * (N + 40)) ** 2] = -1024
    _, _, points, targets = scene()
    *_, state = LPRegistration(transform=transform).steps(
        Image(framed, Grid((N, N))), Image(wide, Grid((N + 40, N + 40), (1, 1), (-20, -20)))
    )
    assert np.median(np.linalg.norm(state.transform(points) - targets, axis=1)) < 0.5


def test_images_without_frames_are_left_alone():
    fixed, moving, _, _ = scene()
    ready = Pair.of(Image(fixed, Grid((N, N))), Image(moving, Grid((N, N)))).scenes
    assert ready.fixed_mask is None
    assert ready.moving_mask is None
    assert ready.warnings == ()


def test_a_scene_that_stands_still_like_its_frame_needs_no_mask():
    fixed = np.where(keep("circle"), scene()[0], 0).astype("f4")
    assert frames.shared_frame(fixed, fixed + np.float32(0), (None, None)) is None
    shifted = np.where(keep("circle"), np.roll(scene()[0], 5, axis=0), 0).astype("f4")
    found = frames.shared_frame(fixed, shifted, (None, None))
    assert found is not None
    # one voxel more than the frame, since borders are mixtures
    assert not found.fixed[keep("circle")].mean() > 0.03
    assert found.fixed[~keep("circle")].all()


def test_a_dark_background_of_a_scene_is_no_padding():
    x, y = np.mgrid[:N, :N]
    body = np.hypot(x - 90, y - 110) < 60
    values = np.where(body, 400 + scene()[0] / 5, 0).astype("f4")
    assert frames.padding(values, None) is None
    where, value = frames.padding(np.where(body, values, -3024).astype("f4"), None)
    assert value == -3024
    np.testing.assert_array_equal(where, ~body)


@pytest.mark.parametrize("height", [2e3, 1e6])
@pytest.mark.parametrize("criterion", ["ncc", "ssd", "mi"])
def test_a_few_extreme_voxels_decide_nothing(criterion, height):
    fixed, moving, _, _ = scene()
    rng = np.random.default_rng(3)
    bright = [values.copy() for values in (fixed, moving)]
    for values in bright:
        values[tuple(rng.integers(20, N - 20, (2, 12)))] = height
    off, warnings = registered(*bright, criterion=criterion)
    assert off < 0.3
    assert warnings == ()


def test_extremes_are_brought_back_and_the_others_kept():
    values = np.random.default_rng(0).uniform(0, 100, (50, 60)).astype("f4")
    values[3, 4], values[5, 6] = 1e7, -1e7
    out = frames.without_extremes(values, None)
    changed = out != values
    assert changed.sum() == 2
    assert np.abs(out).max() < 500
    # sparse bright things on a background of one value are the scene
    sparse = np.zeros((50, 60), "f4")
    sparse[10:14, 10:14] = np.random.default_rng(1).uniform(1000, 3000, (4, 4))
    np.testing.assert_array_equal(frames.without_extremes(sparse, None), sparse)


@pytest.mark.parametrize("transform", ["rigid", "affine", "bspline"])
def test_masks_and_images_of_any_order_give_the_same_bytes(transform):
    fixed, moving, points, targets = scene()
    inside = keep("circle")
    outcomes = []
    for layout in (np.ascontiguousarray, np.asfortranarray, lambda a: np.flip(np.ascontiguousarray(np.flip(a)))):
        mask = Labels(layout(inside.astype(np.uint8)), Grid((N, N)))
        pair = [Image(layout(np.where(inside, values, np.nan).astype("f4")), Grid((N, N))) for values in (fixed, moving)]
        phi = LPRegistration(transform=transform)(*pair, fixed_mask=mask, moving_mask=mask)
        outcomes.append(phi(points))
    assert np.median(np.linalg.norm(outcomes[0] - targets, axis=1)) < 0.3
    for other in outcomes[1:]:
        np.testing.assert_array_equal(other, outcomes[0])


def test_volumes_of_few_slices_are_aligned_and_overlap():
    """1.5 x 1.5 x 8 mm: with itself, and moved in the plane and by a part of a slice."""
    rng = np.random.default_rng(0)
    size = (90, 80, 40)
    cloud = sitk.GetImageFromArray(rng.normal(size=size[::-1]).astype("f4"))
    cloud.SetSpacing((1.5, 1.5, 2.0))
    cloud = sitk.Threshold(sitk.SmoothingRecursiveGaussian(cloud, 5.0), 0.0, 1e9, 0.0) * 1e4
    for slices in (2, 3, 5):
        thin = sitk.Image([90, 80, slices], sitk.sitkFloat32)
        thin.SetSpacing((1.5, 1.5, 8.0))
        thin.SetOrigin((0.0, 0.0, 39.0 - 4.0 * (slices - 1)))
        center = thin.TransformContinuousIndexToPhysicalPoint([44.5, 39.5, (slices - 1) / 2])
        truth = sitk.Euler3DTransform(center, 0.0, 0.0, 0.08, (4.0, -5.0, 2.0 if slices > 2 else 0.0))
        pair = [sitk.Resample(cloud, thin), sitk.Resample(cloud, thin, truth.GetInverse())]
        grid = Grid((90, 80, slices), (1.5, 1.5, 8.0), thin.GetOrigin())
        fixed, moving = (Image(sitk.GetArrayFromImage(part).transpose(2, 1, 0), grid) for part in pair)
        points = grid.points()[15:75:7, 15:65:7].reshape(-1, 3)
        targets = np.array([truth.TransformPoint(p) for p in points.tolist()])
        for transform in ("rigid", "affine"):
            *_, still = LPRegistration(transform=transform).steps(fixed, fixed)
            assert np.linalg.norm(still.transform(points) - points, axis=1).max() < 0.1
            assert still.warnings == ()
            *_, state = LPRegistration(transform=transform).steps(fixed, moving)
            assert np.median(np.linalg.norm(state.transform(points) - targets, axis=1)) < 1.0
            assert state.warnings == ()


@pytest.mark.parametrize(("scale", "offset"), [(1e27, 0.0), (1e-33, 0.0), (1e-43, 0.0), (0.1, 1e9), (1.0, -1e12)])
@pytest.mark.parametrize("criterion", ["ncc", "ssd"])
def test_intensities_of_any_range_are_aligned(criterion, scale, offset):
    fixed, moving, _, _ = scene()
    pair = [values.astype(np.float64) * scale + offset for values in (fixed, moving)]
    off, warnings = registered(*pair, criterion=criterion)
    assert off < 0.3
    assert warnings == ()


@pytest.mark.parametrize("fill", [3.4e38, -3.4e38, 1e20, -1e20, 65535.0, -32768.0])
@pytest.mark.parametrize("criterion", ["ncc", "ssd"])
def test_what_marks_missing_values_is_padding_however_far_it_lies(criterion, fill):
    fixed, moving, _, _ = scene()
    inside = keep("circle")
    pair = [np.where(inside, values, fill).astype("f4") for values in (fixed, moving)]
    off, warnings = registered(*pair, criterion=criterion)
    assert off < 0.3
    assert sum("padding" in text for text in warnings) == 2


@pytest.mark.parametrize("height", [1e13, 3e38])
def test_a_voxel_beyond_all_range_leaves_the_scene_its_own(height):
    fixed, moving, _, _ = scene()
    bright = fixed.copy()
    bright[50, 60] = height
    off, warnings = registered(bright, moving)
    assert off < 0.3
    assert warnings == ()


@pytest.mark.parametrize("kind", ["plain", "padding", "frame", "extremes", "masks", "colour"])
@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.uint8])
def test_small_integers_are_the_scene_that_their_float32_is(kind, dtype):
    rng = np.random.default_rng(1)
    images = [np.rint(60 + values / np.ptp(values) * 120) for values in scene()[:2]]
    far = np.iinfo(dtype).max if dtype != np.int16 else -3000
    given = {}
    for values in images:
        if kind == "padding":
            values[:20] = 250 if dtype == np.uint8 else far
        elif kind == "frame":
            values[~keep("circle")] = 0
        elif kind == "extremes":
            values[tuple(rng.integers(20, N - 20, (2, 12)))] = far
    if kind == "masks":
        given = {name: keep("circle") for name in ("fixed_mask", "moving_mask")}
    elif kind == "colour":
        images = [np.stack([values, values[::-1], 250 - values], axis=-1) for values in images]
    small, real = (Pair.of(*(values.astype(t) for values in images), **given).scenes for t in (dtype, np.float32))
    assert small.warnings == real.warnings
    assert bool(small.warnings) == (kind in ("frame", "padding"))
    for name in ("fixed", "moving"):
        one, other = getattr(small, name), getattr(real, name)
        np.testing.assert_array_equal(one.values.astype(np.float32), other.values)
        one, other = (getattr(scenes, f"{name}_mask") for scenes in (small, real))
        assert (one is None) == (other is None) == (kind in ("plain", "extremes", "colour"))
        if one is not None:
            np.testing.assert_array_equal(one.values, other.values)
    # it is the image itself where nothing is changed
    if kind in ("plain", "colour"):
        assert small.fixed.values.dtype == dtype
