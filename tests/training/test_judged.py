"""A network and its critic: real and made are seen alike, both go on and stop as one, and a critic learns to see errors."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.flows import SHAPE, pairs
from torch import nn

from augreg import Grid
from augreg.networks import AffineMap, Critic, Displacement, Network, affine_free, seeded
from augreg.networks.files import read_tensors
from augreg.synthesis import SmoothField
from augreg.training import (
    CHECKPOINT,
    Alignment,
    Fields,
    JudgedLearner,
    Machine,
    TrainingOptions,
    fields_of,
    learn,
    seeded_network,
    supervised,
)
from augreg.training.checkpoints import named_state

OPTIONS = TrainingOptions(steps=6, learning_rate=1e-3, machine=Machine("cpu", threads=1))
GRID = Grid(SHAPE)


def critic(channels=2, ndim=2, width=0.1):
    return seeded(1, lambda: Critic(ndim, channels, width))


def judged(sees="images", batch_of=pairs, objective=supervised, **options):
    sight = Alignment(pairs) if sees == "images" else Fields(fields_of([SmoothField(16.0, (2.0,))], GRID, 4))
    settings = {"weight": 0.1, "warm_up": 4, "objective": objective, **options}
    return JudgedLearner(seeded_network(0, 2, 0.03), critic(), batch_of, (1.0, 1.0), sees=sight, **settings)


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("shape", [(40, 33), (17, 24, 9)])
def test_an_affine_part_is_taken_off_and_nothing_else(shape):
    rng, D = np.random.default_rng(0), len(shape)
    flow = torch.from_numpy(rng.normal(size=(2, D, *shape))).float()
    mask = torch.from_numpy(rng.random((2, 1, *shape)) < 0.6)
    matrix = torch.eye(D) + 0.1 * torch.from_numpy(rng.normal(size=(2, D, D))).float()
    moved = AffineMap(matrix, torch.from_numpy(rng.normal(size=(2, D))).float(), shape).flow()
    left = affine_free(flow, mask)
    torch.testing.assert_close(affine_free(flow + moved, mask), left, atol=1e-3, rtol=0)
    # least squares, by numpy
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).reshape(D, -1)
    X = np.concatenate([places, np.ones_like(places[:1])])
    for one, known, found in zip(flow, mask, left, strict=True):
        some = known.flatten().numpy()
        u = one.flatten(1).numpy()
        fitted = np.linalg.lstsq(X.T[some], u.T[some], rcond=None)[0]
        expected = (u - (X.T @ fitted).T) * some
        np.testing.assert_allclose(found.flatten(1).numpy(), expected, atol=2e-3)


@pytest.mark.parametrize("shape", [(64, 64), (45, 70), (20, 17, 6)])
def test_a_critic_says_a_number_of_every_eight_voxels_of_any_image(shape):
    judge = critic(3, len(shape))
    verdicts = judge(torch.zeros(2, 3, *shape))
    assert verdicts.shape == (2, 1, *[-(-n // 8) for n in shape])
    with pytest.raises(ValueError, match="Critic: expected 2 or 3 dimensions"):
        Critic(4, 2)


def test_true_maps_look_real_whichever_way_they_come():
    """A network that predicts the truth leaves a critic nothing to tell it by."""
    batch = pairs(3)
    sight = Alignment(pairs)
    real = sight.real(3, Displacement.of(batch.flow), batch, lambda images: images)
    made = sight.made(3, Displacement.of(batch.flow), batch)
    torch.testing.assert_close(real, made)
    fixed, moved = made.chunk(2, dim=1)
    inside = made != 0
    assert inside.float().mean() > 0.8
    assert np.corrcoef(fixed[inside[:, :1]], moved[inside[:, 1:]])[0, 1] > 0.98
    fields = Fields(lambda _: batch.flow, size=2.0)
    coarse = Displacement(nn.functional.avg_pool2d(batch.flow, 4), SHAPE, (4, 4))
    torch.testing.assert_close(fields.real(0, coarse, batch, None), fields.made(0, coarse, batch))


def test_maps_by_whole_voxels_are_no_sharper_than_others():
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.normal(size=(1, 1, *SHAPE))).float()
    batch = replace(pairs(0, 1), fixed=image, moving=image)
    still = AffineMap.identity(1, SHAPE)
    seen = torch.stack([Alignment(pairs).made(step, still, batch)[:, :, 8:-8, 8:-8] for step in range(30)])
    # noise of variance 1, between its voxels on the average 4/9 of it: (1 - 2 t + 2 t^2) along each axis
    assert seen.square().mean() == pytest.approx(4 / 9, abs=0.06)


def test_fields_are_drawn_of_their_step_and_number_and_do_not_fold():
    rough = [SmoothField(8.0, (6.0,))]
    whole = fields_of(rough, GRID, 4, 3)(5)
    part = fields_of(rough, GRID, 4, 3, part=slice(2, 4))(5)
    assert torch.equal(whole[2:], part)
    assert not torch.equal(whole, fields_of(rough, GRID, 4, 3)(6))
    J = torch.stack([torch.stack(torch.gradient(whole[:, d], dim=(1, 2)), dim=-1) for d in range(2)], dim=-2)
    assert torch.linalg.det(J + torch.eye(2)).min() > 0
    with pytest.raises(ValueError, match=r"Fields: expected draws of shape \(4, 2, 64, 64\), as the maps, got \(3, 2"):
        Fields(fields_of(rough, GRID, 3)).real(0, Displacement.of(whole), pairs(0), None)


@pytest.mark.parametrize("sees", ["images", "fields"])
def test_two_players_that_are_stopped_and_go_on_are_those_that_were_not(tmp_path, sees):
    whole, first, second = judged(sees), judged(sees), judged(sees)
    states = list(learn(whole, tmp_path / "whole", OPTIONS))
    stopped = learn(first, tmp_path / "parts", replace(OPTIONS, checkpoint_seconds=0))
    for _ in range(3):
        next(stopped)
    stopped.close()
    rest = list(learn(second, tmp_path / "parts", OPTIONS, resume=True))
    assert [state.step for state in rest] == [4, 5, 6]
    assert same(named_state(second), named_state(whole))
    assert [state.numbers for state in rest] == [state.numbers for state in states[3:]]
    assert {"critic.verdict.weight", "critic_adam.critic.verdict.weight.exp_avg_sq"} <= named_state(whole).keys()
    # the penalty is looked at in every fourth step
    assert [state.numbers["steep"] > 0 for state in states] == [True, False, False, False, True, False]


def test_a_step_that_is_refused_changes_neither_player(tmp_path):
    def spoilt(step):
        batch = pairs(step)
        return replace(batch, fixed=batch.fixed * (np.nan if step == 3 else 1))

    learner, seen = judged(batch_of=spoilt), []
    states = learn(learner, tmp_path, OPTIONS)
    for _ in range(3):
        next(states)
        seen.append({name: tensor.clone() for name, tensor in named_state(learner).items()})
    with pytest.raises(FloatingPointError, match="step 3: expected finite pairs, got NaN or infinity in number 0 of the batch"):
        next(states)
    assert same(named_state(learner), seen[-1])
    tensors, about = read_tensors(tmp_path / CHECKPOINT, "augreg checkpoint")
    assert about["step"] == 3
    assert same(tensors, seen[-1])
    assert not same(seen[-1], seen[-2])


def test_the_critic_s_part_grows_from_nothing_and_the_objective_is_told_without_it(tmp_path):
    states = list(learn(judged(weight=0.5), tmp_path, OPTIONS))
    parts = [state.loss - state.numbers["objective"] for state in states]
    assert parts[0] == 0
    assert all(part != 0 for part in parts[1:])
    # the verdict on what was made, by the critic of the same state, times the weight
    shares = [0.5 * min(1, number / 4) for number in range(6)]
    verdicts = [state.numbers["made"] for state in states]
    assert parts == pytest.approx([-s * v for s, v in zip(shares, verdicts, strict=True)], abs=1e-5)


def test_the_critic_s_loss_and_its_gradient_penalty_are_those_of_their_formulas(tmp_path):
    """More pairs are judged than are real, as where both directions are learned; the penalty by differences."""
    few = Alignment(lambda step: pairs(step + 50, 2))
    learner = JudgedLearner(seeded_network(0, 2, 0.03), critic(), pairs, (1.0, 1.0), sees=few, weight=0.0)
    batch = pairs(0)
    with torch.no_grad():
        ready = replace(batch, **{side: learner.network.prepare(getattr(batch, side)) for side in ("fixed", "moving")})
        phi = learner.network(ready.fixed, ready.moving)[0]
        judge = critic().double()
        real, made = few.real(0, phi, ready, learner.network.prepare).double(), few.made(0, phi, ready).double()
        hinge = torch.relu(1 - judge(real)).mean() + torch.relu(1 + judge(made)).mean()
        # along random directions v of unit voxels E (v . g)^2 = |g|^2; so many leave an error of some percent
        rng, step, squares = np.random.default_rng(0), 1e-3, []
        for image in real:
            v = torch.from_numpy(rng.choice((-1.0, 1.0), (40, *image.shape)))
            above, below = (judge(image + way * step * v).sum(dim=(1, 2, 3)) for way in (1, -1))
            squares.append(float(((above - below) / (2 * step)).square().mean()) / image[0].numel())
    state = next(learn(learner, tmp_path, OPTIONS))
    assert state.numbers["critic"] == pytest.approx(float(hinge), rel=1e-4)
    assert state.numbers["real"] == pytest.approx(float(judge(real).detach().mean()), rel=1e-4)
    assert state.numbers["steep"] == pytest.approx(np.mean(squares), rel=0.4)


class Rough(Network):
    """Moves as far as images are bright, in one direction for each image: rougher than any body."""

    def __init__(self):
        super().__init__()
        self.ndim, self.channels, self.unit, self.size = 2, 1, 1.0, nn.Parameter(torch.tensor(2.0))

    @property
    def description(self):
        return {"architecture": "Rough"}

    def forward(self, fixed, moving):
        return [Displacement.of(self.size * torch.cat([fixed, moving], dim=1))]


def test_a_critic_of_fields_sees_how_rough_they_are_and_not_the_pose(tmp_path):
    prior = fields_of([SmoothField(16.0, (2.0,))], GRID, 8)
    pool = [pairs(step, 8) for step in range(4)]
    learner = JudgedLearner(Rough(), critic(), lambda step: pool[step % 4], (1.0, 1.0), sees=Fields(prior), weight=0.0)
    states = learn(learner, tmp_path, replace(OPTIONS, steps=41))
    for _ in range(40):
        next(states)
    real, noise = prior(1000), torch.from_numpy(np.random.default_rng(0).normal(size=(8, 2, *SHAPE))).float()
    noise = 5 * nn.functional.avg_pool2d(noise, 5, 1, 2)

    def verdict(flow):
        with torch.no_grad():
            return float(learner.critic(learner.sees.made(0, Displacement.of(flow), pool[0])).mean())

    told = [verdict(real + size * noise) for size in (0.0, 0.5, 1.0, 2.0)]
    assert told == sorted(told, reverse=True), told
    turned = AffineMap(torch.tensor([[[1.1, 0.2], [-0.2, 0.95]]]), torch.tensor([[5.0, -3.0]]), SHAPE)
    assert verdict(real + turned.flow()) == pytest.approx(verdict(real), abs=1e-3)


def test_a_critic_of_other_channels_is_refused():
    with pytest.raises(ValueError, match="critic: expected 2 dimensions and 2 channels, what it is to see, got 2 and 3"):
        JudgedLearner(seeded_network(0, 2, 0.03), critic(3), pairs, (1.0, 1.0), sees=Alignment(pairs))
    with pytest.raises(ValueError, match="weight, penalty, pace: expected numbers of at least 0, got -1"):
        judged(weight=-1.0)


def test_a_critic_s_verdict_falls_with_the_error(tmp_path):
    pool = [pairs(step) for step in range(40)]
    sight = Alignment(lambda step: pool[step % 40])
    learner = JudgedLearner(
        seeded_network(0, 2, 0.03), critic(width=0.15), lambda step: pool[(step + 7) % 40], (1.0, 1.0), sees=sight, weight=0.0
    )
    list(learn(learner, tmp_path, replace(OPTIONS, steps=60)))
    rng = np.random.default_rng(0)
    verdicts = []
    batch = type(pool[0]).concatenate([pairs(step) for step in range(100, 104)])
    ready = replace(batch, fixed=learner.network.prepare(batch.fixed), moving=learner.network.prepare(batch.moving))
    direction = rng.uniform(0, 2 * np.pi, len(batch))
    unit = torch.from_numpy(np.stack([np.cos(direction), np.sin(direction)], axis=1)).float()[:, :, None, None]
    for error in (0, 1, 2, 4, 8):
        with torch.no_grad():
            seen = sight.made(0, Displacement.of(batch.flow + error * unit), ready)
            verdicts.append(float(learner.critic(seen).mean()))
    assert verdicts == sorted(verdicts, reverse=True), verdicts
