"""Two registrations, one after the other: the second starts where the first has ended.

    phi_1 = first(fixed, moving),        phi = second(fixed, moving, initial=phi_1) = phi_1 @ (what the second adds)

A network first, then a linear program: milliseconds for what is large, and what is left for what compares boundaries.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from augreg.registration.method import Method, Registration, State, as_method
from augreg.registration.pair import Pair


@dataclass(frozen=True)
class Chained(Method):
    """The second registration after the first; itself a registration, and can be chained.

    The states of the second have levels, seconds and warnings that follow on those of the first. Objectives are in each
    registration's own units. Everything given goes to both.

    Parameters
    ----------
    first : coarse, or fast
    second : starts from the transform of the first
    """

    first: Registration
    second: Registration

    def __post_init__(self) -> None:
        as_method("first", self.first)
        as_method("second", self.second)

    def _states(self, pair: Pair) -> Iterator[State]:
        before = None
        for state in as_method("first", self.first)._states(pair):
            before = state
            yield state
        assert before is not None
        for state in as_method("second", self.second)._states(pair.with_initial(before.transform)):
            yield state.after(before)
