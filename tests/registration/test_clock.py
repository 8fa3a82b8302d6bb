"""A budget is a promise: a step that would not end in time is not begun, and what a step takes is learnt from those before."""

import math

import numpy as np
import pytest

from augreg import Affine, Chained, DenseRegistration, Grid, Image, Labels, LPRegistration
from augreg.registration import Clock, Method, Pair, State
from augreg.registration.clock import as_budget, kept
from augreg.registration.thinning import factor_in_time, thinned, work


class Hands:
    """A time that passes only when somebody moves it."""

    def __init__(self):
        self.time = 100.0

    def __call__(self):
        return self.time


def test_what_is_left_is_the_budget_less_what_has_gone():
    hands = Hands()
    clock = Clock(3.0, now=hands)
    hands.time += 2.0
    assert (clock.seconds, clock.left, clock.spent) == (2.0, 1.0, False)
    later = clock.onward()
    assert (later.seconds, later.left) == (0.0, 1.0)
    assert later.within(5.0).left == 1.0
    assert later.within(0.25).left == 0.25
    hands.time += 1.5
    assert clock.spent
    assert later.spent
    assert clock.onward().spent


def test_without_a_budget_everything_is_allowed():
    for clock in (Clock(), Clock(math.inf), Clock().within(None), Clock().onward()):
        assert clock.allows("any", 1e12)
        assert not clock.limited
        assert not clock.spent
        with clock.timed("any", 1.0):
            pass
        assert clock.pace.ratios == {}


def test_a_slow_step_is_believed_at_once_and_a_fast_one_by_and_by():
    hands = Hands()
    clock = Clock(1000.0, now=hands)

    def step(seconds, kind="a"):
        with clock.timed(kind, 1.0):
            hands.time += seconds

    step(4.0)
    assert clock.expected("a", 2.0) >= 8.0
    # steps of a kind not met are expected to be as slow as the others
    assert clock.expected("b", 2.0) == clock.expected("a", 2.0)
    step(1.0)
    assert 1.0 < clock.expected("a", 1.0) < 4.0
    step(5.0)
    assert clock.expected("a", 1.0) >= 5.0
    # a part learns for the whole
    with clock.onward().timed("b", 1.0):
        hands.time += 5.0
    assert clock.expected("b", 1.0) >= 5.0
    assert not clock.allows("b", 190.0)
    assert clock.allows("b", 120.0)
    assert not clock.allows("b", 120.0, 0.5)
    # a compiler's time is no measure of the machine
    step(500.0)
    assert clock.expected("a", 1.0) < 10.0


@pytest.mark.parametrize("value", [0, -1, 0.0, float("nan"), -math.inf, np.float32(0)])
def test_budgets_that_are_not_positive_are_refused_in_a_line(value):
    for make in (as_budget, *MAKERS):
        with pytest.raises(ValueError, match=r"^budget: expected a positive number of seconds, got [^\n]*$"):
            make(value)


@pytest.mark.parametrize("value", ["1", True, [1.0], np.True_, 1j])
def test_budgets_that_are_no_numbers_are_refused_in_a_line(value):
    for make in (as_budget, *MAKERS):
        with pytest.raises(TypeError, match=r"^budget: expected a number of seconds, got [^\n]*$"):
            make(value)


MAKERS = (
    lambda value: LPRegistration(budget=value),
    lambda value: DenseRegistration(budget=value),
    lambda value: Chained(LPRegistration(), LPRegistration(), budget=value),
)


def test_numbers_of_any_kind_are_budgets_and_infinity_is_no_limit():
    assert [as_budget(value) for value in (1, 0.5, np.float32(0.5), np.int64(2), None)] == [1.0, 0.5, 0.5, 2.0, None]
    assert not Clock().within(as_budget(math.inf)).limited


def test_a_budget_is_kept_up_to_a_tenth_or_five_milliseconds():
    assert kept(1.0, 1.1)
    assert not kept(1.0, 1.11)
    assert kept(0.01, 0.0149)
    assert not kept(0.01, 0.0151)


