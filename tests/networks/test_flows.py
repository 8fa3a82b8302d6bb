"""Warping, similarity, and what is made of a network's flows."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from support import naive
from torch import nn

from augreg import DisplacementField, Grid, Image, warp
from augreg.networks import (
    Displacement,
    RefinedFlow,
    SymmetricFlow,
    diffusion,
    flow_to_displacement,
    image_to_tensor,
    local_correlation,
    mean_squared_difference,
    normalised,
    warped,
)
from augreg.networks.warping import composed, inverted, positions

SHAPES = [(24, 17), (9, 14, 12)]


def smooth(shape, sigma, size=1.0, seed=0):
    values = scipy.ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)
    return values * size / np.abs(values).max()


def flow_of(shape, size, seed=0, sigma=4):
    parts = [smooth(shape, sigma, size, seed + d) for d in range(len(shape))]
    return torch.from_numpy(np.stack(parts).astype(np.float32))[None]


@pytest.mark.parametrize("shape", SHAPES)
def test_tensors_are_warped_as_images_are(shape):
    grid = Grid(shape)
    image, flow = Image(smooth(shape, 1.0).astype(np.float32), grid), flow_of(shape, 2.0)
    expected = warp(image, DisplacementField(flow_to_displacement(flow, grid), grid), grid, fill=np.nan).values
    found = warped(image_to_tensor(image), flow)[0, 0].numpy()
    inside = np.isfinite(expected) & (scipy.ndimage.minimum_filter(np.ones(shape), 5, mode="constant") > 0)
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-5)
    assert inside.sum() > 20


def test_coordinates_keep_their_digits_under_autocast():
    image = torch.arange(500.0).reshape(1, 1, 500, 1).expand(1, 1, 500, 3).contiguous()
    flow = torch.zeros(1, 2, 500, 3)
    flow[:, 0] = 0.25
    with torch.autocast("cpu", torch.bfloat16):
        moved = warped(image, flow)
    torch.testing.assert_close(moved[:, :, :-1], image[:, :, :-1] + 0.25, atol=1e-3, rtol=0)


@pytest.mark.parametrize("shape", [(12, 9), (7, 6, 5)])
def test_at_places_that_are_no_numbers_images_are_none(shape):
    """Gradients, too, leave the memory alone: a network that fails is told so, and does not end the process."""
    flow = torch.zeros(2, len(shape), *shape)
    flow[1, 0].flatten()[::7] = torch.nan
    flow.requires_grad_()
    image = torch.ones(2, 1, *shape, requires_grad=True)
    moved = warped(image, flow)
    assert torch.equal(torch.isnan(moved[:, 0]), torch.isnan(flow).any(dim=1))
    moved.sum().backward()
    assert torch.isfinite(image.grad).all()


def test_diffusion_is_the_squared_gradient():
    A = torch.tensor([[0.1, -0.3], [0.2, 0.05]])
    flow = (positions((12, 20), A.device) @ A.T).movedim(-1, 0)[None]
    assert diffusion(flow).item() == pytest.approx((A**2).sum().item(), rel=1e-4)
    assert diffusion(flow[..., ::4, ::4], 4.0).item() == pytest.approx((A**2).sum().item(), rel=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_local_correlation_is_that_of_its_slow_twin(shape):
    f, m = (normalised(torch.from_numpy(smooth(shape, 1.0, seed=seed).astype(np.float32))[None, None]) for seed in (0, 1))
    expected = naive.local_correlation(f[0, 0].numpy(), m[0, 0].numpy(), 5, 1e-4)
    assert local_correlation(f, m, 5).item() == pytest.approx(expected, abs=1e-4)


def test_local_correlation_ignores_brightness_and_contrast_and_bears_flat_places():
    f = normalised(torch.from_numpy(smooth((40, 30), 1.0).astype(np.float32))[None, None])
    assert local_correlation(f, 3 * f + 100).item() == pytest.approx(0, abs=1e-3)
    assert local_correlation(f, -f).item() == pytest.approx(0, abs=1e-3)
    assert mean_squared_difference(f, f).item() == 0
    half = torch.cat([f, torch.full_like(f, 1e3)], dim=2).requires_grad_()
    loss = local_correlation(half, half.detach().flip(3))
    loss.backward()
    assert torch.isfinite(half.grad).all()
    assert 0 <= loss.item() <= 1


@pytest.mark.parametrize("shape", SHAPES)
def test_an_inverted_flow_undoes_the_flow(shape):
    flow = flow_of(shape, 1.5)
    inverse, residual = inverted(flow, -flow)
    assert composed(flow, inverse).abs().max() < 1e-3
    torch.testing.assert_close(residual, composed(flow, inverse).norm(dim=1, keepdim=True))
    # minus the flow is not its inverse
    assert composed(flow, -flow).abs().max() > 0.05


class TwoWays(nn.Module):
    """Knows which image is which by its mean, and gives a flow for each order."""

    ndim, channels = 2, 1

    def __init__(self, forward, backward):
        super().__init__()
        self.flows = backward, forward

    def predict(self, fixed, moving):
        return Displacement.of(
            torch.cat([self.flows[int(f < m)] for f, m in zip(fixed.mean((1, 2, 3)), moving.mean((1, 2, 3)), strict=True)])
        )


def test_symmetric_flows_are_halfway_between_both_directions():
    backward = flow_of((30, 26), 1.5)
    exact, _ = inverted(backward, -backward)
    error = flow_of((30, 26), 0.5, seed=5)
    network = SymmetricFlow(TwoWays(exact + error, backward))
    found = network.predict(torch.zeros(1, 1, 30, 26), torch.ones(1, 1, 30, 26))
    torch.testing.assert_close(found.flow(), exact + error / 2, atol=1e-2, rtol=0)
    assert (network.ndim, network.channels) == (2, 1)


def test_where_the_way_back_cannot_be_inverted_the_way_forth_stands():
    forward, backward = torch.zeros(1, 2, 30, 26), torch.zeros(1, 2, 30, 26)
    backward[:, 0, 14:16] = torch.tensor([9.0, -9.0])[:, None]
    found = SymmetricFlow(TwoWays(forward, backward)).predict(torch.zeros(1, 1, 30, 26), torch.ones(1, 1, 30, 26)).flow()
    assert found.abs().max() < 4.6
    assert (found.abs().amax(1) < 0.1).float().mean() > 0.7


def test_refinement_comes_nearer_and_never_ends_higher():
    shape = (64, 52)
    moving = normalised(torch.from_numpy(smooth(shape, 2.0).astype(np.float32))[None, None])
    truth = flow_of(shape, 3.0, sigma=12)
    fixed = warped(moving, truth)
    start = 0.5 * truth
    inner = (..., slice(8, -8), slice(8, -8))
    for steps, better in ((0, 1.0), (40, 0.5)):
        network = RefinedFlow(TwoWays(start, start), steps=steps, smoothness=0.05)
        with torch.no_grad():
            found = network.predict(fixed, moving)
        assert network.objective(fixed, moving, found) <= network.objective(fixed, moving, Displacement.of(start)) + 1e-6
        assert (found.flow() - truth)[inner].norm(dim=1).mean() <= better * (start - truth)[inner].norm(dim=1).mean() + 1e-6
    # steps that are far too long lose nothing
    wild = RefinedFlow(TwoWays(start, start), steps=3, rate=50.0)
    torch.testing.assert_close(wild.predict(fixed, moving).flow(), start)
