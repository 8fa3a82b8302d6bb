"""What every learner is promised: a run that is killed goes on as if nothing had been, a step that is refused leaves no trace."""

import multiprocessing
import os
import signal
import sys
import textwrap
import time
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.flows import pairs
from support.learners import MOVES, OPTIONS, Agent, TwoPlayers, copied, flows, perceptron, same

from augreg import training
from augreg.networks import RegNet, normalised, seeded
from augreg.networks.files import read_tensors, write_tensors
from augreg.synthesis import PairBatch
from augreg.training import (
    CHECKPOINT,
    WEIGHTS,
    FlowLearner,
    Learner,
    descend,
    kept,
    learn,
    pairs_from_memory,
    tensorboard_log,
)
from augreg.training.checkpoints import named_state
from augreg.training.learner import __doc__ as documentation

SERVER = multiprocessing.get_context("forkserver")


LEARNERS = {"flows": flows, "two players": TwoPlayers, "agent": Agent}


def killable(told, name, folder, options):
    for state in learn(LEARNERS[name](), folder, options, resume=(folder / CHECKPOINT).exists()):
        told.send(state.step)


def begin(name, folder, options):
    """A run in a process of its own, once it has taken a step."""
    SERVER.set_forkserver_preload(["scipy.ndimage", "augreg.training"])
    here, there = SERVER.Pipe(duplex=False)
    run = SERVER.Process(target=killable, args=(there, name, folder, options))
    run.start()
    there.close()
    return run, here


def kill(run):
    os.kill(run.pid, signal.SIGKILL)
    run.join()
    return run.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("name", LEARNERS)
def test_a_run_killed_at_any_moment_ends_with_the_same_state(tmp_path, name):
    """Killed three times, a random time after a random step: while it computes, or while it writes a checkpoint."""
    steps, rng = 40, np.random.default_rng()
    options = replace(OPTIONS, steps=steps, checkpoint_seconds=0)
    waits = list(zip(rng.integers(1, 6, 3), rng.uniform(0, 0.01, 3), strict=True))
    for taken, seconds in waits:
        run, told = begin(name, tmp_path / "killed", options)
        for _ in range(taken):
            told.recv()
        time.sleep(seconds)
        assert kill(run), f"the run had ended before it was killed: waited {waits}"
    rare = replace(options, checkpoint_seconds=1e9)
    ours, theirs = LEARNERS[name](), LEARNERS[name]()
    resumed = list(learn(ours, tmp_path / "killed", rare, resume=True))
    assert len(resumed) <= steps - sum(taken for taken, _ in waits)
    whole = list(learn(theirs, tmp_path / "whole", rare))
    assert same(named_state(ours), named_state(theirs)), f"waited {waits}"
    assert [state.numbers for state in resumed] == [state.numbers for state in whole[-len(resumed) :]]
    ends = [(tmp_path / folder / WEIGHTS).read_bytes() for folder in ("killed", "whole")]
    assert ends[0] == ends[1]
    # and it has learned something
    assert not same(named_state(theirs), named_state(LEARNERS[name]()))


def test_the_first_step_is_kept_however_rare_checkpoints_are(tmp_path):
    run, told = begin("flows", tmp_path, replace(OPTIONS, steps=1000, checkpoint_seconds=1e9))
    assert told.recv() == 1
    assert kill(run)
    assert not (tmp_path / WEIGHTS).exists()
    assert next(learn(flows(), tmp_path, replace(OPTIONS, steps=1000), resume=True)).step == 2


def test_an_agent_learns_the_way_home(tmp_path):
    agent = Agent()
    list(learn(agent, tmp_path, replace(OPTIONS, steps=600, learning_rate=1e-2, checkpoint_seconds=1e9)))
    at = torch.cartesian_prod(*[torch.arange(-3.0, 4)] * 2)
    for _ in range(6):
        values = agent.online(at)
        at = torch.where(at.any(dim=1, keepdim=True), at + MOVES[values.argmax(dim=1)], at)
    assert (at == 0).all(dim=1).float().mean() > 0.9


