"""Frames registered to one fixed image, of which everything is kept: levels, keypoints, bundles.

A frame begins where its `initial` puts it, most often a few voxels from the truth. With D_i(xi) the costs of a level's keypoints
around the start,

    motion = upper quartile over i of |argmin_xi D_i(xi)|.

The first stage of the plan that sees a motion, in half voxels of its level, is the first one that is made; the stages after it
have nothing left to search and only polish. If the motion is beyond half of what the stage's programs reach, the plan is carried
out as without preparation, from the coarsest level.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np

from augreg.dense import DenseRegistration
from augreg.geometry.grid import FloatArray
from augreg.geometry.image import Image, Labels
from augreg.geometry.transforms import Affine, Transform
from augreg.keypoints.pyramid import Pyramid, rasters
from augreg.lp.criteria import Criterion
from augreg.lp.descent import Descent, Outcome
from augreg.lp.doubts import NEIGHBOURS, doubts, scarce
from augreg.lp.level import FEWEST, FixedHalf, Level
from augreg.lp.models import MatrixModel
from augreg.lp.plan import Plan, Stage
from augreg.lp.pose import MatrixPose
from augreg.lp.profiles import Window
from augreg.lp.search import Search, begun
from augreg.lp.walk import Walk
from augreg.registration import Clock, Method, Pair, State, Tracker
from augreg.registration.incoming import ends, finite
from augreg.registration.scenes import alone, on_grid, out_of_range

# share of what a stage's programs reach up to which a motion is within it
_WITHIN = 0.5
# keypoints that settle that nothing is lost if so many of them lie in the frame, and match best where they were put
_FEW, _SEEN, _SURE = 200, 0.5, 0.65
# how warnings begin that say that nothing was found
_LOST = ("low overlap", "flat criterion", "no agreement")


class FrameLevels(Sequence[Level]):
    """The levels of a frame, each made when it is first asked for."""

    def __init__(self, halves: Sequence[FixedHalf], moving: Pyramid, criterion: type[Criterion]) -> None:
        self._halves, self._moving, self._criterion = halves, moving, criterion
        self._made: dict[int, Level] = {}

    def __len__(self) -> int:
        return len(self._halves)

    @overload
    def __getitem__(self, number: int) -> Level: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Level]: ...
    def __getitem__(self, number: int | slice) -> Level | Sequence[Level]:
        if isinstance(number, slice):
            return [self[place] for place in range(len(self))[number]]
        if number not in self._made:
            still, moving = self._halves[number], self._moving.raster(number)
            self._made[number] = Level(still, moving, self._criterion.of(still.raster, moving))
        return self._made[number]


@dataclass(frozen=True, eq=False)
class LPTracker(Tracker):
    """Made by `LPRegistration.prepare`.

    Parameters
    ----------
    plain : the registration without preparation, for frames without a start
    plan : what it does, for the matrix group and B-splines alike
    halves : fixed halves of the plan's levels
    criterion : kind of the dissimilarity
    descent : makes the steps
    dense : what follows; it looks at both images anew
    budget : seconds for a frame; None for no limit
    mask : of all frames, on their grid; None for everywhere
    warnings : what is to be said of the fixed image
    """

    plain: Method
    plan: Plan
    halves: tuple[FixedHalf, ...]
    criterion: type[Criterion]
    descent: Descent
    dense: DenseRegistration | None
    budget: float | None
    mask: Labels | None
    warnings: tuple[str, ...]

    def _states(self, pair: Pair, clock: Clock) -> Iterator[State]:
        if pair.initial is None or out_of_range(ends(pair.moving.values)):
            yield from self.plain._states(pair, clock)
            return
        clock = clock.within(self.budget)
        grid = pair.fixed.grid
        moving, mask, said = finite(pair.moving, self.mask)
        levels = self._levels(moving, mask)
        model = MatrixModel(self.plan.group, grid.center, float(np.linalg.norm(grid.extent)) / 2)
        pose = MatrixPose(model, pair.initial, Affine.identity(grid.ndim))
        here, plan, left_out = Outcome(pose), self.plan, 0
        stages = self._needed(levels, pose)
        if stages is None:
            here = begun(self.descent, levels[0], pose, None, Search(), clock)
        else:
            plan, left_out = replace(self.plan, stages=stages), len(self.plan.stages) - len(stages)
        here = replace(here, warnings=()).saying(*self.warnings, *said, *scarce(levels[0]), *here.warnings)
        state = None
        for step in Walk(plan, levels, self.descent, grid, clock, asked).steps(here):
            state = step.state(clock.seconds, left_out)
            yield state
        assert state is not None
        if any(text.startswith(_LOST) for text in state.warnings):
            said = (*state.warnings, "lost: what was found does not agree with the frame; the start is returned")
            yield replace(state, iteration=state.iteration + 1, transform=pair.initial, warnings=said)
        elif self.dense is not None and not state.late:
            yield from self.dense.continued(pair, state, clock)

    def _levels(self, moving: Image, mask: Labels | None) -> FrameLevels:
        return FrameLevels(self.halves, Pyramid(moving, mask, self.plan.spacings), self.criterion)

    def _needed(self, levels: Sequence[Level], pose: MatrixPose) -> tuple[Stage, ...] | None:
        """The stages from the first one that sees a motion; None where the motion is out of its reach."""
        stages = [stage for stage in self.plan.stages if stage.control is None]
        for number, stage in enumerate(stages):
            window, level = stage.windows[0], levels[stage.level].with_count(stage.keypoints)
            seen = motion(level.costs(pose.transform, window), window)
            if seen > _WITHIN * window.reach:
                return None
            if seen > 0 or stage.polish == 0:
                # what comes after it begins near enough for a polish
                return (stage, *map(_polished, self.plan.stages[number + 1 :]))
        return tuple(map(_polished, self.plan.stages[len(stages) - 1 :]))


def _polished(stage: Stage) -> Stage:
    """A stage of the matrix group without programs, if it has a polish."""
    return replace(stage, windows=()) if stage.control is None and stage.polish else stage


def asked(level: Level, transform: Transform) -> list[str]:
    """What speaks against a transform: doubts, where a few keypoints do not settle it."""
    costs = level.with_count(_FEW).costs(transform, NEIGHBOURS)
    seen = np.isfinite(costs).all(axis=1)
    sure = seen.mean() > _SEEN and motion(costs, NEIGHBOURS, _SURE) <= 1
    return [] if sure else doubts(level, transform)


def tracker_of(
    plain: Method,
    place: Pair,
    plan: Plan,
    criterion: type[Criterion],
    descent: Descent,
    dense: DenseRegistration | None,
    budget: float | None,
) -> LPTracker:
    """All of the fixed image that every frame needs."""
    image, mask, warnings = alone("fixed", place.fixed, place.fixed_mask)
    halves = [FixedHalf(raster, plan.bundle, plan.keypoints) for raster in rasters(image, mask, plan.spacings)]
    # before the first frame comes, and while no other thread looks on
    used = [halves[0], halves[0].with_count(_FEW), *(halves[stage.level].with_count(stage.keypoints) for stage in plan.stages)]
    for half in used:
        _ = half.bundles
    moving_mask = on_grid("moving_mask", place.moving_mask, place.moving)
    return LPTracker(place, plain, plan, tuple(halves), criterion, descent, dense, budget, moving_mask, warnings)


def motion(costs: FloatArray, window: Window, share: float = 0.75) -> float:
    """Upper quartile, or another quantile, of how far keypoints seem to be from where they match, level spacings.

    Infinite without keypoints whose costs (N, 2X+1) are all known.
    """
    known = costs[np.isfinite(costs).all(axis=1)]
    if len(known) < FEWEST:
        return float("inf")
    away = np.abs(np.argmin(known, axis=1) - window.shifts)
    return float(np.partition(away, int(share * (len(away) - 1)))[int(share * (len(away) - 1))]) / window.ratio
