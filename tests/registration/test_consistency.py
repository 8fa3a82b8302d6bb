import numpy as np
import pytest
from support import phantoms

from augreg import Affine, ConsistentRegistration, Grid, Image, Labels, LPRegistration, tre
from augreg.registration.consistent import inconsistency


def test_inconsistency_is_the_way_there_and_back():
    grid = Grid((5, 4), (1.0, 2.0), (3.0, -1.0))
    there, back = Affine(np.diag([1.1, 0.9]), [2.0, 0.0]), Affine(np.eye(2), [-2.0, 1.0])
    expected = np.linalg.norm(back(there(grid.points())) - grid.points(), axis=-1)
    np.testing.assert_allclose(inconsistency(there, back, grid), expected)
    assert inconsistency(there, there.inverse(), grid).max() < 1e-12


def test_what_only_one_image_shows_is_left_out():
    fixed, moving, x, y = phantoms.pair(phantoms.photograph("coffee"), phantoms.elastic(2), 2)
    values = moving.values.copy()
    values[180:350, 130:300] = np.kron(np.random.default_rng(0).uniform(0, 1, (34, 34)), np.ones((5, 5)))
    spoilt = moving.with_values(values)
    around = np.any((y < [170, 120]) | (y > [360, 310]), axis=1)
    plain = tre(LPRegistration()(fixed, spoilt), x, y)[around].mean()
    wrapped = tre(ConsistentRegistration(LPRegistration())(fixed, spoilt), x, y)[around].mean()
    assert wrapped < 0.85 * plain


def test_masks_are_kept_and_too_little_trust_changes_nothing():
    grid = Grid((40, 30))
    image = Image(np.random.default_rng(0).uniform(size=grid.shape), grid)
    calls = []

    def register(fixed, moving, *, fixed_mask=None, moving_mask=None):
        calls.append((fixed_mask, moving_mask))
        return Affine(np.eye(2), [4.0 * len(calls), 0.0])

    half = np.zeros(grid.shape, dtype=np.uint8)
    half[:20] = 1
    mask = Labels(half, grid)
    # 4 there and 8 back: beyond the tolerance everywhere
    phi = ConsistentRegistration(register, 3.0)(image, image, fixed_mask=mask)
    assert len(calls) == 2
    assert phi.translation[0] == 4.0
    assert [c[0] is mask or c[1] is mask for c in calls] == [True, True]
    calls.clear()
    ConsistentRegistration(register, 13.0)(image, image, fixed_mask=mask)
    assert len(calls) == 3
    np.testing.assert_array_equal(calls[2][0].values, half)


@pytest.mark.parametrize("tolerance", [None, 5.0])
def test_agreement_everywhere_needs_no_third_run(tolerance):
    fixed, moving, x, y = phantoms.pair(phantoms.photograph("camera"), phantoms.affine(1), 1)
    assert tre(ConsistentRegistration(LPRegistration(transform="affine"), tolerance)(fixed, moving), x, y).mean() < 0.1
