"""Registration by boundary sampling and linear programming (after Kybic and Borovec, MICCAI 2018).

Coarse to fine, at every level, with the current transform phi:

1. profiles of both images across the boundary at every keypoint, cost D_i(xi) of every normal displacement xi;
2. D_i's lower convex envelope, a piecewise-linear function;
3. minimise  sum_i D_i(n_i . v(p_i)) + lambda |R c|_1  over the coefficients c of v, a linear program;
4. phi <- phi @ (id + v), if the costs sampled anew have fallen.

The window of xi narrows from level to level and within a level, since an envelope is the tighter the narrower its window.
Rigid, similarity and affine steps compose; the B-spline's coefficients add up, phi = phi_affine @ (id + v), and their total is
bounded so that id + v is injective.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from augreg.image import Image, Labels
from augreg.lp.criteria import CriterionName
from augreg.lp.descent import FEWEST, Descent, Solver
from augreg.lp.landmarks import Landmarks
from augreg.lp.level import Level, levels_of
from augreg.lp.models import MatrixModel, SplineModel
from augreg.lp.pose import MatrixPose, Pose, SplinePose
from augreg.lp.pyramid import level_spacings
from augreg.lp.schedule import NEIGHBOURS, START, START_KEYPOINTS, Stage, flat_spline_stages, matrix_stages, solid_spline_stages
from augreg.lp.start import candidates
from augreg.registration import Prepared, State, prepare
from augreg.transforms import Affine, BSpline, Transform
from solvers import InteriorPoint

TransformKind = Literal["rigid", "similarity", "affine", "bspline"]

# voxels along the longest axis of the coarsest level
_COARSEST = {2: 64, 3: 40}
# keypoints for the matrix group and for B-splines
_KEYPOINTS = {2: (700, 2000), 3: (2000, 32000)}
_SMOOTHNESS = {2: 0.004, 3: 0.0005}
# of the B-spline along the longest side, unless its spacing is given
_CELLS = 14
# of the keypoints at the coarsest level: as many must lie inside the moving image and, of these, match best within a voxel of
# where they were put; among unrelated images a third did at most, among people, stains and known warps more than half
_LEAST_SEEN = 0.3
_LEAST_MATCHED = 0.42


@dataclass(frozen=True)
class LPRegistration:
    """Align two images: a callable (fixed, moving) -> phi, fixed space to moving space.

    Parameters
    ----------
    transform : rigid, similarity, affine, or bspline (affine first, then one cubic B-spline)
    criterion : ncc, ssd, mi, or labels (of the label maps given in the call)
    grid_spacing : of the B-spline's control points, mm; default a fourteenth of the fixed image's longest side
    smoothness : weight of the L1 norm of second differences of the coefficients, cost per voxel of the finest level;
        default 0.004 in 2-D, 0.0005 in 3-D
    fold_free : bound the B-spline so that it is injective
    search : try rotations, scales and translations first (only without an initial transform)
    rotation : degrees up to which rotations are tried
    keypoints : about how many, of B-splines at the finest level; default 700 and 2000 in 2-D, 2000 and 32000 in 3-D
    polish : Gauss-Newton steps at the end, at most (ncc and ssd only)
    tolerance : of landmarks given in the call, mm
    budget : seconds after which the best transform so far is returned; None for no limit
    solver : of the programs: `solvers.InteriorPoint`, `solvers.HiGHS` or any callable like them

    Raises
    ------
    ValueError : when called, for unusable images (see `augreg.registration.prepare`), missing label maps or unequal landmarks.
    """

    transform: TransformKind = "bspline"
    criterion: CriterionName = "ncc"
    grid_spacing: float | None = None
    smoothness: float | None = None
    fold_free: bool = True
    search: bool = True
    rotation: float = 15.0
    keypoints: int | None = None
    polish: int = 4
    tolerance: float = 0.0
    budget: float | None = None
    solver: Solver = field(default_factory=lambda: InteriorPoint(tolerance=1e-4))

    def __post_init__(self) -> None:
        for name, known in (
            ("transform", ("rigid", "similarity", "affine", "bspline")),
            ("criterion", ("ncc", "ssd", "mi", "labels")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected one of {', '.join(known)}, got {getattr(self, name)!r}")
        for name in ("grid_spacing", "budget"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}: expected a positive number, got {value}")
        for name in ("smoothness", "tolerance", "polish", "rotation"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name}: expected a number of at least 0, got {value}")

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
        """A state after every program; the first one is the start. `objective` is the mean cost of a keypoint.

        Parameters
        ----------
        fixed, moving : images of one dimension; grids, sizes and directions may differ
        fixed_mask, moving_mask : where to look, not 0; on any grid
        fixed_labels, moving_labels : label maps, for the criterion "labels"
        fixed_points, moving_points : landmark pairs (N, D) mm that must end up within `tolerance` of each other
        initial : a first guess, kept as the left part of the result
        """
        begin = time.perf_counter()
        ready = prepare(fixed, moving, fixed_mask=fixed_mask, moving_mask=moving_mask, initial=initial)
        landmarks = Landmarks.of(fixed_points, moving_points, self.tolerance, fixed.ndim)
        labels = None
        if self.criterion == "labels":
            if fixed_labels is None or moving_labels is None:
                raise ValueError(
                    "criterion labels: expected fixed_labels and moving_labels, got none; give both or take another criterion"
                )
            labels = (fixed_labels, moving_labels)
        run = _Run(self, ready, labels, landmarks, begin)
        yield from run.states(search=self.search and initial is None)


class _Run:
    """One registration under way: what the states are made of."""

    def __init__(
        self,
        options: LPRegistration,
        ready: Prepared,
        labels: tuple[Labels, Labels] | None,
        landmarks: Landmarks | None,
        begin: float,
    ) -> None:
        self.options, self.ready, self.labels, self.begin = options, ready, labels, begin
        grid = ready.fixed.grid
        voxel, diagonal = min(grid.spacing), float(np.linalg.norm(grid.extent))
        self.descent = Descent(options.solver, landmarks, voxel, diagonal, list(ready.warnings))

    def states(self, *, search: bool) -> Iterator[State]:
        options, fixed, descent = self.options, self.ready.fixed, self.descent
        spacings = level_spacings(fixed.grid, _COARSEST[fixed.ndim])
        few, many = (options.keypoints,) * 2 if options.keypoints else _KEYPOINTS[fixed.ndim]
        scout, *levels = levels_of(self.ready, [2 * spacings[0], *spacings], options.criterion, few, self.labels)
        if len(levels[0].keypoints) < FEWEST:
            descent.warn(f"only {len(levels[0].keypoints)} keypoints at the coarsest level: the result may be unreliable")
        group = "affine" if options.transform == "bspline" else options.transform
        model = MatrixModel(group, fixed.grid.center, descent.diagonal / 2)
        identity = MatrixPose(model, self.ready.initial, Affine.identity(fixed.ndim))
        pose = self._start(scout, levels[0], identity) if search else identity
        polish = options.polish if options.criterion in ("ncc", "ssd") else 0
        elastic = options.transform == "bspline"
        stages = matrix_stages(len(levels), few, polish, rough=elastic)
        if elastic:
            spline_stages = flat_spline_stages if fixed.ndim == 2 else solid_spline_stages
            stages += spline_stages(len(levels), many, polish)
        late = self._late(0, len(stages))
        yield self._state(0, 0, pose, levels[0])
        for number, stage in enumerate(stages):
            if late:
                return
            if stage.grid is not None and stages[number - 1].grid is None:
                # before B-splines, which can bend anything into some agreement
                self._doubt_match(levels[0].with_count(few), pose)
            pose = self._posed(pose, stage, stages[number - 1] if number else None)
            level, iteration = levels[stage.level].with_count(stage.keypoints), 0
            for iteration, better in enumerate(self._steps(level, pose, stage), 1):
                pose = better
                late = self._late(number, len(stages))
                yield self._state(number, iteration, pose, level)
                if late:
                    return
        said = len(descent.warnings)
        if not elastic:
            self._doubt_match(levels[0].with_count(few), pose)
        self._doubt_landmarks(pose)
        if len(descent.warnings) > said:
            yield self._state(number, iteration + 1, pose, level)

    def _doubt_match(self, coarsest: Level, pose: Pose) -> None:
        """Say so if the images share too little."""
        costs = coarsest.costs(pose.transform, NEIGHBOURS)
        seen = np.isfinite(costs).all(axis=1)
        if seen.mean() < _LEAST_SEEN:
            self.descent.warn(f"low overlap: {seen.mean():.0%} of the keypoints lie inside the moving image; check the result")
        off = np.abs(np.argmin(costs[seen], axis=1) - NEIGHBOURS.shifts)
        share = float(np.mean(off <= 1)) if off.size else 0.0
        if share < _LEAST_MATCHED:
            self.descent.warn(
                f"flat criterion: only {share:.0%} of the keypoints match best where they were put; the images hardly agree, "
                "check the result"
            )

    def _doubt_landmarks(self, pose: Pose) -> None:
        if self.descent.landmarks is not None:
            missed, worst = self.descent.landmarks.missed(pose.transform)
            if missed.size:
                pairs = ", ".join(str(i) for i in missed[:8]) + (", ..." if missed.size > 8 else "")
                self.descent.warn(f"landmarks: pairs {pairs} (from 0) miss the tolerance, by up to {worst:.3g} mm")

    def _posed(self, pose: Pose, stage: Stage, before: Stage | None) -> Pose:
        """The pose for a stage: a finer B-spline stands behind what there is."""
        if stage.grid is None or (before is not None and before.grid == stage.grid):
            return pose
        grid, options = self.ready.fixed.grid, self.options
        spacing = options.grid_spacing or float(np.max(grid.extent)) / _CELLS
        zero = BSpline.zeros(grid, spacing * stage.grid)
        smoothness = _SMOOTHNESS[grid.ndim] if options.smoothness is None else options.smoothness
        model = SplineModel(zero, smoothness / min(grid.spacing), options.fold_free)
        return SplinePose(model, pose.transform, np.zeros(model.unknowns))

    def _steps(self, level: Level, pose: Pose, stage: Stage) -> Iterator[Pose]:
        solved = pose
        for solved in self.descent.programs(level, pose, stage.windows):
            yield solved
        yield from self.descent.polished(level, solved, stage.polish)

    def _start(self, scout: Level, level: Level, pose: MatrixPose) -> Pose:
        """The candidate that fits best after some steps at the coarsest level."""
        level = level.with_count(min(level.count, START_KEYPOINTS))
        rigid, degrees = self.options.transform == "rigid", self.options.rotation
        found = candidates(scout.fixed, scout.moving, self.ready.initial, rigid=rigid, degrees=degrees, count=3)
        # a scale that the group lacks is dropped
        tried: list[Pose] = [MatrixPose(pose.model, pose.base, pose.model.nearest(candidate)) for candidate in found]
        # successive halving: a program for all, then one for the better half
        for window in START:
            tried = [_last(self.descent.programs(level, start, (window,)), start) for start in tried]
            tried = sorted(tried, key=lambda pose: _misfit(level, pose))[: (len(tried) + 1) // 2]
        return tried[0]

    def _state(self, level: int, iteration: int, pose: Pose, of: Level) -> State:
        descent = self.descent
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


def _last(poses: Iterator[Pose], default: Pose) -> Pose:
    for pose in poses:
        default = pose
    return default


def _misfit(level: Level, pose: Pose) -> float:
    """Mean cost over all keypoints; those that left the view must not make a pose look better."""
    costs = level.costs(pose.transform)[:, 0]
    valid = np.isfinite(costs)
    return float(np.where(valid, costs, max(1.0, costs[valid].max(initial=0.0))).mean())
