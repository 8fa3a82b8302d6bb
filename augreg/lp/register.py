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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from augreg.grid import FloatArray
from augreg.image import Image, Labels
from augreg.lp.criteria import Criterion
from augreg.lp.landmarks import Landmarks
from augreg.lp.level import Level
from augreg.lp.models import MatrixModel, SplineModel
from augreg.lp.profiles import Window
from augreg.lp.program import Rows, assemble, data_rows
from augreg.lp.pyramid import level_spacings
from augreg.lp.start import candidates
from augreg.registration import Prepared, State, prepare
from augreg.transforms import Affine, BSpline, Transform
from solvers import InteriorPoint, PiecewiseLinearProgram, Solution

TransformKind = Literal["rigid", "similarity", "affine", "bspline"]
Solver = Callable[[PiecewiseLinearProgram], Solution]

# voxels along the longest axis of the coarsest level
_COARSEST = {2: 64, 3: 40}
_KEYPOINTS = {2: 700, 3: 2000}
_FEWEST = 12
_COARSE = (Window(6, 2, 8, 1), Window(6, 2, 8, 2), Window(6, 2, 8, 4))
_MIDDLE = (Window(6, 2, 6, 1), Window(6, 2, 8, 4))
_FINE = (Window(6, 2, 6, 2), Window(6, 2, 8, 8))
_ELASTIC = (Window(6, 2, 4, 1), Window(6, 2, 6, 4))


