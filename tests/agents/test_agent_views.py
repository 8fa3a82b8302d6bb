"""Poses, moves, and what is seen at a pose."""

import numpy as np
import pytest
import torch
from support.agents import about, grids

from augreg import Image, Labels, warp
from augreg.agents import Known, Offsets, PosePairs, QNet, View, from_pair, from_truth, gains, view_of
from augreg.agents.lessons import Jitter, Lesson, gamma_and_noise
from augreg.agents.pairs import fitted, turned
from augreg.agents.view import affine_of, on_lattice, pose_of
from augreg.registration import Pair
from augreg.synthesis import PairBatch

VIEWS = {2: View((17, 20), (4.0, 3.0), 25.0), 3: View((11, 12, 9), (6.0, 5.0, 7.0), 20.0, "similarity")}


@pytest.mark.parametrize("ndim", [2, 3])
def test_every_move_is_followed_by_its_inverse_and_all_carry_points_as_far(ndim):
    view, step = VIEWS[ndim], 0.5
    moves = view.moves(step)
    assert len(moves) == view.actions == {2: 6, 3: 14}[ndim]
    assert np.allclose(moves[::2] @ moves[1::2], np.eye(ndim + 1))
    assert len({move.round(9).tobytes() for move in moves}) == view.actions
    for number, move in enumerate(moves):
        # a turn leaves its axis, all else carries points at the radius by a step
        point = np.eye(ndim)[0 if number < 2 * ndim + 4 else 1] * view.radius
        if ndim == 3 and 10 <= number < 12:
            point = np.eye(3)[2] * view.radius
        assert np.linalg.norm((move @ [*point, 1])[:-1] - point) == pytest.approx(step, rel=0.02)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_pose_is_seen_as_the_warp_of_its_affine_map(ndim):
    view, (fixed, moving) = VIEWS[ndim], grids(ndim)
    truth = about(25, (1, 0.3, -2), [7.0, -4.0, 5.0][:ndim], fixed, moving)
    pose = pose_of(truth, fixed, moving)
    back = affine_of(pose, fixed, moving)
    assert np.allclose(back.matrix, truth.matrix)
    assert np.allclose(back.translation, truth.translation)
    lattice = view.whole(moving)
    assert np.allclose(lattice.center, moving.center)
    assert (np.asarray(lattice.shape) % 2 == 0).all()
    values = np.random.default_rng(0).uniform(1, 2, lattice.shape).astype(np.float32)
    seen = view.seen(torch.from_numpy(values)[None, None], torch.from_numpy(pose)[None])
    wanted = warp(Image(values, lattice), truth, view.lattice(fixed), fill=float(values.min()))
    assert seen[0, 0].numpy() == pytest.approx(wanted.values, abs=1e-4)
    assert (seen == values.min()).any() == (ndim == 3) or seen.std() > 0.1


def known(ndim, seed=0):
    fixed, moving = grids(ndim)
    rng = np.random.default_rng(seed)
    truth = about(rng.uniform(-30, 30), rng.standard_normal(3), rng.uniform(-5, 5, ndim), fixed, moving)
    images = (Image(rng.uniform(0, 1, grid.shape).astype(np.float32), grid) for grid in (fixed, moving))
    return Known(*images, truth, fixed.center + rng.uniform(-20, 20, (30, ndim)))


def pairs_of(ndim):
    view = VIEWS[ndim]
    return PosePairs.of([known(ndim, seed) for seed in range(3)], QNet(view, width=0.1))


