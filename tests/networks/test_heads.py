"""Networks made of others: velocities, both directions, affine maps, cascades; and their files."""

import numpy as np
import pytest
import torch
from support.flows import SHAPE, pairs
from torch import distributed, nn

from augreg import Affine, Composition, DisplacementField, Exponential, Grid, Image, read_transform, write_transform
from augreg.networks import (
    AffineFlow,
    AffineMap,
    Antisymmetric,
    Cascade,
    Composed,
    Displacement,
    FlowNetS,
    RefinedFlow,
    StackedEncoder,
    SymmetricFlow,
    UNet,
    Velocity,
    VelocityFlow,
    network_of,
    read_network,
    write_network,
)
from augreg.networks.architectures.encoder import Encoder
from augreg.networks.files import write_tensors
from augreg.training import FlowRegistration, Machine, Smooth, TrainingOptions, pairs_error, supervised, train


def seeded(make, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return stirred(make())


def stirred(network):
    """Heads that see something: those of a new network predict next to nothing."""
    for module in network.modules():
        if hasattr(module, "heads"):
            for head in module.heads:
                nn.init.normal_(head.weight, std=0.02)
        if isinstance(module, AffineFlow):
            nn.init.normal_(module.numbers.weight, std=0.02)
    return network.eval()


def flownet(ndim=2):
    return FlowNetS(ndim, 1, 0.05)


def affine(ndim=2):
    return AffineFlow(StackedEncoder(ndim, 1, 0.05))


class Stub(Encoder):
    """An encoder of two images that says what it is told to."""

    def __init__(self):
        super().__init__(2, 1, 1.0)
        self.widths, self.says = (5,), None

    def forward(self, fixed, moving):
        return [self.says]


def test_with_a_gain_the_size_of_features_does_not_matter_and_the_map_grows_with_it():
    encoder, pair = Stub(), images(30, 20, count=1)
    features = torch.randn(1, 5, 6, 6, generator=torch.Generator().manual_seed(0))
    found = {}
    for gain in (None, 0.01, 0.02):
        network = seeded(lambda gain=gain: AffineFlow(encoder, gain))
        for times in (1.0, 40.0):
            encoder.says = times * features + times
            (phi,) = network(*pair)
            found[gain, times] = torch.cat([(phi.matrix - torch.eye(2)).flatten(), phi.translation.flatten()])
    torch.testing.assert_close(found[0.01, 40.0], found[0.01, 1.0], rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found[0.02, 1.0], 2 * found[0.01, 1.0])
    assert found[None, 40.0].norm() > 10 * found[None, 1.0].norm() > 0
    with pytest.raises(ValueError, match="AffineFlow: expected a gain above 0, got 0"):
        AffineFlow(encoder, 0)


MAKERS = {
    "velocity": lambda: VelocityFlow(flownet(), 5),
    "antisymmetric": lambda: Antisymmetric(VelocityFlow(flownet())),
    "affine": affine,
    "unet": lambda: UNet(2, 1, 0.25, ((2, 2), (3, 1)), 0),
    "cascade": lambda: Cascade([affine(), VelocityFlow(flownet())]),
    "nested": lambda: Cascade([Cascade([affine(), flownet()]), Antisymmetric(VelocityFlow(flownet()))]),
}


def flat():
    """A small network of volumes of few slices: displacements on cells of 2 x 2 x 1 voxels and more."""
    return UNet(3, 1, 0.25, ((2, 2, 1), (2, 2, 1), (2, 2, 2)))


def images(*shape, count=2):
    smooth = nn.functional.avg_pool3d if len(shape) == 3 else nn.functional.avg_pool2d
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return [smooth(torch.randn(count, 1, *shape), 3, 1, 1) for _ in range(2)]


def test_exchanged_images_give_the_inverse_exactly():
    network, pair = seeded(MAKERS["antisymmetric"]), images(61, 50)
    with torch.no_grad():
        there, back = network.predict(*pair), network.predict(*pair[::-1])
        assert there.values.abs().max() > 0.01
        assert torch.equal(there.values, -back.values)
        assert torch.equal(there.inverse().flow(), back.flow())
        plain = network.network
        assert not torch.equal(plain.predict(*pair).values, -plain.predict(*pair[::-1]).values)
        # what is asked in both directions afterwards is the same
        symmetric = SymmetricFlow(plain).predict(*pair)
        torch.testing.assert_close(symmetric.values, there.values, atol=1e-5, rtol=0)


def test_affine_maps_of_both_directions_have_an_affine_mean():
    network, pair = seeded(affine), images(61, 50)
    with torch.no_grad():
        found, there, back = SymmetricFlow(network).predict(*pair), network.predict(*pair), network.predict(*pair[::-1])
        assert isinstance(found, AffineMap)
        torch.testing.assert_close(found.flow(), (there.flow() + back.inverse().flow()) / 2, atol=1e-4, rtol=0)
        assert (found.flow() - there.flow()).abs().max() > 0.1


def test_a_new_affine_network_predicts_the_identity_and_learns_where_things_lie():
    network = affine()
    still = network.predict(*images(61, 50))
    assert torch.equal(still.flow(), torch.zeros(2, 2, 61, 50))
    # one half of the image changes: other numbers than for the other half
    network, (fixed, moving) = seeded(affine), images(64, 64)
    found = []
    for side in (slice(0, 32), slice(32, 64)):
        changed = moving.clone()
        changed[:, :, side] += 1
        found.append(network.predict(fixed, changed).matrix)
    assert (found[0] - found[1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("shape", "strides", "finest", "cells"),
    [
        ((40, 36, 7), ((2, 2, 1), (2, 2, 1), (2, 2, 2)), 1, [(2, 2, 1), (4, 4, 1), (8, 8, 2)]),
        ((61, 50), ((2, 2), (3, 1)), 0, [(1, 1), (2, 2), (6, 2)]),
        ((9, 14), None, 2, [(4, 4), (8, 8), (16, 16)]),
    ],
)
def test_a_u_net_has_cells_of_its_own_along_every_axis(shape, strides, finest, cells):
    network, pair = seeded(lambda: UNet(len(shape), 1, 0.25, strides, finest)), images(*shape)
    maps = network(*pair)
    assert [phi.cells for phi in maps] == cells
    assert maps[0].flow().shape == (2, len(shape), *shape)


@pytest.mark.parametrize(
    ("strides", "finest"),
    [(((2, 2),), 0), (((2, 2, 1), (1, 1, 1)), 0), (((2, 2, 4),), 0), (((2, 2, 2),), 2), (((2, 2, 2),) * 6, 0)],
)
def test_strides_that_make_no_u_net_are_refused(strides, finest):
    with pytest.raises(ValueError, match="UNet: expected") as caught:
        UNet(3, 1, 0.25, strides, finest)
    assert "\n" not in str(caught.value)


def test_a_u_net_sees_no_other_things_elsewhere():
    """Images moved by whole coarsest cells have their maps moved; 8 x 8 x 2 voxels here, not the slices by 8."""
    network = seeded(flat)
    pair = [torch.zeros(1, 1, 72, 64, 22) for _ in range(2)]
    for canvas, image in zip(pair, images(16, 16, 6, count=1), strict=True):
        canvas[:, :, 24:40, 24:40, 8:14] = image
    moved = [canvas.roll((8, -8, 2), (2, 3, 4)) for canvas in pair]
    with torch.no_grad():
        here, there = (network.predict(*some).flow() for some in (pair, moved))
        aside = network.predict(*(canvas.roll(1, 4) for canvas in pair)).flow()
    middle = (..., slice(16, 56), slice(16, 48), slice(6, 18))
    torch.testing.assert_close(there[middle], here.roll((8, -8, 2), (2, 3, 4))[middle], atol=1e-5, rtol=0)
    assert here[middle].abs().max() > 0.05
    assert (aside[middle] - here.roll(1, 4)[middle]).abs().max() > 0.01 * here.abs().max()


def test_a_cascade_is_its_networks_one_after_the_other_on_the_original_image():
    first, second, third = seeded(affine), seeded(flownet, 1), seeded(lambda: VelocityFlow(flownet()), 2)
    fixed, moving = images(61, 50)
    with torch.no_grad():
        one = first.predict(fixed, moving)
        two = one @ second.predict(fixed, one.warp(moving))
        three = two @ third.predict(fixed, two.warp(moving))
        found = Cascade([first, second, third])(fixed, moving)
        assert torch.equal(found[0].flow(), three.flow())
        assert [type(part).__name__ for part in found[0].parts] == ["AffineMap", "Displacement", "Velocity"]
        assert len(found) == 5
        # the sum of the displacements is another map
        added = one.flow() + two.parts[1].flow() + three.parts[2].flow()
        assert (added - three.flow()).abs().max() > 0.1
        # and so is what sees the warped image warped again
        again = two @ third.predict(fixed, two.parts[1].warp(one.warp(moving)))
        assert not torch.equal(again.flow(), three.flow())
    assert Cascade([first, second]).unit == second.unit
    with pytest.raises(ValueError, match="Cascade: expected two or more networks"):
        Cascade([first, affine(3)])


@pytest.mark.parametrize("name", MAKERS)
def test_networks_of_networks_are_described_and_go_through_files(tmp_path, name):
    network, pair = seeded(MAKERS[name]), images(40, 36)
    write_network(network, (1.5, 2.0), tmp_path / "w.safetensors")
    back = read_network(tmp_path / "w.safetensors")
    assert back.network.description == network.description == network_of(network.description).description
    assert type(back.network) is type(network)
    assert torch.equal(back.network.predict(*pair).flow(), network.predict(*pair).flow())
    # a registration with it, and what it is in the world
    grid = Grid((40, 36), (1.5, 2.0), (4.0, -9.0))
    transform = FlowRegistration.from_file(tmp_path / "w.safetensors")(*(Image(one[0, 0].numpy(), grid) for one in pair))
    kinds = {"velocity": Exponential, "antisymmetric": Exponential, "affine": Affine, "unet": DisplacementField}
    assert isinstance(transform, kinds.get(name, Composition))
    write_transform(transform, tmp_path / "t.tfm", grid)
    nodes = grid.points().reshape(-1, 2)
    assert np.abs(read_transform(tmp_path / "t.tfm")(nodes) - transform(nodes)).max() < 0.05
    if name not in ("nested", "unet"):
        assert np.abs(transform.inverse()(transform(nodes)) - nodes).max() < 0.05


@pytest.mark.parametrize(
    "lie",
    [
        {"parts": []},
        {"parts": [{"architecture": "Nothing"}] * 2},
        {"parts": [{"architecture": "StackedEncoder", "ndim": 2, "channels": 1, "width": 0.05}] * 2},
        {"parts": 3},
        {"architecture": "VelocityFlow"},
        {"architecture": "StackedEncoder", "ndim": 2, "channels": 1, "width": 0.05, "parts": []},
    ],
)
def test_descriptions_that_do_not_fit_are_refused(tmp_path, lie):
    network = MAKERS["cascade"]()
    about = {**network.description, "spacing": [1.0, 1.0], **lie}
    write_tensors(network.state_dict(), about, tmp_path / "w.safetensors", "augreg network")
    with pytest.raises(ValueError, match=r"w\.safetensors") as caught:
        read_network(tmp_path / "w.safetensors")
    assert "\n" not in str(caught.value)


def test_a_description_without_end_is_refused():
    about = {"architecture": "Antisymmetric"}
    about["parts"] = [about]
    with pytest.raises(ValueError, match="deep"):
        network_of(about)


def test_flat_volumes_are_registered_refined_and_learned_on_their_own_cells():
    network, (fixed, moving) = seeded(flat), images(40, 36, 7, count=1)
    grid = Grid((40, 36, 7), (1.2, 1.2, 8.0), (3.0, 4.0, -5.0))
    pair = [Image(one[0, 0].numpy(), grid) for one in (fixed, moving)]
    assert isinstance(FlowRegistration(network, grid.spacing)(*pair), DisplacementField)
    exponential = FlowRegistration(VelocityFlow(network), grid.spacing)(*pair)
    assert isinstance(exponential, Exponential)
    assert exponential.velocity.grid.spacing == (2.4, 2.4, 8.0)
    for kind, refined in (
        (Displacement, RefinedFlow(network, 3, cells=(4, 4, 1))),
        (Velocity, RefinedFlow(VelocityFlow(network), 3)),
    ):
        phi = refined.predict(fixed, moving)
        assert isinstance(phi, kind)
        assert refined.objective(fixed, moving, phi) < refined.objective(fixed, moving, network.predict(fixed, moving))


def learned(network, folder, *, objective=supervised, steps=40, size=4.0):
    """Error on the pairs learned from, relative to that of no registration."""
    batch = pairs(0, batch=2, size=size)
    options = TrainingOptions(steps=steps, learning_rate=2e-3, machine=Machine(device="cpu", threads=1))
    states = list(train(network, lambda _: batch, (1.0, 1.0), folder, options, objective=objective))
    assert read_network(folder / "weights.safetensors").network.description == network.description
    return pairs_error(network, batch) / pairs_error(None, batch), states[0].loss, states[-1].loss


@pytest.mark.parametrize("name", ["velocity", "affine", "cascade", "antisymmetric", "unet"])
def test_heads_learn(tmp_path, name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = MAKERS[name]()
    error, before, after = learned(network, tmp_path, objective=Smooth(supervised, 1e-3))
    assert error < 0.85
    assert after < 0.9 * before


def test_every_part_of_a_cascade_is_learned():
    network = seeded(MAKERS["nested"]).train()
    batch = pairs(0, batch=2)
    supervised(network(batch.fixed, batch.moving), batch).backward()
    still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
    assert network.predict(batch.fixed, batch.moving).shape == SHAPE
    assert isinstance(network.predict(batch.fixed, batch.moving), Composed)


@pytest.mark.parametrize("unused", [False, True])
def test_processes_find_the_gradients_of_maps(tmp_path, unused):
    """What looks for tensors in the answer of a network finds those in maps of maps."""
    network, batch = seeded(MAKERS["cascade"]).train(), pairs(0, batch=2)
    supervised(network(batch.fixed, batch.moving), batch).backward()
    wanted = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()
    distributed.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        together = nn.parallel.DistributedDataParallel(network, find_unused_parameters=unused)
        supervised(together(batch.fixed, batch.moving), batch).backward()
    finally:
        distributed.destroy_process_group()
    for parameter, gradient in zip(network.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
