"""A plan is data; who carries it out keeps what is better, asks the clock, and says what a pose costs and nothing else."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from support.phantoms import blobs, photograph

from augreg import Affine, BSpline, Grid, Image, LPRegistration
from augreg.lp.criteria import criterion_called
from augreg.lp.descent import Descent, Outcome
from augreg.lp.level import levels_of
from augreg.lp.models import MatrixModel
from augreg.lp.plan import plan_of
from augreg.lp.pose import MatrixPose
from augreg.lp.profiles import Window
from augreg.lp.search import Search, begun
from augreg.lp.walk import Walk
from augreg.registration import Pair
from augreg.registration.clock import Clock
from solvers import InteriorPoint, Solution

GRIDS = (Grid((512, 400)), Grid((60, 50), (2.0, 3.0)), Grid((160, 140, 120)), Grid((40, 36, 12), (1.0, 1.0, 4.0)))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("transform", ["rigid", "similarity", "affine", "bspline"])
@pytest.mark.parametrize("polish", [0, 4])
def test_a_plan_goes_from_coarse_to_fine_and_from_matrices_to_splines(grid, transform, polish):
    plan = plan_of(grid, transform, polish=polish)
    assert plan == plan_of(grid, transform, polish=polish)
    assert list(plan.spacings) == sorted(plan.spacings, reverse=True)
    matrices = [stage for stage in plan.stages if stage.control is None]
    splines = list(plan.stages[len(matrices) :])
    assert all(stage.control is not None for stage in splines)
    assert bool(splines) == (transform == "bspline")
    for part in (matrices, splines):
        levels = [stage.level for stage in part]
        assert levels == sorted(levels)
        assert set(levels) <= set(range(len(plan.spacings)))
    controls = [stage.control for stage in splines]
    assert controls == sorted(controls, reverse=True)
    assert controls[-1:] in ([], [1.0])
    # the result is of the finest level
    assert plan.stages[-1].level == len(plan.spacings) - 1 or transform != "bspline"
    assert all(stage.windows or stage.polish for stage in plan.stages)
    assert all(stage.polish == 0 for stage in plan.stages) == (polish == 0)


def test_a_plan_takes_the_options_and_has_numbers_of_its_own_for_the_others():
    grid = Grid((96, 80), (1.0, 1.5))
    plan = plan_of(grid, "bspline", polish=3, keypoints=99, profile=(4, 1), grid_spacing=20.0, smoothness=0.5, fold_free=False)
    assert (plan.keypoints, plan.control, plan.smoothness, plan.fold_free, plan.group) == (99, 20.0, 0.5, False, "affine")
    assert (plan.bundle.half_length, plan.bundle.half_width) == (4, 1)
    assert {stage.keypoints for stage in plan.stages} <= {99, 99 // 2}
    usual = plan_of(grid, "bspline", polish=3)
    assert usual.control == pytest.approx(max(grid.extent) / 16)
    assert plan_of(Grid(grid.shape, (10.0, 15.0)), "bspline", polish=3).control == pytest.approx(10 * max(grid.extent) / 16)


class Ticking(Clock):
    """Allows so many steps, and then none."""

    def __init__(self, asks):
        super().__init__(budget=7.0)
        object.__setattr__(self, "left_over", [asks])

    def allows(self, kind, work, share=1.0):
        self.left_over[0] -= 1
        return self.left_over[0] >= 0


def a_walk(clock, kind="bspline", criterion="ncc"):
    grid = Grid((96, 80), (1.0, 1.2))
    fixed = blobs(grid, 60)
    moving = Image(np.roll(fixed.values, (3, -2), (0, 1)), grid)
    pair, plan = Pair.of(fixed, moving), plan_of(grid, kind, polish=2, grid_spacing=20.0)
    levels = levels_of(pair.scenes, plan.spacings, criterion_called(criterion), plan.bundle, plan.keypoints)
    model = MatrixModel(plan.group, grid.center, float(np.linalg.norm(grid.extent)) / 2)
    pose = MatrixPose(model, pair.start, Affine.identity(2))
    return Walk(plan, levels, Descent(InteriorPoint(tolerance=1e-3)), grid, clock), pose


@pytest.mark.parametrize("spacing", [None, 12.0])
def test_smoothness_falls_at_the_end_of_2d_images_that_correlate_unless_it_is_given(spacing):
    def shares(grid=GRIDS[0], polish=4, **more):
        return [stage.smooth for stage in plan_of(grid, "bspline", polish=polish, grid_spacing=spacing, **more).stages]

    *before, last = shares()
    assert set(before) == {1.0}
    assert 0 < last < 1
    for others in (shares(polish=0), shares(GRIDS[2]), shares(smoothness=0.003), shares(alike=False)):
        assert set(others) == {1.0}


def test_a_walk_weighs_second_differences_as_its_stage_says_where_images_agree():
    walk, pose = a_walk(Clock())
    stage = walk.plan.stages[-1]
    level = walk.levels[stage.level].with_count(stage.keypoints)

    def weight(share, objective, pose=pose, before=None):
        return walk._posed(Outcome(pose, objective), replace(stage, smooth=share), before, level).smoothness[1]

    stiff = weight(1.0, 0.1)
    assert weight(0.5, 0.1) == stiff / 2 > 0
    assert weight(0.5, 0.5) == weight(0.5, float("nan")) == stiff
    # a B-spline that goes on takes the new weight
    assert weight(1.0, 0.1, walk._posed(Outcome(pose, 0.1), replace(stage, smooth=0.5), None, level), stage) == stiff


def test_a_walk_that_runs_out_of_time_ends_with_what_it_had():
    walk, pose = a_walk(Clock())
    points = walk.grid.points()[::8, ::8]
    free = list(walk.steps(Outcome(pose)))
    assert len(free) > 4
    for asks in itertools.count():
        late = list(replace(walk, clock=Ticking(asks)).steps(Outcome(pose)))
        if not any("budget" in text for text in late[-1].outcome.warnings):
            break
        assert len(late) <= len(free) + 1
        assert all("budget" not in text for step in late[:-1] for text in step.outcome.warnings)
        assert f"the budget of 7 s was spent in stage {late[-1].stage + 1} of" in late[-1].outcome.warnings[-1]
        # a walk that was not stopped has come by there
        here = late[-1].outcome.pose.transform(points)
        assert min(np.abs(step.outcome.pose.transform(points) - here).max() for step in free) < 1e-9
    assert asks > len(free) - 2


def test_a_spline_adds_up_and_a_finer_one_stands_behind_it():
    walk, pose = a_walk(Clock())
    *coarse, fine = walk.plan.stages
    # plans are data: one more stage of the finest spline
    walk = replace(walk, plan=replace(walk.plan, stages=(*coarse, fine, fine)))
    *_, step = walk.steps(Outcome(pose))
    splines = [part for part in step.outcome.pose.transform.transforms if isinstance(part, BSpline)]
    controls = dict.fromkeys(stage.control for stage in (*coarse, fine) if stage.control is not None)
    assert [spline.grid.spacing[0] for spline in splines] == pytest.approx([20.0 * control for control in controls], rel=0.25)


def test_a_clock_without_a_budget_is_never_spent():
    assert not Clock().spent
    assert not Clock(1e9).spent
    late = Clock(5.0, begin=Clock().begin - 6.0)
    assert late.spent
    assert late.seconds == pytest.approx(6.0, abs=2.0)


@pytest.mark.parametrize("criterion", ["ncc", "ssd"])
def test_the_objective_is_that_of_the_pose_and_not_of_another_one_tried(criterion):
    walk, pose = a_walk(Clock(), "rigid", criterion)
    level, calls = walk.levels[0], []

    def solver(program):
        calls.append(program)
        return replace(InteriorPoint(tolerance=1e-3)(program), seconds=0.25)

    found = begun(Descent(solver), level, pose, level, Search(mirror=True))
    costs = level.with_count(min(level.count, 300)).costs(found.pose.transform)[:, 0]
    assert found.objective == pytest.approx(np.nanmean(costs), rel=0.25, abs=1e-3)
    # those of the others have cost time too
    assert len(calls) > 4
    assert found.solve_seconds == 0.25 * len(calls)


def test_a_refused_step_leaves_the_pose_and_tells_what_that_costs():
    walk, pose = a_walk(Clock(), "rigid", "ssd")

    def leap(program):
        """Far away, whatever the program says."""
        return Solution.judged(program, np.array([0.0, 9.0, 9.0]), np.zeros(len(program.lower)), "optimal", 0, 0.25)

    level, here = walk.levels[0], Outcome(pose, solve_seconds=1.0)
    found = list(Descent(leap).programs(level, here, (Window(8, 1), Window(6, 2))))
    assert [outcome.solve_seconds for outcome in found] == [1.25, 1.5]
    assert all(outcome.pose is pose for outcome in found)
    assert found[-1].objective == pytest.approx(np.nanmean(level.costs(pose.transform)), rel=0.1)


class Costly:
    """A time that passes by so much whenever somebody asks for it."""

    def __init__(self, each):
        self.time, self.each = 0.0, each

    def __call__(self):
        self.time += self.each
        return self.time


@pytest.mark.parametrize("transform", ["rigid", "affine"])
def test_no_step_is_begun_after_the_time_is_over_and_more_time_leads_on(transform):
    grid = Grid((192, 160), (1.0, 1.2))
    whole = photograph("camera").astype(np.float32)
    fixed, moving = Image(whole[100:292, 150:310], grid), Image(whole[97:289, 152:312], grid)
    register = LPRegistration(transform=transform)
    *_, free = register._states(Pair.of(fixed, moving), Clock())
    errors, stages = [], []
    for budget in (1e-9, 0.02, 0.05, 0.2, 1.0, 1e4):
        # every look at the clock takes a millisecond
        clock = Clock(budget, now=Costly(1e-3))
        states = list(register._states(Pair.of(fixed, moving), clock))
        seconds = clock.now.time
        assert seconds <= budget + max(0.1 * budget, 0.012), budget
        assert all(not state.late for state in states[:-1])
        assert states[-1].late == any("the budget of" in text for text in states[-1].warnings)
        points = grid.points()[60:-60:20, 60:-60:20]
        errors.append(float(np.abs(states[-1].transform(points) - points - [3.0, -2.4]).max()))
        stages.append(states[-1].stage)
    # up to a hundredth of a voxel
    assert all(later < before + 0.01 for before, later in itertools.pairwise(errors)), errors
    assert errors[-1] < 0.1 < errors[0]
    assert stages[0] == "start"
    assert stages[-1] == free.stage
    assert not states[-1].late
    np.testing.assert_array_equal(states[-1].transform.matrix, free.transform.matrix)
