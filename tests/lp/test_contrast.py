"""With contrast="any" a negative is registered as well as the image itself. Truth by SimpleITK."""

import numpy as np
import pytest
import SimpleITK as sitk
from support import phantoms, spaces

from augreg import Affine, Grid, Image, tre, warp
from augreg.cli import main
from augreg.io import read_transform, write_image
from augreg.lp import LPRegistration

N = 160


def pair(name: str, degrees: float, bend: float = 0.0):
    """Fixed, moving, points and targets; both images have noise."""
    values = phantoms.skimage.transform.resize(phantoms.photograph(name), (N, N), anti_aliasing=True)
    image = sitk.GetImageFromArray((255 * values).astype(np.float32))
    truth = sitk.Euler2DTransform([N / 2] * 2, float(np.deg2rad(degrees)), (7.0, -5.0))
    elastic = sitk.BSplineTransformInitializer(image, [4, 4], 3)
    elastic.SetParameters((np.random.default_rng(3).uniform(-bend, bend, len(elastic.GetParameters()))).tolist())
    both = sitk.CompositeTransform([truth, elastic])
    rng = np.random.default_rng(1)
    seen = sitk.GetArrayFromImage(sitk.Resample(image, both)) + rng.normal(0, 2, (N, N))
    points = rng.uniform(0.2, 0.8, (100, 2)) * N
    targets = np.array([both.TransformPoint(p) for p in points.tolist()])
    moving = sitk.GetArrayFromImage(image) + rng.normal(0, 2, (N, N))
    return *(Image(part.T.astype(np.float32), Grid((N, N))) for part in (seen, moving)), points, targets


def negative(image: Image) -> Image:
    return image.with_values(255 - image.values)


@pytest.mark.parametrize("name", ["camera", "coins", "astronaut", "retina"])
@pytest.mark.parametrize("settings", [{"transform": "rigid"}, {"transform": "affine"}, {"transform": "affine", "rotation": 180}])
def test_a_negative_is_registered_as_well_as_the_image(name, settings):
    fixed, moving, points, targets = pair(name, 9.0)
    plain = LPRegistration(**settings)(fixed, moving)
    register = LPRegistration(contrast="any", **settings)
    for image in (moving, negative(moving)):
        *_, state = register.steps(fixed, image)
        assert tre(state.transform, points, targets).mean() < 0.3
        np.testing.assert_allclose(state.transform(points), plain(points), atol=0.05)
        assert state.warnings == ()


def test_what_bends_and_what_is_dense_see_the_negative_too():
    fixed, moving, points, targets = pair("astronaut", 5.0, bend=4.0)
    for settings in ({}, {"dense": None}):
        plain = tre(LPRegistration(**settings)(fixed, moving), points, targets).mean()
        phi = LPRegistration(contrast="any", **settings)(fixed, negative(moving))
        assert plain < 0.6
        assert tre(phi, points, targets).mean() < plain + 0.02


def test_a_start_that_is_given_is_tried_with_both_contrasts():
    fixed, moving, points, targets = pair("camera", 4.0)
    start = Affine.about(np.eye(2), fixed.grid.center, np.array([6.0, -4.0]))
    for image in (moving, negative(moving)):
        phi = LPRegistration(transform="affine", contrast="any")(fixed, image, initial=start)
        assert tre(phi, points, targets).mean() < 0.3


def test_negatives_of_volumes_turned_outside_the_usual_search_and_masked():
    grid = Grid((44, 40, 30), (1.0, 1.2, 1.5), (-11.0, 5.0, 40.0), spaces.directions(3)["oblique"])
    fixed = phantoms.blobs(grid, 60)
    turn = np.eye(3)
    turn[:2, :2] = [[0.0, -1.0], [1.0, 0.0]]
    truth = Affine.about(turn, grid.center, np.array([2.0, -1.0, 2.0]))
    moved = warp(fixed, truth.inverse(), grid.padded(6), interpolation="cubic")
    mask = moved.with_values(warp(fixed.with_values(np.ones(grid.shape, np.float32)), truth.inverse(), moved.grid).values > 0.99)
    points = grid.points_at(np.random.default_rng(0).uniform(0.2, 0.8, (50, 3)) * grid.shape)
    phi = LPRegistration(transform="rigid", contrast="any")(
        fixed, moved.with_values(3 - moved.values), moving_mask=mask.values.astype(np.uint8)
    )
    assert tre(phi, points, truth(points)).mean() < 0.5


def test_what_has_no_sign_is_refused():
    with pytest.raises(ValueError, match="contrast any: expected criterion ncc"):
        LPRegistration(criterion="ssd", contrast="any")
    with pytest.raises(ValueError, match="contrast: expected one of same, any"):
        LPRegistration(contrast="other")
    fixed, moving, *_ = pair("camera", 4.0)
    with pytest.raises(ValueError, match="negatives"):
        LPRegistration(contrast="any").prepare(fixed)
    # mutual information takes any contrast anyway
    settings = {"transform": "rigid", "criterion": "mi"}
    one, other = (LPRegistration(contrast=contrast, **settings)(fixed, moving) for contrast in ("same", "any"))
    np.testing.assert_array_equal(one(np.eye(2)), other(np.eye(2)))


def test_the_command_takes_any_contrast(tmp_path):
    fixed, moving, points, targets = pair("coins", 9.0)
    names = [str(tmp_path / name) for name in ("fixed.nii.gz", "moving.nii.gz", "phi.tfm")]
    write_image(fixed, names[0])
    write_image(negative(moving), names[1])
    assert main(["register", *names[:2], "-o", names[2], "--transform", "affine", "--contrast", "any"]) == 0
    assert tre(read_transform(names[2]), points, targets).mean() < 0.3
    assert main(["register", *names[:2], "-o", names[2], "--criterion", "ssd", "--contrast", "any"]) == 2
