import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import spaces
import torch
from torch import nn

from augreg import Affine, Grid, Image
from augreg.networks import FlowNetS, end_point_error, normalised
from augreg.networks.files import read_tensors
from augreg.synthesis import PairBatch
from augreg.training import (
    CHECKPOINT,
    WEIGHTS,
    FlowRegistration,
    Machine,
    TrainingOptions,
    mirrored,
    mirrored_by_chance,
    pairs_from_memory,
    seeded_network,
    train,
)

SHAPE = (64, 64)
CPU = Machine(device="cpu")
OPTIONS = TrainingOptions(steps=6, learning_rate=1e-3, machine=CPU)


def pairs(step, batch=4, size=4.0):
    """Smooth random images, the moving ones shifted smoothly; fixed(x) = moving(x + u)."""
    rng = np.random.default_rng([7, step])
    fixed, moving, flows = [], [], []
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"))
    for _ in range(batch):
        image = scipy.ndimage.gaussian_filter(rng.normal(size=SHAPE), 2.5, mode="wrap")
        flow = np.stack([scipy.ndimage.gaussian_filter(rng.normal(size=SHAPE), 20, mode="wrap") for _ in SHAPE])
        flow *= size / np.abs(flow).max()
        moving.append(image)
        fixed.append(scipy.ndimage.map_coordinates(image, grid + flow, order=1, mode="wrap"))
        flows.append(flow)
    images = [torch.from_numpy(np.stack(part)[:, None].astype(np.float32)) for part in (fixed, moving)]
    flow = torch.from_numpy(np.stack(flows).astype(np.float32))
    zero = torch.zeros(batch)
    return PairBatch(*images, flow, torch.ones(batch, 1, *SHAPE, dtype=torch.bool), zero, zero)


def weights(folder):
    return read_tensors(folder / WEIGHTS, "augreg network")[0]


def finish(folder, options=OPTIONS, **how):
    return list(train(seeded_network(0, 2, 0.03), pairs, (1.0, 1.0), folder, options, **how))


def errors(folder, flip=1.0):
    """End-point error after fitting one small set of pairs, relative to that of no registration."""
    batch = pairs(0, batch=2)
    wrong = replace(batch, flow=batch.flow * flip)
    network = seeded_network(1, 2, 0.15)
    options = TrainingOptions(steps=150, learning_rate=2e-3, machine=CPU)
    *_, last = train(network, lambda _: wrong, (1.0, 1.0), folder, options)
    with torch.no_grad():
        flow = network.predict(normalised(batch.fixed), normalised(batch.moving))
        return end_point_error(flow, batch.flow, batch.mask).item() / last.epe_without


def test_a_network_learns_its_pairs_and_fails_with_the_flow_negated(tmp_path):
    assert errors(tmp_path) < 0.4
    assert errors(tmp_path, flip=-1.0) > 1.2


@pytest.mark.parametrize("axes", [[], [0], [1], [0, 1]])
def test_mirrored_pairs_are_as_exact_as_the_pairs(axes):
    batch = pairs(3, batch=2)
    rectangle = PairBatch(
        *(part[:, :, :50] for part in (batch.fixed, batch.moving, batch.flow, batch.mask)), batch.least_det, batch.residual
    )
    turned = mirrored(rectangle, axes)
    grid = np.stack(np.meshgrid(*map(np.arange, turned.fixed.shape[2:]), indexing="ij"))
    inside = (slice(8, -8), slice(8, -8))
    for fixed, moving, flow in zip(turned.fixed, turned.moving, turned.flow, strict=True):
        moved = scipy.ndimage.map_coordinates(moving[0].numpy(), grid + flow.numpy(), order=1)
        np.testing.assert_allclose(moved[inside], fixed[0].numpy()[inside], atol=1e-4)
    again = mirrored(turned, axes)
    assert torch.equal(again.flow, rectangle.flow)
    assert torch.equal(turned.fixed, rectangle.fixed) == (axes == [])


def test_pairs_at_hand_are_all_shown_and_depend_on_seed_and_step_alone():
    whole = pairs(0, batch=7)
    of, same, other = (mirrored_by_chance(pairs_from_memory(whole, 3, seed), seed) for seed in (1, 1, 2))
    assert torch.equal(of(5).fixed, same(5).fixed)
    assert not torch.equal(of(5).fixed, of(6).fixed)
    assert not torch.equal(of(5).fixed, other(5).fixed)
    # sums tell the pairs apart however they are mirrored; seven steps of three are three times all seven
    seen = Counter(round(float(total), 3) for step in range(7) for total in of(step).fixed.sum(dim=(1, 2, 3)))
    assert seen == dict.fromkeys([round(float(total), 3) for total in whole.fixed.sum(dim=(1, 2, 3))], 3)


