"""Losses of flows with a known truth.

    loss = sum_s w_s mean_b mean_{x in mask_b} |f_s(x) - u_s(x) / FLOW_SCALE|,      w = 4, 2, 1, 1, 1 from fine to coarse

u_s and the mask are area averages of the truth over the cells of a scale; the means are per pixel, so the weights hold in 2-D and
3-D (in 2-D they equal the original sums weighted 0.005 0.01 0.02 0.08 0.32). The mean over samples of each sample's masked mean
makes one process and several agree.

    diffusion(u) = mean_x sum_ab (d u_b / d x_a)^2      (voxels per voxel)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from augreg.networks.architectures.flownet import FINEST, FLOW_SCALE

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


def multiscale_loss(flows: Sequence[torch.Tensor], truth: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The loss of flows from fine to coarse against the truth (B, D, *shape) in voxels."""
    weight = mask.to(truth.dtype)
    known = torch.where(mask > 0, truth, 0) * weight
    total = truth.new_zeros(())
    for scale, (flow, w) in enumerate(zip(flows, WEIGHTS, strict=True)):
        cell = FINEST * 2**scale
        share = _averages(weight, cell)
        # the mean over the valid pixels of every cell
        target = _averages(known, cell) / share.clamp(min=1e-6) / FLOW_SCALE
        total = total + w * end_point_error(flow.float(), target, share)
    return total


def diffusion(flow: torch.Tensor, spacing: float = 1.0) -> torch.Tensor:
    """The mean squared gradient of a flow (B, D, *shape) in voxels, whose nodes lie `spacing` voxels apart; a scalar."""
    total = flow.new_zeros(())
    for axis in range(2, flow.ndim):
        if flow.shape[axis] > 1:
            total = total + (flow.diff(dim=axis) / spacing).square().sum(dim=1).mean()
    return total


def _averages(values: torch.Tensor, cell: int) -> torch.Tensor:
    """Means over cells; what lies beyond the image counts as 0."""
    shape = values.shape[2:]
    margin = [side for n in reversed(shape) for side in (0, -n % cell)]
    padded = nn.functional.pad(values, margin)
    return nn.functional.avg_pool2d(padded, cell) if len(shape) == 2 else nn.functional.avg_pool3d(padded, cell)
