"""Two registrations, one after the other: the second starts where the first has ended.

    phi_1 = first(fixed, moving),        phi = second(fixed, moving, initial=phi_1) = phi_1 @ (what the second adds)

A network first, then a linear program: milliseconds for what is large, and what is left for what compares boundaries.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from augreg.geometry.grid import Grid
from augreg.geometry.image import Image
from augreg.registration.clock import Clock, as_budget
from augreg.registration.incoming import Prepared
from augreg.registration.method import Method, Registration, State, Tracker, as_method
from augreg.registration.pair import Array, Pair

if TYPE_CHECKING:
    from typing import Unpack


@dataclass(frozen=True)
class Chained(Method):
    """The second registration after the first; itself a registration, and can be chained.

    The states of the second have levels, seconds and warnings that follow on those of the first. Objectives are in each
    registration's own units. Everything given goes to both.

    Parameters
    ----------
    first : coarse, or fast
    second : starts from the transform of the first
    budget : seconds after which the best transform so far is returned; what the first leaves of them is the second's. None for
        no limit but those of the parts. A callable that is no method of augreg cannot be stopped: as the second it is left out
        where nothing is left
    """

    first: Registration
    second: Registration
    budget: float | None = None

    def __post_init__(self) -> None:
        as_method("first", self.first)
        as_method("second", self.second)
        as_budget(self.budget)

    def prepare(self, fixed: Image | Array, *, moving_grid: Grid | None = None, **given: Unpack[Prepared]) -> Tracker:
        """A tracker of both parts' trackers."""
        parts = as_method("first", self.first), as_method("second", self.second)
        first, second = (part.prepare(fixed, moving_grid=moving_grid, **given) for part in parts)
        return ChainedTracker(first.place, first, second, self.budget)

    def _states(self, pair: Pair, clock: Clock) -> Iterator[State]:
        parts = as_method("first", self.first), as_method("second", self.second)
        return _in_turn(*parts, pair, clock.within(self.budget))


@dataclass(frozen=True, eq=False)
class ChainedTracker(Tracker):
    """One tracker after the other."""

    first: Tracker
    second: Tracker
    budget: float | None

    def _states(self, pair: Pair, clock: Clock) -> Iterator[State]:
        return _in_turn(self.first, self.second, pair, clock.within(self.budget))


def _in_turn(first: Method | Tracker, second: Method | Tracker, pair: Pair, clock: Clock) -> Iterator[State]:
    before = None
    for state in first._states(pair, clock):
        before = state
        yield state
    assert before is not None
    if clock.spent:
        yield before.late_saying(f"{clock.told} was spent before the second registration: it was left out")
        return
    for state in second._states(pair.with_initial(before.transform), clock.onward()):
        yield state.after(before)
