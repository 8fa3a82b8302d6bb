"""Landmarks outside their image, and what they may be instead; which points are outside is SimpleITK's word."""

import numpy as np
import pytest
import SimpleITK as sitk
from support import spaces
from support.maps import affine, bspline, field

from augreg import BSpline, DisplacementField, Grid, Image, LPRegistration
from augreg.geometry.landmarks import beyond_domain, check_inside, misplaced, outside

RNG = np.random.default_rng
# not centred at 0, so that no other reading of its points lies inside
HEAD = Grid((60, 70, 50), (2.0, 2.0, 3.0), (-20.0, -150.0, 40.0))
POINTS = np.array([[10.0, -100, 80], [40, -80, 100], [60, -60, 150]])


def itk(grid):
    image = sitk.Image([int(n) for n in grid.shape], sitk.sitkUInt8)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(np.asarray(grid.direction).ravel().tolist())
    return image


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
def test_outside_is_a_voxel_beyond_the_voxels_of_simpleitk(ndim, name):
    grid = spaces.grid(ndim, name)
    points = grid.points_at(RNG(0).uniform(-6, np.array(grid.shape) + 5, (300, ndim)))
    index = np.array([itk(grid).TransformPhysicalPointToContinuousIndex(p) for p in points.tolist()])
    expected = np.any((index < -1) | (index > np.array(grid.shape)), axis=1)
    assert 0 < expected.sum() < 300
    np.testing.assert_array_equal(outside(points, grid), expected)


@pytest.mark.parametrize(
    ("points", "word"),
    [
        (POINTS * [-1, -1, 1], "RAS"),
        (np.array([itk(HEAD).TransformPhysicalPointToContinuousIndex(p) for p in POINTS.tolist()]), "voxel indices"),
        (POINTS[:, ::-1], "reverse order"),
    ],
)
def test_the_reading_that_puts_all_inside_is_offered(points, word):
    assert misplaced("fixed_points", POINTS, HEAD) is None
    text = misplaced("fixed_points", points, HEAD)
    assert "of 3 outside" in text
    assert "x from -21 to 99, y from -151 to -11, z from 38.5 to 188.5" in text
    guesses = [w for w in ("RAS", "voxel indices", "reverse order", "exchanged") if w in text]
    assert guesses == [word]


def test_exchanged_landmarks_are_told_from_the_other_image():
    far = Grid(HEAD.shape, HEAD.spacing, (500.0, 500.0, 500.0))
    there = POINTS + np.array([520, 650, 460])
    check_inside(POINTS, there, HEAD, far)
    with pytest.raises(ValueError, match=r"fixed_points.*3 of 3 outside; the points of the other image.*exchanged"):
        check_inside(there, POINTS, HEAD, far)
    # one point alone that is far from everything is no sign of any convention
    lost = np.vstack([POINTS, [[9e3, 9e3, 9e3]]])
    assert misplaced("fixed_points", lost, HEAD).endswith("1 of 4 outside")


def test_constraints_outside_their_images_are_refused():
    grid = Grid((64, 48), (1.0, 1.5), (100.0, -300.0))
    values = RNG(0).normal(size=(64, 48)).astype(np.float32)
    fixed = moving = Image(values, grid)
    points = grid.points_at([[10, 10], [40, 30], [20, 40.0]])
    with pytest.raises(ValueError, match=r"fixed_points.*3 of 3 outside.*RAS"):
        LPRegistration()(fixed, moving, fixed_points=-points, moving_points=points)
    with pytest.raises(ValueError, match=r"moving_points.*3 of 3 outside.*voxel indices"):
        LPRegistration()(fixed, moving, fixed_points=points, moving_points=grid.indices_at(points))


@pytest.mark.parametrize("ndim", [2, 3])
def test_beyond_the_domain_simpleitk_leaves_points_where_they_are(ndim):
    rng = RNG(ndim)
    loose = BSpline(rng.uniform(1, 2, bspline(ndim).coefficients.shape), bspline(ndim).grid)
    full = DisplacementField(np.full_like(field(ndim).values, 1.0), field(ndim).grid)
    for transform in (loose, full):
        grid = transform.grid
        points = grid.points_at(rng.uniform(-4, np.array(grid.shape) + 3, (400, ndim)))
        still = np.all(transform(points) == points, axis=1)
        assert 20 < still.sum() < 380
        np.testing.assert_array_equal(beyond_domain(transform, points), still)
        # behind an affine map it is the mapped points that count
        mapped = beyond_domain(transform @ affine(ndim), affine(ndim).inverse()(points))
        np.testing.assert_array_equal(mapped, still)
    assert not beyond_domain(affine(ndim), points).any()
