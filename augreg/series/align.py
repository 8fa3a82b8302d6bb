"""The frames of a series registered to one of them, to their mean, or each to the one before.

With I_k the frames and phi_k the transforms, all from the space of the first frame that shows something,

    first       phi_k aligns I_k to that frame, and begins at phi_(k-1)
    previous    phi_k = s_k @ phi_(k-1), s_k aligns I_k to I_(k-1): errors add up, but neighbours look alike
    mean        the first, then the mean of all I_k seen through phi_k is what every frame is aligned to once more, from phi_k

B-splines would pile up where one begins at the other: an elastic registration begins anew in every frame. A frame that shows
nothing, or with which nothing agrees, keeps the transform of the frame before, says so, and is not in the mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast, get_args

import numpy as np

from augreg.geometry.image import Image, Labels
from augreg.geometry.resampling import warp
from augreg.geometry.transforms import Affine, Transform
from augreg.io.series import Series
from augreg.metrics import similarity
from augreg.registration import Method, Registration, State, Tracker
from augreg.registration.method import as_method
from augreg.registration.method import last as last_of

To = Literal["mean", "first", "previous"]


@dataclass(frozen=True)
class Aligned:
    """A frame that has been aligned.

    Parameters
    ----------
    transform : phi, fixed space to the frame's
    lost : whether nothing was found, and the transform is that of the frame before
    warnings : what there is to doubt
    similarity_before, similarity : correlation with what it was aligned to, as it is and as it is moved
    seconds : of the registration
    """

    transform: Transform
    lost: bool
    warnings: tuple[str, ...]
    similarity_before: float
    similarity: float
    seconds: float


# what is known already of a frame in a round; None if nothing is
Known = Callable[[int, int], Aligned | None]


@dataclass(frozen=True)
class FrameState:
    """One frame done.

    Parameters
    ----------
    round : from 0; the mean has a second one
    number : of the frame
    aligned : what was found
    kept : whether that was known already
    fixed : what frames are aligned to in this round
    """

    round: int
    number: int
    aligned: Aligned
    kept: bool
    fixed: Image


def align_series(
    series: Series, registration: Registration, to: To = "mean", *, elastic: bool = False, known: Known = lambda *_: None
) -> Iterator[FrameState]:
    """A state after every frame of every round; the last `len(series)` states have the result.

    Parameters
    ----------
    series : the frames
    registration : a callable (fixed, moving) -> Transform; methods of augreg prepare what is fixed once
    to : what frames are aligned to
    elastic : whether each frame begins anew, as B-splines must
    known : what an earlier call has found, by round and frame

    Raises
    ------
    ValueError : for an unknown `to`, and where no frame shows anything. TypeError : for what is no registration.
    """
    if to not in get_args(To):
        raise ValueError(f"to: expected one of {', '.join(get_args(To))}, got {to!r}")
    method = as_method("registration", registration)
    shown = [_shows(series.values[k]) for k in range(len(series))]
    if not any(shown):
        raise ValueError("series: expected a frame that shows something, got constant ones, or NaN, only")
    reference = shown.index(True)
    first = _Round(series, method, series.frame(reference), None, elastic)
    found: list[Aligned] = []
    before, last = reference, cast("Transform", Affine.identity(series.grid.ndim))
    for k in range(len(series)):
        aligned = known(0, k)
        kept = aligned is not None
        if aligned is None and k == reference:
            # what is fixed needs no registration
            aligned = Aligned(Affine.identity(series.grid.ndim), False, (), 1.0, 1.0, 0.0)
        elif aligned is None and to == "previous":
            aligned = first.chained(k, before, last)
        elif aligned is None:
            aligned = first.aligned(k, last)
        found.append(aligned)
        last = aligned.transform
        before = before if aligned.lost else k
        yield FrameState(0, k, aligned, kept, first.fixed)
    if to == "mean":
        second = _Round(series, method, *mean_of(series, found), elastic)
        for k, start in enumerate(found):
            aligned = known(1, k)
            yield FrameState(1, k, aligned or second.aligned(k, start.transform), aligned is not None, second.fixed)


@dataclass(frozen=True, eq=False)
class _Round:
    """All frames against one image."""

    series: Series
    method: Method
    fixed: Image
    mask: Labels | None
    elastic: bool

    @cached_property
    def _tracker(self) -> Tracker:
        return self.method.prepare(self.fixed, fixed_mask=self.mask)

    @cached_property
    def _seen(self) -> Image:
        """What is fixed, NaN where it is masked."""
        if self.mask is None:
            return self.fixed
        values = self.fixed.values.astype(np.float32)
        values[self.mask.values == 0] = np.nan
        return self.fixed.with_values(values)

    def aligned(self, number: int, start: Transform) -> Aligned:
        """A frame aligned to what is fixed."""
        frame = self.series.frame(number)
        state, lost = self._found(self._tracker, frame, start)
        return self._judged(start if lost else state.transform, lost, state, frame)

    def chained(self, number: int, before: int, last: Transform) -> Aligned:
        """A frame aligned to one before, and so to the first."""
        frame = self.series.frame(number)
        state, lost = self._found(self.method.prepare(self.series.frame(before)), frame, Affine.identity(frame.ndim))
        return self._judged(last if lost else state.transform @ last, lost, state, frame)

    def _found(self, tracker: Tracker, frame: Image, start: Transform) -> tuple[State, bool]:
        """The last state, and whether nothing was found."""
        try:
            state = last_of(tracker.steps(frame, None if self.elastic else start))
        except ValueError as error:
            # one frame that cannot be used is no reason to end
            state = State(0, 0, math.nan, math.nan, start, 0.0, (f"lost: {error}",))
        return state, any(text.startswith("lost") for text in state.warnings)

    def _judged(self, transform: Transform, lost: bool, state: State, frame: Image) -> Aligned:
        still = Affine.identity(frame.ndim)
        similar = [similarity(self._seen, frame, phi) for phi in (still, transform)]
        return Aligned(transform, lost, state.warnings, similar[0], similar[1], state.seconds)


def _shows(values: np.ndarray) -> bool:
    """Whether there is some contrast."""
    finite = values[np.isfinite(values)]
    return bool(finite.size and finite.min() < finite.max())


def mean_of(series: Series, found: Sequence[Aligned]) -> tuple[Image, Labels | None]:
    """The mean of the frames that were found, each seen through its transform, and where at least half of them are.

    The mask is None where they are everywhere; outside, the mean is 0.
    """
    total = np.zeros(series.values.shape[1:])
    count = np.zeros(series.grid.shape)
    for k, aligned in enumerate(found):
        if aligned.lost:
            continue
        frame = series.frame(k)
        values = warp(frame.with_values(frame.values.astype(np.float32)), aligned.transform, series.grid, fill=np.nan).values
        seen = np.isfinite(values) if values.ndim == series.grid.ndim else np.isfinite(values).all(axis=-1)
        total[seen] += values[seen]
        count[seen] += 1
    enough = count >= max(1, 0.5 * count.max())
    mean = np.zeros(total.shape, np.float32)
    mean[enough] = (total[enough].T / count[enough].T).T
    return Image(mean, series.grid), None if enough.all() else Labels(enough.astype(np.uint8), series.grid)
