"""Two registrations, one after the other: the second starts where the first has ended.

    phi_1 = first(fixed, moving),        phi = second(fixed, moving, initial=phi_1) = phi_1 @ (what the second adds)

A network first, then a linear program: milliseconds for what is large, and what is left for what compares boundaries.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy.typing as npt

from augreg.geometry.image import Image, Labels
from augreg.geometry.transforms import Affine, Transform
from augreg.registration.pair import State


class SteppedRegistration(Protocol):
    """A registration that shows its states and takes a start, such as `LPRegistration` and `FlowRegistration`."""

    def steps(
        self,
        fixed: Image,
        moving: Image,
        *,
        fixed_mask: Labels | None = None,
        moving_mask: Labels | None = None,
        fixed_labels: Labels | None = None,
        moving_labels: Labels | None = None,
        fixed_points: npt.ArrayLike | None = None,
        moving_points: npt.ArrayLike | None = None,
        initial: Transform | None = None,
    ) -> Iterator[State]:
        """States, the last one with the result."""


@dataclass(frozen=True)
class Chained:
    """The second registration after the first; itself a registration, and can be chained.

    Parameters
    ----------
    first : coarse, or fast
    second : starts from the transform of the first
    """

    first: SteppedRegistration
    second: SteppedRegistration

    def __call__(
        self,
        fixed: Image,
        moving: Image,
        *,
        fixed_mask: Labels | None = None,
        moving_mask: Labels | None = None,
        fixed_labels: Labels | None = None,
        moving_labels: Labels | None = None,
        fixed_points: npt.ArrayLike | None = None,
        moving_points: npt.ArrayLike | None = None,
        initial: Transform | None = None,
    ) -> Transform:
        """The transform of the last state of `steps`."""
        states = self.steps(
            fixed,
            moving,
            fixed_mask=fixed_mask,
            moving_mask=moving_mask,
            fixed_labels=fixed_labels,
            moving_labels=moving_labels,
            fixed_points=fixed_points,
            moving_points=moving_points,
            initial=initial,
        )
        transform: Transform = Affine.identity(fixed.ndim)
        for state in states:
            transform = state.transform
        return transform

    def steps(
        self,
        fixed: Image,
        moving: Image,
        *,
        fixed_mask: Labels | None = None,
        moving_mask: Labels | None = None,
        fixed_labels: Labels | None = None,
        moving_labels: Labels | None = None,
        fixed_points: npt.ArrayLike | None = None,
        moving_points: npt.ArrayLike | None = None,
        initial: Transform | None = None,
    ) -> Iterator[State]:
        """The states of the first, then those of the second, whose levels, seconds and warnings follow on.

        Objectives are in each registration's own units. Everything given goes to both.

        Raises
        ------
        ValueError : for what either of them refuses.
        """
        before, start = State(-1, 0, 0.0, 0.0, Affine.identity(fixed.ndim), 0.0), initial
        for registration in (self.first, self.second):
            last = before
            for state in registration.steps(
                fixed,
                moving,
                fixed_mask=fixed_mask,
                moving_mask=moving_mask,
                fixed_labels=fixed_labels,
                moving_labels=moving_labels,
                fixed_points=fixed_points,
                moving_points=moving_points,
                initial=start,
            ):
                last = _after(before, state)
                yield last
            before, start = last, last.transform


def _after(before: State, state: State) -> State:
    """A state counted from the last one of the registration before."""
    return replace(
        state,
        level=before.level + 1 + state.level,
        seconds=before.seconds + state.seconds,
        warnings=tuple(dict.fromkeys((*before.warnings, *state.warnings))),
        solve_seconds=before.solve_seconds + state.solve_seconds,
    )
