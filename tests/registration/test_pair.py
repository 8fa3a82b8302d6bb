import ast
from pathlib import Path

import numpy as np
import pytest
from support import spaces
from support.phantoms import blobs

import augreg
from augreg import Affine, BSpline, Grid, Image, Labels, LPRegistration, warp
from augreg.geometry.resampling import sample
from augreg.registration import Given, Pair


def image(shape=(20, 15), origin=(0.0, 0.0), channels=(), seed=0):
    return Image(np.random.default_rng(seed).uniform(0, 9, (*shape, *channels)), Grid(shape, origin=origin))


def test_good_input_passes_unchanged():
    fixed, moving = image(), image((12, 30), seed=1)
    ready = Pair.of(fixed, moving)
    np.testing.assert_array_equal(ready.scenes.fixed.values, fixed.values.astype(np.float32))
    assert ready.scenes.moving.grid == moving.grid
    assert ready.scenes.fixed_mask is None
    assert not ready.warnings
    np.testing.assert_array_equal(ready.start(fixed.grid.points()), fixed.grid.points())


def test_nan_is_masked_and_said():
    fixed = image()
    fixed.values[3, 4] = np.nan
    fixed.values[5, 6] = np.inf
    mask = Labels(np.ones((20, 15), dtype=np.uint8), fixed.grid)
    mask.values[0] = 0
    ready = Pair.of(fixed, image(), fixed_mask=mask)
    assert np.isfinite(ready.scenes.fixed.values).all()
    assert set(map(tuple, np.argwhere(ready.scenes.fixed_mask.values[1:] == 0))) == {(2, 4), (4, 6)}
    assert not ready.scenes.fixed_mask.values[0].any()
    assert "2 of 300 voxels of fixed" in ready.warnings[0]
    assert np.isnan(fixed.values[3, 4])


def test_what_has_no_value_does_not_stand_out():
    # who ignores masks, as a network does, must not see a dark hole in a bright image
    rng = np.random.default_rng(2)
    fixed = Image(rng.uniform(900, 1000, (40, 30)), Grid((40, 30)))
    for shape in ((40, 30), (40, 30, 3)):
        values = rng.uniform(900, 1000, shape)
        values[30:, 20:] = np.nan
        ready = Pair.of(fixed, Image(values, fixed.grid))
        hole, rest = ready.scenes.moving.values[30:, 20:], values[np.isfinite(values)]
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
    ready = Pair.of(image(channels=(3,)), image())
    assert ready.scenes.fixed.channels == ready.scenes.moving.channels == 1
    assert "luminance" in ready.warnings[0]
    assert Pair.of(image(channels=(3,)), image(channels=(3,), seed=1)).scenes.fixed.channels == 3


def test_centres_are_aligned_where_grids_do_not_overlap():
    fixed, moving = image(), image(origin=(500.0, -300.0))
    ready = Pair.of(fixed, moving)
    np.testing.assert_allclose(ready.start(fixed.grid.center), moving.grid.center)
    assert "do not overlap" in ready.warnings[0]
    given = Pair.of(fixed, moving, initial=Affine.identity(2))
    np.testing.assert_array_equal(given.start(fixed.grid.center), fixed.grid.center)
    assert not given.warnings


def test_masks_are_brought_to_their_image():
    fixed = image()
    coarse = Labels(np.array([[1, 0], [0, 0]], dtype=np.uint8), fixed.grid.with_shape((2, 2)))
    mask = Pair.of(fixed, image(seed=1), fixed_mask=coarse).scenes.fixed_mask
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
        Pair.of(fixed, image()).scenes  # noqa: B018
    assert "\n" not in str(caught.value)


def test_unusable_masks_and_types_are_refused():
    empty = Labels(np.zeros((20, 15), dtype=np.uint8), image().grid)
    with pytest.raises(ValueError, match="fixed_mask"):
        Pair.of(image(), image(), fixed_mask=empty).scenes  # noqa: B018
    with pytest.raises(TypeError, match="read_image"):
        Pair.of("heart.png", image())
    with pytest.raises(ValueError, match="initial"):
        Pair.of(image(), image(), initial=Affine.identity(3))


