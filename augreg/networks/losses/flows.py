"""Losses of maps with a known truth, and their roughness.

    loss = sum_s w_s mean_b mean_{x in mask_b} |phi_s(x) - x - u_s(x)| / unit,      w = 4, 2, 1, 1, 1 from fine to coarse

u_s and the mask are area averages of the truth over the cells of a map; the means are per pixel, so the weights hold in 2-D and
3-D (in 2-D they equal the original sums weighted 0.005 0.01 0.02 0.08 0.32). The mean over samples of each sample's masked mean
makes one process and several agree.

    diffusion(u) = mean_x sum_ab (d u_b / d x_a)^2      (voxels per voxel)
    bending(u)   = mean_x sum_abc (d^2 u_c / d x_a d x_b)^2      (1 / voxel): what an affine map has none of
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from augreg.networks.cells import averages
from augreg.networks.maps import AffineMap, Composed, Map

WEIGHTS = (4.0, 2.0, 1.0, 1.0, 1.0)
# where the gradient of the norm would have no value
_EPSILON = 1e-12


def end_point_error(flow: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over samples of the masked mean |flow - truth|: (B, D, *shape) both, mask (B, 1, *shape); a scalar.

    The truth may be anything outside the mask, NaN too.
    """
    weight = mask[:, 0].to(flow.dtype)
    difference = torch.where(mask > 0, flow - truth, 0)
    error = torch.sqrt((difference**2).sum(dim=1) + _EPSILON)
    axes = tuple(range(1, error.ndim))
    return ((error * weight).sum(axes) / weight.sum(axes).clamp(min=1e-6)).mean()


def multiscale_loss(maps: Sequence[Map], truth: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The loss of one to five maps from fine to coarse against the truth (B, D, *shape) in voxels."""
    weight = mask.to(truth.dtype)
    known = torch.where(mask > 0, truth, 0) * weight
    total = truth.new_zeros(())
    for phi, w in zip(maps, WEIGHTS[: len(maps)], strict=True):
        found = phi.on_cells()
        share = averages(weight, found.cells)
        # the mean over the valid pixels of every cell
        target = averages(known, found.cells) / share.clamp(min=1e-6) / found.unit
        total = total + w * end_point_error(found.values.float(), target, share)
    return total


def roughness(phi: Map) -> torch.Tensor:
    """`diffusion` of a map on its cells; of a composition the sum over its parts, of an affine map 0; a scalar."""
    if isinstance(phi, AffineMap):
        return phi.matrix.new_zeros(())
    if isinstance(phi, Composed):
        return torch.stack([roughness(part) for part in phi.parts]).sum()
    found = phi.on_cells()
    return diffusion(found.values.float() * found.unit, found.cells)


def diffusion(flow: torch.Tensor, spacing: float | Sequence[float] = 1.0) -> torch.Tensor:
    """The mean squared gradient of a flow (B, D, *nodes), voxels, whose nodes lie `spacing` voxels apart; a scalar."""
    apart = [spacing] * (flow.ndim - 2) if isinstance(spacing, int | float) else spacing
    total = flow.new_zeros(())
    for axis, step in enumerate(apart, 2):
        if flow.shape[axis] > 1:
            total = total + (flow.diff(dim=axis) / step).square().sum(dim=1).mean()
    return total


def curvature(phi: Map) -> torch.Tensor:
    """`bending` of a map on its cells; of a composition the sum over its parts, of an affine map 0; a scalar."""
    if isinstance(phi, AffineMap):
        return phi.matrix.new_zeros(())
    if isinstance(phi, Composed):
        return torch.stack([curvature(part) for part in phi.parts]).sum()
    found = phi.on_cells()
    return bending(found.values.float() * found.unit, found.cells)


def bending(flow: torch.Tensor, spacing: float | Sequence[float] = 1.0) -> torch.Tensor:
    """The mean squared second differences of a flow (B, D, *nodes), voxels, whose nodes lie `spacing` voxels apart; a scalar."""
    apart = [spacing] * (flow.ndim - 2) if isinstance(spacing, int | float) else spacing
    total = flow.new_zeros(())
    for a, one in enumerate(apart, 2):
        if flow.shape[a] > 2:
            total = total + (flow.diff(n=2, dim=a) / one**2).square().sum(dim=1).mean()
        for b, other in enumerate(apart[: a - 2], 2):
            if min(flow.shape[a], flow.shape[b]) > 1:
                # d2/dadb and d2/dbda
                total = total + 2 * (flow.diff(dim=a).diff(dim=b) / (one * other)).square().sum(dim=1).mean()
    return total
