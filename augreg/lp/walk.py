"""A plan carried out: its stages one after the other, from where a registration begins, and what speaks against the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from augreg.geometry.grid import Grid
from augreg.geometry.transforms import BSpline, Transform
from augreg.lp import work
from augreg.lp.descent import Descent, Outcome
from augreg.lp.doubts import doubts
from augreg.lp.level import Level
from augreg.lp.levels import Levels
from augreg.lp.models import SplineModel
from augreg.lp.plan import Plan, Stage
from augreg.lp.pose import Pose, SplinePose
from augreg.registration import Clock, State

# mean cost of a keypoint, by correlation, up to which images agree: known warps have 0.02 to 0.2, people 0.15, two of stains
# 0.28 and 0.49; stiffness is what holds the last one
_AGREED = 0.35


@dataclass(frozen=True, eq=False)
class Step:
    """One step of a walk.

    Parameters
    ----------
    stage : number of the stage in the plan
    iteration : within the stage, from 1; 0 for where the walk begins
    level : pyramid level on which it was made
    outcome : pose and numbers after it
    name : the stage, to be read
    late : the budget has ended the walk here
    """

    stage: int
    iteration: int
    level: Level
    outcome: Outcome
    name: str = "start"
    late: bool = False

    def state(self, seconds: float, stages: int = 0) -> State:
        """As it is told, so many seconds after the start; `stages` of the plan were left out at the beginning."""
        found = self.outcome
        return State(
            level=self.stage + stages,
            iteration=self.iteration,
            objective=found.objective,
            gap=found.gap,
            transform=found.pose.transform,
            seconds=seconds,
            warnings=found.warnings,
            keypoints=len(self.level.keypoints),
            solve_seconds=found.solve_seconds,
            stage=self.name,
            late=self.late,
        )


@dataclass(frozen=True, eq=False)
class Walk:
    """What is walked.

    Parameters
    ----------
    plan : plan with the stages
    levels : pyramid levels of the plan, coarse to fine
    descent : makes the steps
    grid : grid of the fixed image
    clock : is asked before every step whether it would end in time
    asked : says what speaks against a transform, seen at the coarsest level
    """

    plan: Plan
    levels: Sequence[Level] | Levels
    descent: Descent
    grid: Grid
    clock: Clock
    asked: Callable[[Level, Transform], list[str]] = doubts

    def steps(self, here: Outcome) -> Iterator[Step]:
        """Where the walk begins, then a step for every better pose, and one more if there is more to say about the last one."""
        stages, level = self.plan.stages, self.levels[0]
        late = not self._room(stages[0]) or self.clock.spent
        here = told = self._late(here, 0) if late else here
        yield Step(0, 0, level, here, late=late)
        if late:
            return
        number, iteration, before, name = 0, 0, None, "start"
        for number, stage in enumerate(stages):
            if stage.control is not None and (before is None or before.control is None):
                here = self._doubted(here)
            if not self._room(stage):
                yield Step(max(number - 1, 0), iteration + 1, level, self._late(here, number), name, late=True)
                return
            level, iteration, name = self._keyed(stage), 0, self._name(stage)
            here = replace(here, pose=self._posed(here, stage, before, level))
            for after in self._in_stage(stage, level, here):
                late = after is None
                after = after or here
                moved, here = after.pose is not here.pose, after
                iteration += moved or late
                here = self._late(here, number) if late else here
                if moved or late:
                    told = here
                    yield Step(number, iteration, level, here, name, late)
                if late:
                    return
            before = stage
        if stages[-1].control is None:
            here = self._doubted(here)
        here = here.saying(*filter(None, (constraint.shortfall(here.pose.transform) for constraint in self.descent.constraints)))
        if here.warnings != told.warnings:
            yield Step(number, iteration + 1, level, here, self._name(stages[-1]))

    def _name(self, stage: Stage) -> str:
        kind = self.plan.group if stage.control is None else "B-spline"
        return f"{kind}, level {stage.level + 1} of {len(self.levels)}"

    def _in_stage(self, stage: Stage, level: Level, here: Outcome) -> Iterator[Outcome | None]:
        """Programs, then polish; None where the next step would not end in time."""
        kind, count = "matrix" if stage.control is None else "B-spline", len(level.keypoints)
        works = (work.of_program(level, count, here.pose, window) for window in stage.windows)
        for after in self._timed(f"{kind} program", works, self.descent.programs(level, here, stage.windows)):
            yield after
            if after is None:
                return
            here = after
        works = (work.of_polish(level, count, here.pose) for _ in range(stage.polish))
        yield from self._timed(f"{kind} polish", works, self.descent.polished(level, here, stage.polish))

    def _timed(self, kind: str, works: Iterator[float], steps: Iterator[Outcome]) -> Iterator[Outcome | None]:
        """The steps as long as they end in time, then None, if there are more; every one has a work."""
        for seconds in works:
            if not self.clock.allows(kind, seconds):
                yield None
                return
            begin = self.clock.now()
            after = next(steps, None)
            if after is None:
                return
            self.clock.learn(kind, seconds, begin)
            yield after

    def _room(self, stage: Stage) -> bool:
        """Whether there is time for the level of a stage, its keypoints, and a step."""
        clock = self.clock
        if not clock.limited:
            return True
        if isinstance(self.levels, Levels) and not self.levels.possible(stage.level):
            return False
        return not clock.spent

    def _keyed(self, stage: Stage) -> Level:
        """The level of a stage with its keypoints."""
        level = self.levels[stage.level].with_count(stage.keypoints)
        raster = level.fixed
        with self.clock.timed("keypoints", work.of_keypoints(raster.values.size, level.count, level.bundle, raster.grid.ndim)):
            _ = level.still.bundles
        return level

    def _posed(self, here: Outcome, stage: Stage, before: Stage | None, level: Level) -> Pose:
        """The pose for a stage: a finer B-spline stands behind what there is."""
        pose = here.pose
        if stage.control is None:
            return pose
        share = stage.smooth if here.objective < _AGREED else 1.0
        # the more keypoints, the more cost there is to balance
        weight = self.plan.smoothness * share * len(level.keypoints) / 1000 / min(self.grid.spacing)
        if isinstance(pose, SplinePose) and before is not None and before.control == stage.control:
            return SplinePose(replace(pose.model, smoothness=weight), pose.base, pose.c)
        model = SplineModel(BSpline.zeros(self.grid, self.plan.control * stage.control), weight, self.plan.fold_free)
        return SplinePose(model, pose.transform, np.zeros(model.unknowns))

    def _doubted(self, here: Outcome) -> Outcome:
        """Asked before B-splines, which can bend anything into some agreement."""
        level = self.levels[0].with_count(self.plan.keypoints)
        seconds = work.of_doubts(level, level.count)
        if not self.clock.allows("doubts", seconds):
            return here
        with self.clock.timed("doubts", seconds):
            return here.saying(*self.asked(level, here.pose.transform))

    def _late(self, here: Outcome, stage: int) -> Outcome:
        return here.saying(
            f"{self.clock.told} was spent in stage {stage + 1} of {len(self.plan.stages)}: the best so far was returned"
        )
