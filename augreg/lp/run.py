"""One registration under way: which pyramid levels, keypoints and B-splines in which order, and what is said about the result."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from augreg.geometry.image import Labels
from augreg.geometry.transforms import Affine, BSpline, Transform
from augreg.keypoints.pyramid import level_spacings
from augreg.lp.agreement import Agreement, agreement
from augreg.lp.constraints import Constraint
from augreg.lp.descent import Descent
from augreg.lp.doubts import PLAIN, SURE, at_home, doubts
from augreg.lp.level import FEWEST, Level, levels_of
from augreg.lp.models import MatrixModel, SplineModel
from augreg.lp.pose import MatrixPose, Pose, SplinePose
from augreg.lp.profiles import Bundle
from augreg.lp.schedule import (
    START,
    START_KEYPOINTS,
    Stage,
    flat_spline_stages,
    matrix_stages,
    solid_spline_stages,
)
from augreg.lp.start import all_around, candidates, nearby
from augreg.registration import Pair, State

if TYPE_CHECKING:
    from augreg.lp.register import LPRegistration

TransformKind = Literal["rigid", "similarity", "affine", "bspline"]

# voxels along the longest axis of the coarsest level
_COARSEST = {2: 64, 3: 40}
# keypoints for the matrix group and for B-splines
_KEYPOINTS = {2: (700, 2000), 3: (2000, 32000)}
# half length and half width of the bundles, voxels of the level
_PROFILE = {2: (6, 2), 3: (6, 1)}
_SMOOTHNESS = {2: 0.003, 3: 0.00004}
# of the B-spline along the longest side, unless its spacing is given
_CELLS = 16
# of other poses: how much more of the images must agree, and how much at all; below what share all of them are tried
_BETTER, _CONVINCING, _HARDLY = 0.05, 0.4, 0.3
# norm of what takes one matrix to another below which the two are one start: 20 degrees, or a third in size
_ALIKE = 0.35


class Run:
    """One registration under way: what the states are made of."""

    def __init__(
        self,
        options: LPRegistration,
        pair: Pair,
        labels: tuple[Labels, Labels] | None,
        constraints: list[Constraint],
        begin: float,
    ) -> None:
        self.options, self.labels, self.begin = options, labels, begin
        self.scenes, self.initial = pair.scenes, pair.start
        self.descent = Descent(options.solver, constraints, list(pair.warnings))
        if labels is None and not (pair.fixed_labels is None and pair.moving_labels is None):
            self.descent.warn(f"fixed_labels, moving_labels: not used by criterion {options.criterion}")
        # warnings that the last state had
        self.told = 0

    def states(self, *, search: bool) -> Iterator[State]:
        """A state after every step; the first one is the start, which `search` makes robust."""
        options, fixed, descent = self.options, self.scenes.fixed, self.descent
        spacings = level_spacings(fixed.grid, _COARSEST[fixed.ndim])
        few, many = (options.keypoints,) * 2 if options.keypoints else _KEYPOINTS[fixed.ndim]
        bundle = Bundle(*(options.profile or _PROFILE[fixed.ndim]))
        if self.labels is None:
            scout, *levels = levels_of(self.scenes, [2 * spacings[0], *spacings], options.criterion, bundle, few)
        else:
            # label numbers do not correlate, images do
            (scout,) = levels_of(self.scenes, [2 * spacings[0]], "ncc", bundle, few)
            levels = levels_of(self.scenes, spacings, options.criterion, bundle, few, self.labels)
        found = len(levels[0].keypoints)
        if found < FEWEST:
            descent.warn(f"too few keypoints: {found} at the coarsest level, expected {FEWEST}; is there any contrast to align?")
        group = "affine" if options.transform == "bspline" else options.transform
        model = MatrixModel(group, fixed.grid.center, float(np.linalg.norm(fixed.grid.extent)) / 2)
        identity = MatrixPose(model, self.initial, Affine.identity(fixed.ndim))
        begun = self._start(scout if search else None, levels[0], identity)
        # labels have no brightness to compare, and landmarks say where to look
        doubtful = search and self.labels is None and not descent.constraints and not self._spent
        pose: Pose = self._sure(scout, levels[0], begun) if doubtful else begun
        # the polish has no derivatives of the other criteria, and knows of no constraints
        polish = options.polish if options.criterion in ("ncc", "ssd") and not descent.constraints else 0
        elastic = options.transform == "bspline"
        stages = matrix_stages(len(levels), few, polish, rough=elastic)
        if elastic:
            if fixed.ndim == 2:
                unknowns = int(BSpline.zeros(fixed.grid, self._spacing()).free.sum()) * fixed.ndim
                stages += flat_spline_stages(len(levels), many, polish, unknowns)
            else:
                stages += solid_spline_stages(len(levels), many, polish)
        late = self._late(0, len(stages))
        yield self._state(0, 0, pose, levels[0])
        for number, stage in enumerate(stages):
            if late:
                return
            if stage.grid is not None and stages[number - 1].grid is None:
                self._doubt(levels[0].with_count(few), pose)
            level, iteration = levels[stage.level].with_count(stage.keypoints), 0
            pose = self._posed(pose, stage, stages[number - 1] if number else None, level)
            for iteration, better in enumerate(self._steps(level, pose, stage), 1):
                pose = better
                late = self._late(number, len(stages))
                yield self._state(number, iteration, pose, level)
                if late:
                    return
        if not elastic:
            self._doubt(levels[0].with_count(few), pose)
        for constraint in descent.constraints:
            if text := constraint.shortfall(pose.transform):
                descent.warn(text)
        if len(descent.warnings) > self.told:
            yield self._state(number, iteration + 1, pose, level)

    def _doubt(self, coarsest: Level, pose: Pose) -> None:
        for text in doubts(coarsest, pose.transform, patches=self.labels is None, contrast=self._contrast):
            self.descent.warn(text)

    def _posed(self, pose: Pose, stage: Stage, before: Stage | None, level: Level) -> Pose:
        """The pose for a stage: a finer B-spline stands behind what there is."""
        if stage.grid is None:
            return pose
        grid, options = self.scenes.fixed.grid, self.options
        smoothness = _SMOOTHNESS[grid.ndim] if options.smoothness is None else options.smoothness
        # the more keypoints, the more cost there is to balance
        weight = smoothness * len(level.keypoints) / 1000 / min(grid.spacing)
        if isinstance(pose, SplinePose) and before is not None and before.grid == stage.grid:
            return SplinePose(replace(pose.model, smoothness=weight), pose.base, pose.c)
        model = SplineModel(BSpline.zeros(grid, self._spacing() * stage.grid), weight, options.fold_free)
        return SplinePose(model, pose.transform, np.zeros(model.unknowns))

    def _spacing(self) -> float:
        return self.options.grid_spacing or float(np.max(self.scenes.fixed.grid.extent)) / _CELLS

    def _steps(self, level: Level, pose: Pose, stage: Stage) -> Iterator[Pose]:
        solved = pose
        for solved in self.descent.programs(level, pose, stage.windows):
            yield solved
        yield from self.descent.polished(level, solved, stage.polish)

    def _start(self, scout: Level | None, level: Level, pose: MatrixPose) -> MatrixPose:
        """The best of what the scouting level suggests, or the pose itself, after some programs at the coarsest level."""
        level = level.with_count(min(level.count, START_KEYPOINTS))
        tried = [pose]
        if scout is not None:
            rigid, degrees = self.options.transform == "rigid", self.options.rotation
            matrices = nearby(scout.fixed.grid.ndim, rigid=rigid, degrees=degrees)
            found = candidates(scout.fixed, scout.moving, self.initial, matrices, count=3, contrast=self._contrast)
            # a scale that the group lacks is dropped
            tried += [MatrixPose(pose.model, pose.base, pose.model.nearest(candidate)) for candidate in found]
        # successive halving: a program for all, then one for the better half
        for window in START:
            tried = [_last(self.descent.programs(level, start, (window,)), start) for start in tried]
            tried = sorted(tried, key=lambda pose: _misfit(level, pose))[: (len(tried) + 1) // 2]
        return tried[0]

    def _sure(self, scout: Level, level: Level, pose: MatrixPose) -> MatrixPose:
        """The pose, or a better one from anywhere, if the images hardly agree at the pose."""
        if at_home(level, pose.transform) >= PLAIN:
            return pose
        best = self._agreement(level, pose)
        if best.share >= SURE:
            return pose
        few = level.with_count(START_KEYPOINTS)
        # what one image lacks can stretch an affine map, but hardly a similarity
        stiff = replace(pose.model, group="similarity")
        starts = [MatrixPose(stiff, pose.base, stiff.nearest(pose.affine))] if pose.model.group == "affine" else []
        for start in (*starts, *self._from_anywhere(scout, pose, anything=best.share < _HARDLY)):
            said = list(self.descent.warnings)
            tried = replace(_last(self.descent.programs(few, start, START), start), model=pose.model)
            found = self._agreement(level, tried)
            if found.matched > best.matched and found.share > max(best.share + _BETTER, _CONVINCING):
                pose, best = tried, found
            else:
                # what was said of a way not taken does not matter
                self.descent.warnings[:] = said
        return pose

    def _from_anywhere(self, scout: Level, pose: MatrixPose, *, anything: bool) -> Iterator[MatrixPose]:
        """Starts all around, from the given start and from centred grids: those better than one like the pose, or the best few.

        Starts are compared with starts: the pose has been fitted, and correlates better than it deserves.
        """
        fixed, moving = scout.fixed, scout.moving
        ndim = fixed.grid.ndim
        apart = moving.grid.center - fixed.grid.center
        initials: list[Transform] = [self.initial]
        if np.abs(fixed.grid.center + apart - self.initial(fixed.grid.center)).max() > min(fixed.grid.spacing):
            initials.append(Affine(np.eye(ndim), apart))
        matrices = all_around(ndim, rigid=self.options.transform == "rigid")
        back = np.linalg.inv(pose.affine.matrix)
        for initial in initials:
            for candidate in candidates(fixed, moving, initial, matrices, count=3, far=True, contrast=self._contrast):
                alike = initial is self.initial and np.linalg.norm(back @ candidate.matrix - np.eye(ndim), 2) < _ALIKE
                if alike and not anything:
                    break
                yield MatrixPose(pose.model, initial, pose.model.nearest(candidate))

    def _agreement(self, level: Level, pose: Pose) -> Agreement:
        return agreement(level, pose.transform, contrast=self._contrast)

    @property
    def _contrast(self) -> bool:
        """Whether the criterion leaves open which brightness corresponds to which."""
        return self.options.criterion == "mi"

    def _state(self, level: int, iteration: int, pose: Pose, of: Level) -> State:
        descent = self.descent
        self.told = len(descent.warnings)
        return State(
            level=level,
            iteration=iteration,
            objective=descent.objective,
            gap=descent.gap,
            transform=pose.transform,
            seconds=time.perf_counter() - self.begin,
            warnings=tuple(descent.warnings),
            keypoints=len(of.keypoints),
            solve_seconds=descent.solve_seconds,
        )

    @property
    def _spent(self) -> bool:
        budget = self.options.budget
        return budget is not None and time.perf_counter() - self.begin >= budget

    def _late(self, stage: int, stages: int) -> bool:
        if not self._spent:
            return False
        self.descent.warn(
            f"the budget of {self.options.budget} s was spent in stage {stage + 1} of {stages}: the best so far was returned"
        )
        return True


def _last(poses: Iterator[Pose], default: MatrixPose) -> MatrixPose:
    """Of the poses that lead on from a pose of a matrix group, the last one."""
    for pose in poses:
        assert isinstance(pose, MatrixPose)
        default = pose
    return default


def _misfit(level: Level, pose: Pose) -> float:
    """Mean cost over all keypoints; those that left the view must not make a pose look better."""
    costs = level.costs(pose.transform)[:, 0]
    valid = np.isfinite(costs)
    return float(np.where(valid, costs, max(1.0, costs[valid].max(initial=0.0))).mean())
