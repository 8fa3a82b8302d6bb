"""A checkpoint is of one learner alone, and names what it holds."""

from dataclasses import replace

import pytest
import torch
from support.flows import pairs
from support.learners import OPTIONS, Agent, Memory, TwoPlayers, copied, flows, same

from augreg.networks.files import read_tensors, write_tensors
from augreg.training import CHECKPOINT, learn, seeded_network, train
from augreg.training.checkpoints import named_state, restore


def test_a_checkpoint_names_what_it_holds(tmp_path):
    list(learn(flows(), tmp_path / "flows", replace(OPTIONS, steps=1)))
    list(learn(Agent(), tmp_path / "agent", replace(OPTIONS, steps=1)))
    tensors, about = read_tensors(tmp_path / "flows" / CHECKPOINT, "augreg checkpoint")
    assert about["step"] == 1
    assert about["learner"] == "FlowLearner"
    names = seeded_network(0, 2, 0.03).state_dict().keys()
    kinds = ("step", "exp_avg", "exp_avg_sq")
    assert tensors.keys() == {f"network.{n}" for n in names} | {f"adam.network.{n}.{kind}" for n in names for kind in kinds}
    tensors, _ = read_tensors(tmp_path / "agent" / CHECKPOINT, "augreg checkpoint")
    assert {"memory.rows", "memory.steps", "target.0.weight", "online.0.weight", "adam.online.0.weight.exp_avg"} <= tensors.keys()
    assert tensors["memory.steps"] == 1


def test_a_checkpoint_of_another_learner_is_refused_in_one_line(tmp_path):
    list(learn(TwoPlayers(), tmp_path, replace(OPTIONS, steps=1)))
    with pytest.raises(ValueError, match=r"expected a checkpoint of this learner, learner Agent, .* with learner TwoPlayers"):
        next(learn(Agent(), tmp_path, OPTIONS, resume=True))
    other = TwoPlayers()
    other.description = {"widths": [2, 9]}
    with pytest.raises(ValueError, match=r"a checkpoint of this learner, widths \[2, 9\], got one with widths \[2, 8\]$"):
        next(learn(other, tmp_path, OPTIONS, resume=True))


def without(state, name):
    return {key: tensor for key, tensor in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: without(s, "critic.0.bias"), r"expected critic\.0\.bias torch\.float32 \(8,\), got none \(1 tensors differ\)"),
        (lambda s: s | {"critic.9.bias": s["critic.0.bias"]}, r"expected critic\.9\.bias absent, got torch\.float32 \(8,\)"),
        (lambda s: s | {"critic.0.bias": s["critic.0.bias"][:5]}, r"bias torch\.float32 \(8,\), got torch\.float32 \(5,\)"),
        (lambda s: s | {"network.0.bias": s["network.0.bias"].double()}, r"float32 \(8,\), got torch\.float64 \(8,\)"),
        (
            lambda s: without(s, "adam.network.0.bias.exp_avg"),
            r"adam\.network\.0\.bias with exp_avg, .*got exp_avg_sq, step",
        ),
        (
            lambda s: s | {"adam.network.0.bias.exp_avg": s["network.0.weight"]},
            r"expected adam\.network\.0\.bias\.exp_avg of shape \(8,\), got \(8, 2\)",
        ),
        (
            lambda s: s | {"sgd.network.0.bias.momentum": s["network.0.bias"]},
            r"this learner alone, got also sgd\.net",
        ),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(tmp_path, change, said):
    learner, other = TwoPlayers(), TwoPlayers()
    list(learn(other, tmp_path, replace(OPTIONS, steps=2)))
    before = copied(learner)
    with pytest.raises(ValueError, match=said) as caught:
        restore(learner, change(named_state(other)))
    assert "\n" not in str(caught.value)
    assert same(named_state(learner), before)
    restore(learner, named_state(other))
    assert same(named_state(learner), named_state(other))


def test_a_checkpoint_of_before_is_refused(tmp_path):
    write_tensors({"weight.a": torch.ones(2)}, {"step": 3, "ndim": 2}, tmp_path / CHECKPOINT, "augreg checkpoint")
    with pytest.raises(ValueError, match="checkpoint with named states, got one of an older augreg; begin another run"):
        list(train(seeded_network(0, 2, 0.03), pairs, (1.0, 1.0), tmp_path, OPTIONS, resume=True))


def test_names_are_of_one_part_and_parameters_of_a_module():
    learner = TwoPlayers()
    learner.optimisers = {"network": learner.adam}
    with pytest.raises(ValueError, match="expected names of their own, without dots, got network, critic, network"):
        named_state(learner)
    agent = Agent()
    agent.modules = {"target": agent.target, "memory": Memory()}
    with pytest.raises(ValueError, match=r"adam: expected parameters of the learner's modules, got one of shape \(16, 2\)"):
        named_state(agent)
