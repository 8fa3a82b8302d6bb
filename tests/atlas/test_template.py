"""Templates of populations whose mean is known."""

import numpy as np
import pytest
import scipy.ndimage
from support.labelled import ByMass, scene
from support.phantoms import bent, blobs

from augreg import Affine, Grid, Image, LPRegistration, warp
from augreg.atlas import JointFusion, Template, template, template_rounds
from augreg.atlas.template import levelled, mean_image, most_typical, sharpened
from augreg.geometry.transforms import BSpline
from augreg.tasks import place

GRID = Grid((84, 76), (1.2, 1.1), (-11.0, 5.0))
REGISTRATION = LPRegistration(keypoints=300, polish=2)


def opposite(spline):
    return BSpline(-spline.coefficients, spline.grid)


def population():
    """The mean image, and people f_i of it with mean_i f_i = id: image_i(f_i(x)) = mean(x), in other brightness."""
    middle = blobs(GRID, 30, 3)
    bends = [bent(GRID, 22.0, seed) for seed in (1, 2)]
    maps = [bends[0], opposite(bends[0]), bends[1], opposite(bends[1])]
    images = [warp(middle, f.inverse(GRID), GRID, interpolation="cubic") for f in maps]
    return middle, maps, [image.with_values(image.values * (1 + 0.3 * i) + 5 * i) for i, image in enumerate(images)]


def inside():
    return GRID.padded(-12).points().reshape(-1, 2)


def off(found: Template, maps):
    """How far each person's map is from the known one, and all together, mm."""
    x = inside()
    errors = np.array([phi(x) - f(x) for phi, f in zip(found.transforms, maps, strict=True)])
    return np.sqrt(np.mean(np.sum(errors**2, axis=-1))), np.sqrt(np.mean(np.sum(errors.mean(axis=0) ** 2, axis=-1)))


def test_the_template_of_a_population_is_at_its_known_mean_from_any_start():
    middle, maps, images = population()
    x = inside()
    moved = np.sqrt(np.mean([np.sum((f(x) - x) ** 2, axis=-1) for f in maps]))
    found = [template(images, REGISTRATION, 3, start=start) for start in (images[0], images[3])]
    for one in found:
        each, together = off(one, maps)
        assert each < 0.3 * moved
        # the bias: people's errors have no common part
        assert together < 0.1 * moved
        seen = one.image.values[12:-12, 12:-12].ravel()
        assert np.corrcoef(seen, middle.values[12:-12, 12:-12].ravel())[0, 1] > 0.98
    for one in found[1:]:
        # the start is forgotten: a tenth of how far the starts lie apart
        apart = np.mean([phi(x) - other(x) for phi, other in zip(one.transforms, found[0].transforms, strict=True)], axis=0)
        assert np.sqrt(np.mean(np.sum(apart**2, axis=-1))) < 0.1 * moved
    assert moved > 1.0


def test_visits_of_one_person_are_all_equal_and_lie_around_their_middle():
    image, _ = scene((64, 52), 0, 0.02)
    poses = [
        Affine.about(_turned(a), image.grid.center, t) for a, t in ((9.0, (3.0, 1.0)), (-4.0, (-2.0, 2.0)), (2.0, (0.0, -4.0)))
    ]
    visits = [warp(image, pose, image.grid) for pose in poses]
    register = LPRegistration(transform="rigid")
    found = [template(order, register, 2).transforms for order in (visits, visits[::-1])]
    x = image.grid.padded(-12).points().reshape(-1, 2)
    for one, other in zip(found[0], found[1][::-1], strict=True):
        assert np.linalg.norm(one(x) - other(x), axis=1).max() < 0.15
    # middle -> visit -> the image as it was is one map for all visits, turned and moved by the mean of the poses
    for phi, pose in zip(found[0], poses, strict=True):
        whole = pose @ phi
        np.testing.assert_allclose(whole(x), (poses[0] @ found[0][0])(x), atol=0.3)
        angle = np.rad2deg(np.arctan2(whole.matrix[1, 0], whole.matrix[0, 0]))
        assert angle == pytest.approx(7 / 3, abs=0.3)


def _turned(degrees):
    a = np.deg2rad(degrees)
    return np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])


@pytest.mark.parametrize("shape", [(40, 34), (20, 18, 12)])
def test_labels_are_carried_and_fused_on_the_template_of_images_on_different_grids(shape):
    people = [scene(shape, i, 0.05, shift) for i, shift in enumerate([(0, 0, 0), (3, -2, 1), (-3, 2, -1)])]
    moved = [(_elsewhere(image, i), _elsewhere(labels, i)) for i, (image, labels) in enumerate(people)]
    images, labels = zip(*moved, strict=True)
    found = template(images, ByMass(), 2)
    truth, _ = scene(shape, 0)
    majority, joint = found.fused(labels), found.fused(labels, JointFusion(), images)
    for fused in (majority, joint):
        assert set(fused.labels.unique()) == {5, 17, 300}
        assert (fused.agreement.values > 0.99).mean() > 0.9
    # as large as the people are, amid the grid
    volume = np.prod(found.image.grid.spacing) * (majority.labels.values != 0).sum()
    assert volume == pytest.approx(np.prod(truth.grid.spacing) * (people[0][1].values != 0).sum(), rel=0.05)


