"""Registrations from corresponding points: at keypoints, and on outlines."""

import numpy as np
import pytest
import scipy.interpolate
import scipy.ndimage
from support import realdata
from support.spaces import grid

from augreg import (
    Affine,
    BSpline,
    DisplacementField,
    Grid,
    Image,
    Labels,
    ShapeRegistration,
    SplinedRegistration,
    dice,
    warp,
)
from augreg.matching import splined


def least(phi, template, affine_det=1.0):
    """Least determinant over a fine lattice."""
    points = template.lattice([4 * n for n in template.shape] if template.ndim == 2 else list(template.shape))
    return np.linalg.det(phi.jacobian(points)).min() / affine_det


@pytest.mark.parametrize("ndim", [2, 3])
def test_points_of_an_affine_map_give_it_and_those_of_a_smooth_one_are_met(ndim):
    template, rng = grid(ndim, "oblique"), np.random.default_rng(ndim)
    # mirrored, as flipped acquisitions are
    A = Affine.about(np.diag([-1.0, 1.1, 0.9][:ndim]) + 0.1, template.center, np.arange(ndim) + 2.0)
    p = template.points_at(rng.uniform(2, np.array(template.shape) - 3, (60, ndim)))
    x = template.points()
    np.testing.assert_allclose(splined(p, A(p), template)(x), A(x), atol=1e-6)
    bend = BSpline.zeros(template, 6.0)
    bend.coefficients[bend.free] = rng.normal(size=(bend.free.sum(), ndim))
    q = A(bend(p))
    phi = splined(p, q, template)
    missed, without = (np.linalg.norm(found(p) - q, axis=1).mean() for found in (phi, splined(p, q, template, guard=0.9)))
    assert missed < 0.1 * np.linalg.norm(bend(p) - p, axis=1).mean()
    assert missed < 0.5 * without
    assert least(phi, template, np.linalg.det(A.matrix)) > 0


def test_contradicting_points_do_not_fold_and_trust_decides_between_them():
    template, rng = Grid((60, 50)), np.random.default_rng(0)
    p = rng.uniform(4, 45, (150, 2))
    q = p + 2 * np.sin(p[:, ::-1] / 9)
    good = q.copy()
    wrong = rng.permutation(150)[:15]
    q[wrong] += rng.normal(size=(15, 2)) * 6
    folded = scipy.interpolate.RBFInterpolator(p, q - p, kernel="thin_plate_spline")
    u = folded(template.points().reshape(-1, 2)).reshape(60, 50, 2)
    assert least(DisplacementField(u, template), template) < 0
    phi = splined(p, q, template)
    assert least(phi, template) > 0
    rest = np.setdiff1d(np.arange(150), wrong)
    error = np.linalg.norm(phi(p[rest]) - good[rest], axis=1).mean()
    # a few that contradict all others are found without being told
    assert error < 0.1
    # two opinions of equal weight are not
    q = good + np.where(np.arange(150) % 2, 3.0, 0.0)[:, None]
    trust = np.where(np.arange(150) % 2, 1e-4, 1.0)
    errors = [np.linalg.norm(splined(p, q, template, trust=t)(p[::2]) - good[::2], axis=1).mean() for t in (None, trust)]
    assert errors[1] < 0.2 * errors[0]


@pytest.mark.parametrize(
    ("points", "changes", "message"),
    [
        ([[0, 0], [1, 1]], {}, r"points, partners: expected as many of both, 3 or more, 2-D, got \(2, 2\)"),
        ([[0, 0], [1, 1], [2, 2], [3, 3]], {}, "points, partners: expected points that fill the space"),
        ([[0, 0], [1, 0], [0, 1], [3, 3]], {"trust": [1, 1, 0, 1]}, "trust: expected 4 positive numbers"),
        ([[0, 0], [1, 0], [0, 1], [3, 3]], {"guard": 1.5}, "guard: expected a determinant between 0 and 1, got 1.5"),
    ],
)
def test_points_that_say_too_little_are_refused(points, changes, message):
    with pytest.raises(ValueError, match=message):
        splined(points, points, Grid((20, 20)), **changes)


def test_keypoints_of_lungs_carry_landmarks_as_thin_plates_do_but_without_folds():
    folder = realdata.path("lungpoints")
    p, q, landmarks, partners = (
        np.loadtxt(folder / f"03_{name}.csv", delimiter=",", skiprows=1)
        for name in ("exp_keypoints", "insp_keypoints", "exp_points", "insp_points")
    )
    low, high = np.minimum(p.min(0), landmarks.min(0)), np.maximum(p.max(0), landmarks.max(0))
    template = Grid(tuple(np.ceil((high - low) / 6).astype(int) + 1), (6.0,) * 3, tuple(low))
    phi = splined(p, q, template)
    plates = landmarks + scipy.interpolate.RBFInterpolator(p, q - p, kernel="thin_plate_spline")(landmarks)
    errors = [np.linalg.norm(found - partners, axis=1).mean() for found in (landmarks, plates, phi(landmarks))]
    assert errors[2] < errors[1] + 0.1 < 0.3 * errors[0]
    assert least(phi, template) > 0


def scene(seed=0, shape=(70, 60)):
    values = scipy.ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2.5)
    return Image(values.astype(np.float32), Grid(shape, (1.0, 1.2)))


