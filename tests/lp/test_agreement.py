"""What lies outside the usual search is found, and what cannot be found is doubted. Truth by SimpleITK."""

import functools

import numpy as np
import pytest
import SimpleITK as sitk
from support import phantoms

from augreg import Affine, Grid, Image
from augreg.lp import LPRegistration
from augreg.lp.agreement import agreement
from augreg.lp.criteria import criterion_called
from augreg.lp.level import levels_of
from augreg.lp.profiles import Bundle
from augreg.lp.start import candidates, nearby
from augreg.registration import Pair

N = 160


@functools.cache
def photograph(name: str) -> np.ndarray:
    return phantoms.skimage.transform.resize(phantoms.photograph(name), (N, N), anti_aliasing=True)


def pair(name, degrees, scale, origin=(0.0, 0.0)):
    """Fixed, moving, points and targets: moving is turned, scaled, and its header lies elsewhere."""
    image = sitk.GetImageFromArray((255 * photograph(name)).astype(np.float32))
    size = int(np.ceil(N * scale * (1.0 if degrees % 90 == 0 else 1.3)))
    truth = sitk.Similarity2DTransform()
    truth.SetCenter([(N - 1) / 2] * 2)
    truth.SetAngle(np.deg2rad(degrees))
    truth.SetScale(scale)
    truth.SetTranslation([(size - N) / 2] * 2)
    moved = sitk.Resample(image, [size, size], truth.GetInverse(), sitk.sitkLinear, (0, 0), (1, 1), (1, 0, 0, 1), 0.0)
    points = np.random.default_rng(0).uniform(0.25, 0.75, (100, 2)) * N
    targets = np.array([truth.TransformPoint(p) for p in points.tolist()]) + origin
    noise = np.random.default_rng(1).normal(0, 2, (size, size))
    fixed = Image(sitk.GetArrayFromImage(image).T, Grid((N, N)))
    moving = Image((sitk.GetArrayFromImage(moved) + noise).T.astype(np.float32), Grid((size, size), (1, 1), origin))
    return fixed, moving, points, targets


def median(state, points, targets):
    return float(np.median(np.linalg.norm(state.transform(points) - targets, axis=1)))


@pytest.mark.parametrize("name", ["camera", "astronaut"])
@pytest.mark.parametrize(("degrees", "scale"), [(90, 1.0), (180, 1.0), (-90, 0.7), (45, 1.5), (120, 0.5), (180, 2.0)])
def test_turned_and_scaled_images_are_found(name, degrees, scale):
    fixed, moving, points, targets = pair(name, degrees, scale)
    *_, state = LPRegistration(transform="similarity").steps(fixed, moving)
    assert median(state, points, targets) < 0.5
    assert state.warnings == ()


@pytest.mark.parametrize("share", [0.4, 0.7, 0.95, 1.5])
def test_headers_that_lie_elsewhere_are_found(share):
    fixed, moving, points, targets = pair("camera", 5, 1.0, (share * N, -share * N))
    for transform in ("rigid", "bspline"):
        *_, state = LPRegistration(transform=transform).steps(fixed, moving)
        assert median(state, points, targets) < 0.5


def test_a_magnification_that_a_rigid_map_lacks_is_doubted():
    fixed, moving, points, targets = pair("camera", 0, 2.0)
    *_, state = LPRegistration(transform="rigid").steps(fixed, moving)
    assert median(state, points, targets) > 5
    assert any("check the result" in text for text in state.warnings)


@pytest.mark.parametrize("name", ["camera", "coins", "astronaut"])
def test_another_contrast_is_doubted_by_correlation_and_found_by_information(name):
    fixed, moving, points, targets = pair(name, 8, 1.0)
    negative = moving.with_values(255 - moving.values)
    *_, state = LPRegistration(transform="rigid").steps(fixed, negative)
    assert median(state, points, targets) < 1 or any("check the result" in text for text in state.warnings)
    *_, state = LPRegistration(transform="rigid", criterion="mi").steps(fixed, negative)
    assert median(state, points, targets) < 1
    assert not any("check the result" in text for text in state.warnings)


def test_unrelated_images_are_doubted():
    fixed, moving = pair("camera", 0, 1.0)[0], pair("coins", 0, 1.0)[0]
    for transform in ("rigid", "affine", "bspline"):
        *_, state = LPRegistration(transform=transform).steps(fixed, moving)
        assert any("check the result" in text for text in state.warnings)


@pytest.mark.parametrize(
    ("first", "second"),
    [("camera", "coins"), ("coins", "astronaut"), ("astronaut", "moon"), ("moon", "camera"), ("coins", "moon")],
)
def test_unrelated_images_are_doubted_by_information(first, second):
    fixed, moving = pair(first, 0, 1.0)[0], pair(second, 0, 1.0)[0]
    for kind in ("rigid", "affine"):
        *_, state = LPRegistration(transform=kind, criterion="mi").steps(fixed, moving)
        assert any("check the result" in text for text in state.warnings)