def test_a_pair_takes_arrays_as_images_with_spacing_one():
    rng = np.random.default_rng(0)
    flat, solid = rng.uniform(size=(20, 15)), rng.uniform(size=(9, 8, 7))
    photo, stack = rng.uniform(size=(20, 15, 3)), rng.uniform(size=(9, 8, 7, 2))
    for values, ndim, channels in ((flat, 2, 1), (solid, 3, 1), (photo, 2, 3), (stack, 3, 2), (flat[..., None], 2, 1)):
        given = Pair.of(values, values)
        assert (given.fixed.ndim, given.fixed.channels) == (ndim, channels)
        assert given.fixed.grid == Grid(values.shape[:ndim])
    mask = flat > 0.5
    mixed = Pair.of(image(), flat, fixed_mask=mask, moving_mask=mask, rigid_mask=mask, fixed_labels=mask.astype(int))
    assert mixed.fixed_mask.grid == mixed.rigid_mask.grid == mixed.fixed_labels.grid == image().grid
    np.testing.assert_array_equal(mixed.moving_mask.values != 0, mask)
    other = Pair.of(flat, flat[:12], fixed_labels=mask, moving_mask=mask[:12])
    assert (other.fixed_labels.grid, other.moving_mask.grid) == (Grid((20, 15)), Grid((12, 15)))
    with pytest.raises(ValueError, match="2 or 3 axes"):
        Pair.of(flat[0], flat[0])
    with pytest.raises(ValueError, match=r"moving_mask: expected an array of shape \(20, 15\)"):
        Pair.of(flat, flat, moving_mask=mask[1:])
    with pytest.raises(TypeError, match="fixed_labels: expected integers"):
        Pair.of(flat, flat, fixed_labels=flat)


def test_arrays_register_and_warp_as_images_do():
    grid = Grid((60, 50))
    fixed, moving = (np.roll(blobs(grid).values, shift, (0, 1)) for shift in ((0, 0), (3, -2)))
    phi = LPRegistration(transform="rigid")(fixed, moving)
    same = LPRegistration(transform="rigid")(Image(fixed, grid), Image(moving, grid))
    np.testing.assert_array_equal(phi.matrix, same.matrix)
    moved = warp(moving, phi)
    assert isinstance(moved, np.ndarray)
    np.testing.assert_array_equal(moved, warp(Image(moving, grid), phi, grid).values)
    assert np.abs(moved - fixed)[10:-10, 10:-10].mean() < 0.2 * np.abs(moving - fixed)[10:-10, 10:-10].mean()
    with pytest.raises(TypeError, match="grid"):
        warp(Image(moving, grid), phi)


def test_the_keywords_of_a_pair_are_its_fields():
    fields = [name for name in Pair.__dataclass_fields__ if name not in ("fixed", "moving")]
    assert list(Given.__annotations__) == fields


def test_what_can_be_known_is_written_out_once():
    """Registrations and wrappers take a pair; only what prepares its images names their masks."""
    sources = Path(augreg.__file__).parent.rglob("*.py")
    named = {
        path.name
        for path in sources
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        for argument in (*node.args.args, *node.args.kwonlyargs)
        if argument.arg in Given.__annotations__ and argument.arg.endswith("mask")
    }
    assert named == {"scenes.py"}


def everything(fixed, moving):
    mask = np.zeros(fixed.grid.shape, np.uint8)
    mask[5:15, 3:12] = 1
    offsets = np.array([[0.0, 1.0], [2.0, 3.0]])
    own, other = Labels(mask, fixed.grid), Labels(np.ones(moving.grid.shape, np.uint8), moving.grid)
    return {
        "fixed_mask": own,
        "moving_mask": other,
        "fixed_labels": own,
        "moving_labels": other,
        "fixed_points": fixed.grid.center + offsets,
        "moving_points": moving.grid.center + offsets,
        "rigid_mask": own,
        "initial": Affine(np.diag([1.1, 0.9]), [1.0, -2.0]),
    }


def test_a_pair_gives_back_what_was_given():
    fixed, moving = image(), image((12, 30), seed=1)
    known = everything(fixed, moving)
    given = Pair.of(fixed, moving, **known)
    again = given.known()
    assert list(again) == list(known)
    assert all(again[name] is known[name] for name in known if not name.endswith("points"))
    assert not Pair.of(fixed, moving, **dict.fromkeys(known)).known()