@pytest.mark.parametrize("ndim", [2, 3])
def test_gains_are_what_distances_lose_whatever_the_way(ndim):
    pairs, view, steps = pairs_of(ndim), VIEWS[ndim], torch.tensor([8.0, 1.0], dtype=torch.float64)
    moves = torch.from_numpy(np.stack([view.moves(s) for s in steps.tolist()]))
    rng = np.random.default_rng(3)
    poses = Lesson(Offsets(20, 30, 0.1)).poses(pairs, rng)
    found = gains(pairs, poses, moves, steps)
    for pair in range(3):
        one = known(ndim, pair)
        world = affine_of(poses[pair].numpy(), one.fixed.grid, one.moving.grid)
        here = np.linalg.norm(world(one.points) - one.truth(one.points), axis=1).mean()
        assert pairs.distances(poses)[pair].item() == pytest.approx(here)
        for level, step in enumerate(steps.tolist()):
            for action, move in enumerate(view.moves(step)):
                there = affine_of(poses[pair].numpy() @ move, one.fixed.grid, one.moving.grid)
                after = np.linalg.norm(there(one.points) - one.truth(one.points), axis=1).mean()
                assert found[pair, level, action].item() == pytest.approx((here - after) / step, abs=1e-9)
    assert pairs.distances(pairs.truth).abs().max() < 1e-9
    # no shift gains more than it moves
    assert found[:, :, : 2 * ndim].max() <= 1 + 1e-9


@pytest.mark.parametrize("ndim", [2, 3])
def test_small_poses_mirrors_and_looks_leave_distances_as_they_are(ndim):
    pairs, network = pairs_of(ndim), QNet(VIEWS[ndim], width=0.1)
    rng = np.random.default_rng(0)
    lesson = Lesson(Offsets(), Jitter(10.0, 5.0, 0.1), gamma_and_noise(0.3, 0.02))
    moved = lesson.moved(pairs, network, rng)
    J = torch.linalg.solve(pairs.truth, moved.truth)
    poses = Lesson(Offsets(20, 30)).poses(pairs, rng)
    assert torch.allclose(moved.distances(poses @ J), pairs.distances(poses))
    assert not torch.allclose(moved.points, pairs.points)
    assert not torch.allclose(moved.moving, pairs.moving)
    axis = ndim - 1
    flipped = Lesson(Offsets(), Jitter(mirrored=axis)).moved(pairs, network, np.random.default_rng(1))
    R = torch.eye(ndim + 1, dtype=torch.float64)
    R[axis, axis] = -1
    turned_over = [not torch.equal(a, b) for a, b in zip(flipped.fixed, pairs.fixed, strict=True)]
    assert 0 < sum(turned_over) < 3
    for pair, over in enumerate(turned_over):
        there = R @ poses @ R if over else poses
        assert flipped.distances(there)[pair].item() == pytest.approx(pairs.distances(poses)[pair].item())
        # and the mirrored picture is the picture of the mirrored pair
        seen = network.view.seen(flipped.moving, there.expand(3, -1, -1), flipped.outside)[pair]
        before = network.view.seen(pairs.moving, poses, pairs.outside)[pair]
        assert torch.allclose(seen.flip(1 + axis) if over else seen, before, atol=1e-4)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("kind", ["rigid", "similarity"])
def test_a_fit_finds_the_map_of_its_kind_and_no_mirror(ndim, kind):
    rng = np.random.default_rng(ndim)
    source = rng.standard_normal((9, ndim))
    matrix, shift = (
        turned(0.7, np.array([1.0, -2.0, 0.4]), ndim) * (1.3 if kind == "similarity" else 1.0),
        rng.standard_normal(ndim),
    )
    weights = rng.uniform(0.1, 1, 9)
    found = fitted(source, source @ matrix.T + shift, kind, weights)
    assert np.allclose(found.matrix, matrix)
    assert np.allclose(found.translation, shift)
    mirrored = fitted(source, source * ([-1] + [1] * (ndim - 1)), kind)
    assert np.linalg.det(mirrored.matrix) > 0