def test_a_step_that_is_refused_leaves_no_trace_in_either_player(tmp_path):
    """The critic has moved before the network's loss is NaN: both are those of the last good step."""
    learner, seen = TwoPlayers(spoilt=3), []
    states = learn(learner, tmp_path, OPTIONS)
    for _ in range(3):
        next(states)
        seen.append(copied(learner))
    with pytest.raises(FloatingPointError, match=r"step 3: expected finite numbers, got a loss of nan.*; resume with a lower"):
        next(states)
    assert same(named_state(learner), seen[-1])
    tensors, about = read_tensors(tmp_path / CHECKPOINT, "augreg checkpoint")
    assert about["step"] == 3
    assert same(tensors, seen[-1])
    assert not same(seen[-1], seen[-2])
    healthy = TwoPlayers()
    assert [state.step for state in learn(healthy, tmp_path, OPTIONS, resume=True)] == [4, 5, 6]


def test_what_a_network_measures_in_passing_goes_on_and_comes_back(tmp_path):
    """Running means of RegNet: of the steps that were taken alone, not of looks nor of a step that is refused."""
    pool, unseen = PairBatch.concatenate([pairs(step, batch=2) for step in range(2)]), pairs(9, batch=2)
    order = pairs_from_memory(pool, 2)

    def learner(spoilt=99):
        def batch_of(step):
            batch = order(step)
            return replace(batch, fixed=batch.fixed * torch.nan) if step == spoilt else batch

        return FlowLearner(seeded(0, lambda: RegNet(2, 1, 0.1)), batch_of, (1.0, 1.0), held_out=unseen)

    options = replace(OPTIONS, look_every=1, checkpoint_seconds=0)
    whole, cut, refused = learner(), learner(), learner(spoilt=3)
    told = [state.epe_held_out for state in learn(whole, tmp_path / "whole", options)]
    states = learn(cut, tmp_path / "cut", options)
    for _ in range(3):
        next(states)
    states.close()
    again = learner()
    assert [state.epe_held_out for state in learn(again, tmp_path / "cut", options, resume=True)] == told[3:]
    assert same(named_state(again), named_state(whole))
    states = learn(refused, tmp_path / "refused", options)
    for _ in range(3):
        next(states)
    before = copied(refused)
    with pytest.raises(FloatingPointError, match="expected finite pairs, got NaN"):
        next(states)
    assert same(named_state(refused), before)
    assert any("running_mean" in name for name in before)


def test_parts_that_are_kept_come_back_with_the_state_of_their_optimiser():
    network = perceptron(2, 3, 1)
    adam = torch.optim.Adam(network.parameters())
    back = kept(network, adam)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    descend(network(torch.ones(4, 2)).mean(), adam, 0.1)
    adam.step()
    assert not same(network.state_dict(), before)
    assert adam.state
    back()
    assert same(network.state_dict(), before)
    assert not adam.state_dict()["state"]


def test_the_example_in_the_documentation_learns(tmp_path):
    text = textwrap.dedent(documentation.split("learners.py`):\n")[1]).replace(
        "print(state.step, state.loss)", "told.append(state)"
    )
    names = {name: getattr(training, name) for name in ("Learner", "TrainingOptions", "descend", "learn")}
    names |= {"torch": torch, "nn": torch.nn, "normalised": normalised, "write_tensors": write_tensors}
    told = []
    names |= {"batch_of": lambda _: shifted(), "folder": tmp_path, "told": told}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        exec(text, names)
    assert told[-1].step == 100
    assert told[-1].loss < 0.5 * told[0].loss


def shifted():
    """Four images, each moved by whole voxels of its own."""
    rng = np.random.default_rng(1)
    images = torch.from_numpy(rng.normal(size=(4, 1, 16, 16))).float()
    shifts = rng.integers(-3, 4, (4, 2))
    moving = torch.stack([torch.roll(image, tuple(shift), (1, 2)) for image, shift in zip(images, shifts.tolist(), strict=True)])
    flow = torch.from_numpy(shifts).float()[:, :, None, None].expand(-1, -1, 16, 16)
    return replace(PairBatch.without_truth(images, moving), flow=flow)


