"""One registration under way: which pyramid levels, keypoints and B-splines in which order, and what is said about the result."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from augreg.grid import FloatArray
from augreg.image import Labels
from augreg.lp.agreement import Agreement, agreement
from augreg.lp.constraints import Constraint
from augreg.lp.descent import Descent
from augreg.lp.level import FEWEST, Level, levels_of
from augreg.lp.models import MatrixModel, SplineModel
from augreg.lp.pose import MatrixPose, Pose, SplinePose
from augreg.lp.profiles import Bundle
from augreg.lp.pyramid import level_spacings
from augreg.lp.schedule import (
    NEIGHBOURS,
    START,
    START_KEYPOINTS,
    Stage,
    flat_spline_stages,
    matrix_stages,
    solid_spline_stages,
)
from augreg.lp.start import all_around, candidates, correlation, nearby
from augreg.registration import Prepared, State
from augreg.transforms import Affine, BSpline, Transform

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
# of the keypoints at the coarsest level: as many must lie inside the moving image and, of these, match best within a voxel of
# where they were put; among unrelated images a third did at most, among people, stains and known warps more than half
_LEAST_SEEN = 0.3
_LEAST_MATCHED = 0.42


# share of keypoints that match best where they were put above which nothing else is asked
_PLAIN = 0.85
# share of patches that agree from which on nothing else is looked for, and below which the result is doubted; what counts as
# better, and how much a pose from far away must show
_SURE, _POOR, _BETTER, _CONVINCING = 0.6, 0.15, 0.05, 0.3
# share of patches that are opposite, if few agree: among people it was 16 % at most, of other contrasts 23 % at least
_OPPOSED = 0.2


class Run:
    """One registration under way: what the states are made of."""

    def __init__(
        self,
        options: LPRegistration,
        ready: Prepared,
        labels: tuple[Labels, Labels] | None,
        constraints: list[Constraint],
        begin: float,
    ) -> None:
        self.options, self.ready, self.labels, self.begin = options, ready, labels, begin
        self.descent = Descent(options.solver, constraints, list(ready.warnings))
        # warnings that the last state had
        self.told = 0

    def states(self, *, search: bool) -> Iterator[State]:
        """A state after every step; the first one is the start, which `search` makes robust."""
        options, fixed, descent = self.options, self.ready.fixed, self.descent
        spacings = level_spacings(fixed.grid, _COARSEST[fixed.ndim])
        few, many = (options.keypoints,) * 2 if options.keypoints else _KEYPOINTS[fixed.ndim]
        bundle = Bundle(*(options.profile or _PROFILE[fixed.ndim]))
        if self.labels is None:
            scout, *levels = levels_of(self.ready, [2 * spacings[0], *spacings], options.criterion, bundle, few)
        else:
            # label numbers do not correlate, images do
            (scout,) = levels_of(self.ready, [2 * spacings[0]], "ncc", bundle, few)
            levels = levels_of(self.ready, spacings, options.criterion, bundle, few, self.labels)
        found = len(levels[0].keypoints)
        if found < FEWEST:
            descent.warn(f"too few keypoints: {found} at the coarsest level, expected {FEWEST}; is there any contrast to align?")
        group = "affine" if options.transform == "bspline" else options.transform
        model = MatrixModel(group, fixed.grid.center, float(np.linalg.norm(fixed.grid.extent)) / 2)
        identity = MatrixPose(model, self.ready.initial, Affine.identity(fixed.ndim))
        begun = self._start(scout if search else None, levels[0], identity)
        # labels have no brightness to compare
        pose: Pose = self._sure(scout, levels[0], begun) if search and self.labels is None else begun
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
                # before B-splines, which can bend anything into some agreement
                self._doubt_match(levels[0].with_count(few), pose)
            level, iteration = levels[stage.level].with_count(stage.keypoints), 0
            pose = self._posed(pose, stage, stages[number - 1] if number else None, level)
            for iteration, better in enumerate(self._steps(level, pose, stage), 1):
                pose = better
                late = self._late(number, len(stages))
                yield self._state(number, iteration, pose, level)
                if late:
                    return
        if not elastic:
            self._doubt_match(levels[0].with_count(few), pose)
        for constraint in descent.constraints:
            if text := constraint.shortfall(pose.transform):
                descent.warn(text)
        if len(descent.warnings) > self.told:
            yield self._state(number, iteration + 1, pose, level)

    def _doubt_match(self, coarsest: Level, pose: Pose) -> None:
        """Say so if the images share too little."""
        if len(coarsest.keypoints) < FEWEST:
            return
        costs = coarsest.costs(pose.transform, NEIGHBOURS)
        seen = np.isfinite(costs[:, NEIGHBOURS.shifts]).mean()
        if seen < _LEAST_SEEN:
            self.descent.warn(f"low overlap: {seen:.0%} of the keypoints lie inside the moving image; check the result")
        share = _at_home(costs)
        if share < _LEAST_MATCHED:
            self.descent.warn(
                f"flat criterion: only {share:.0%} of the keypoints match best where they were put; the images hardly agree, "
                "check the result"
            )
            return
        if self.labels is not None or share >= _PLAIN:
            return
        found = self._agreement(coarsest, pose)
        if found.seen >= FEWEST and found.share < _POOR:
            self.descent.warn(
                f"no agreement: only {found.share:.0%} of {found.seen} patches look alike where they were put; check the result"
            )
        elif found.seen >= FEWEST and found.share < _SURE and found.opposed > _OPPOSED:
            self.descent.warn(
                f"other contrast: {found.opposed:.0%} of {found.seen} patches resemble the negative of the moving image; check "
                "the result, or try mutual information (criterion mi)"
            )

    def _posed(self, pose: Pose, stage: Stage, before: Stage | None, level: Level) -> Pose:
        """The pose for a stage: a finer B-spline stands behind what there is."""
        if stage.grid is None:
            return pose
        grid, options = self.ready.fixed.grid, self.options
        smoothness = _SMOOTHNESS[grid.ndim] if options.smoothness is None else options.smoothness
        # the more keypoints, the more cost there is to balance
        weight = smoothness * len(level.keypoints) / 1000 / min(grid.spacing)
        if isinstance(pose, SplinePose) and before is not None and before.grid == stage.grid:
            return SplinePose(replace(pose.model, smoothness=weight), pose.base, pose.c)
        model = SplineModel(BSpline.zeros(grid, self._spacing() * stage.grid), weight, options.fold_free)
        return SplinePose(model, pose.transform, np.zeros(model.unknowns))

    def _spacing(self) -> float:
        return self.options.grid_spacing or float(np.max(self.ready.fixed.grid.extent)) / _CELLS

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
            found, _ = candidates(scout.fixed, scout.moving, self.ready.initial, matrices, count=3, contrast=self._contrast)
            # a scale that the group lacks is dropped
            tried += [MatrixPose(pose.model, pose.base, pose.model.nearest(candidate)) for candidate in found]
        # successive halving: a program for all, then one for the better half
        for window in START:
            tried = [_last(self.descent.programs(level, start, (window,)), start) for start in tried]
            tried = sorted(tried, key=lambda pose: _misfit(level, pose))[: (len(tried) + 1) // 2]
        return tried[0]

    def _sure(self, scout: Level, level: Level, pose: MatrixPose) -> MatrixPose:
        """The pose, or a better one from anywhere, if the images hardly agree at the pose."""
        if _at_home(level.costs(pose.transform, NEIGHBOURS)) >= _PLAIN:
            return pose
        before = self._agreement(level, pose)
        if before.share >= _SURE:
            return pose
        ndim, rigid = scout.fixed.grid.ndim, self.options.transform == "rigid"
        known = correlation(scout.fixed, scout.moving, pose.transform)
        known = abs(known) if self._contrast else known
        grids = scout.fixed.grid, scout.moving.grid
        apart = grids[1].center - grids[0].center
        initials: list[Transform] = [self.ready.initial]
        if np.abs(apart - (self.ready.initial(grids[0].center) - grids[0].center)).max() > min(grids[0].spacing):
            initials.append(Affine(np.eye(ndim), apart))
        best = before
        for initial in initials:
            everything = all_around(ndim, rigid=rigid)
            found, scores = candidates(scout.fixed, scout.moving, initial, everything, count=3, far=True, contrast=self._contrast)
            for candidate, score in zip(found, scores, strict=True):
                if score < known + _BETTER and before.share > _POOR:
                    continue
                start = MatrixPose(pose.model, initial, pose.model.nearest(candidate))
                tried = _last(self.descent.programs(level.with_count(START_KEYPOINTS), start, START), start)
                after = self._agreement(level, tried)
                if after.matched > best.matched and after.share > max(best.share + _BETTER, _CONVINCING):
                    pose, best = tried, after
        return pose

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

    def _late(self, stage: int, stages: int) -> bool:
        budget = self.options.budget
        if budget is None or time.perf_counter() - self.begin < budget:
            return False
        self.descent.warn(f"the budget of {budget} s was spent in stage {stage + 1} of {stages}: the best so far was returned")
        return True


def _last(poses: Iterator[Pose], default: MatrixPose) -> MatrixPose:
    """Of the poses that lead on from a pose of a matrix group, the last one."""
    for pose in poses:
        assert isinstance(pose, MatrixPose)
        default = pose
    return default


def _at_home(costs: FloatArray) -> float:
    """Of keypoints with known costs (N, 2X+1) the share that match best within a voxel of where they were put."""
    known = costs[np.isfinite(costs).all(axis=1)]
    return float(np.mean(np.abs(np.argmin(known, axis=1) - NEIGHBOURS.shifts) <= 1)) if len(known) else 0.0


def _misfit(level: Level, pose: Pose) -> float:
    """Mean cost over all keypoints; those that left the view must not make a pose look better."""
    costs = level.costs(pose.transform)[:, 0]
    valid = np.isfinite(costs)
    return float(np.where(valid, costs, max(1.0, costs[valid].max(initial=0.0))).mean())
