"""Steps downhill at one level: sample, solve, and keep what the criterion, sampled anew, confirms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from augreg.geometry.grid import FloatArray
from augreg.geometry.transforms import Transform
from augreg.lp.constraints import Constraint
from augreg.lp.level import FEWEST, Level
from augreg.lp.polish import gauss_newton_step
from augreg.lp.pose import Pose
from augreg.lp.profiles import HERE, Window
from augreg.lp.program import assemble, data_rows
from solvers import InteriorPoint, PiecewiseLinearProgram, Solution

Solver = Callable[[PiecewiseLinearProgram], Solution]

# of the keypoints inside before a step, as many must be inside after it
_KEPT = 0.7
# voxels: polishing ends with steps below
_SMALL = 0.04


@dataclass(eq=False)
class Descent:
    """What the steps share, and what they have found out.

    Parameters
    ----------
    solver : of the programs
    constraints : to be met
    warnings, objective, gap, solve_seconds : so far
    """

    solver: Solver
    constraints: list[Constraint]
    warnings: list[str] = field(default_factory=list)
    objective: float = float("nan")
    gap: float = float("nan")
    solve_seconds: float = 0.0

    def programs(self, level: Level, pose: Pose, windows: tuple[Window, ...]) -> Iterator[Pose]:
        """A program for every window; poses that are better than the one before."""
        if not windows:
            return
        costs = level.costs(pose.transform, windows[0])
        for window, following in zip(windows, (*windows[1:], HERE), strict=True):
            weights = _trust(level, costs)
            if np.count_nonzero(weights) < FEWEST:
                self.warn("low overlap: too few keypoints lie inside both images")
                return
            better = self._solved(level, pose, window, costs, weights)
            if better is not None:
                new = level.costs(better.transform, following)
                if self._fallen(pose.transform, better.transform, costs, new, weights):
                    pose, costs = better, new
                    yield pose
                    continue
            if following != HERE:
                costs = level.costs(pose.transform, following)

    def polished(self, level: Level, pose: Pose, steps: int) -> Iterator[Pose]:
        """Gauss-Newton steps as long as they help."""
        if steps == 0:
            return
        costs = level.costs(pose.transform)
        for _ in range(steps):
            weights = _trust(level, costs)
            if np.count_nonzero(weights) < FEWEST:
                return
            c = gauss_newton_step(level, pose, weights)
            better = None if c is None else pose.moved(c)
            if better is None:
                return
            new = level.costs(better.transform)
            if not self._fallen(pose.transform, better.transform, costs, new, weights):
                return
            points = level.keypoints.points
            moved = float(np.linalg.norm(better.transform(points) - pose.transform(points), axis=1).mean())
            pose, costs = better, new
            yield pose
            if moved < _SMALL * level.fixed.step:
                return

    def warn(self, text: str) -> None:
        """Add a warning once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def _solved(self, level: Level, pose: Pose, window: Window, costs: FloatArray, weights: FloatArray) -> Pose | None:
        valid = weights > 0
        points, normals = level.keypoints.points[valid], level.keypoints.normals[valid]
        matrix = pose.rows(points, normals)
        step = level.fixed.step / window.ratio
        rows = data_rows(matrix, matrix @ pose.coefficients, costs[valid], step, weights[valid])
        extra = [constraint.rows(pose, len(points)) for constraint in self.constraints]
        parts = [rows, *pose.penalties(1.5 * window.reach * level.fixed.step), *extra]
        solution = self.solver(assemble(parts))
        self.solve_seconds += solution.seconds
        if solution.status != "optimal":
            self.warn(f"a program was not solved ({solution.status}): its step was left out")
            return None
        if solution.solver.startswith("HiGHS") and isinstance(self.solver, InteriorPoint):
            self.warn("a program was left to HiGHS: the interior point did not certify its result")
        self.gap = solution.gap
        return pose.moved(solution.x)

    def _fallen(self, before: Transform, after: Transform, costs: FloatArray, new: FloatArray, weights: FloatArray) -> bool:
        """Whether the criterion has fallen over the keypoints that are inside both times; sets `objective`."""
        old_here, new_here = costs[:, costs.shape[1] // 2], new[:, new.shape[1] // 2]
        both = np.flatnonzero((weights > 0) & np.isfinite(new_here))
        if len(both) < max(FEWEST, _KEPT * np.count_nonzero(weights)):
            return False
        share = weights[both] / weights[both].sum()
        old_cost, new_cost = float(share @ old_here[both]), float(share @ new_here[both])
        fallen = new_cost < old_cost
        if self.constraints:
            total, count = float(weights[both].sum()), len(both)
            was, became = (sum(c.cost(transform, count) for c in self.constraints) for transform in (before, after))
            fallen = new_cost + became / total < old_cost + was / total
        self.objective = new_cost if fallen else old_cost
        return fallen


def _trust(level: Level, costs: FloatArray) -> FloatArray:
    """The keypoints' weights (N,), given their costs (N, 2X+1); 0 where one of these is not known."""
    known = np.asarray(np.isfinite(costs).all(axis=1))
    return np.where(known, level.criterion.weights(np.where(known[:, None], costs, 0.0)), 0.0)
