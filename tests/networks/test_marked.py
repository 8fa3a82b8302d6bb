"""Networks that mark structures in each image and register what they have marked."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from augreg import Grid, Image
from augreg.networks import (
    Cascade,
    Committee,
    FlowRegistration,
    Marked,
    MarkedMaps,
    Marker,
    Moments,
    UNet,
    VelocityFlow,
    network_of,
    read_network,
    seeded,
    write_network,
)
from augreg.synthesis import PairBatch
from augreg.training import LabelOverlap, Machine, Outlined, TrainingOptions, train


def said(message, kind=ValueError):
    return pytest.raises(kind, match=re.escape(message))


def blobs(shape, centers, sides):
    """Smooth blobs of probability, one for each center and sides, (B, 1, *shape)."""
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    found = [np.exp(-0.5 * np.square((places - center) / side).sum(axis=-1)) for center, side in zip(centers, sides, strict=True)]
    return torch.from_numpy(np.stack(found)[:, None].astype(np.float32))


def marked(ndim=2, marks=2, markers=1, seed=0):
    def make():
        found = [Marker(ndim, 1, marks, 0.25, [(2,) * ndim] * 2) for _ in range(markers)]
        inner = Cascade([Moments(ndim, 1 + marks, marks), VelocityFlow(UNet(ndim, 1 + marks, 0.25, [(2,) * ndim] * 2))])
        return Marked(found, inner)

    return seeded(seed, make).eval()


def images(*shape, count=2):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return [nn.functional.avg_pool2d(torch.randn(count, 1, *shape), 5, 1, 2) for _ in range(2)]


@pytest.mark.parametrize("shape", [(40, 33), (26, 22, 31)])
def test_moments_find_the_scales_and_the_shift_between_two_blobs(shape):
    D = len(shape)
    middle = (np.array(shape) - 1) / 2
    scales, shift = np.linspace(0.8, 1.3, D), np.linspace(-2, 1, D)
    first, sides = middle + np.linspace(1, -1, D), np.linspace(2, 3, D)
    fixed = blobs(shape, [first, middle], [sides, sides])
    moving = blobs(shape, [middle + shift, middle], [scales * sides, sides])
    other = torch.rand_like(fixed)
    (phi,) = Moments(D)(torch.cat([other, fixed], dim=1), torch.cat([other, moving], dim=1))
    torch.testing.assert_close(phi.matrix[0].diag(), torch.tensor(scales, dtype=torch.float32), atol=5e-3, rtol=0)
    there = phi.at(torch.tensor(first, dtype=torch.float32).expand(2, 1, D))[0, 0]
    torch.testing.assert_close(there, torch.tensor(middle + shift, dtype=torch.float32), atol=1e-2, rtol=0)
    torch.testing.assert_close(phi.warp(moving)[0], fixed[0], atol=0.04, rtol=0)
    # what is the same on both sides stays where it is
    assert phi[1:].flow().abs().max() < 1e-3


def test_images_without_marks_stay_where_they_are_and_scales_are_bounded():
    empty = torch.zeros(1, 2, 20, 30)
    full = torch.cat([empty[:, :1], blobs((20, 30), [(4, 5)], [(0.3, 0.3)])], dim=1)
    assert Moments(2)(empty, empty)[0].flow().abs().max() < 1e-4
    (phi,) = Moments(2)(full, empty)
    assert torch.equal(phi.matrix[0].diag(), torch.tensor([2.0, 2.0]))


def test_a_shifted_image_has_shifted_marks_and_the_map_follows_without_training():
    marker = seeded(1, lambda: Marker(2, 1, 1, 0.5, [(2, 2), (2, 2)]))
    nn.init.constant_(marker.head.bias, 0.0)
    network = Marked([marker], Moments(2)).eval()
    fixed = 40 * blobs((48, 64), [(24, 30)], [(3, 4)])
    with torch.no_grad():
        maps = network(fixed, fixed.roll((-4, 8), (2, 3)))
        # the marks of what is nothing but air are the same everywhere
        air = marker(torch.zeros_like(fixed))[0, 0, 24, 32]
        spots = [(part - air).abs() for part in (maps.fixed, maps.moving)]
    torch.testing.assert_close(spots[0].roll((-4, 8), (2, 3))[..., 8:-8, 12:-12], spots[1][..., 8:-8, 12:-12], atol=1e-5, rtol=0)
    (phi,) = Moments(2)(*(torch.cat([fixed, spot], dim=1) for spot in spots))
    torch.testing.assert_close(phi.translation, torch.tensor([[-4.0, 8.0]]), atol=0.3, rtol=0)


def test_markers_give_probabilities_at_every_voxel_of_images_of_any_size():
    for ndim, strides, finest in ((2, None, 0), (2, ((2, 3), (2, 1)), 1), (3, ((2, 2, 1), (2, 2, 2)), 1)):
        marker = seeded(0, lambda d=ndim, s=strides, f=finest: Marker(d, 2, 3, 0.25, s, f))
        shape = (19, 26, 5)[:ndim]
        marks = marker(torch.randn(2, 2, *shape))
        assert marks.shape == (2, 3, *shape)
        assert marks.min() > 0
        assert marks.sum(dim=1).max() < 1


@pytest.mark.parametrize("markers", [1, 2])
def test_files_bring_marked_networks_back(tmp_path, markers):
    network, (fixed, moving) = marked(markers=markers), images(34, 41)
    write_network(network, (1.0, 2.0), tmp_path / "n.safetensors")
    file = read_network(tmp_path / "n.safetensors")
    assert file.network.description == network.description == network_of(network.description).description
    with torch.no_grad():
        first, again = network(fixed, moving), file.network(fixed, moving)
        assert torch.equal(first[0].flow(), again[0].flow())
        assert torch.equal(first.moving, again.moving)
        # one marker sees both alike, two do not
        same = network(fixed, fixed)
    assert torch.allclose(same.fixed, same.moving, atol=1e-6) == (markers == 1)
    grid = Grid((40, 30), (1.0, 2.0))
    pair = [Image(np.random.default_rng(k).random(grid.shape), grid) for k in range(2)]
    transform = FlowRegistration(network, (1.0, 2.0))(*pair)
    points = grid.points()[3:-3, 3:-3]
    np.testing.assert_allclose(transform.inverse()(transform(points)), points, atol=1e-2)


def test_a_committee_marks_what_its_members_mark_on_average_and_its_files_come_back(tmp_path):
    members = [seeded(seed, lambda: Marker(2, 1, 2, 0.25)) for seed in range(3)]
    network = Marked([Committee(members)], Moments(2, 3, 2)).eval()
    image = images(34, 41)[0]
    with torch.no_grad():
        found = network(image, image).fixed
        torch.testing.assert_close(found, sum(member(image) for member in members) / 3)
        write_network(network, (1.0, 1.0), tmp_path / "n.safetensors")
        assert torch.equal(read_network(tmp_path / "n.safetensors").network(image, image).fixed, found)
    with said("Committee: expected one marker or more, alike in dimension, channels and marks, got [(2, 1, 1), (3, 1, 1)]"):
        Committee([Marker(2), Marker(3)])
    with said("architecture: expected parts of kind Marker, got Moments"):
        network_of({"architecture": "Committee", "parts": [Moments(2).description]})


def truth(batch, shape):
    """Pairs of discs, each at a place of its own, whose images show them."""
    rng = np.random.default_rng(batch)
    spots = [blobs(shape, rng.uniform(10, 22, (4, 2)), [(4, 4)] * 4) for _ in range(2)]
    labels = [(spot > 0.5).int() for spot in spots]
    pairs = PairBatch.without_truth(*(spot + 0.05 * torch.from_numpy(rng.standard_normal(spot.shape)).float() for spot in spots))
    return pairs.labelled(*labels)


def test_marks_are_learned_from_labels_and_register_images_never_seen(tmp_path):
    network = seeded(0, lambda: Marked([Marker(2, 1, 1, 0.25, [(2, 2), (2, 2)])], Moments(2)))
    objective = Outlined(LabelOverlap(scales=(0.0, 4.0)))
    options = TrainingOptions(steps=60, learning_rate=1e-2, machine=Machine(threads=1))
    states = train(network, lambda step: truth(step, (32, 32)), (1.0, 1.0), tmp_path, options, objective=objective)
    losses = [state.loss for state in states]
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    unseen = truth(10_000, (32, 32))
    with torch.no_grad():
        phi = network(network.prepare(unseen.fixed), network.prepare(unseen.moving))[0]
    moved = phi.warp(unseen.moving_labels.float()) > 0.5
    fixed = unseen.fixed_labels > 0
    overlap = 2 * (moved & fixed).sum((1, 2, 3)) / (moved.sum((1, 2, 3)) + fixed.sum((1, 2, 3)))
    assert overlap.min() > 0.8


def test_what_marks_miss_is_nothing_for_the_label_maps_themselves():
    pairs = truth(0, (20, 24))
    perfect = MarkedMaps([], pairs.fixed_labels.float(), pairs.moving_labels.float())
    swapped = MarkedMaps([], pairs.moving_labels.float(), pairs.fixed_labels.float())
    faint = MarkedMaps([], 0.5 * pairs.fixed_labels.float(), 0.5 * pairs.moving_labels.float())
    nothing = Outlined(lambda maps, batch: torch.tensor(2.0))
    assert nothing(perfect, pairs) == pytest.approx(2, abs=1e-5)
    assert 2.1 < nothing(faint, pairs) < nothing(swapped, pairs)
    assert Outlined(lambda maps, batch: torch.tensor(2.0), weight=0.5)(faint, pairs) == pytest.approx(
        1 + 0.5 * float(nothing(faint, pairs)), abs=1e-5
    )


def test_what_does_not_fit_is_refused():
    pairs, marks = truth(0, (20, 24)), torch.full((4, 1, 20, 24), 0.5)
    objective = Outlined(LabelOverlap())
    with said("Outlined: expected a network that marks structures, Marked, got maps without", TypeError):
        objective([], pairs)
    with said("Outlined: expected pairs with label maps on both sides, got none"):
        Outlined(lambda maps, batch: torch.tensor(0.0))(
            MarkedMaps([], marks, marks), PairBatch.without_truth(pairs.fixed, pairs.moving)
        )
    with said("Outlined: expected a structure for each of 1 marks, got (1, 2)"):
        Outlined(lambda maps, batch: torch.tensor(0.0), (1, 2))(MarkedMaps([], marks, marks), pairs)
    with said("Marked: expected one marker or two alike in dimension, channels and marks, got [(2, 1, 1), (2, 1, 2)]"):
        Marked([Marker(2), Marker(2, 1, 2)], Moments(2))
    with said("Marked: expected a network of 2 dimensions and 2 channels, image and marks, got 2 and 3"):
        Marked([Marker(2)], Moments(2, 3, 2))
    with said("Moments: expected 2 or 3 dimensions and marks among the channels, got 2, 3, 2"):
        Moments(2, 2, 3)
    with said("Marker: expected 2 or 3 dimensions, channels, marks and width above 0, got 4, 1, 1, 1.0"):
        Marker(4)
    with said("Marker: expected finest from 0 to 2, below the number of stages, got 3"):
        Marker(2, finest=3)
    with said("Marker: expected 2 strides of 1 to 3 for each stage, not all 1"):
        Marker(2, strides=[(1, 1)])
