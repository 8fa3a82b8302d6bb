"""The short way: what it must find, and when it must not be gone."""

from dataclasses import replace

import numpy as np
import pytest
from support import phantoms

from augreg import Grid, Image, tre, warp
from augreg.lp import LPRegistration, register, search
from augreg.lp.plan import plan_of
from augreg.registration import Clock
from solvers import InteriorPoint

AFFINE = LPRegistration(transform="affine")


def counting(registration):
    """The registration, and a list that grows by one with every program."""
    calls = []

    def solver(program):
        calls.append(program)
        return InteriorPoint(tolerance=1e-3)(program)

    return replace(registration, solver=solver), calls


def stages_of(registration, fixed, moving):
    """Stages that were made, and stages of the plan."""
    states = list(registration.steps(fixed, moving))
    plan = plan_of(fixed.grid, registration.transform, polish=registration.polish, rough=False)
    return {state.level for state in states}, len(plan.stages)


@pytest.mark.parametrize("name", ["camera", "retina"])
def test_the_short_way_has_one_program_and_ends_where_the_long_one_ends(name):
    fixed, moving, x, y = phantoms.pair(phantoms.photograph(name), phantoms.affine(4), 4)
    short, calls = counting(AFFINE)
    long, others = counting(replace(AFFINE, mirror=True))
    near, far = short(fixed, moving), long(fixed, moving)
    assert len(calls) == 1
    assert len(others) > 5
    assert np.linalg.norm(near(x) - far(x), axis=1).mean() < 0.03
    assert tre(near, x, y).mean() < 0.1


@pytest.mark.parametrize("name", ["camera", "retina"])
def test_what_is_learned_at_a_pose_does_not_make_it_plain(name):
    """Tables of mutual information say that keypoints match best where they are, and did so two pixels off."""
    fixed, moving, x, y = phantoms.pair(phantoms.photograph(name), phantoms.affine(4), 4)
    mutual, calls = counting(replace(AFFINE, criterion="mi"))
    assert tre(mutual(fixed, moving), x, y).mean() < 1
    assert len(calls) > 5


def test_what_is_learned_at_a_pose_is_not_plain_without_time_for_a_search_either(monkeypatch):
    starts = []

    def told(*arguments):
        starts.append(search.begun(*arguments))
        return starts[-1]

    monkeypatch.setattr(Clock, "allows", lambda _, part, *__: part != "search")
    monkeypatch.setattr(register, "begun", told)
    fixed = Image(phantoms.photograph("camera"), Grid((512, 512)))
    moving = fixed.with_values(np.roll(fixed.values, 3, axis=0))
    for criterion in ("ncc", "mi"):
        next(replace(AFFINE, criterion=criterion, budget=30.0).steps(fixed, moving))
    assert [start.plain for start in starts] == [True, False]


def test_what_agrees_only_from_afar_is_searched_on_finer_levels():
    """Bent by some pixels everywhere, an image is plain at eight pixels and not at one."""
    values = phantoms.photograph("camera")
    fixed, moving, *_ = phantoms.pair(values, phantoms.affine(4), 4)
    bent = warp(moving, phantoms.bent(moving.grid, 24.0, seed=2), moving.grid, interpolation="cubic")
    straight, crooked = counting(AFFINE), counting(AFFINE)
    stages_of(straight[0], fixed, moving)
    made, count = stages_of(crooked[0], fixed, bent)
    assert made == set(range(count))
    assert len(crooked[1]) > len(straight[1])


def test_an_image_that_repeats_itself_stays_where_it_is():
    grid = Grid((256, 256))
    x = grid.points()
    waves = np.sin(2 * np.pi * x[..., 0] / 32) + np.sin(2 * np.pi * x[..., 1] / 32)
    image = Image(waves.astype(np.float32), grid)
    phi = AFFINE(image, image)
    assert np.abs(phi(x) - x).max() < 0.05


def test_criteria_without_derivatives_go_the_whole_way():
    fixed, moving, x, y = phantoms.pair(phantoms.photograph("camera"), phantoms.affine(4), 4)
    made, count = stages_of(replace(AFFINE, polish=0), fixed, moving)
    assert made == set(range(count))
    assert tre(LPRegistration(transform="affine", criterion="mi")(fixed, moving), x, y).mean() < 0.3


def test_time_that_is_short_leaves_the_levels_between():
    """With the time for a coarse level alone nothing is put off to the finest one."""
    fixed, moving, x, y = phantoms.pair(phantoms.photograph("camera"), phantoms.affine(4), 4)
    free = AFFINE(fixed, moving)
    errors = []
    for budget in (0.05, 0.2, 5.0):
        *_, state = replace(AFFINE, budget=budget).steps(fixed, moving)
        errors.append(tre(state.transform, x, y).mean())
    assert errors[-1] < 0.1
    np.testing.assert_array_equal(state.transform(x), free(x))
