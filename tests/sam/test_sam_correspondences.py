"""Correspondences as objects: a model does not depend on the way in which it was asked for."""

import numpy as np
import pytest
from support.subjects import people

from augreg import Affine, Grid, Image, Labels, fit_appearance_model, read_model, write_model
from augreg.geometry.splines import control_grid
from augreg.geometry.transforms import BSpline
from augreg.geometry.velocity import Exponential
from augreg.io import read_arrays, write_arrays
from augreg.sam import (
    ByRegistration,
    Corresponding,
    Displacement,
    DisplacementMaps,
    FromContours,
    GivenLandmarks,
    Locality,
    Velocity,
    VelocityMaps,
    fit_corresponding,
)

PLAIN = {"locality": Locality(levels=1), "rank": 6}


def by_brightness(fixed, moving):
    """A registration whose result depends on both images, in their order."""
    a, b = (float(image.values.mean()) / 50 for image in (fixed, moving))
    return Affine(np.array([[1 + 0.03 * b, 0.05 * a], [-0.04 * b, 1 - 0.02 * a]]), [2 * b - a, a * b])


def assert_same(one, other):
    for part in ("mean", "basis", "variance"):
        assert np.array_equal(getattr(one.shape, part), getattr(other.shape, part))
        assert np.array_equal(getattr(one.appearance, part), getattr(other.appearance, part))
    for part in ("textures", "gains", "poses", "residuals", "label_maps", "contours", "range", "template"):
        assert np.array_equal(getattr(one, part), getattr(other, part)), part


def test_a_model_does_not_depend_on_the_way_in_which_it_was_asked_for():
    images, labels, landmarks = people(2)
    for asked, correspondences, named in (
        ({"labels": labels, "points": 50}, FromContours(labels, 50), {"labels": labels}),
        ({"labels": labels, "structures": [5], "points": 30}, FromContours(labels, 30, [5]), {"labels": labels}),
        ({"landmarks": landmarks, "alignment": "rigid"}, GivenLandmarks(landmarks), {"alignment": "rigid"}),
        (
            {"registration": by_brightness, "alignment": "similarity", "rounds": 3},
            ByRegistration(by_brightness, rounds=3, alignment="similarity"),
            {"alignment": "similarity"},
        ),
        (
            {"registration": by_brightness, "template": images[3], "rounds": 1, "labels": labels},
            ByRegistration(by_brightness, images[3], rounds=1),
            {"labels": labels},
        ),
    ):
        assert_same(fit_appearance_model(images, **asked, **PLAIN), fit_corresponding(images, correspondences, **named, **PLAIN))


def test_labels_may_give_the_points_and_need_not_be_carried():
    images, labels, landmarks = people(2)
    bare = fit_corresponding(images, FromContours(labels, 50), **PLAIN)
    assert bare.label_maps is None
    assert bare.contours is not None
    carried = fit_corresponding(images, GivenLandmarks(landmarks), labels=labels, **PLAIN)
    assert carried.contours is None
    assert set(np.unique(carried.label_maps)) == {0, 1, 5}


def test_correspondences_of_ones_own_are_taken_and_their_doubts_are_said():
    images, _, landmarks = people(2)

    class Doubtful:
        def find(self, found):
            assert [image.values.dtype for image in found] == [np.float32] * len(images)
            return Corresponding(np.stack(landmarks), doubts=("the third may be turned",))

    with pytest.warns(UserWarning, match="the third may be turned") as said:
        model = fit_corresponding(images, Doubtful(), **PLAIN)
    assert said[0].filename == __file__
    assert_same(model, fit_appearance_model(images, landmarks=landmarks, **PLAIN))


def test_arrays_are_images_of_spacing_one():
    images, labels, _ = people(2)
    grid = Grid(images[0].grid.shape)
    pixels = [image.values for image in images]
    plain = fit_appearance_model(pixels, labels=[one.values for one in labels], template=pixels[1], points=50, **PLAIN)
    known = [Labels(one.values, grid) for one in labels]
    on_grids = fit_appearance_model([Image(values, grid) for values in pixels], labels=known, points=50, **PLAIN)
    assert_same(plain, on_grids)
    assert plain.template == grid
    with pytest.raises(TypeError, match=r"images\[2\]: expected an Image or an array"):
        fit_appearance_model([*pixels[:2], "pixels"], labels=known)
    with pytest.raises(ValueError, match=r"labels\[0\]: expected an array of shape"):
        fit_appearance_model(pixels, labels=[one.values[1:] for one in labels])


def test_every_round_but_the_first_registers_the_mean_image_of_the_round_before():
    images, _, _ = people(2)
    templates = []

    def noted(fixed, moving):
        templates.append(fixed)
        return by_brightness(fixed, moving)

    ByRegistration(noted, images[2], rounds=3).find(images)
    first, second, third = templates[:: len(images)]
    assert len(templates) == 3 * len(images)
    assert np.array_equal(first.values, images[2].luminance().values)
    assert np.abs(second.values - first.values).max() > 1
    assert np.abs(third.values - second.values).max() > 0


def test_correspondences_that_do_not_fit_are_refused():
    images, labels, landmarks = people(2)
    solid = people(3)[0]
    for correspondences, message in (
        (FromContours(labels[1:]), "labels: expected 8"),
        (GivenLandmarks([points[:2] for points in landmarks]), "landmarks: expected at least 3 points"),
        (ByRegistration(by_brightness, solid[0]), "template: expected a 2-D image"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_corresponding(images, correspondences, **PLAIN)
    with pytest.raises(ValueError, match="affinity"):
        fit_corresponding(images, GivenLandmarks(landmarks), locality=Locality(levels=1, affinity=0.5))


def test_a_motion_says_what_coefficients_mean():
    images, _, _ = people(2)
    control = control_grid(images[0].grid)
    c = np.zeros((*control.shape, 2))
    inner = (slice(8, -8),) * 2
    c[inner] = np.random.default_rng(0).normal(0, 1.0, c[inner].shape)
    points = images[0].grid.points()
    v = BSpline(c, control)
    assert np.array_equal(Displacement().transform(c, control)(points), v(points))
    assert np.array_equal(Velocity(3).transform(c, control)(points), Exponential(v, 3)(points))
    # neither the same map, nor the same integration
    assert np.abs(v(points) - Exponential(v, 3)(points)).max() > 0.1
    assert not np.array_equal(Velocity(3).transform(c, control)(points), Velocity(4).transform(c, control)(points))
    for wrong in (Velocity, VelocityMaps):
        with pytest.raises(ValueError, match="steps: expected at least 1"):
            wrong(0)


def test_files_of_models_keep_what_their_coefficients_mean(tmp_path):
    images, _, landmarks = people(2)
    path, old = tmp_path / "m.npz", tmp_path / "old.npz"
    for maps in (None, DisplacementMaps(), VelocityMaps(5)):
        model = fit_appearance_model(images, landmarks=landmarks, dense=maps, **PLAIN)
        write_model(model, path)
        assert read_model(path).maps.motion == model.maps.motion
        # older files have a number of steps for all kinds, 0 for displacements
        arrays, about = read_arrays(path, "appearance model")
        write_arrays(old, arrays, {**about, "maps": {"steps": 0, **about["maps"]}})
        again = read_model(old)
        assert again.maps.motion == model.maps.motion
        assert np.array_equal(again.mode_splines, model.mode_splines)
    for wrong in ({"name": "spring"}, {"name": "velocity", "steps": 0}, {"name": "velocity"}, {}):
        write_arrays(old, arrays, {**about, "maps": wrong})
        with pytest.raises(ValueError, match=r"old\.npz"):
            read_model(old)
