"""Any registration can be prepared for one fixed image; what does not fit the preparation is told in one line."""

import numpy as np
import pytest
from support.phantoms import blobs

from augreg import Affine, Grid, Image, Labels, LPRegistration
from augreg.registration import Chained, Method, State

GRID = Grid((40, 30))
FIXED = blobs(GRID, 40)


class Told(Method):
    """Tells what it was given."""

    def __init__(self):
        self.pairs = []

    def _states(self, pair, clock):
        self.pairs.append(pair)
        yield State(0, 0, 0.0, 0.0, pair.start @ Affine(np.eye(2), np.ones(2)), clock.seconds)


def test_by_default_a_frame_is_given_to_the_registration_with_all_that_is_known():
    told = Told()
    mask, start = Labels(np.ones(GRID.shape, np.uint8), GRID), Affine(2 * np.eye(2), np.zeros(2))
    tracker = told.prepare(FIXED, fixed_mask=mask)
    phi = tracker(FIXED.values[::-1], initial=start)
    (pair,) = told.pairs
    assert (pair.fixed, pair.fixed_mask, pair.moving.grid, pair.initial) == (FIXED, mask, GRID, start)
    np.testing.assert_array_equal(pair.moving.values, FIXED.values[::-1])
    np.testing.assert_array_equal(phi.translation, [2.0, 2.0])


def test_wrappers_can_be_prepared():
    first, second = Told(), Told()
    phi = Chained(first, Chained(second, lambda fixed, moving, initial: initial)).prepare(FIXED)(FIXED.values)
    np.testing.assert_array_equal(phi.translation, [2.0, 2.0])
    *_, state = Chained(first, second).prepare(FIXED).steps(np.full(GRID.shape, np.nan), initial=phi)
    assert state.transform is phi
    assert state.warnings == ("lost: the frame has no finite voxel; the start is returned",)


def test_a_chain_prepares_both_of_its_parts_once():
    class Counted(Told):
        def prepare(self, fixed, **given):
            self.prepared = getattr(self, "prepared", 0) + 1
            return super().prepare(fixed, **given)

    first, second = Counted(), Counted()
    tracker = Chained(first, second).prepare(FIXED)
    start = Affine(np.eye(2), np.ones(2))
    for _ in range(3):
        np.testing.assert_array_equal(tracker(FIXED.values, initial=start).translation, [3.0, 3.0])
    assert (first.prepared, second.prepared) == (1, 1)
    # the second begins where the first has ended
    assert [pair.initial.translation[0] for pair in (first.pairs[0], second.pairs[0])] == [1.0, 2.0]


@pytest.mark.parametrize("register", [Told(), LPRegistration(transform="rigid")], ids=["any", "lp"])
@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (np.zeros((40, 31)), r"expected shape \(40, 30\), .*got \(40, 31\); prepare again"),
        (np.zeros((30, 40)), r"expected shape \(40, 30\)"),
        (np.zeros((40, 30, 3)), r"expected shape \(40, 30\)"),
        (np.zeros((40, 30, 8)), r"expected shape \(40, 30\)"),
        (Image(FIXED.values, Grid(GRID.shape, (1.0, 2.0))), "on the grid that was prepared for, got one on another"),
    ],
)
def test_frames_of_another_kind_are_refused_in_one_line(register, frame, said):
    with pytest.raises(ValueError, match=said) as told:
        register.prepare(FIXED).steps(frame, initial=Affine.identity(2))
    assert "\n" not in str(told.value)


def test_what_is_no_frame_start_or_knowledge_is_refused():
    tracker = Told().prepare(FIXED)
    with pytest.raises(TypeError, match="frame: expected an Image or an array, got list"):
        tracker([[1.0]])
    with pytest.raises(TypeError, match=r"initial: expected a Transform, got numpy\.ndarray; a matrix is one as Affine"):
        tracker(FIXED, initial=np.eye(3))
    with pytest.raises(ValueError, match="initial: expected a 2-D transform, got 3-D"):
        tracker(FIXED, initial=Affine.identity(3))
    with pytest.raises(TypeError, match="real numbers"):
        tracker(np.zeros(GRID.shape, complex))
    with pytest.raises(TypeError, match="moving_points: expected keywords among"):
        Told().prepare(FIXED, moving_points=np.zeros((3, 2)))
    with pytest.raises(TypeError, match="moving_grid: expected a Grid, got tuple"):
        Told().prepare(FIXED, moving_grid=(40, 30))
    with pytest.raises(ValueError, match="expected images of one dimension, got 2-D and 3-D"):
        Told().prepare(FIXED, moving_grid=Grid((5, 6, 7)))
