"""Agents learn what moves are worth, and a run that was cut off ends as one that was not."""

import numpy as np
import pytest
import torch

from augreg import Affine, Grid, Image
from augreg.agents import (
    AdvantageLearner,
    AgentRegistration,
    DoubleQLearner,
    Known,
    Lesson,
    Offsets,
    PosePairs,
    QNet,
    gains,
    read_agent,
    view_of,
)
from augreg.agents.lessons import Jitter, gamma_and_noise
from augreg.networks import seeded
from augreg.training import WEIGHTS, Machine, TrainingOptions, learn
from augreg.training.checkpoints import named_state

OPTIONS = TrainingOptions(steps=8, learning_rate=3e-3, warm_up=1, machine=Machine("cpu", threads=1), checkpoint_seconds=0)
LESSON = Lesson(Offsets(10.0, 20.0), Jitter(5.0, 2.0, 0.05, mirrored=0), gamma_and_noise(0.2, 0.01))
GRID = Grid((32, 28), (2.0, 2.0))


def blob(seed, truth):
    """Three soft discs, and the same seen through a pose in another contrast."""
    rng = np.random.default_rng(seed)
    centres = GRID.center + np.array([[-12, -6], [10, -9], [2, 11]]) + rng.uniform(-2, 2, (3, 2))

    def drawn(points, heights):
        near = np.exp(-np.square(points[..., None, :] - centres).sum(axis=-1) / 50)
        return (near @ heights).astype(np.float32)

    inverse = truth.inverse()
    fixed, moving = drawn(GRID.points(), np.array([1.0, 2.0, 3.0])), drawn(inverse(GRID.points()), np.array([3.0, 1.0, 2.0]))
    return Known(Image(fixed, GRID), Image(moving, GRID), truth, centres)


def pairs_and_network(count=6, width=0.5):
    known = []
    for seed in range(count):
        rng = np.random.default_rng([seed, 1])
        angle, shift = np.deg2rad(rng.uniform(-15, 15)), rng.uniform(-5, 5, 2)
        matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        known.append(blob(seed, Affine(matrix, GRID.center + shift - matrix @ GRID.center)))
    network = seeded(0, lambda: QNet(view_of(known, 4.0), width=width))
    return known, PosePairs.of(known, network), network


def advantage(width=0.1):
    _, pairs, network = pairs_and_network(width=width)
    return AdvantageLearner(network, pairs, LESSON, steps=(4.0, 1.0), batch=4)


def double_q():
    _, pairs, network = pairs_and_network(width=0.1)
    return DoubleQLearner(network, pairs, LESSON, steps=(4.0, 1.0), batch=4, walkers=6, rows=30, follow=3, exploring_steps=6)


@pytest.mark.parametrize("make", [advantage, double_q])
def test_a_run_that_was_cut_off_ends_with_the_same_bytes(tmp_path, make):
    whole = list(learn(make(), tmp_path / "whole", OPTIONS))
    for state in learn(make(), tmp_path / "parts", OPTIONS):
        if state.step == 3:
            break
    rest = list(learn(make(), tmp_path / "parts", OPTIONS, resume=True))
    assert len(rest) == 5
    assert [state.numbers for state in rest] == [state.numbers for state in whole[3:]]
    for name in (WEIGHTS, "checkpoint.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    assert read_agent(tmp_path / "whole" / WEIGHTS).steps == (4.0, 1.0)


def test_a_step_that_is_not_taken_leaves_the_walkers_where_they_are(tmp_path):
    learner = double_q()
    run = learn(learner, tmp_path, OPTIONS)
    next(run), next(run)
    before = {name: tensor.clone() for name, tensor in named_state(learner).items()}
    learner.step(2, 1e-3)
    assert all(torch.equal(before[name], tensor) for name, tensor in named_state(learner).items())
    learner.update()
    assert not torch.equal(before["walks.at"], learner.walks.at)
    assert learner.walks.count == 18
    # the target follows the network after every third step, and stays in between
    assert torch.equal(learner.target.value.weight, learner.network.value.weight)
    learner.step(3, 1e-3)
    learner.update()
    assert not torch.equal(learner.target.value.weight, learner.network.value.weight)


def test_what_walkers_remember_are_moves_and_their_rewards(tmp_path):
    learner = double_q()
    for _ in learn(learner, tmp_path, OPTIONS):
        pass
    walks, view = learner.walks, learner.network.view
    assert walks.count == 48
    for (pair, level, action), (reward, ended), before, after in zip(
        walks.lived, walks.reward, walks.before, walks.after, strict=True
    ):
        step = learner.steps[level]
        move = view.moves(step)[action]
        assert np.allclose(before.numpy() @ move, after.numpy())
        pairs = learner.pairs[pair[None]]
        known = gains(pairs, before[None], torch.from_numpy(move)[None, None], torch.tensor([step], dtype=torch.float64))
        near = pairs.distances(after[None]).item() < 1.0
        assert ended == near
        assert reward.item() == pytest.approx(known.item() + near, abs=1e-5)


HASTE = {"exploring_steps": 150, "follow": 25, "walkers": 24}


@pytest.mark.parametrize(("make", "steps", "options"), [(AdvantageLearner, 220, {}), (DoubleQLearner, 320, HASTE)])
def test_an_agent_finds_poses_of_pairs_that_it_has_not_seen(tmp_path, make, steps, options):
    known, pairs, network = pairs_and_network(24)
    learner = make(network, pairs, Lesson(Offsets(10.0, 20.0)), batch=32, **options)
    settings = TrainingOptions(steps=steps, learning_rate=3e-3, machine=Machine("cpu", threads=1))
    states = list(learn(learner, tmp_path, settings))
    if make is AdvantageLearner:
        assert np.mean([state.numbers["chosen"] for state in states[-20:]]) > 0.8
    else:
        rewards = [np.mean([state.numbers["reward"] for state in part]) for part in (states[:50], states[-50:])]
        assert rewards[0] < 0.05 < 0.15 < rewards[1]
    register = AgentRegistration.from_file(tmp_path / WEIGHTS)
    errors = []
    for seed in range(100, 108):
        truth = known[seed % 7].truth
        pair = blob(seed, truth)
        maps = Affine.identity(2), register(pair.fixed, pair.moving)
        errors.append([np.linalg.norm(phi(pair.points) - truth(pair.points), axis=1).mean() for phi in maps])
    before, after = np.mean(errors, axis=0)
    assert after < 0.4 * before
