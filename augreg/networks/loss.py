"""Supervised loss: the end-point error |u_hat - u| at five scales.

    loss = sum_s w_s mean_b mean_{x in mask_b} |f_s(x) - u_s(x) / FLOW_SCALE|,      w = 4, 2, 1, 1, 1 from fine to coarse

u_s and the mask are area averages of the truth; the means are per pixel, so the weights hold in 2-D and 3-D (in 2-D they equal
the original sums weighted 0.005 0.01 0.02 0.08 0.32). The mean over samples of each sample's masked mean makes one process and
several agree.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from augreg.networks.flownet import FLOW_SCALE

WEIGHTS = (4.0, 2.0, 1.0, 1.0, 1.0)
# where the gradient of the norm would have no value
_EPSILON = 1e-12


def end_point_error(flow: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over samples of the masked mean |flow - truth|: (B, D, *shape) both, mask (B, 1, *shape); a scalar."""
    weight = mask[:, 0].to(flow.dtype)
    error = torch.sqrt(((flow - truth) ** 2).sum(dim=1) + _EPSILON)
    axes = tuple(range(1, error.ndim))
    return ((error * weight).sum(axes) / weight.sum(axes).clamp(min=1e-6)).mean()


def multiscale_loss(flows: Sequence[torch.Tensor], truth: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The loss of flows from fine to coarse against the truth (B, D, *shape) in voxels."""
    weight = mask.to(truth.dtype)
    total = truth.new_zeros(())
    for flow, w in zip(flows, WEIGHTS, strict=True):
        pool = _averages(flow)
        share = pool(weight)
        # the mean over the valid pixels of every cell
        target = pool(truth * weight) / share.clamp(min=1e-6) / FLOW_SCALE
        total = total + w * end_point_error(flow, target, share)
    return total


def _averages(flow: torch.Tensor) -> nn.Module:
    """Area averages down to the size of a flow."""
    size = tuple(flow.shape[2:])
    return nn.AdaptiveAvgPool2d(size) if len(size) == 2 else nn.AdaptiveAvgPool3d(size)