def says(u):
    """A registration that says the same of all images, and its reverse where they are exchanged."""

    def register(fixed, moving):
        field = DisplacementField(u if fixed.values[0, 0] < moving.values[0, 0] else -u, fixed.grid)
        return field

    return register


def test_a_registration_that_folds_becomes_one_that_does_not():
    fixed = scene()
    points = fixed.grid.points()
    u = 2.5 * np.sin(points / 6)[..., ::-1]
    # one place folds
    u[30:33, 30:33] += (9, -9)
    moving = fixed.with_values(fixed.values + 1)
    assert least(DisplacementField(u, fixed.grid), fixed.grid) < 0
    *_, before, state = SplinedRegistration(says(u), keypoints=300).steps(fixed, moving)
    phi = state.transform
    assert least(phi, fixed.grid) > 0
    assert state.keypoints > 200
    assert np.array_equal(before.transform.values, u)
    inside = (slice(8, -8),) * 2
    smooth = 2.5 * np.sin(points / 6)[..., ::-1]
    missed = np.linalg.norm(phi(points) - points - smooth, axis=-1)[inside]
    assert np.median(missed) < 0.3
    assert np.linalg.norm(smooth, axis=-1).mean() > 1.5


def test_places_where_the_directions_disagree_count_less():
    fixed = scene()
    moving, points = fixed.with_values(fixed.values + 1), fixed.grid.points()
    smooth = 1.5 * np.sin(points / 9)[..., ::-1]
    wrong = (np.abs(points - (30, 30)) < 9).all(axis=-1)

    def register(one, other):
        u = smooth.copy() if one.values[0, 0] < other.values[0, 0] else -smooth
        # the same both ways: no inverses of each other
        u[wrong] += 4
        return DisplacementField(u, one.grid)

    errors = []
    for consistent in (True, False):
        phi = SplinedRegistration(register, keypoints=400, consistent=consistent)(fixed, moving)
        errors.append(np.linalg.norm(phi(points) - points - smooth, axis=-1)[~wrong].mean())
    assert errors[0] < 0.7 * errors[1]


def test_flat_images_have_no_keypoints_and_say_so():
    # a square in a corner: all of its border is near the image's
    fixed = Image(np.pad(np.ones((3, 3)), ((0, 38), (0, 38))), Grid((41, 41)))
    with pytest.raises(ValueError, match="fixed: expected an image with boundaries"):
        SplinedRegistration(says(np.zeros((41, 41, 2))))(fixed, fixed.with_values(fixed.values + 1))
    with pytest.raises(ValueError, match="keypoints: expected a positive number, got 0"):
        SplinedRegistration(says(None), keypoints=0)
    with pytest.raises(TypeError, match="registration: expected a callable"):
        SplinedRegistration(3)


def ellipses(where, ndim):
    """Two ellipsoids in a grid: at the given centre with half axes, and beside it."""
    shape = (64, 56, 40)[:ndim]
    g = Grid(shape, (1.0, 1.2, 1.5)[:ndim])
    (center, axes), x = where, g.points()
    values = np.zeros(shape, dtype=np.int64)
    center, axes = np.array(center[:ndim]), np.array(axes[:ndim])
    values[(((x - center) / axes) ** 2).sum(axis=-1) < 1] = 1
    values[(((x - center - 1.9 * axes[0] * np.eye(ndim)[0]) / (0.6 * axes)) ** 2).sum(axis=-1) < 1] = 2
    return Labels(values, g)


@pytest.mark.parametrize("ndim", [2, 3])
def test_outlines_end_up_on_each_other_and_the_inverse_is_exact(ndim):
    f, m = ellipses(((22, 33, 29), (11, 17, 13)), ndim), ellipses(((26, 30, 31), (13, 12, 15)), ndim)
    images = [Image(np.random.default_rng(i).normal(size=f.grid.shape), f.grid) for i in range(2)]
    known = {"fixed_labels": f, "moving_labels": m}
    phi = ShapeRegistration(300)(*images, **known)
    moved = warp(m, phi, f.grid)
    for number in (1, 2):
        before, after = (dice(f, other)[number] for other in (m, moved))
        assert after > 0.93 > before
    x = f.grid.lattice([9] * ndim)
    np.testing.assert_allclose(phi.inverse()(phi(x)), x, atol=0.02)
    assert least(phi, f.grid) > 0
    if ndim == 3:
        return
    start = Affine.about(0.95 * np.eye(ndim), f.grid.center, np.full(ndim, 3.0))
    started = ShapeRegistration(300)(*images, **known, initial=start)
    assert dice(f, warp(m, started, f.grid))[1] > 0.93


def test_shapes_need_label_maps_with_something_in_common():
    f = ellipses(((22, 33), (11, 17)), 2)
    image = Image(f.values.astype(float), f.grid)
    with pytest.raises(ValueError, match="ShapeRegistration: expected fixed_labels and moving_labels, got none; give both"):
        ShapeRegistration()(image, image)
    other = Labels(np.where(f.values > 0, 7, 0), f.grid)
    with pytest.raises(ValueError, match="structure"):
        ShapeRegistration()(image, image, fixed_labels=f, moving_labels=other)
    (state,) = ShapeRegistration(structures=(1,)).steps(image, image, fixed_labels=f, moving_labels=f, moving_mask=f)
    assert state.warnings[0].startswith("moving_mask: not used by ShapeRegistration")
    assert state.objective < 0.2