def test_exchanged_twice_is_the_pair_but_for_the_rigid_mask():
    fixed, moving = image(), image((12, 30), seed=1)
    known = everything(fixed, moving)
    once = Pair.of(fixed, moving, **known).exchanged()
    assert (once.fixed, once.moving, once.rigid_mask) == (moving, fixed, None)
    assert once.fixed_mask is known["moving_mask"]
    again = once.exchanged().known()
    assert all(again[name] is known[name] for name in again if name not in ("fixed_points", "moving_points", "initial"))
    points = fixed.grid.points()
    np.testing.assert_allclose(again["initial"](points), known["initial"](points), atol=1e-9)
    np.testing.assert_array_equal(again["fixed_points"], known["fixed_points"])


def test_a_bent_start_is_inverted_where_the_moving_image_lies():
    fixed, moving = image((40, 36)), image((44, 40), origin=(78.0, -62.0), seed=1)
    zero = BSpline.zeros(fixed.grid, 12.0)
    coefficients = np.random.default_rng(0).uniform(-2, 2, zero.coefficients.shape) * zero.free[..., None]
    start = Affine(np.eye(2), [80.0, -60.0]) @ BSpline(coefficients, zero.grid)
    back = Pair.of(fixed, moving, initial=start).exchanged().initial
    x = fixed.grid.center + np.random.default_rng(1).uniform(-10, 10, (50, 2))
    np.testing.assert_allclose(back(start(x)), x, atol=0.05)


def test_scenes_are_prepared_once_whatever_the_start():
    fixed = image()
    fixed.values[2, 3] = np.nan
    given = Pair.of(fixed, image(seed=1))
    scenes, warnings = given.scenes, given.warnings
    moved = given.with_initial(Affine(np.eye(2), [1.0, 0.0]))
    assert moved.scenes is scenes
    assert moved.warnings == warnings
    mask = Labels(np.ones(fixed.grid.shape, np.uint8), fixed.grid)
    assert given.with_fixed_mask(mask).scenes is not scenes
    # those of the other direction are prepared anew, from what was given
    assert "of moving are NaN" in given.exchanged().warnings[0]


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"fixed_points": np.ones((2, 2))}, "together"),
        ({"fixed_points": np.ones((2, 2)), "moving_points": np.ones((3, 2))}, "equal numbers"),
        ({"fixed_points": np.full((1, 2), 99.0), "moving_points": np.ones((1, 2))}, "inside the image"),
        ({"rigid_mask": np.zeros((20, 15), bool)}, "rigid_mask: expected a mask that selects"),
        ({"rigid_mask": Labels(np.ones((4, 5, 6), np.uint8), Grid((4, 5, 6)))}, "rigid_mask: expected a 2-D mask, got 3-D"),
        ({"moving_labels": Labels(np.ones((4, 5, 6), np.uint8), Grid((4, 5, 6)))}, "moving_labels: expected a 2-D label map"),
        ({"initial": Affine.identity(3)}, "initial: expected a 2-D transform"),
    ],
)
def test_what_does_not_fit_a_pair_gets_one_clear_line(known, message):
    with pytest.raises(ValueError, match=message) as caught:
        Pair.of(image(), image(seed=1), **known)
    assert "\n" not in str(caught.value)


def test_what_is_of_another_type_is_refused():
    for known in ({"initial": np.eye(3)}, {"fixed_mask": image()}, {"moving_labels": "labels.png"}):
        with pytest.raises(TypeError, match=next(iter(known))):
            Pair.of(image(), image(seed=1), **known)


def test_seen_through_its_start_a_pair_has_no_start():
    fixed, moving = image(), image((26, 24), origin=(-3.0, -4.0), seed=1)
    known = everything(fixed, moving)
    seen = Pair.of(fixed, moving, **known).through_start()
    phi = known["initial"]
    assert seen.initial is None
    assert seen.moving.grid == seen.moving_mask.grid == seen.moving_labels.grid == fixed.grid
    inside = moving.grid.contains(phi(fixed.grid.points()), margin=0.0)
    expected = sample(moving, phi(fixed.grid.points()))
    np.testing.assert_allclose(seen.moving.values[inside], expected[inside], atol=1e-5)
    np.testing.assert_allclose(phi(seen.moving_points), known["moving_points"], atol=1e-6)
    np.testing.assert_array_equal(seen.fixed_points, known["fixed_points"])