def _elsewhere(part, number):
    """The same on a grid of another place, and of another order of rows."""
    grid = part.grid
    if number == 1:
        corner = grid.points_at([grid.shape[0] - 1, *[0] * (grid.ndim - 1)])
        flip = np.diag([-1.0, *[1.0] * (grid.ndim - 1)])
        return type(part)(part.values[::-1].copy(), Grid(grid.shape, grid.spacing, tuple(corner), flip))
    far = Grid(grid.shape, grid.spacing, tuple(np.array(grid.origin) + 7.0 * number))
    return type(part)(part.values, far)


def test_intensities_are_levelled_without_a_favourite():
    rng = np.random.default_rng(0)
    one = rng.uniform(0, 9, (7, 8)).astype(np.float32)
    values = np.stack([one, 3 * one + 20, 0.5 * one - 1])
    values[1, 0, :3] = np.nan
    out = levelled(values)
    assert np.isnan(out[1, 0, :3]).all()
    np.testing.assert_allclose(out[0], out[2], atol=1e-4)
    np.testing.assert_allclose(np.nan_to_num(out[1] - out[0]), 0, atol=1e-4)
    assert out[0].std() == pytest.approx(one.std() * 1.5, rel=0.05)
    np.testing.assert_array_equal(levelled(np.full((2, 3, 3), np.nan, np.float32)), np.full((2, 3, 3), np.nan))


def test_a_mean_image_takes_what_is_shown():
    grid = Grid((6, 5))
    image = Image(np.arange(30, dtype=np.float32).reshape(6, 5), grid)
    far = Affine(np.eye(2), np.array([4.0, 0.0]))
    found = mean_image([image, image], [Affine.identity(2), far], grid)
    assert np.isfinite(found.values).all()
    # rows that only the first shows are its own, levelled by the two rows that both show
    assert np.diff(found.values[2:], axis=0).min() > 0


@pytest.mark.parametrize("shape", [(40, 34), (20, 18, 12)])
def test_sharpening_gives_edges_back_within_the_range(shape):
    image = Image(scene(shape, 0)[0].values.astype(np.float32), Grid(shape))
    smooth = image.with_values(scipy.ndimage.gaussian_filter(image.values, 1.0))
    found = sharpened(smooth, 1.0)
    apart = [np.abs(one.values - image.values).mean() for one in (found, smooth)]
    assert apart[0] < 0.8 * apart[1]
    assert found.values.min() >= smooth.values.min()
    assert found.values.max() <= smooth.values.max()
    np.testing.assert_array_equal(sharpened(smooth, 0.0).values, smooth.values)
    flat = image.with_values(np.full(shape, 3.0, np.float32))
    np.testing.assert_array_equal(sharpened(flat, 2.0).values, flat.values)


def test_a_sharpened_template_has_steeper_edges_at_the_same_place():
    _, _, images = population()
    plain, sharp = (template(images, REGISTRATION, 2, sharpening=s).image.values.astype(float) for s in (0.0, 1.0))
    energy = [sum(np.square(slope).mean() for slope in np.gradient(one)) for one in (plain, sharp)]
    assert energy[1] > 1.1 * energy[0]
    assert np.corrcoef(plain.ravel(), sharp.ravel())[0, 1] > 0.98


def test_sharpening_below_nothing_is_refused():
    with pytest.raises(ValueError, match="sharpening: expected a number of at least 0, got -1"):
        template([np.zeros((9, 9))] * 2, ByMass(), 1, sharpening=-1)


def test_the_most_typical_image_is_no_outlier():
    images = [scene((40, 34), i, 0.02, shift)[0] for i, shift in enumerate([(0, 0), (9, 6), (1, 0), (0, 1)])]
    assert most_typical(images, images[0].grid) in [images[0], images[2], images[3]]


def test_other_processes_make_the_same_template():
    images = [scene((40, 34), i, 0.05, shift)[0] for i, shift in enumerate([(0, 0), (3, -2), (-3, 2)])]
    here = template(images, ByMass(), 1)
    with place(2) as at:
        there = template(images, ByMass(), 1, at=at)
    assert here.image.values.tobytes() == there.image.values.tobytes()


def test_doubts_name_the_image():
    images = [scene((40, 34), i, 0.05)[0] for i in range(2)]
    noise = images[0].with_values(np.random.default_rng(0).normal(size=(40, 34)).astype(np.float32))
    [found] = template_rounds([*images, noise], LPRegistration(transform="rigid"), 1, start=images[0])
    assert found.doubts
    assert all(text.startswith("image 3: ") for text in found.doubts)


@pytest.mark.parametrize(
    ("images", "rounds", "told"),
    [
        ([np.zeros((9, 9))], 1, "images: expected two or more, got 1"),
        ([np.zeros((9, 9)), np.zeros((9, 9, 9))], 1, "one dimension, got 2-D and 3-D"),
        ([np.zeros((9, 9))] * 2, 0, "rounds: expected at least 1, got 0"),
    ],
)
def test_what_is_no_population_is_refused(images, rounds, told):
    with pytest.raises(ValueError, match=told):
        template(images, ByMass(), rounds)