class Lasting(Method):
    """Takes its time."""

    def __init__(self, hands, seconds):
        self.hands, self.seconds = hands, seconds

    def _states(self, pair, clock):
        self.hands.time += self.seconds
        yield State(0, 0, 1.0, 0.0, pair.start, clock.seconds)


def test_the_second_of_a_chain_has_what_the_first_has_left():
    pair, hands = Pair.of(*two(2)), Hands()
    chain = Chained(Lasting(hands, 2.0), Chained(Lasting(hands, 3.0), Lasting(hands, 4.0)), budget=5.5)
    states = list(chain._states(pair, Clock(now=hands)))
    assert [state.seconds for state in states] == [2.0, 5.0, 9.0]
    states = list(Chained(Lasting(hands, 2.0), Lasting(hands, 3.0), budget=1.5)._states(pair, Clock(now=hands)))
    assert [state.late for state in states] == [False, True]
    assert states[-1].transform is states[0].transform
    assert states[-1].warnings == ("the budget of 1.5 s was spent before the second registration: it was left out",)


def two(ndim, sides=(96, 84, 60), shift=3.0):
    """An image of blobs and the same one shifted, on an oblique grid of unequal spacing."""
    rng = np.random.default_rng(ndim)
    turn = np.eye(ndim)
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    grid = Grid(sides[:ndim], (1.0, 1.2, 1.1)[:ndim], (5.0, -3.0, 2.0)[:ndim], turn)
    centers, sizes = grid.points_at(rng.uniform(0, 1, (60, ndim)) * sides[:ndim]), rng.uniform(3, 8, 60)

    def image(offset):
        x = grid.points() - offset
        values = [np.exp(-((((x - c) ** 2).sum(-1) / s**2) ** 2)) for c, s in zip(centers, sizes, strict=True)]
        return Image(100 * np.sum(values, axis=0).astype(np.float32), grid)

    return image(0.0), image(np.full(ndim, shift) * (1, -1, 1)[:ndim])


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_thinned_pair_shows_the_same_scene_at_the_same_places(ndim):
    fixed, moving = two(ndim)
    mask = Labels((fixed.values > 20).astype(np.uint8), fixed.grid)
    start = Affine(np.eye(ndim), np.ones(ndim))
    pair = Pair.of(fixed, moving, fixed_mask=mask, initial=start)
    assert thinned(pair, 1) is pair
    some = thinned(pair, 2)
    assert some.initial is start
    assert some.moving_mask is None
    for one, other in ((some.fixed, fixed), (some.moving, moving), (some.fixed_mask, mask)):
        places = np.rint(other.grid.indices_at(one.grid.points())).astype(int)
        np.testing.assert_allclose(other.grid.points_at(places), one.grid.points(), atol=1e-9)
        np.testing.assert_array_equal(one.values, other.values[tuple(np.moveaxis(places, -1, 0))])
        assert one.grid.size == pytest.approx(other.grid.size / 2**ndim, rel=0.1)
    assert work(pair, 2, 1e-8) < work(pair, 1, 1e-8)


def test_thick_slices_are_not_thinned_before_they_are_as_fine_as_the_others():
    image = Image(np.random.default_rng(0).random((64, 80, 20)), Grid((64, 80, 20), (1.0, 1.0, 4.0)))
    pair = Pair.of(image, image)
    assert thinned(pair, 4).fixed.grid.shape == (16, 20, 20)
    assert thinned(pair, 4).fixed.grid.spacing == (4.0, 4.0, 4.0)


def test_the_less_time_the_coarser_a_pair_is_seen():
    pair = Pair.of(*two(2))
    found = [factor_in_time(pair, Clock(budget, now=Hands()), 8, 1e-6) for budget in (1e-4, 5e-3, 0.02, 0.08, 1.0, None)]
    assert found[0] is None
    assert found[-2:] == [1, 1]
    known = [factor for factor in found if factor]
    assert known == sorted(known, reverse=True)
    assert max(known) > 1
