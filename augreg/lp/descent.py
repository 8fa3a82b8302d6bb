"""Steps downhill at one level: sample, solve, and keep what the criterion, sampled anew, confirms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from augreg.geometry.grid import FloatArray
from augreg.lp.constraints import Constraint
from augreg.lp.level import FEWEST, Level
from augreg.lp.polish import gauss_newton_step
from augreg.lp.pose import Pose
from augreg.lp.profiles import HERE, Window
from augreg.lp.program import assemble, data_terms
from solvers import InteriorPoint, PiecewiseLinearProgram, Solution

Solver = Callable[[PiecewiseLinearProgram], Solution]

# of the keypoints inside before a step, as many must be inside after it
_KEPT = 0.7
# voxels: polishing ends with a step below
_SMALL = 0.04


@dataclass(frozen=True, eq=False)
class Outcome:
    """Where steps have led, and what they have found out.

    Parameters
    ----------
    pose : the best so far
    objective : objective of the pose, where it was compared last; NaN before
    gap : duality gap of the last program; NaN before
    solve_seconds : time spent on all programs
    plain : the coarsest level has left no doubt of where to begin
    warnings : everything the caller should know
    """

    pose: Pose
    objective: float = float("nan")
    gap: float = float("nan")
    solve_seconds: float = 0.0
    plain: bool = False
    warnings: tuple[str, ...] = ()

    def saying(self, *texts: str) -> Outcome:
        """The same with more warnings, each of them once."""
        return replace(self, warnings=tuple(dict.fromkeys((*self.warnings, *texts)))) if texts else self


@dataclass(frozen=True, eq=False)
class Descent:
    """What the steps share.

    Parameters
    ----------
    solver : solver of the programs
    constraints : to be met
    """

    solver: Solver
    constraints: tuple[Constraint, ...] = ()

    def programs(self, level: Level, here: Outcome, windows: tuple[Window, ...]) -> Iterator[Outcome]:
        """An outcome after the program of every window; with the pose of the one before where it is not better."""
        if not windows:
            return
        costs = level.costs(here.pose.transform, windows[0])
        for window, following in zip(windows, (*windows[1:], HERE), strict=True):
            weights = _trust(level, costs)
            if np.count_nonzero(weights) < FEWEST:
                yield here.saying("low overlap: too few keypoints lie inside both images")
                return
            before, here = here, self._solved(level, here, window, costs, weights)
            if here.pose is not before.pose:
                new = level.costs(here.pose.transform, following)
                here = self._better(before.pose, here, costs, new, weights)
            yield here
            if here.pose is not before.pose:
                costs = new
            elif following != HERE:
                costs = level.costs(here.pose.transform, following)

    def polished(self, level: Level, here: Outcome, steps: int) -> Iterator[Outcome]:
        """Outcomes of Gauss-Newton steps, the last one with the pose before it where it has not helped."""
        if steps == 0:
            return
        costs = level.costs(here.pose.transform)
        for _ in range(steps):
            weights = _trust(level, costs)
            if np.count_nonzero(weights) < FEWEST:
                return
            c = gauss_newton_step(level, here.pose, weights)
            pose = None if c is None else here.pose.moved(c)
            if pose is None:
                return
            new = level.costs(pose.transform)
            points = level.keypoints.points
            moved = float(np.linalg.norm(pose.transform(points) - here.pose.transform(points), axis=1).mean())
            small = moved < _SMALL * level.fixed.step
            before, here = here, self._better(here.pose, replace(here, pose=pose), costs, new, weights)
            yield here
            if small or here.pose is before.pose:
                return
            costs = new

    def _solved(self, level: Level, here: Outcome, window: Window, costs: FloatArray, weights: FloatArray) -> Outcome:
        """Where a program leads, whether it is better or not."""
        pose, valid = here.pose, weights > 0
        points, normals = level.keypoints.points[valid], level.keypoints.normals[valid]
        matrix = pose.rows(points, normals)
        step = level.fixed.step / window.ratio
        data = data_terms(matrix, matrix @ pose.coefficients, costs[valid], step, weights[valid])
        extra = [constraint.terms(pose, len(points)) for constraint in self.constraints]
        parts = [data, *pose.penalties(1.5 * window.reach * level.fixed.step), *extra]
        solution = self.solver(assemble(parts))
        after = replace(here, solve_seconds=here.solve_seconds + solution.seconds)
        if solution.status != "optimal":
            return after.saying(f"a program was not solved ({solution.status}): its step was left out")
        if solution.solver.startswith("HiGHS") and isinstance(self.solver, InteriorPoint):
            after = after.saying("a program was left to HiGHS: the interior point did not certify its result")
        return replace(after, gap=solution.gap, pose=pose.moved(solution.x) or pose)

    def _better(self, before: Pose, after: Outcome, costs: FloatArray, new: FloatArray, weights: FloatArray) -> Outcome:
        """The outcome of a step; with the pose before unless the criterion fell over the keypoints that are inside both times."""
        old_here, new_here = costs[:, costs.shape[1] // 2], new[:, new.shape[1] // 2]
        both = np.flatnonzero((weights > 0) & np.isfinite(new_here))
        if len(both) < max(FEWEST, _KEPT * np.count_nonzero(weights)):
            return replace(after, pose=before)
        share = weights[both] / weights[both].sum()
        old_cost, new_cost = float(share @ old_here[both]), float(share @ new_here[both])
        fallen = new_cost < old_cost
        if self.constraints:
            total, count = float(weights[both].sum()), len(both)
            transforms = before.transform, after.pose.transform
            was, became = (sum(c.cost(transform, count) for c in self.constraints) for transform in transforms)
            fallen = new_cost + became / total < old_cost + was / total
        return replace(after, objective=new_cost) if fallen else replace(after, pose=before, objective=old_cost)


def last(outcomes: Iterator[Outcome], default: Outcome) -> Outcome:
    """Of some outcomes the last one."""
    for outcome in outcomes:
        default = outcome
    return default


def _trust(level: Level, costs: FloatArray) -> FloatArray:
    """The keypoints' weights (N,), given their costs (N, 2X+1); 0 where one of these is not known."""
    known = np.asarray(np.isfinite(costs).all(axis=1))
    return np.where(known, level.criterion.weights(np.where(known[:, None], costs, 0.0)), 0.0)
