"""A registration prepared for one fixed image finds what it finds without preparation, and makes nothing twice."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import skimage.data
from support.phantoms import blobs

from augreg import Affine, Grid, Image, Labels, LPRegistration, warp
from augreg.keypoints.pyramid import Pyramid
from augreg.lp import level as levels

GRID = Grid((256, 240))
PHOTOGRAPH = skimage.data.camera().T.reshape(256, 2, 256, 2).mean(axis=(1, 3), dtype=np.float32)[:, :240]
FIXED = Image(PHOTOGRAPH + np.random.default_rng(2).normal(0, 2, GRID.shape).astype(np.float32), GRID)


def turned(degrees, shift, grid=GRID):
    angle, matrix = np.deg2rad(degrees), np.eye(grid.ndim)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return Affine.about(matrix, grid.center, shift)


def seen(truth):
    """What the photograph shows after it has moved, with noise."""
    moved = warp(Image(PHOTOGRAPH, GRID), truth.inverse(), GRID, interpolation="cubic").values
    return (moved + np.random.default_rng(3).normal(0, 2, moved.shape)).astype(np.float32)


def inner(grid=GRID):
    return grid.points_at(np.random.default_rng(1).uniform(0.25, 0.75, (100, grid.ndim)) * (np.array(grid.shape) - 1))


def apart(first, second, grid=GRID):
    x = inner(grid)
    return float(np.linalg.norm(first(x) - second(x), axis=1).max())


@pytest.mark.parametrize("kind", ["rigid", "affine"])
def test_a_far_frame_has_the_bits_of_the_plain_call(kind):
    truth = turned(4.0, (20.0, -14.0))
    register = LPRegistration(transform=kind)
    found = list(register.prepare(FIXED.values).steps(seen(truth), Affine.identity(2)))
    plain = list(register.steps(FIXED.values, seen(truth), initial=Affine.identity(2)))
    assert len(found) == len(plain) > 2
    for a, b in zip(found, plain, strict=True):
        assert (a.level, a.iteration, a.warnings, a.stage) == (b.level, b.iteration, b.warnings, b.stage)
        assert a.objective == pytest.approx(b.objective, rel=0, abs=0, nan_ok=True)
        assert a.transform.matrix.tobytes() == b.transform.matrix.tobytes()
        assert a.transform.translation.tobytes() == b.transform.translation.tobytes()
    assert apart(found[-1].transform, truth) < 0.1


@pytest.mark.parametrize("kind", ["rigid", "similarity", "affine"])
@pytest.mark.parametrize(("degrees", "shift", "stage"), [(8.1, (10.2, 5.8), 1), (8.6, (11.3, 5.0), 0)])
def test_a_near_frame_is_found_as_well_as_by_the_plain_call_on_fewer_levels(kind, degrees, shift, stage):
    start, truth = turned(8.0, (10.0, 6.0)), turned(degrees, shift)
    register = LPRegistration(transform=kind)
    states = list(register.prepare(FIXED).steps(seen(truth), initial=start))
    plain = list(register.steps(FIXED, Image(seen(truth), GRID), initial=start))
    # the plain call has been to the coarsest level before its first state
    assert np.isnan(states[0].objective) > np.isnan(plain[0].objective)
    assert states[0].level == stage
    assert states[-1].warnings == ()
    assert apart(states[-1].transform, truth) < 0.1 < apart(start, truth)
    assert apart(states[-1].transform, plain[-1].transform) < 0.1


def test_in_3d_on_another_grid_and_through_masks():
    grid = Grid((52, 46, 40), (1.0, 1.1, 1.3))
    fixed, frames = blobs(grid, 120), Grid((50, 50, 48), (1.1, 1.0, 1.1), (-2.0, -1.0, 1.0))
    truth, start = turned(4.0, (2.0, -1.5, 1.0), grid), turned(3.5, (1.4, -1.0, 0.6), grid)
    values = warp(fixed, truth.inverse(), frames, interpolation="cubic").values
    # an instrument that stands still before the scene
    values[20:30, 22:30, :24] = 2 * values.max()
    mask = np.ones(frames.shape, np.uint8)
    mask[18:32, 20:32, :26] = 0
    tracker = LPRegistration(transform="rigid").prepare(fixed, moving_grid=frames, moving_mask=Labels(mask, frames))
    assert apart(tracker(values, initial=start), truth, grid) < 0.1
    # without a start the registration looks for one
    assert apart(tracker(Image(values, frames)), truth, grid) < 0.1


def test_nothing_of_the_fixed_image_is_made_again(monkeypatch):
    calls = []
    for name in ("find_keypoints", "fixed_bundles"):
        made = getattr(levels, name)
        monkeypatch.setattr(levels, name, lambda *args, name=name, made=made: calls.append(name) or made(*args))
    tracker = LPRegistration(transform="affine").prepare(FIXED)
    assert calls
    near, far = turned(0.1, (0.5, 0.5)), turned(4.0, (20.0, -14.0))
    tracker(seen(far), initial=Affine.identity(2))
    before = len(calls)
    for truth in (near, far, near):
        tracker(seen(truth), initial=Affine.identity(2))
    assert len(calls) == before


def test_threads_and_copies_of_a_tracker_find_the_same_bits():
    tracker = LPRegistration(transform="affine").prepare(FIXED)
    frames = [seen(turned(0.3 * k, (0.8 * k, -0.5 * k))) for k in range(6)]

    def follow(one):
        return [one(frame, initial=Affine.identity(2)).matrix.tobytes() for frame in frames]

    alone = follow(tracker)
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(follow, [tracker] * 3)) == [alone] * 3
    assert follow(pickle.loads(pickle.dumps(tracker))) == alone
    assert follow(LPRegistration(transform="affine").prepare(FIXED)) == alone
    assert len(set(alone)) == len(alone)


def test_numbers_count_not_their_type():
    truth = turned(1.0, (1.5, 1.0))
    fixed, frame = ((255 * (v - v.min()) / np.ptp(v)).round() for v in (FIXED.values, seen(truth)))
    tracker = LPRegistration(transform="rigid").prepare(fixed)
    kinds = (np.uint8, np.uint16, np.int32, np.float32, np.float64)
    found = [tracker(frame.astype(kind), initial=Affine.identity(2)) for kind in kinds]
    assert len({phi.matrix.tobytes() for phi in found}) == 1
    assert apart(found[0], truth) < 0.1
    # what float32 does not resolve takes the way without preparation
    assert apart(tracker(frame.astype(np.float64) * 1e-6 + 1e4, initial=Affine.identity(2)), truth) < 0.1


@pytest.mark.parametrize("value", [np.nan, np.inf, 7.0])
def test_a_frame_that_shows_nothing_gives_the_last_transform(value):
    last = turned(3.0, (2.0, 1.0))
    tracker = LPRegistration(transform="rigid").prepare(FIXED)
    (state,) = tracker.steps(np.full(GRID.shape, value, np.float32), initial=last)
    assert state.transform is last
    assert state.warnings[-1].startswith("lost: the frame")
    assert tracker(np.full(GRID.shape, value)).matrix.tolist() == np.eye(2).tolist()


def test_a_frame_that_shows_something_else_is_lost():
    last = turned(3.0, (2.0, 1.0))
    tracker = LPRegistration(transform="rigid").prepare(FIXED)
    noise = np.random.default_rng(0).normal(size=GRID.shape)
    # so far away that hardly any of it is seen
    gone = seen(turned(0.0, (235.0, 0.0)))
    for frame in (noise, skimage.data.coins()[:256, :240].astype(np.float32), gone):
        *_, state = tracker.steps(frame, initial=last)
        assert state.transform is last
        assert state.warnings[-1].startswith("lost: ")
    # and the next one is found
    *_, state = tracker.steps(seen(turned(3.5, (2.5, 1.5))), initial=last)
    assert state.warnings == ()
    assert apart(state.transform, turned(3.5, (2.5, 1.5))) < 0.1


def test_what_is_nan_in_a_frame_is_not_looked_at():
    truth = turned(2.0, (3.0, -2.0))
    frame = seen(truth)
    frame[40:80, 50:90] = np.nan
    frame[100, 100] = np.inf
    *_, state = LPRegistration(transform="rigid").prepare(FIXED).steps(frame, initial=Affine.identity(2))
    assert state.warnings == ("1601 of 61440 voxels of the frame are NaN or infinite: masked",)
    assert apart(state.transform, truth) < 0.1


def test_label_maps_are_not_tracked():
    with pytest.raises(ValueError, match="expected a criterion of images, got labels"):
        LPRegistration(criterion="labels").prepare(FIXED)


def test_of_a_frame_only_the_levels_are_made_that_it_is_looked_at_on(monkeypatch):
    whole = skimage.data.camera()
    tracker = LPRegistration(transform="rigid").prepare(whole)
    made = []
    smoothed = Pyramid.raster
    monkeypatch.setattr(Pyramid, "raster", lambda pyramid, number: made.append(number) or smoothed(pyramid, number))
    phi = tracker(np.roll(whole, 3, axis=0), initial=Affine.identity(2))
    np.testing.assert_allclose(phi(np.array([200.0, 200.0])), [203.0, 200.0], atol=0.02)
    # of four levels the third has no stage
    assert sorted(made) == [0, 1, 3]


def test_a_budget_holds_for_every_frame():
    tracker = LPRegistration(transform="rigid", budget=1e-6).prepare(FIXED)
    last, far = turned(1.0, (1.0, 0.0)), turned(4.0, (20.0, -14.0))
    for _ in range(2):
        *_, state = tracker.steps(seen(far), initial=last)
        assert state.late
        np.testing.assert_allclose(state.transform.matrix, last.matrix, atol=1e-12)