def test_a_resumed_run_ends_with_the_same_weights(tmp_path):
    states = finish(tmp_path / "whole")
    assert [s.step for s in states] == [1, 2, 3, 4, 5, 6]
    stopped = train(seeded_network(0, 2, 0.03), pairs, (1.0, 1.0), tmp_path / "parts", replace(OPTIONS, checkpoint_seconds=0))
    for _ in range(3):
        next(stopped)
    stopped.close()
    resumed = finish(tmp_path / "parts", resume=True)
    assert resumed[0].step == 4
    ours, theirs = weights(tmp_path / "parts"), weights(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    # and training did something
    first = seeded_network(0, 2, 0.03).state_dict()
    assert not torch.equal(first["decoder.heads.0.weight"], theirs["decoder.heads.0.weight"])


@pytest.mark.parametrize("seconds", [0, 120])
def test_a_killed_run_can_be_resumed(tmp_path, seconds):
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from test_training import *\n"
        "options = replace(OPTIONS, checkpoint_seconds=float(sys.argv[3]))\n"
        "for state in train(seeded_network(0, 2, 0.03), pairs, (1.0, 1.0), sys.argv[2], options):\n"
        "    print(state.step, flush=True)\n"
        "    time.sleep(0.2)\n"
    )
    command = [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path / "killed"), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "1\n"
        run.send_signal(signal.SIGKILL)
    assert not (tmp_path / "killed" / WEIGHTS).exists()
    # the first step is behind it, however long the schedule
    assert finish(tmp_path / "killed", resume=True)[0].step == 2
    finish(tmp_path / "whole")
    ours, theirs = weights(tmp_path / "killed"), weights(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_training_stops_where_the_loss_is_not_finite_and_keeps_the_last_checkpoint(tmp_path):
    def spoilt(step):
        batch = pairs(step)
        return replace(batch, flow=batch.flow * float("nan")) if step == 3 else batch

    options = replace(OPTIONS, checkpoint_seconds=0)
    with pytest.raises(FloatingPointError, match="step 3"):
        list(train(seeded_network(0, 2, 0.03), spoilt, (1.0, 1.0), tmp_path, options))
    tensors, about = read_tensors(tmp_path / CHECKPOINT, "augreg checkpoint")
    assert about["step"] == 3
    assert all(torch.isfinite(t).all() for t in tensors.values())


def test_threads_are_those_asked_for_while_it_trains_and_then_as_before(tmp_path):
    before = torch.get_num_threads()
    training = train(
        seeded_network(0, 2, 0.03), pairs, (1.0, 1.0), tmp_path, replace(OPTIONS, machine=replace(CPU, threads=before + 1))
    )
    next(training)
    assert torch.get_num_threads() == before + 1
    training.close()
    assert torch.get_num_threads() == before


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    finish(tmp_path)
    with pytest.raises(ValueError, match="expected a checkpoint of this network"):
        list(train(FlowNetS(2, 1, 0.05), pairs, (1.0, 1.0), tmp_path, OPTIONS, resume=True))


class Oracle(nn.Module):
    """Predicts one voxel flow everywhere, whatever it sees; remembers what it saw."""

    def __init__(self, flow):
        super().__init__()
        self.ndim, self.channels, self.flow = len(flow), 1, flow

    def predict(self, fixed, moving):
        self.seen = fixed, moving
        shape = fixed.shape[2:]
        return torch.tensor(self.flow).reshape(1, -1, *[1] * len(shape)).expand(1, -1, *shape)


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
def test_a_flow_means_voxels_of_the_network_along_the_fixed_axes(ndim, name):
    grid = spaces.grid(ndim, name)
    fixed = Image(np.random.default_rng(0).normal(size=grid.shape), grid)
    other = Grid((19, 25, 14)[:ndim], (1.0,) * ndim, direction=spaces.directions(ndim)["flip"])
    other = Grid(other.shape, other.spacing, tuple(grid.center - other.center + 1), other.direction)
    moving = Image(np.random.default_rng(1).normal(size=other.shape), other)
    oracle = Oracle([1.0, -2.0, 0.5][:ndim])
    phi = FlowRegistration(oracle, grid.spacing)(fixed, moving)
    steps = np.array(oracle.flow)
    expected = grid.points_at(steps) - grid.points_at(0 * steps)
    np.testing.assert_allclose(phi(grid.points()) - grid.points(), np.broadcast_to(expected, (*grid.shape, ndim)), atol=1e-5)
    assert oracle.seen[0].shape == oracle.seen[1].shape == (1, 1, *grid.shape)
    # a network trained at twice the spacing sees half as many voxels, and each means twice as many mm
    coarse = FlowRegistration(oracle, tuple(2 * s for s in grid.spacing))
    working = grid.with_spacing([2 * s for s in grid.spacing])
    wide = working.points_at(steps) - working.points_at(0 * steps)
    inner = grid.center
    np.testing.assert_allclose(coarse(fixed, moving)(inner) - inner, wide, atol=1e-5)


def test_an_initial_transform_stays_the_left_part():
    grid = spaces.grid(2)
    image = Image(np.random.default_rng(0).normal(size=grid.shape), grid)
    start = Affine.about([[0.9, 0.1], [0.0, 1.1]], grid.center)
    phi = FlowRegistration(Oracle([1.0, 2.0]), grid.spacing)(image, image, initial=start)
    step = grid.points_at([1.0, 2.0]) - grid.points_at([0.0, 0.0])
    np.testing.assert_allclose(phi(grid.center), start(grid.center + step), atol=1e-6)


def test_other_dimensions_are_refused():
    volume = Image(np.random.default_rng(0).normal(size=(8, 9, 7)), spaces.grid(3, shape=(8, 9, 7)))
    with pytest.raises(ValueError, match="2-D image for this network"):
        FlowRegistration(Oracle([1.0, 2.0]), (1.0, 1.0))(volume, volume)