def test_images_of_many_contrasts_and_noise_are_found_by_information_without_a_doubt():
    fixed, moving, points, targets = pair("camera", 8, 1.0)
    noise = np.random.default_rng(2).normal(0, 12, moving.values.shape)
    for look in (lambda v: 255 - v, lambda v: 4 * v * (255 - v) / 255, lambda v: 255 * (v.clip(0) / 255) ** 3):
        other = moving.with_values((look(moving.values) + noise).astype(np.float32))
        *_, state = LPRegistration(transform="rigid", criterion="mi").steps(fixed, other)
        assert median(state, points, targets) < 1
        assert state.warnings == ()


def test_likeness_is_what_the_worse_way_leaves():
    fixed, _, _, _ = pair("camera", 0, 1.0)
    strange = pair("coins", 0, 1.0)[0]
    folded = fixed.with_values(np.abs(fixed.values - np.median(fixed.values)))

    def likeness(other, name):
        (level,) = levels_of(Pair.of(fixed, other).scenes, [2.0], criterion_called(name), Bundle(6, 2), 700)
        return agreement(level, Affine.identity(2)).likeness

    assert likeness(fixed, "ncc") > 0.95
    assert likeness(fixed.with_values(-fixed.values), "ncc") < -0.9
    assert likeness(fixed.with_values(-fixed.values), "mi") > 0.95
    # of dark and bright that have become one, only half can be told: the better way would give nearly 1
    assert 0.2 < likeness(folded, "mi") < 0.9
    assert abs(likeness(strange, "mi")) < 0.2
    assert abs(likeness(strange, "ncc")) < 0.2


@pytest.mark.parametrize("criterion", ["ncc", "mi"])
def test_a_round_image_is_found_from_half_its_size_away(criterion):
    """A fundus: its round border fits itself anywhere along it. Where half of the view is cut at a side, it may still be lost."""
    whole = sitk.GetImageFromArray((255 * photograph("retina")).astype(np.float32))
    for shift in ((0.0, 0.5), (-0.35, 0.35)):
        truth = sitk.TranslationTransform(2, [share * N for share in shift])
        moved = sitk.Resample(whole, whole, truth.GetInverse(), sitk.sitkLinear, 0.0)
        fixed, moving = (Image(sitk.GetArrayFromImage(part).T, Grid((N, N))) for part in (whole, moved))
        points = np.random.default_rng(0).uniform(0.3, 0.7, (50, 2)) * N
        *_, state = LPRegistration(transform="rigid", criterion=criterion).steps(fixed, moving)
        errors = np.linalg.norm(state.transform(points) - points - np.array(shift) * N, axis=1)
        assert errors.max() < 0.5


def test_agreement_falls_with_the_distance_from_the_truth():
    fixed, moving, _, _ = pair("camera", 0, 1.0)
    scenes = Pair.of(fixed, moving).scenes
    (level,) = levels_of(scenes, [2.0], criterion_called("ncc"), Bundle(6, 2), 700)
    shares = [agreement(level, Affine(np.eye(2), [shift, 0.0])).share for shift in (0.0, 2.0, 6.0, 40.0)]
    assert shares[0] > 0.95
    assert shares[0] >= shares[1] > shares[2]
    assert shares[3] < 0.3
    negative = Pair.of(fixed, moving.with_values(-moving.values)).scenes
    plain, informed = (
        agreement(levels_of(negative, [2.0], criterion_called(name), Bundle(6, 2), 700)[0], Affine.identity(2))
        for name in ("ncc", "mi")
    )
    assert plain.opposed > 0.9
    assert informed.share > 0.95


@pytest.mark.parametrize("degrees", [-40.0, 30.0])
def test_a_start_is_found_wherever_the_rotation_s_centre_lies(degrees):
    """A turn about a corner is a turn about the middle and a shift: both are found, on a grid that is turned itself."""
    turn = np.deg2rad(degrees)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    direction = np.array([[0.0, -1.0], [1.0, 0.0]])
    image = sitk.GetImageFromArray(photograph("camera").astype(np.float32))
    image.SetSpacing((1.5, 1.5))
    image.SetOrigin((-40.0, 300.0))
    image.SetDirection(direction.ravel().tolist())
    grid = Grid((N, N), (1.5, 1.5), (-40.0, 300.0), direction)
    for share in ((0.5, 0.5), (0.2, 0.35), (0.7, 0.1)):
        truth = sitk.AffineTransform(2)
        truth.SetCenter(grid.points_at(np.array(share) * N).tolist())
        truth.SetMatrix(matrix.ravel().tolist())
        moved = sitk.Resample(image, image, truth.GetInverse(), sitk.sitkLinear, 0.0)
        fixed, moving = (Image(sitk.GetArrayFromImage(part).T, grid) for part in (image, moved))
        both = Pair.of(fixed, moving)
        (scout,) = levels_of(both.scenes, [6.0], criterion_called("ncc"), Bundle(6, 2), 300)
        found, *_ = candidates(scout.fixed, scout.moving, both.start, nearby(2, rigid=True, degrees=45.0), count=3)
        points = grid.points_at(np.random.default_rng(0).uniform(0.3, 0.7, (50, 2)) * N)
        targets = np.array([truth.TransformPoint(p) for p in points.tolist()])
        # about a voxel of the level
        assert np.linalg.norm(found(points) - targets, axis=1).mean() < 6.0