def test_offsets_reach_as_far_as_they_are_allowed_and_no_further():
    rng = np.random.default_rng(0)
    drawn = [Offsets(20.0, 30.0, 0.2).draw(rng, 3) for _ in range(400)]
    shifts = [np.linalg.norm(pose[:3, 3]) for pose in drawn]
    sizes = np.array([np.cbrt(np.linalg.det(pose[:3, :3])) for pose in drawn])
    cosines = [(np.trace(pose[:3, :3] / size) - 1) / 2 for pose, size in zip(drawn, sizes, strict=True)]
    angles = np.rad2deg(np.arccos(np.clip(cosines, -1, 1)))
    assert 19 < max(shifts) <= 20
    assert 28 < angles.max() <= 30 + 1e-6
    assert 0.19 < np.abs(np.log(sizes)).max() <= 0.2


def test_the_truth_of_made_pairs_is_fitted_where_it_is_known():
    grid = grids(2)[0]
    turn = about(8, (0, 0, 1), [2.0, -3.0], grid, grid)
    u = turn.displacement(grid)
    flow = torch.from_numpy(u @ grid.world_to_index.T).float().movedim(-1, 0)[None]
    image = torch.rand((1, 1, *grid.shape), generator=torch.Generator().manual_seed(0))
    batch = PairBatch.without_truth(image, image.flip(2))
    mask = torch.zeros_like(image, dtype=torch.bool)
    mask[:, :, 5:30, 8:40] = True
    batch = PairBatch(**{**vars(batch), "flow": torch.where(mask, flow, torch.nan), "mask": mask})
    (found,) = from_truth(batch, grid)
    assert np.allclose(found.truth.matrix, turn.matrix, atol=1e-5)
    assert found.truth(found.points) == pytest.approx(turn(found.points), abs=1e-3)
    index = grid.indices_at(found.points)
    assert index.min(axis=0) == pytest.approx([5, 8], abs=2)
    assert index.max(axis=0) == pytest.approx([29, 39], abs=2)


def test_centroids_of_real_pairs_are_put_on_each_other():
    fixed, moving = grids(2)
    truth = about(12, (0, 0, 1), [4.0, -6.0], fixed, moving)
    rng = np.random.default_rng(0)
    images = [Image(rng.uniform(0, 1, grid.shape).astype(np.float32), grid) for grid in (fixed, moving)]
    for numbers, tolerance in (([1, 2, 3, 4], 0.4), ([1], 0.4)):
        centres = fixed.center + np.array([[-20, -8], [18, -10], [3, 20], [-4, 4]])[: len(numbers)]
        maps = []
        for grid, where in ((fixed, centres), (moving, truth(centres))):
            values = np.zeros(grid.shape, np.uint8)
            for number, center in zip(numbers, where, strict=True):
                values[np.linalg.norm(grid.points() - center, axis=-1) < 5] = number
            maps.append(Labels(values, grid))
        found = from_pair(Pair.of(*images, fixed_labels=maps[0], moving_labels=maps[1]))
        assert np.linalg.norm(found.truth(centres) - truth(centres), axis=1).max() < tolerance
        # one structure alone does not say how it is turned
        turn = np.rad2deg(np.arctan2(found.truth.matrix[1, 0], found.truth.matrix[0, 0]))
        assert turn == pytest.approx(12 if len(numbers) > 1 else 0, abs=2)
        assert np.linalg.norm(found.points[:, None] - centres, axis=2).min(axis=1).max() < 5
    plain = from_pair(Pair.of(*images, initial=truth))
    assert plain.truth is truth


def test_a_view_is_as_large_as_the_first_image_with_cells_that_suit():
    one = known(2)
    assert view_of([one]).shape == (64, 60) or max(view_of([one]).shape) <= 64
    view = view_of([one], 5.0)
    assert view.shape == (16, 15)
    assert view.radius == pytest.approx(np.linalg.norm(one.points - one.fixed.grid.center, axis=1).mean())


def test_a_coarse_lattice_sees_means_not_single_voxels():
    grid = grids(2)[1]
    checks = Image(np.indices(grid.shape).sum(axis=0).astype(np.float32) % 2, grid)
    coarse = on_lattice(checks, View((10, 10), (8.8, 8.0), 1.0).whole(grid))
    assert coarse[0, 0, 1:-1, 1:-1].numpy() == pytest.approx(0.5, abs=0.05)
