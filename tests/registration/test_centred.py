"""Centres on each other."""

import numpy as np
import pytest
from support.spaces import grid

from augreg import Affine, Centred, Chained, Image, Labels, LPRegistration


def images(ndim):
    """Two grids of other shapes and places, and a box in each."""
    fixed, moving = grid(ndim, "oblique"), grid(ndim, "flip", (15, 20, 9)[:ndim])
    boxes = []
    for one, low, high in ((fixed, 3, 8), (moving, 5, 7)):
        values = np.zeros(one.shape, dtype=np.int64)
        values[(slice(low, high),) * ndim] = 4
        boxes.append(Labels(values, one))
    rng = np.random.default_rng(ndim)
    return *(Image(rng.normal(size=one.grid.shape), one.grid) for one in boxes), *boxes


def middle(labels):
    """Mean of the points of a map, mm."""
    return labels.grid.points()[labels.values > 0].mean(axis=0)


@pytest.mark.parametrize("ndim", [2, 3])
def test_grids_or_structures_end_up_on_each_other(ndim):
    fixed, moving, f, m = images(ndim)
    np.testing.assert_allclose(Centred()(fixed, moving)(fixed.grid.center), moving.grid.center)
    for name in ("mask", "labels"):
        phi = Centred()(fixed, moving, **{f"fixed_{name}": f, f"moving_{name}": m})
        np.testing.assert_allclose(phi(middle(f)), middle(m))
        np.testing.assert_allclose(phi.matrix, np.eye(ndim))
    assert np.abs(phi(fixed.grid.center) - moving.grid.center).max() > 0.5


def test_a_start_is_kept():
    fixed, moving, f, m = images(2)
    start = Affine([[0.9, -0.3], [0.2, 1.1]], [4.0, -7.0])
    phi = Centred()(fixed, moving, fixed_labels=f, moving_labels=m, initial=start)
    np.testing.assert_allclose(phi(middle(f)), middle(m), atol=1e-6)
    np.testing.assert_allclose(phi.jacobian(fixed.grid.center), start.matrix)


def test_what_one_image_lacks_is_said_and_not_used():
    fixed, moving, f, m = images(2)
    (state,) = Centred().steps(fixed, moving, fixed_labels=f, fixed_mask=f, moving_mask=m)
    np.testing.assert_allclose(state.transform(middle(f)), middle(m))
    assert state.warnings == ("fixed_labels, moving_labels: not used, since one of the images has nothing in its own",)


def test_images_of_two_scanners_find_each_other():
    rng = np.random.default_rng(0)
    values = np.kron(rng.normal(size=(12, 12)), np.ones((5, 5)))
    there = grid(2, "identity", (60, 60))
    far = Image(values, there).grid
    fixed = Image(values, there)
    moving = Image(values, type(far)(far.shape, far.spacing, (900.0, -400.0), far.direction))
    phi = Chained(Centred(), LPRegistration(transform="rigid"))(fixed, moving)
    np.testing.assert_allclose(phi(there.center), moving.grid.center, atol=0.05)