@dataclass(frozen=True)
class LPRegistration:
    """Align two images: a callable (fixed, moving) -> phi, fixed space to moving space.

    Parameters
    ----------
    transform : rigid, similarity, affine, or bspline (affine first, then one cubic B-spline)
    criterion : ncc, ssd, mi, or labels (of the label maps given in the call)
    grid_spacing : of the B-spline's control points, mm; default a tenth of the fixed image's longest side
    smoothness : weight of the L1 norm of second differences of the coefficients, cost per voxel of the finest level
    fold_free : bound the B-spline so that it is injective
    search : try rotations, scales and translations first (only without an initial transform)
    keypoints : about how many per level; default 700 in 2-D, 2000 in 3-D
    iterations : at most so many programs per window
    tolerance : of landmarks given in the call, mm
    budget : seconds after which the best transform so far is returned; None for no limit
    solver : of the programs: `solvers.InteriorPoint`, `solvers.HiGHS` or any callable like them

    Raises
    ------
    ValueError : when called, for unusable images (see `augreg.registration.prepare`), missing label maps or unequal landmarks.
    """

    transform: TransformKind = "bspline"
    criterion: Criterion = "ncc"
    grid_spacing: float | None = None
    smoothness: float = 0.005
    fold_free: bool = True
    search: bool = True
    keypoints: int | None = None
    iterations: int = 3
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
        if self.smoothness < 0 or self.tolerance < 0 or self.iterations < 1:
            raise ValueError("smoothness, tolerance, iterations: expected none below 0, 0 and 1")

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
        self.options, self.ready, self.labels, self.landmarks, self.begin = options, ready, labels, landmarks, begin
        self.warnings = list(ready.warnings)
        self.solve_seconds = 0.0
        self.gap = float("nan")
        self.objective = float("nan")

    def states(self, *, search: bool) -> Iterator[State]:
        options, fixed = self.options, self.ready.fixed
        group = "affine" if options.transform == "bspline" else options.transform
        spacings = level_spacings(fixed.grid, _COARSEST[fixed.ndim])
        levels = [self._level(spacings[0])]
        if len(levels[0].keypoints) < _FEWEST:
            self._warn(f"only {len(levels[0].keypoints)} keypoints at the coarsest level: the result may be unreliable")
        model = MatrixModel(group, fixed.grid.center, float(np.linalg.norm(fixed.grid.extent)) / 2)
        affine = self._start(levels[0], model, search)
        late = self._late()
        yield self._state(0, 0, self.ready.initial @ affine, levels[0])
        if late:
            return
        for number, spacing in enumerate(spacings):
            level = levels[0] if number == 0 else self._level(spacing)
            levels.append(level)
            windows = _COARSE if number == 0 else _FINE if number == len(spacings) - 1 else _MIDDLE
            for iteration, better in enumerate(self._align(level, model, affine, windows)):
                affine = better
                late = self._late()
                yield self._state(number, iteration + 1, self.ready.initial @ affine, level)
                if late:
                    return
        transform = self.ready.initial @ affine
        if options.transform == "bspline":
            yield from self._elastic(transform, levels[1:])
        if self.objective > 0.8 and options.criterion == "ncc":
            self._warn(f"flat criterion: the images hardly agree (1 - NCC {self.objective:.2f}); check the result")
            yield self._state(len(spacings), 0, transform, level)

    def _elastic(self, base: Transform, levels: list[Level]) -> Iterator[State]:
        options, grid = self.options, self.ready.fixed.grid
        spacing = options.grid_spacing or float(np.max(grid.extent)) / 10
        zero = BSpline.zeros(grid, spacing)
        smoothness = options.smoothness / min(grid.spacing)
        model = SplineModel(zero, smoothness, options.fold_free)
        c: FloatArray = np.zeros(model.unknowns)
        # a level whose voxels are nearly as large as the control spacing tells nothing about it
        useful = [level for level in levels if level.fixed.step <= spacing / 3] or levels[-1:]
        for number, level in enumerate(useful):
            for iteration, better in enumerate(self._bend(level, model, base, c)):
                c = better
                late = self._late()
                yield self._state(len(levels) + number, iteration, base @ model.coefficients(c), level)
                if late:
                    return

    def _level(self, spacing: float) -> Level:
        count = self.options.keypoints or _KEYPOINTS[self.ready.fixed.ndim]
        return Level.of(self.ready, spacing, self.options.criterion, count, self.labels)

    def _start(self, level: Level, model: MatrixModel, search: bool) -> Affine:
        """The candidate that fits best after some steps at the coarsest level."""
        identity = Affine.identity(self.ready.fixed.ndim)
        if not search:
            return identity
        rigid = self.options.transform == "rigid"
        best, least = identity, float("inf")
        for candidate in candidates(level.fixed, level.moving, self.ready.initial, rigid=rigid, count=3):
            # a scale that the group lacks is dropped
            affine = model.nearest(candidate)
            for better in self._align(level, model, affine, _COARSE[:1]):
                affine = better
            costs = level.costs(self.ready.initial @ affine, Window(6, 2, 0, 1))[:, 0]
            valid = np.isfinite(costs)
            # keypoints that left the view must not make a candidate look better
            score = float(np.where(valid, costs, 1.0).mean()) if valid.any() else float("inf")
            if score < least:
                best, least = affine, score
        return best

    def _align(self, level: Level, model: MatrixModel, affine: Affine, windows: tuple[Window, ...]) -> Iterator[Affine]:
        """Steps of the matrix group at one level."""
        for window in windows:
            for _ in range(self.options.iterations):
                transform = self.ready.initial @ affine
                costs = level.costs(transform, window)
                valid = np.asarray(np.isfinite(costs).all(axis=1))
                if valid.sum() < _FEWEST:
                    self._warn("low overlap: too few keypoints lie inside both images")
                    return
                points, normals = level.keypoints.points[valid], level.keypoints.normals[valid]
                step_mm = level.fixed.step / window.ratio
                rows = data_rows(model.rows(points, normals), np.zeros(len(points)), costs[valid], step_mm, np.ones(len(points)))
                reach = 1.5 * window.reach * level.fixed.step
                extra = self._landmark_rows(model, transform, np.zeros(model.unknowns), len(points))
                solution = self._solve([rows, *model.penalties(reach), *extra])
                if solution is None:
                    break
                better = affine.after(model.step(solution.x))
                if np.linalg.det(better.matrix) <= 0 or not self._accepted(
                    level, transform, self.ready.initial @ better, costs, valid
                ):
                    break
                affine = better
                yield affine
                moved = np.abs(model.rows(points, normals) @ solution.x).max()
                if moved < step_mm:
                    break

    def _bend(self, level: Level, model: SplineModel, base: Transform, c: FloatArray) -> Iterator[FloatArray]:
        """Steps of the B-spline at one level; c are the total coefficients."""
        for window in _ELASTIC:
            for _ in range(self.options.iterations):
                spline = model.coefficients(c)
                transform = base @ spline
                costs = level.costs(transform, window)
                valid = np.asarray(np.isfinite(costs).all(axis=1))
                if valid.sum() < _FEWEST:
                    self._warn("low overlap: too few keypoints lie inside both images")
                    return
                points, normals = level.keypoints.points[valid], level.keypoints.normals[valid]
                # xi = (J_v^-T n) . dv(p): at v != 0 the increment acts behind v
                covectors = np.linalg.solve(np.swapaxes(spline.jacobian(points), 1, 2), normals[..., None])[..., 0]
                matrix = model.rows(points, covectors)
                step_mm = level.fixed.step / window.ratio
                rows = data_rows(matrix, matrix @ c, costs[valid], step_mm, np.ones(len(points)))
                extra = self._landmark_rows(model, transform, c, len(points), spline)
                solution = self._solve([rows, *model.penalties(np.inf), *extra])
                if solution is None:
                    break
                if not self._accepted(level, transform, base @ model.coefficients(solution.x), costs, valid):
                    break
                moved = np.abs(matrix @ (solution.x - c)).max()
                c = solution.x
                yield c
                if moved < step_mm:
                    break

    def _landmark_rows(
        self,
        model: MatrixModel | SplineModel,
        transform: Transform,
        c: FloatArray,
        keypoints: int,
        spline: BSpline | None = None,
    ) -> list[Rows]:
        if self.landmarks is None:
            return []
        diagonal = float(np.linalg.norm(self.ready.fixed.grid.extent))
        return [self.landmarks.rows(model, transform, c, self._landmark_weight(keypoints), diagonal, spline)]

    def _landmark_weight(self, keypoints: int) -> float:
        """Cost per mm beyond the tolerance: all keypoints together do not outweigh one landmark."""
        return keypoints / min(self.ready.fixed.grid.spacing)

    def _solve(self, parts: list[Rows]) -> Solution | None:
        solution = self.options.solver(assemble(parts))
        self.solve_seconds += solution.seconds
        if solution.status != "optimal":
            self._warn(f"a program was not solved ({solution.status}): its step was left out")
            return None
        self.gap = solution.gap
        return solution

    def _accepted(
        self, level: Level, before: Transform, after: Transform, costs: FloatArray, valid: npt.NDArray[np.bool_]
    ) -> bool:
        """Whether the criterion, sampled anew, has fallen over the keypoints that are inside both times."""
        middle = costs.shape[1] // 2
        new = level.costs(after, Window(6, 2, 0, 1))[:, 0]
        both = valid & np.isfinite(new)
        if both.sum() < max(_FEWEST, 0.7 * valid.sum()):
            return False
        old_cost, new_cost = float(costs[both, middle].mean()), float(new[both].mean())
        if self.landmarks is not None:
            weight = self._landmark_weight(int(both.sum())) / float(both.sum())
            old_cost += weight * self.landmarks.excess(before)
            new_cost += weight * self.landmarks.excess(after)
        self.objective = min(old_cost, new_cost)
        return new_cost < old_cost

    def _state(self, level: int, iteration: int, transform: Transform, of: Level) -> State:
        return State(
            level=level,
            iteration=iteration,
            objective=self.objective,
            gap=self.gap,
            transform=transform,
            seconds=time.perf_counter() - self.begin,
            warnings=tuple(self.warnings),
            keypoints=len(of.keypoints),
            solve_seconds=self.solve_seconds,
        )

    def _late(self) -> bool:
        budget = self.options.budget
        if budget is None or time.perf_counter() - self.begin < budget:
            return False
        self._warn(f"the budget of {budget} s was spent: the best transform so far was returned")
        return True

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)
