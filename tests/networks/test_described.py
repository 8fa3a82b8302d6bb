"""Networks of descriptors: what a change of contrast leaves, they leave."""

from itertools import combinations_with_replacement

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import nn

from augreg.networks import (
    DESCRIPTORS,
    Described,
    FlowNetS,
    Marked,
    Marker,
    Moments,
    Tiled,
    UNet,
    described_channels,
    network_of,
    normalised,
    seeded,
)
from augreg.recipes.shapes import MAPS, network_as


def images(*shape, seed=0):
    noise = np.random.default_rng(seed).normal(size=(2, 1, *shape))
    smooth = scipy.ndimage.gaussian_filter(noise, (0, 0, *[2.0] * len(shape)))
    return normalised(torch.from_numpy(smooth).float())


def lively(network):
    for module in network.modules():
        for head in getattr(module, "heads", []):
            nn.init.normal_(head.weight, std=0.05)
    return network.eval()


def slow_edges(image, noise=0.025, half=1):
    """Of one image: windows are cut at the border, differences go on with border values."""
    D, padded = image.ndim, np.pad(image, 1, mode="edge")
    inner = [slice(1, -1)] * D
    slopes = []
    for axis in range(D):
        after, before = list(inner), list(inner)
        after[axis], before[axis] = slice(2, None), slice(0, -2)
        slopes.append((padded[tuple(after)] - padded[tuple(before)]) / 2)
    pairs = list(combinations_with_replacement(range(D), 2))
    found = np.zeros((len(pairs), *image.shape))
    for at in np.ndindex(*image.shape):
        window = tuple(slice(max(0, i - half), i + half + 1) for i in at)
        length = np.mean(sum(slope[window] ** 2 for slope in slopes))
        for k, (a, b) in enumerate(pairs):
            found[(k, *at)] = np.mean(slopes[a][window] * slopes[b][window]) / (length + noise**2)
    return found


@pytest.mark.parametrize("shape", [(13, 9), (7, 6, 5)])
def test_edges_are_those_of_their_slow_twin(shape):
    seen = images(*shape)
    found = DESCRIPTORS["edges"](seen)
    for image, one in zip(seen[:, 0].double().numpy(), found.numpy(), strict=True):
        np.testing.assert_allclose(one, slow_edges(image), atol=2e-4)


@pytest.mark.parametrize("kind", DESCRIPTORS)
@pytest.mark.parametrize("shape", [(40, 33), (17, 14, 9)])
def test_negatives_and_other_gains_leave_descriptors_and_a_folded_contrast_most_of_them(kind, shape):
    seen = images(*shape)
    describe = DESCRIPTORS[kind]
    known = describe(seen)
    assert known.shape == (2, described_channels(kind, len(shape)), *shape)
    torch.testing.assert_close(describe(normalised(7 - 3 * seen)), known, atol=1e-3, rtol=0)
    # other images are farther than another contrast of the same ones
    folded = describe(normalised(torch.sin(1.5 * seen)))
    assert (folded - known).square().mean() < 0.5 * (known.flip(0) - known).square().mean()
    # images themselves are not left
    assert (normalised(torch.sin(1.5 * seen)) - seen).square().mean() > 0.1


@pytest.mark.parametrize("kind", DESCRIPTORS)
def test_a_network_of_descriptors_says_of_negatives_what_it_says_of_images(kind):
    network = lively(seeded(0, lambda: Described(FlowNetS(2, described_channels(kind, 2), 0.05), kind)))
    fixed, moving = images(70, 66).chunk(2)
    with torch.no_grad():
        found = network.predict(fixed, moving).flow()
        torch.testing.assert_close(network.predict(fixed, -moving).flow(), found, atol=1e-3, rtol=0)
        again = network_of(network.description)
        again.load_state_dict(network.state_dict())
        assert torch.equal(again.eval().predict(fixed, moving).flow(), found)
    assert found.abs().max() > 0.1
    assert (network.channels, network.ndim) == (1, 2)


@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize("descriptor", DESCRIPTORS)
def test_all_maps_can_be_found_from_descriptors(kind, descriptor):
    marks = 2 * (kind == "moments")
    network = network_as(kind, "UNet", (1,), 2, 0.1, shape=(40, 36), marks=marks, descriptor=descriptor)
    assert isinstance(network, Described)
    assert network.predict(*images(40, 36).chunk(2)).flow().shape == (1, 2, 40, 36)


def test_marks_are_made_from_descriptors():
    n = described_channels("edges", 2)
    network = Described(Marked([Marker(2, n, 2, 0.1)], Moments(2, n + 2, 2)), "edges")
    fixed, moving = images(24, 20).chunk(2)
    with torch.no_grad():
        assert network(fixed, moving).fixed.shape == (1, 2, 24, 20)


@pytest.mark.parametrize("kind", DESCRIPTORS)
def test_tiles_of_descriptors_are_as_the_whole(kind):
    strides = ((2, 2), (2, 2))
    network = lively(seeded(0, lambda: Described(UNet(2, described_channels(kind, 2), 0.2, strides), kind)))
    fixed, moving = images(120, 97).chunk(2)
    with torch.no_grad():
        whole, tiled = network.predict(fixed, moving), Tiled(network, 40, 24, 4).predict(fixed, moving)
    torch.testing.assert_close(tiled.flow(), whole.flow(), atol=1e-3, rtol=0)
    assert whole.flow().abs().max() > 0.1


def test_descriptors_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="Described: expected one of mind, edges, got 'sift'"):
        Described(FlowNetS(2, 4, 0.05), "sift")
    with pytest.raises(ValueError, match="Described: expected a network of 3 channels for every channel of an image, got 4"):
        Described(FlowNetS(2, 4, 0.05), "edges")
