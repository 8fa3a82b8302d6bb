import numpy as np
import pytest
from support import spaces
from support.phantoms import blobs

from augreg import Affine, Grid, Image, Labels, LPRegistration
from augreg.registration import prepare


def image(shape=(20, 15), origin=(0.0, 0.0), channels=(), seed=0):
    return Image(np.random.default_rng(seed).uniform(0, 9, (*shape, *channels)), Grid(shape, origin=origin))


def test_good_input_passes_unchanged():
    fixed, moving = image(), image((12, 30), seed=1)
    ready = prepare(fixed, moving)
    np.testing.assert_array_equal(ready.fixed.values, fixed.values.astype(np.float32))
    assert ready.moving.grid == moving.grid
    assert ready.fixed_mask is None
    assert not ready.warnings
    np.testing.assert_array_equal(ready.initial(fixed.grid.points()), fixed.grid.points())


def test_nan_is_masked_and_said():
    fixed = image()
    fixed.values[3, 4] = np.nan
    fixed.values[5, 6] = np.inf
    mask = Labels(np.ones((20, 15), dtype=np.uint8), fixed.grid)
    mask.values[0] = 0
    ready = prepare(fixed, image(), fixed_mask=mask)
    assert np.isfinite(ready.fixed.values).all()
    assert set(map(tuple, np.argwhere(ready.fixed_mask.values[1:] == 0))) == {(2, 4), (4, 6)}
    assert not ready.fixed_mask.values[0].any()
    assert "2 of 300 voxels of fixed" in ready.warnings[0]
    assert np.isnan(fixed.values[3, 4])


def test_what_has_no_value_does_not_stand_out():
    # who ignores masks, as a network does, must not see a dark hole in a bright image
    rng = np.random.default_rng(2)
    fixed = Image(rng.uniform(900, 1000, (40, 30)), Grid((40, 30)))
    for shape in ((40, 30), (40, 30, 3)):
        values = rng.uniform(900, 1000, shape)
        values[30:, 20:] = np.nan
        ready = prepare(fixed, Image(values, fixed.grid))
        hole, rest = ready.moving.values[30:, 20:], values[np.isfinite(values)]
        np.testing.assert_allclose(hole, rest.mean(), rtol=0.02)


def test_a_hole_far_from_everything_does_not_change_the_result():
    grid = Grid((90, 80))
    # nothing but background around one corner
    fade = 1 - np.exp(-((grid.points() - [90, 0]) ** 2).sum(axis=-1) / 800)
    values = 1000 + 300 * blobs(grid).values * fade
    fixed, moving = (Image(np.roll(values, shift, (0, 1)).astype(np.float32), grid) for shift in ((0, 0), (3, -2)))
    holed = moving.values.copy()
    holed[82:, :9] = np.nan
    x = np.array([[25.0, 35.0], [45, 55], [40, 30]])
    for transform in ("rigid", "affine"):
        whole, part = (LPRegistration(transform=transform)(fixed, image)(x) for image in (moving, Image(holed, grid)))
        np.testing.assert_allclose(part, whole, atol=0.05)
        np.testing.assert_allclose(whole, x + np.array([3, -2]), atol=0.3)


def test_colour_against_grey_becomes_luminance():
    ready = prepare(image(channels=(3,)), image())
    assert ready.fixed.channels == ready.moving.channels == 1
    assert "luminance" in ready.warnings[0]
    assert prepare(image(channels=(3,)), image(channels=(3,), seed=1)).fixed.channels == 3


def test_centres_are_aligned_where_grids_do_not_overlap():
    fixed, moving = image(), image(origin=(500.0, -300.0))
    ready = prepare(fixed, moving)
    np.testing.assert_allclose(ready.initial(fixed.grid.center), moving.grid.center)
    assert "do not overlap" in ready.warnings[0]
    given = prepare(fixed, moving, initial=Affine.identity(2))
    np.testing.assert_array_equal(given.initial(fixed.grid.center), fixed.grid.center)


def test_masks_are_brought_to_their_image():
    fixed = image()
    coarse = Labels(np.array([[1, 0], [0, 0]], dtype=np.uint8), fixed.grid.with_shape((2, 2)))
    mask = prepare(fixed, image(seed=1), fixed_mask=coarse).fixed_mask
    assert mask.grid == fixed.grid
    assert mask.values[:10, :7].all()
    assert not mask.values[10:].any()


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        (Image(np.full((20, 15), 3.0), Grid((20, 15))), "constant"),
        (Image(np.full((20, 15), np.nan), Grid((20, 15))), "only NaN"),
        (Image(np.ones((20, 1)), Grid((20, 1))), "at least 2 voxels"),
        (Image(np.random.default_rng(0).normal(size=(4, 5, 6)), spaces.grid(3, shape=(4, 5, 6))), "one dimension"),
    ],
)
def test_unusable_images_get_one_clear_line(fixed, message):
    with pytest.raises(ValueError, match=message) as caught:
        prepare(fixed, image())
    assert "\n" not in str(caught.value)


def test_unusable_masks_and_types_are_refused():
    empty = Labels(np.zeros((20, 15), dtype=np.uint8), image().grid)
    with pytest.raises(ValueError, match="fixed_mask"):
        prepare(image(), image(), fixed_mask=empty)
    with pytest.raises(TypeError, match="read_image"):
        prepare(np.zeros((4, 5)), image())
    with pytest.raises(ValueError, match="initial"):
        prepare(image(), image(), initial=Affine.identity(3))
