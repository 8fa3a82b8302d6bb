"""The dense stage of a registration: where it follows, what it goes on from, and what leaves it out."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from support import phantoms, realdata

from augreg import Affine, Chained, DenseRegistration, DisplacementField, Grid, Image, Labels, folding, jaccard, tre, warp
from augreg.geometry.transforms import Composition
from augreg.io import read_image, read_labels, read_transform, write_transform
from augreg.lp import LPRegistration
from augreg.registration import Pair, State, scenes
from augreg.registration.clock import Clock

GRID = Grid((150, 120), (1.0, 1.2), (-30.0, 12.0))


def texture(grid, seed=0):
    """Smooth noise."""
    values = gaussian_filter(np.random.default_rng(seed).normal(size=grid.shape), 2.5)
    return Image((values / values.std()).astype(np.float32), grid)


def pair(grid=GRID):
    """An image bent, and as it was: fixed(x) = moving(phi(x))."""
    moving = texture(grid.padded(20))
    phi = phantoms.bent(grid.padded(10), 25.0, seed=3)
    return warp(moving, phi, grid, interpolation="cubic"), moving, phi


def parts(transform):
    return transform.transforms if isinstance(transform, Composition) else (transform,)


def dense_levels(states):
    return {state.level for state in states if isinstance(parts(state.transform)[-1], DisplacementField)}


@pytest.mark.parametrize(
    ("options", "follows"),
    [
        ({}, True),
        ({"dense": None}, False),
        ({"transform": "affine"}, False),
        ({"transform": "rigid"}, False),
        ({"transform": "rigid", "dense": DenseRegistration()}, True),
        ({"criterion": "ssd"}, False),
        ({"criterion": "mi"}, False),
    ],
)
def test_a_dense_stage_follows_on_bsplines_by_correlation_or_where_it_is_asked_for(options, follows):
    fixed, moving, _ = pair()
    states = list(LPRegistration(keypoints=300, **options).steps(fixed, moving))
    assert bool(dense_levels(states)) == follows
    # a level that is dense stays so, and all that is counted goes on
    if follows:
        assert dense_levels(states) == set(range(min(dense_levels(states)), states[-1].level + 1))
    for name in ("level", "seconds", "solve_seconds"):
        values = [getattr(state, name) for state in states]
        assert values == sorted(values)
    assert all(state.keypoints > 50 for state in states)
    assert states[-1].warnings == ()


def test_it_begins_where_the_bspline_has_ended_and_makes_it_better():
    fixed, moving, phi = pair()
    x = GRID.points()[12:-12:4, 12:-12:4].reshape(-1, 2)
    without, found = LPRegistration(dense=None)(fixed, moving), LPRegistration()(fixed, moving)
    np.testing.assert_array_equal(found(x), without(parts(found)[-1](x)))
    assert tre(found, x, phi(x)).mean() < 0.9 * tre(without, x, phi(x)).mean()
    np.testing.assert_array_equal(found(x), Chained(LPRegistration(dense=None), DenseRegistration())(fixed, moving)(x))
    assert folding(found, GRID) == 0


def test_images_are_looked_at_once(monkeypatch):
    fixed, moving, _ = pair()
    made = []
    of = scenes.Scenes.of
    monkeypatch.setattr(scenes.Scenes, "of", lambda *given: made.append(given) or of(*given))
    LPRegistration(keypoints=300)(fixed, moving)
    assert len(made) == 1


def test_people_need_only_a_rough_affine_map_first():
    folder = realdata.path("brain2d")
    fixed, moving = (read_image(folder / f"{i}_z08.nii.gz") for i in ("1000", "1002"))
    f, m = (read_labels(folder / f"{i}_z08_labels.nii.gz") for i in ("1000", "1002"))

    def overlap(phi):
        return float(np.mean([value for value in jaccard(f, warp(m, phi, f.grid)).values() if value is not None]))

    states = list(LPRegistration.for_people().steps(fixed, moving))
    exact = Chained(LPRegistration(transform="affine"), DenseRegistration())(fixed, moving)
    assert overlap(states[-1].transform) > overlap(exact) - 0.01
    assert overlap(states[-1].transform) > overlap(LPRegistration(dense=None)(fixed, moving)) + 0.03
    assert [type(part) for part in parts(states[-1].transform)][-2:] == [Affine, DisplacementField]
    assert states[-1].warnings == ()


def test_people_who_lie_askew_are_found_too():
    folder = realdata.path("brain2d")
    fixed, moving = (read_image(folder / f"{i}_z20.nii.gz") for i in ("1000", "1002"))
    turn = phantoms.similarity(12.0, 1.0, (0.0, 0.0)).GetMatrix()
    turn = Affine.about(np.reshape(turn, (2, 2)), fixed.grid.center, (15.0, -20.0))
    found = LPRegistration.for_people()(fixed, warp(moving, turn.inverse(), moving.grid.padded(30)))
    straight = LPRegistration.for_people()(fixed, moving)
    points = fixed.grid.points()[60:-60:8, 60:-60:8]
    assert np.linalg.norm(found(points) - turn(straight(points)), axis=-1).mean() < 1


def test_landmarks_and_rigid_masks_leave_it_out():
    fixed, moving, phi = pair()
    x = GRID.points()[30::40, 30::40].reshape(-1, 2)
    given = {"fixed_points": x, "moving_points": phi(x) + np.array([2.0, 0.0])}
    *_, state = LPRegistration(keypoints=300).steps(fixed, moving, **given)
    assert not dense_levels([state])
    assert state.warnings == ()
    *_, state = LPRegistration(keypoints=300, dense=DenseRegistration()).steps(fixed, moving, **given)
    assert not dense_levels([state])
    assert "dense" in state.warnings[0]
    inside = np.zeros(GRID.shape, np.uint8)
    inside[40:60, 40:60] = 1
    assert not dense_levels([*LPRegistration(keypoints=300).steps(fixed, moving, rigid_mask=Labels(inside, GRID))])


def test_where_nothing_agrees_nothing_is_bent():
    fixed, _, _ = pair()
    before = State(3, 2, 0.5, 1e-4, Affine.identity(2), 0.0, ("said",), 77, 0.25)
    for moving, follows in ((fixed.with_values(-fixed.values), False), (fixed.with_values(fixed.values + 2.0), True)):
        states = list(DenseRegistration().continued(Pair.of(fixed, moving), before, Clock()))
        assert bool(states) == follows
    assert {(state.warnings, state.keypoints, state.solve_seconds, state.gap) for state in states} == {
        (("said",), 77, 0.25, 1e-4)
    }
    assert states[0].level == 4


def test_a_spent_budget_leaves_it_out_and_is_said():
    fixed, moving, _ = pair()
    *_, state = LPRegistration(budget=1e-3).steps(fixed, moving)
    assert not dense_levels([state])
    assert "budget" in " ".join(state.warnings)


@pytest.mark.parametrize("suffix", [".h5", ".tfm"])
def test_files_hold_affine_map_bspline_and_field(tmp_path, suffix):
    fixed, moving, _ = pair()
    found = LPRegistration(keypoints=300)(fixed, moving)
    write_transform(found, tmp_path / f"t{suffix}")
    again = read_transform(tmp_path / f"t{suffix}")
    assert [type(part) for part in parts(again)] == [type(part) for part in parts(found)]
    points = GRID.padded(5).points()
    np.testing.assert_allclose(again(points), found(points), atol=1e-9)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_inverse_of_affine_map_and_field_is_exact_to_a_hundredth_voxel(ndim):
    grid = Grid((96, 80, 40)[:ndim], (1.0, 1.1, 1.3)[:ndim])
    fixed, moving, _ = pair(grid)
    found = LPRegistration(transform="affine", dense=DenseRegistration(guard=0.2))(fixed, moving)
    points = grid.points()[(slice(8, -8, 3),) * ndim]
    there = found(points)
    assert np.abs(there - points).max() > 2
    assert np.abs(found.solve(there) - points).max() < 0.01


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"criterion": "mi", "dense": DenseRegistration()}, ValueError, "^dense: expected criterion ncc"),
        ({"dense": DenseRegistration(budget=1.0)}, ValueError, "^dense: expected no budget"),
        ({"dense": True}, TypeError, "^dense: expected a DenseRegistration"),
        ({"dense": "people"}, TypeError, "^dense: expected a DenseRegistration"),
    ],
)
def test_dense_stages_that_cannot_be_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        LPRegistration(**options)


def test_arrays_and_colour_are_taken():
    fixed, moving, _ = pair()
    colour = [Image(np.stack([i.values, 0.5 * i.values, 1 - i.values], axis=-1), i.grid) for i in (fixed, moving)]
    *_, state = LPRegistration.for_people().steps(*colour)
    assert dense_levels([state])
    assert LPRegistration.for_people()(fixed.values, moving.values).ndim == 2
