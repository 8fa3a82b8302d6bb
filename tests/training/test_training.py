from dataclasses import replace

import numpy as np
import pytest
import torch
from support.flows import pairs

from augreg.networks import (
    Displacement,
    FlowNetC,
    FlowNetS,
    diffusion,
    end_point_error,
    local_correlation,
    mean_squared_difference,
    normalised,
    read_network,
)
from augreg.networks.files import read_tensors
from augreg.training import (
    CHECKPOINT,
    WEIGHTS,
    Alike,
    Likeness,
    Machine,
    Smooth,
    TrainingOptions,
    pairs_error,
    seeded_network,
    supervised,
    train,
)

# sums of several threads differ in the last bit, and compiled loops elsewhere change their number
CPU = Machine(device="cpu", threads=1)
OPTIONS = TrainingOptions(steps=6, learning_rate=1e-3, machine=CPU)


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
        phi = network.predict(network.prepare(batch.fixed), network.prepare(batch.moving))
        return end_point_error(phi.flow(), batch.flow, batch.mask).item() / last.epe_without


def test_a_network_learns_its_pairs_and_fails_with_the_flow_negated(tmp_path):
    assert errors(tmp_path) < 0.4
    assert errors(tmp_path, flip=-1.0) > 1.2


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
    for network, difference in (
        (FlowNetS(2, 1, 0.05), "width 0.05, got one with width 0.03"),
        (FlowNetC(2, 1, 0.03), "FlowNetS"),
    ):
        with pytest.raises(ValueError, match=f"expected a checkpoint of this learner, .*{difference}"):
            list(train(network, pairs, (1.0, 1.0), tmp_path, OPTIONS, resume=True))


@pytest.mark.parametrize(
    ("where", "said"),
    [("fixed", "finite pairs, got NaN or infinity in number 2"), ("flow", "finite pairs, got NaN or infinity in number 2")],
)
def test_pairs_that_are_not_finite_are_named(tmp_path, where, said):
    def spoilt(step):
        batch = pairs(step)
        getattr(batch, where)[2, 0, 5, 5] = float("nan")
        return batch

    with pytest.raises(FloatingPointError, match=said) as caught:
        list(train(seeded_network(0, 2, 0.03), spoilt, (1.0, 1.0), tmp_path, OPTIONS))
    assert "\n" not in str(caught.value)


def test_a_run_that_diverges_keeps_the_weights_of_its_last_good_step(tmp_path):
    """The loss is finite, its gradient is not: the step must not be taken."""

    def steep(flows, batch):
        loss = supervised(flows, batch)
        # the derivative of the root at 0 is infinite
        return loss if len(seen) < 3 else loss + torch.sqrt(loss - loss.detach())

    network = seeded_network(0, 2, 0.03)
    seen = []
    states = train(network, pairs, (1.0, 1.0), tmp_path, OPTIONS, objective=steep)
    for _ in range(3):
        next(states)
        seen.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
    with pytest.raises(FloatingPointError, match="lower learning rate"):
        next(states)
    tensors, about = read_tensors(tmp_path / CHECKPOINT, "augreg checkpoint")
    assert about["step"] == len(seen) == 3
    assert all(torch.equal(tensors[f"network.{name}"], tensor) for name, tensor in seen[-1].items())


def test_held_out_pairs_are_looked_at_now_and_then_and_change_nothing(tmp_path):
    unseen = pairs(99)
    options = replace(OPTIONS, steps=5, look_every=2)
    states = finish(tmp_path / "looked", options, held_out=unseen)
    looks = [state.epe_held_out for state in states]
    assert np.isnan(looks[0])
    assert looks[1] == looks[2] != looks[3] != looks[4]
    assert looks[4] == pytest.approx(pairs_error(read_network(tmp_path / "looked" / WEIGHTS).network, unseen), rel=1e-5)
    finish(tmp_path / "plain", options)
    ours, theirs = weights(tmp_path / "looked"), weights(tmp_path / "plain")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("machine", [replace(CPU, precision="bfloat16"), replace(CPU, channels_last=True)])
def test_precision_and_layout_change_little(tmp_path, machine):
    plain, other = finish(tmp_path / "plain"), finish(tmp_path / "other", replace(OPTIONS, machine=machine))
    for ours, theirs in zip(other, plain, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=0.02)
    ours, theirs = weights(tmp_path / "other"), weights(tmp_path / "plain")
    assert not all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_machine_that_is_not_here_is_refused(tmp_path):
    for name in ("abacus", "cuda:7"):
        with pytest.raises(ValueError, match="expected cpu, cuda, mps or auto, and one that is here"):
            finish(tmp_path, replace(OPTIONS, machine=Machine(name)))
    with pytest.raises(ValueError, match="precision: expected one of auto, float32, bfloat16"):
        Machine(precision="half")


def error_after(folder, objective):
    """End-point error after a network has learned from pairs without their truth, relative to that of no registration."""
    batch = pairs(0, batch=2, size=3.0)
    unknown = replace(batch, flow=torch.full_like(batch.flow, torch.nan))
    network = seeded_network(1, 2, 0.15)
    options = TrainingOptions(steps=60, learning_rate=2e-3, machine=CPU)
    *_, last = train(network, lambda _: unknown, (1.0, 1.0), folder, options, objective=objective)
    assert np.isnan(last.epe)
    with torch.no_grad():
        return pairs_error(network, batch) / pairs_error(None, batch)


def test_likeness_is_enough_to_learn_from(tmp_path):
    for similarity in (local_correlation, mean_squared_difference):
        assert error_after(tmp_path, Likeness(similarity)) < 0.85
    assert error_after(tmp_path, lambda flows, batch: -Likeness()(flows, batch)) > 1


def test_likeness_is_added_to_an_objective():
    batch = pairs(0)
    images = replace(batch, fixed=normalised(batch.fixed), moving=normalised(batch.moving))
    added = []
    for flow in (batch.flow, 0 * batch.flow):
        cells = [torch.nn.functional.avg_pool2d(flow, 2**k, ceil_mode=True) / 20 for k in range(2, 7)]
        maps = [Displacement(u, tuple(flow.shape[2:]), (2**k, 2**k), 20.0) for k, u in enumerate(cells, 2)]
        added.append((Alike(supervised, 3.0)(maps, images) - supervised(maps, images)).item())
        moved = maps[0].warp(images.moving)
        assert added[-1] == pytest.approx(3 * local_correlation(images.fixed, moved).item(), rel=1e-4)
    assert 0 < added[0] < 0.5 * added[1]


def test_smoothness_is_added_to_an_objective():
    batch, network = pairs(0), seeded_network(0, 2, 0.05)
    maps = [replace(phi, values=100 * phi.values) for phi in network(normalised(batch.fixed), normalised(batch.moving))]
    rough = Smooth(supervised, 3.0)(maps, batch) - supervised(maps, batch)
    assert rough.item() == pytest.approx(3 * diffusion(20 * maps[0].values, 4.0).item(), rel=1e-3)
