"""What every registration shares: the states it reports, and how it is called.

A registration is any callable `(fixed, moving, **known) -> Transform`. Those of augreg are methods: frozen dataclasses that say
in `_states` what happens to a `Pair`. Wrappers are methods too and take any registration, so any may wrap any other.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from augreg import notebook
from augreg.geometry.grid import Grid
from augreg.geometry.image import Image
from augreg.geometry.transforms import Affine, Transform
from augreg.registration.clock import Clock
from augreg.registration.incoming import Prepared, empty, place_of, with_frame
from augreg.registration.pair import Array, Given, Pair

if TYPE_CHECKING:
    from typing import Unpack

# (fixed, moving) -> phi, fixed space to moving space; with as many of the keywords in `Given` as it can use
Registration = Callable[..., Transform]


@dataclass(frozen=True)
class State:
    """One step of a registration.

    Parameters
    ----------
    level : pyramid level, 0 the coarsest
    iteration : step within the level, from 0
    objective : value of the criterion that is minimised, in its own units (of `LPRegistration` the weighted mean over keypoints)
    gap : relative duality gap certified for the last program; NaN where nothing was solved
    transform : phi so far
    seconds : since the start
    warnings : everything the caller should know, so far
    keypoints : number of keypoints of the level; 0 for methods without
    solve_seconds : time spent in solvers so far
    stage : where it was made, to be read: "start", "affine, level 2 of 4"
    late : the budget has ended the registration here, before its plan was completed
    """

    level: int
    iteration: int
    objective: float
    gap: float
    transform: Transform
    seconds: float
    warnings: tuple[str, ...] = ()
    keypoints: int = 0
    solve_seconds: float = 0.0
    stage: str = ""
    late: bool = False

    def _repr_html_(self) -> str:
        told = {"stage": self.stage, "level, step": f"{self.level}, {self.iteration}", "objective": f"{self.objective:.4g}"}
        told |= {"seconds": f"{self.seconds:.3f}", **({"budget": "ended it here"} if self.late else {})}
        told |= {f"warning {k}": warning for k, warning in enumerate(self.warnings, 1)}
        return notebook.card("State", told, [self.transform._repr_html_()])

    @staticmethod
    def unmoved(pair: Pair, clock: Clock) -> State:
        """The start, where there is no time to look at the images."""
        said = f"{clock.told} is too short for these images: the start was returned"
        return State(0, 0, math.nan, math.nan, pair.start, clock.seconds, (said,), stage="start", late=True)

    def after(self, before: State | None) -> State:
        """The state counted from the last one of a registration that ran before."""
        if before is None:
            return self
        return replace(
            self,
            level=before.level + 1 + self.level,
            seconds=before.seconds + self.seconds,
            warnings=tuple(dict.fromkeys((*before.warnings, *self.warnings))),
            solve_seconds=before.solve_seconds + self.solve_seconds,
            late=before.late or self.late,
        )

    def late_saying(self, text: str) -> State:
        """The same result, the last one for lack of time."""
        return replace(self, iteration=self.iteration + 1, warnings=tuple(dict.fromkeys((*self.warnings, text))), late=True)


class Method(ABC):
    """A registration that shows its states. Subclasses are frozen dataclasses of their options."""

    def __call__(self, fixed: Image | Array, moving: Image | Array, **given: Unpack[Given]) -> Transform:
        """phi, fixed space to moving space: the transform of the last state of `steps`."""
        return last(self.steps(fixed, moving, **given)).transform

    def steps(self, fixed: Image | Array, moving: Image | Array, **given: Unpack[Given]) -> Iterator[State]:
        """The states on the way, the last one with the result.

        Parameters
        ----------
        fixed, moving : images of one dimension; grids, sizes and directions may differ. An array is an image with spacing 1
        given : knowledge about them; see `Given`

        Raises
        ------
        TypeError, ValueError : for what no registration can use (see `Pair` and its `scenes`), or not this one.
        """
        clock = Clock()
        return self._states(Pair.of(fixed, moving, **given), clock)

    def prepare(self, fixed: Image | Array, *, moving_grid: Grid | None = None, **given: Unpack[Prepared]) -> Tracker:
        """A tracker: whatever can be made of the fixed image alone is made once, for many moving images.

        Parameters
        ----------
        fixed : image, or an array
        moving_grid : grid of the moving images; the fixed image's by default
        given : what is known of all of them; see `Prepared`

        Raises
        ------
        TypeError, ValueError : as `steps` does.
        """
        return Calling(place_of(fixed, moving_grid, **given), self)

    def near(self) -> Method:
        """What does the same from an affine start near the truth, in less time; itself, if there is no such thing."""
        return self

    @abstractmethod
    def _states(self, pair: Pair, clock: Clock) -> Iterator[State]:
        """At least one state, in the time of a clock, which starts when the registration does.

        What is known of the pair and cannot be used is said in the warnings.
        """


@dataclass(frozen=True, eq=False)
class Tracker(ABC):
    """One fixed image and many moving ones: a callable (frame, initial) -> phi, fixed space to moving space.

    Nothing is remembered from frame to frame: who wants to go on where the last frame has ended gives its transform. So any
    number of threads may share a tracker.

    Parameters
    ----------
    place : a pair with an image of zeros where the frames come
    """

    place: Pair

    def __call__(self, frame: Image | Array, initial: Transform | None = None) -> Transform:
        """The transform of the last state of `steps`."""
        return last(self.steps(frame, initial)).transform

    def steps(self, frame: Image | Array, initial: Transform | None = None) -> Iterator[State]:
        """The states on the way, the last one with the result.

        Where a frame shows nothing (all of it NaN, or constant), and where what is found does not agree with it, the result is
        `initial`, and a warning that begins with "lost" says so.

        Parameters
        ----------
        frame : image on the grid of the frames, or an array of its shape; may be NaN where nothing is known
        initial : where to begin, such as the last frame's transform; None searches as the registration does without

        Raises
        ------
        TypeError, ValueError : for a frame of another kind, shape or grid, and a transform of another dimension.
        """
        clock = Clock()
        pair = with_frame(self.place, frame, initial)
        reason = empty(pair)
        if reason is None:
            return self._states(pair, clock)
        start = Affine.identity(pair.fixed.ndim) if initial is None else initial
        return iter([State(0, 0, float("nan"), float("nan"), start, 0.0, (f"lost: {reason}; the start is returned",))])

    @abstractmethod
    def _states(self, pair: Pair, clock: Clock) -> Iterator[State]:
        """At least one state, of a frame that shows something."""


@dataclass(frozen=True, eq=False)
class Calling(Tracker):
    """Calls a method for every frame."""

    method: Method

    def _states(self, pair: Pair, clock: Clock) -> Iterator[State]:
        return self.method._states(pair, clock)


@dataclass(frozen=True)
class Called(Method):
    """Any callable as a method of one state.

    It gets those keywords that its signature takes. If it takes no start, it gets the moving image seen through the start, and
    phi = initial @ (what it finds).
    """

    registration: Registration

    def _states(self, pair: Pair, clock: Clock) -> Iterator[State]:
        taken = _keywords(self.registration)
        seen = pair if pair.initial is None or taken is None or "initial" in taken else pair.through_start()
        known = {name: value for name, value in seen.known().items() if taken is None or name in taken}
        found: Any = self.registration(seen.fixed, seen.moving, **known)
        if not isinstance(found, Transform):
            raise TypeError(f"registration: expected a callable that returns a Transform, got {type(found).__name__}")
        transform = found if seen is pair or pair.initial is None else pair.initial @ found
        unused = [name for name in seen.known() if name not in known]
        warnings = (f"{', '.join(unused)}: not used by {_name(self.registration)}, which does not take them",) if unused else ()
        yield State(0, 0, float("nan"), float("nan"), transform, clock.seconds, warnings, stage=_name(self.registration))


def as_method(name: str, registration: Registration) -> Method:
    """A method as it is, any other callable as one.

    Raises
    ------
    TypeError : for what cannot be called.
    """
    if isinstance(registration, Method):
        return registration
    if not callable(registration):
        raise TypeError(f"{name}: expected a callable (fixed, moving) -> Transform, got {type(registration).__name__}")
    return Called(registration)


def last(states: Iterator[State]) -> State:
    """The last state, the only one that is kept."""
    return deque(states, maxlen=1).pop()


def _keywords(function: Registration) -> set[str] | None:
    """Names of the keywords that a callable takes; None for any."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return set()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    byname = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return {parameter.name for parameter in parameters if parameter.kind in byname}


def _name(function: Registration) -> str:
    return getattr(function, "__name__", type(function).__name__)
