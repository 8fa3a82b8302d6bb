"""The pyramid levels of a registration, each made when it is first asked for, and coarse first where time is short.

Without a budget, and where seeing the images takes little of it, all levels come from the whole images. Else the coarse ones come
from every k-th voxel (see `augreg.registration.thinning`), k the smallest power of two for which that takes little of the time
that is left, and finer ones from a smaller k, chosen alike when a stage comes to them.
A level that cannot be made in time is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np

from augreg.geometry.image import Labels
from augreg.keypoints.pyramid import Pyramid, Raster, label_raster
from augreg.lp.criteria import Criterion, criterion_called
from augreg.lp.level import FixedHalf, Level
from augreg.lp.profiles import Bundle
from augreg.lp.work import of_keypoints
from augreg.registration import Clock, Pair, Scenes
from augreg.registration.thinning import SEEING, factor_in_time, thinned, work

# seconds per voxel, on a usual core: block means of the images; by dimension, smoothing and statistics of a level
_MEANS, _SMOOTHING = 1e-9, {2: 6e-9, 3: 1.5e-8}
# kind of the step, for clocks
_SMOOTHED = "level"


@dataclass(frozen=True)
class Kind:
    """What levels are made of.

    Parameters
    ----------
    criterion : kind of the dissimilarity
    bundle : the shape of what is sampled around a keypoint
    count : keypoints, about
    labels : label maps in place of the images
    """

    criterion: type[Criterion]
    bundle: Bundle
    count: int
    labels: tuple[Labels, Labels] | None = None


@dataclass(frozen=True, eq=False)
class _View:
    """Images seen by every k-th voxel, and the levels that can be made of them."""

    scenes: Scenes
    warnings: tuple[str, ...]
    factor: int
    first: int
    fixed: Pyramid
    moving: Pyramid

    def rasters(self, number: int) -> tuple[Raster, Raster]:
        return self.fixed.raster(number - self.first), self.moving.raster(number - self.first)


class Levels(Sequence[Level]):
    """Levels with voxels of about some spacings, coarse to fine, and one of the images before them, the scout.

    Parameters
    ----------
    pair : images and masks
    spacings : of the levels, mm; the scout's is twice the first one
    kind : what they are made of
    clock : is asked before the images are seen
    """

    def __init__(self, pair: Pair, spacings: Sequence[float], kind: Kind, clock: Clock) -> None:
        self._pair, self._kind, self._clock = pair, kind, clock
        self._spacings = (2 * spacings[0], *spacings)
        self._made: dict[int, Level] = {}
        self._view: _View | None = None
        self._negative = False

    def __len__(self) -> int:
        return len(self._spacings) - 1

    @overload
    def __getitem__(self, number: int) -> Level: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Level]: ...
    def __getitem__(self, number: int | slice) -> Level | Sequence[Level]:
        """A level; whether there is time for it, `possible` says."""
        if isinstance(number, slice):
            return [self[place] for place in range(len(self))[number]]
        return self._level(range(len(self))[number] + 1)

    @cached_property
    def scout(self) -> Level:
        """The coarsest level of the images; label numbers do not correlate."""
        view = self._seen(1)
        fixed, moving = view.rasters(0)
        criterion = criterion_called("ncc") if self._kind.labels else self._kind.criterion
        return Level(FixedHalf(fixed, self._kind.bundle, self._kind.count), moving, criterion.of(fixed, moving))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Of how the images were seen first."""
        return self._said if self._view is not None else ()

    def turn_negative(self) -> None:
        """From now on the levels have the moving image's negative; the scout stays as it is."""
        self._negative = not self._negative
        self._made = {number: level.negative() for number, level in self._made.items()}

    def possible(self, number: int, step: float = 0.0) -> bool:
        """Whether a level would be made in time, and be followed by a step of so many seconds."""
        if number + 1 in self._made or not self._clock.limited:
            return True
        seeing = 0.0
        if not self._covers(self._view, number + 1):
            factor = self._factor(number + 1)
            if factor is None:
                return False
            seeing = self._clock.expected(SEEING, work(self._pair, factor, _MEANS))
        seconds = seeing + self._clock.expected(_SMOOTHED, self._work(number + 1) + step)
        if self._made:
            # it is worth nothing without its keypoints; at the coarsest level a few of them do
            grid, kind = self._pair.fixed.grid, self._kind
            voxels = float(np.prod(np.maximum(np.asarray(grid.extent) / self._spacings[number + 1], 1)))
            seconds += self._clock.expected("keypoints", of_keypoints(voxels, kind.count, kind.bundle, grid.ndim))
        return seconds <= self._clock.left

    def _level(self, number: int) -> Level:
        if number not in self._made:
            view, kind = self._seen(number), self._kind
            with self._clock.timed(_SMOOTHED, self._work(number)):
                if kind.labels is None:
                    fixed, moving = view.rasters(number)
                else:
                    masks, spacing = (view.scenes.fixed_mask, view.scenes.moving_mask), self._spacings[number]
                    fixed, moving = (label_raster(*part, spacing) for part in zip(kind.labels, masks, strict=True))
                still = FixedHalf(fixed, kind.bundle, kind.count)
                level = Level(still, moving, kind.criterion.of(fixed, moving))
                self._made[number] = level.negative() if self._negative else level
        return self._made[number]

    def _work(self, number: int) -> float:
        """Of making a level, seconds."""
        sides = [np.asarray(image.grid.extent) / self._spacings[number] for image in (self._pair.fixed, self._pair.moving)]
        return 2e-4 + _SMOOTHING[self._pair.fixed.ndim] * self._pair.fixed.channels * sum(
            float(np.prod(np.maximum(side, 1))) for side in sides
        )

    def _fineness(self, number: int) -> int:
        """Voxels of the image along one of a level's."""
        return max(1, round(self._spacings[number] / min(self._pair.fixed.grid.spacing)))

    def _covers(self, view: _View | None, number: int) -> bool:
        return view is not None and view.factor <= self._fineness(number)

    def _factor(self, number: int) -> int | None:
        return factor_in_time(self._pair, self._clock, self._fineness(number), _MEANS) if self._clock.limited else 1

    def _seen(self, number: int) -> _View:
        """The images, as finely as a level needs at least."""
        view = self._view
        if view is None or not self._covers(view, number):
            factor = self._factor(number) or self._fineness(number)
            with self._clock.timed(SEEING, work(self._pair, factor, _MEANS)):
                first = 0 if view is None else number
                self._view = view = self._view_by(factor, first)
            if first == 0:
                self._said = view.warnings
        return view

    def _view_by(self, factor: int, first: int) -> _View:
        pair = self._pair
        try:
            pair = thinned(self._pair, factor)
            scenes = pair.scenes
        except ValueError:
            if factor == 1:
                raise
            # what is constant to a few voxels need not be to all
            return self._view_by(factor // 2, first)
        least = factor * min(self._pair.fixed.grid.spacing)
        spacings = [spacing for spacing in self._spacings[first:] if spacing > 0.75 * least]
        if self._kind.labels is not None:
            # they come from the maps themselves
            spacings = [] if first else spacings[:1]
        pyramids = (
            Pyramid(image, mask, spacings)
            for image, mask in ((scenes.fixed, scenes.fixed_mask), (scenes.moving, scenes.moving_mask))
        )
        return _View(scenes, pair.warnings, factor, first, *pyramids)
