"""What CONTRIBUTING shows runs as it stands, and keeps the laws of its kind."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.contributing import BLOCKS, shown
from support.flows import pairs
from support.phantoms import blobs

from augreg import Affine, ConsistentRegistration, Grid, warp
from augreg.networks import Displacement, FlowRegistration


def test_the_examples_are_short():
    assert len(BLOCKS) == 4
    assert max(len([line for line in block.splitlines() if line]) for block in BLOCKS) <= 36


def test_a_method_of_ones_own_can_be_wrapped():
    grid = Grid((90, 80), (1.0, 1.3), (5.0, -20.0))
    fixed = blobs(grid, 12)
    fixed = fixed.with_values(np.maximum(fixed.values, 0))
    truth = Affine(np.eye(2), [6.0, -9.0])
    moving = warp(fixed, truth.inverse(), Grid((110, 110), (1.0, 1.3), (0.0, -40.0)))
    points = grid.points()[20:70:10, 20:60:10].reshape(-1, 2)

    def error(phi):
        return np.abs(phi(points) - truth(points)).max()

    found = shown()["ByMass"]()(fixed, moving)
    assert error(found) < 1.0 < error(Affine.identity(2))
    # a start stands at the left, whatever it is
    start = Affine.about([[0.9, 0.1], [-0.1, 1.0]], grid.center, [2.0, 1.0])
    *_, state = shown()["ByMass"]().steps(fixed, moving, initial=start, fixed_labels=fixed.values > 1)
    assert "fixed_labels: not used" in state.warnings[-1]
    assert np.allclose(state.transform.matrix, start.matrix)
    assert error(shown()["register"](fixed, moving)) < 0.2
    assert error(ConsistentRegistration(shown()["register"])(fixed, moving)) < 0.2


def test_a_head_of_ones_own_learns_and_registers_with_an_exact_inverse():
    network = shown()["network"]
    batch = pairs(0)
    shift = torch.tensor([3.0, -2.0])
    images = network.prepare(batch.fixed), network.prepare(torch.roll(batch.fixed, (3, -2), (2, 3)))
    adam = torch.optim.Adam(network.parameters(), 1e-3)
    assert network(*images)[0].flow().abs().max() == 0
    for _ in range(60):
        loss = (network(*images)[0].flow() - shift.reshape(1, 2, 1, 1)).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    phi = network.predict(*images)
    assert (phi.flow() - shift.reshape(1, 2, 1, 1)).abs().max() < 0.5
    assert (phi @ phi.inverse()).flow().abs().max() < 1e-4
    found = FlowRegistration(network, (1.0, 1.0))(*(image[0, 0].numpy() for image in (batch.fixed, batch.moving)))
    assert isinstance(found, Affine)


def test_an_objective_of_ones_own_is_what_it_says():
    batch = pairs(1)
    flow = torch.stack([torch.full((64, 64), 3.0), torch.full((64, 64), -4.0)]).expand(4, 2, 64, 64)
    little = shown()["Little"](lambda maps, batch: torch.tensor(2.0), 0.1)
    assert little([Displacement.of(flow)], batch).item() == pytest.approx(2 + 0.1 * 25)
    # numbers of a network stand for units
    coarse = replace(Displacement(flow[..., ::2, ::2] / 20, (64, 64), (2, 2)), unit=20.0)
    assert little([coarse], batch).item() == pytest.approx(2 + 0.1 * 25)
