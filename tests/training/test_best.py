"""Runs with patience end where what is held out gets no better, with the best state of all players; bad steps go back as one."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.flows import pairs
from support.learners import OPTIONS, TwoPlayers, copied, same
from training.test_judged import judged
from training.test_training_team import torchrun

from augreg.networks import read_network
from augreg.networks.files import read_tensors
from augreg.training import ALONE, CHECKPOINT, WEIGHTS, Likeness, learn
from augreg.training.checkpoints import named_state

# at looks after 2, 4, ... steps: best after 6, then worse, unknown and equal
MEASURES = [5.0, 3.0, 2.0, 4.0, math.nan, 2.0, 1.0, 0.5]
PATIENT = replace(OPTIONS, steps=16, look_every=2, patience=3, checkpoint_seconds=0)


class Measured(TwoPlayers):
    """Two players who are told how good they are; `overflows` is the step whose update spoils the critic."""

    goal = "held"

    def __init__(self, rank=0, overflows=-1):
        super().__init__()
        self.rank, self.overflows, self.number = rank, overflows, 0

    def step(self, number, rate):
        self.number = number
        return super().step(number, rate)

    def update(self):
        super().update()
        if self.number == self.overflows:
            with torch.no_grad():
                self.critic[0].bias.fill_(torch.nan)

    def look(self):
        assert self.rank == 0
        return {"held": MEASURES[(self.number + 1) // 2 - 1]}


def followed(learner, folder, options, **how):
    """All states of a run, and copies of all that the learner remembers after each step."""
    states, copies = [], {}
    for state in learn(learner, folder, options, **how):
        states.append(state)
        copies[state.step] = copied(learner)
    return states, copies


def test_a_run_ends_without_a_better_look_and_gives_the_best_state_of_both_players(tmp_path):
    learner = Measured()
    states, copies = followed(learner, tmp_path, PATIENT)
    # three looks after that of step 6 are no better
    assert [state.step for state in states] == list(range(1, 13))
    assert [state.best_step for state in states[::2]] == [None, 2, 4, 6, 6, 6]
    found = named_state(learner)
    assert {"critic.0.weight", "critic_adam.critic.0.weight.exp_avg_sq", "adam.network.0.weight.exp_avg"} <= found.keys()
    assert same(found, copies[6])
    assert not same(copies[6], copies[12])
    weights, _ = read_tensors(tmp_path / WEIGHTS, "points")
    assert all(torch.equal(weights[name], copies[6][f"network.{name}"]) for name in weights)
    # steps that run out end with the best state too
    short = Measured()
    _, copies = followed(short, tmp_path / "short", replace(PATIENT, steps=9))
    assert same(named_state(short), copies[6])
    # without patience it is the last one, as it was
    whole = Measured()
    _, copies = followed(whole, tmp_path / "whole", replace(PATIENT, patience=None))
    assert max(copies) == 16
    assert same(named_state(whole), copies[16])


@pytest.mark.parametrize("taken", [1, 4, 6, 7, 11])
def test_a_run_with_patience_that_was_cut_off_ends_as_one_that_was_not(tmp_path, taken):
    whole, cut, again = Measured(), Measured(), Measured()
    states, _ = followed(whole, tmp_path / "whole", PATIENT)
    begun = learn(cut, tmp_path / "cut", PATIENT)
    for _ in range(taken):
        next(begun)
    begun.close()
    rest, _ = followed(again, tmp_path / "cut", PATIENT, resume=True)
    assert [(state.step, state.best_step) for state in rest] == [(state.step, state.best_step) for state in states[taken:]]
    assert same(named_state(again), named_state(whole))
    files = [(tmp_path / name / WEIGHTS).read_bytes() for name in ("whole", "cut")]
    assert files[0] == files[1]


def test_a_run_that_has_ended_stays_so_and_goes_on_with_more_patience_as_if_it_had_not(tmp_path):
    ended = Measured()
    followed(ended, tmp_path / "run", PATIENT)
    again = Measured()
    assert followed(again, tmp_path / "run", PATIENT, resume=True)[0] == []
    assert same(named_state(again), named_state(ended))
    more, patient = Measured(), replace(PATIENT, patience=4)
    rest, _ = followed(more, tmp_path / "run", patient, resume=True)
    assert [state.step for state in rest] == [13, 14, 15, 16]
    whole = Measured()
    followed(whole, tmp_path / "whole", patient)
    assert same(named_state(more), named_state(whole))
    assert not same(named_state(more), named_state(ended))


def test_a_network_and_its_critic_end_early_together(tmp_path):
    """What is held out is another problem: it is soon worse than at first."""
    unseen = pairs(50)
    unseen = replace(unseen, flow=-unseen.flow)
    options = replace(PATIENT, steps=40, look_every=1, patience=2, learning_rate=3e-3)
    learner = judged(held_out=unseen)
    states, copies = followed(learner, tmp_path, options)
    assert len(states) < 40
    errors = [state.epe_held_out for state in states]
    best = states[-1].best_step
    assert best == len(states) - 2
    assert errors[best - 1] == min(errors)
    assert same(named_state(learner), copies[best])
    weights = read_network(tmp_path / WEIGHTS).network.state_dict()
    assert all(torch.equal(tensor, copies[best][f"network.{name}"]) for name, tensor in weights.items())


def test_without_a_truth_what_is_held_out_is_judged_by_the_objective(tmp_path):
    unseen = pairs(50)
    unseen = replace(unseen, flow=torch.full_like(unseen.flow, torch.nan))
    options = replace(PATIENT, steps=4, look_every=2, patience=9)
    learner = judged(held_out=unseen, objective=Likeness())
    states, _ = followed(learner, tmp_path, options)
    ready = {side: learner.network.prepare(getattr(unseen, side)) for side in ("fixed", "moving")}
    with torch.no_grad():
        known = float(Likeness()(learner.network(**ready), replace(unseen, **ready)))
    best = min(state.numbers["objective_held_out"] for state in states[1:])
    assert best == pytest.approx(known, rel=1e-5)


def test_a_state_with_a_spoilt_critic_is_not_the_best_however_good_the_network_looks(tmp_path):
    """The step before the best look, that after 6, has spoilt the critic: the best state is that of the look before."""
    states = learn(Measured(overflows=5), tmp_path, replace(PATIENT, checkpoint_seconds=1e9))
    assert [next(states).best_step for _ in range(6)] == [None, 2, 2, 4, 4, 4]
    with pytest.raises(FloatingPointError, match=r"step 6: .*; the checkpoint has the 4 steps that were good"):
        next(states)
    tensors, about = read_tensors(tmp_path / CHECKPOINT, "augreg checkpoint")
    assert (about["step"], about["best_step"], about["best_measure"]) == (4, 4, 3.0)
    assert any(name.startswith("best:critic_adam.") for name in tensors)


@pytest.mark.parametrize(("seconds", "taken", "good"), [(0.0, 4, 4), (1e9, 5, 1)])
def test_a_step_that_has_spoilt_one_player_is_taken_back_for_both(tmp_path, seconds, taken, good):
    """The numbers of step 4 are finite and its update is not: the state before it is the last good one that is on disk."""
    learner, copies = Measured(overflows=4), {}
    states = learn(learner, tmp_path, replace(PATIENT, checkpoint_seconds=seconds, patience=None))
    for _ in range(taken):
        step = next(states).step
        copies[step] = copied(learner)
    said = rf"step {taken}: expected finite numbers.*; the checkpoint has the {good} steps that were good"
    with pytest.raises(FloatingPointError, match=said):
        next(states)
    assert same(named_state(learner), copies[good])
    tensors, about = read_tensors(tmp_path / CHECKPOINT, "augreg checkpoint")
    assert about["step"] == good
    assert same(tensors, copies[good])
    healthy = Measured()
    assert next(iter(learn(healthy, tmp_path, PATIENT, resume=True))).step == good + 1


def test_a_last_step_that_has_spoilt_a_player_gives_no_weights(tmp_path):
    with pytest.raises(FloatingPointError, match=r"step 15: expected finite numbers, got critic.0.bias that is not"):
        list(learn(Measured(overflows=15), tmp_path, replace(PATIENT, patience=None)))
    assert not (tmp_path / WEIGHTS).exists()


SCRIPT = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from training.test_best import *
from augreg.training import joined
with joined("cpu") as team:
    learner = Measured(team.rank)
    steps = [state.step for state in learn(learner, Path(sys.argv[2], "two"), PATIENT, team=team)]
    sums = {name: tensor.double().sum().item() for name, tensor in named_state(learner).items()}
    Path(sys.argv[2], f"{team.rank}.json").write_text(json.dumps([steps, sums]))
"""


def test_a_team_ends_as_one_though_the_first_alone_looks(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    run = torchrun(tmp_path, 2, "script.py", str(Path(__file__).parents[1]), str(tmp_path))
    assert run.returncode == 0, run.stderr
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(2))
    assert first == second
    assert first[0] == list(range(1, 13))
    alone = Measured()
    _, copies = followed(alone, tmp_path / "one", PATIENT, team=ALONE)
    sums = {name: tensor.double().sum().item() for name, tensor in copies[6].items()}
    assert first[1] == pytest.approx(sums, rel=1e-3, abs=1e-5)


def test_patience_needs_something_to_look_at(tmp_path):
    with pytest.raises(ValueError, match="patience: expected pairs that are held out, by which"):
        list(learn(judged(), tmp_path, PATIENT))
