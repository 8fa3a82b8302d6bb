"""Velocities against the logarithm of a truth."""

import pytest
import torch
from torch import nn

from augreg.networks import AffineMap, Displacement, Velocity, velocity_loss
from augreg.networks.losses.velocities import logarithm


def velocity(shape=(96, 80), cells=(4, 2), seed=0, size=9.0, count=2):
    """A smooth velocity, voxels, still at the border."""
    counts = [-(-n // c) for n, c in zip(shape, cells, strict=True)]
    noise = torch.randn(count, len(shape), *counts, generator=torch.Generator().manual_seed(seed))
    for _ in range(8):
        noise = nn.functional.avg_pool2d(noise, 5, 1, 2)
    waves = [torch.sin(torch.pi * (torch.arange(n) + 0.5) / n) ** 2 for n in counts]
    still = noise * waves[0][:, None] * waves[1]
    return Velocity(size * still / still.abs().max() / 20, shape, cells, 20.0)


def known(phi):
    return phi.flow(), torch.ones(len(phi), 1, *phi.shape, dtype=torch.bool)


def test_the_logarithm_of_an_exponential_is_its_velocity():
    phi = velocity()
    found, share = logarithm(phi, *known(phi))
    wanted = phi.values * phi.unit
    assert share.min() == 1
    # cells know means of the truth
    assert (found - wanted).norm(dim=1).mean() < 0.05 * wanted.norm(dim=1).mean()
    # which is not its displacement
    displaced = phi.on_cells().values * phi.unit
    assert (displaced - wanted).norm(dim=1).mean() > 3 * (found - wanted).norm(dim=1).mean()


def test_the_loss_is_least_at_the_truth_and_grows_with_the_square_of_what_is_missed():
    phi = velocity()
    coarse = Velocity(nn.functional.avg_pool2d(phi.values, 2, ceil_mode=True), phi.shape, (8, 4), phi.unit)
    least = velocity_loss([phi, coarse], *known(phi))
    losses = []
    for share in (0.2, 0.4):
        off = [Velocity(one.values * (1 + share), one.shape, one.cells, one.unit) for one in (phi, coarse)]
        losses.append(velocity_loss(off, *known(phi)) - least)
    assert least < 0.05 * losses[0]
    assert losses[1] / losses[0] == pytest.approx(4, rel=0.25)
    # by hand, at the finest: weight 4
    off = Velocity(phi.values + 0.1, phi.shape, phi.cells, phi.unit)
    assert velocity_loss([off], *known(phi)) == pytest.approx(4 * 2 * 0.1**2, rel=0.1)


def test_what_is_not_known_does_not_matter():
    phi = velocity()
    truth, mask = known(phi)
    mask[:, :, 64:] = False
    mask[0, :, 24:40, 5:31] = False
    holes = torch.where(mask, truth, torch.nan)
    nowhere = Velocity(0 * phi.values, phi.shape, phi.cells, phi.unit)
    assert velocity_loss([phi], holes, mask) < 0.1 * velocity_loss([nowhere], truth, mask)
    values = phi.values.clone().requires_grad_()
    velocity_loss([Velocity(values, phi.shape, phi.cells, 20.0)], holes, mask).backward()
    assert torch.isfinite(values.grad).all()
    assert values.grad[:, :, 16:].abs().max() == 0
    nothing = torch.zeros_like(mask)
    assert velocity_loss([phi], torch.full_like(truth, torch.nan), nothing) == 0


def test_a_shift_that_is_known_in_a_part_is_a_shift():
    like = velocity()
    shift = torch.tensor([7.0, -5.0]).reshape(1, 2, 1, 1).expand(2, 2, 96, 80)
    mask = torch.zeros(2, 1, 96, 80, dtype=torch.bool)
    mask[:, :, 20:60, 31:70] = True
    found, share = logarithm(like, torch.where(mask, shift, torch.nan), mask)
    known = share.expand_as(found) > 0
    assert 0.1 < known.float().mean() < 0.4
    torch.testing.assert_close(found[known], shift[..., :24, :40][known], atol=1e-3, rtol=0)


@pytest.mark.parametrize("phi", [Displacement.of(torch.zeros(1, 2, 8, 8)), AffineMap.identity(1, (8, 8))])
def test_maps_that_are_no_velocities_are_refused(phi):
    with pytest.raises(TypeError, match="velocity_loss: expected a network that predicts velocities, got"):
        velocity_loss([phi], torch.zeros(1, 2, 8, 8), torch.ones(1, 1, 8, 8, dtype=torch.bool))