OPTIMISERS = {
    "momentum": lambda parameters: torch.optim.SGD(parameters, momentum=0.9),
    "AMSGrad": lambda parameters: torch.optim.AdamW(parameters, amsgrad=True),
    "RMSprop": lambda parameters: torch.optim.RMSprop(parameters, centered=True, momentum=0.5),
    "Adagrad": torch.optim.Adagrad,
    # not in the order of the module
    "two groups": lambda parameters: torch.optim.Adam([{"params": part} for part in parameters[::-1]]),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_any_optimiser_goes_on_where_it_was(tmp_path, name):
    def players():
        learner = TwoPlayers()
        learner.adam = OPTIMISERS[name](list(learner.network.parameters()))
        learner.optimisers = {"adam": learner.adam, "critic_adam": learner.critics}
        return learner

    whole, first, second = players(), players(), players()
    list(learn(whole, tmp_path / "whole", OPTIONS))
    stopped = learn(first, tmp_path / "parts", replace(OPTIONS, checkpoint_seconds=0))
    for _ in range(3):
        next(stopped)
    stopped.close()
    assert [state.step for state in learn(second, tmp_path / "parts", OPTIONS, resume=True)] == [4, 5, 6]
    assert same(named_state(second), named_state(whole))
    assert any(key.startswith("adam.network.0.weight.") for key in named_state(whole))


def test_state_that_is_no_tensor_is_refused_before_it_is_lost(tmp_path):
    learner = Plain()
    learner.optimisers = {"lbfgs": torch.optim.LBFGS(learner.module.parameters())}
    learner.update = lambda: learner.optimisers["lbfgs"].step(lambda: learner.module["w"].square().sum())
    with pytest.raises(TypeError, match=r"lbfgs\.module\.w\.\w+: expected a tensor, got \w+; keep it as a buffer of a module"):
        next(learn(learner, tmp_path, OPTIONS))
    assert not (tmp_path / CHECKPOINT).exists()


def test_every_number_that_is_known_has_a_curve(tmp_path, monkeypatch):
    curves = {}

    class Writer:
        def __init__(self, folder, purge_step):
            curves["purged"] = purge_step

        def add_scalar(self, name, value, step):
            curves.setdefault(name, []).append((step, value))

        def close(self):
            curves["closed"] = True

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=Writer))
    states = []
    with tensorboard_log(tmp_path) as log:
        for state in learn(Plain(seen=float("nan")), tmp_path, replace(OPTIONS, look_every=2)):
            states.append(state)
            if state.step > 2:
                log(state)
    assert curves["purged"] == 3
    assert curves["closed"]
    assert curves["norm"] == [(step, 5.0) for step in (3, 4, 5, 6)]
    assert curves["learning rate"] == [(state.step, state.learning_rate) for state in states[2:]]
    # it is NaN
    assert "seen" not in curves


class Plain(Learner):
    """One parameter, and what the loop has said to it."""

    def __init__(self, seen=None):
        self.seen, self.module = seen, torch.nn.ParameterDict({"w": torch.nn.Parameter(torch.tensor([1.0, -2.0]))})
        self.sgd = torch.optim.SGD(self.module.parameters())
        self.modules, self.optimisers, self.description, self.rates = {"module": self.module}, {"sgd": self.sgd}, {}, []

    def begin(self, place):
        pass

    def step(self, number, rate):
        assert self.module.training
        self.rates.append(rate)
        norm = descend((self.module["w"] * torch.tensor([3.0, 4.0])).sum(), self.sgd, rate, clip=1.0)
        return {"norm": norm, "number": torch.tensor(float(number))}

    def look(self):
        return {"seen": self.module["w"][0].item() if self.seen is None else self.seen}

    def write(self, path):
        write_tensors(self.module.state_dict(), {}, path, "plain")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_named(value):
    assert Plain().trouble({"loss": 1.0, "norm": -2.0}) is None
    assert f"expected finite numbers, got a norm of {value}; " in Plain().trouble({"loss": 1.0, "norm": value})


def test_steps_have_the_rates_of_the_schedule_and_gradients_no_larger_than_the_clip(tmp_path):
    learner = Plain()
    options = replace(OPTIONS, steps=10, learning_rate=0.1, warm_up=4, halvings=1, look_every=4)
    states = list(learn(learner, tmp_path, options))
    assert learner.rates == [state.learning_rate for state in states] == [options.rate(step) for step in range(10)]
    # the rate grows over four steps, stays, and is half in the last quarter
    assert learner.rates == pytest.approx([0.025, 0.05, 0.075, *[0.1] * 5, 0.05, 0.05])
    # the gradient is (3, 4), of norm 5; the step is its unit vector times the rate
    assert {state.numbers["norm"] for state in states} == {5.0}
    moved = learner.module["w"].detach() - torch.tensor([1.0, -2.0])
    assert moved.tolist() == pytest.approx([-0.6 * sum(learner.rates), -0.8 * sum(learner.rates)])
    # what is looked at now and then is told until the next look
    looks = [state.numbers.get("seen") for state in states]
    assert looks[:3] == [None] * 3
    assert looks[3] == looks[6] != looks[7] == looks[8] != looks[9] == learner.module["w"][0].item()
    assert np.isnan(states[0].loss)
    assert not learner.module.training
