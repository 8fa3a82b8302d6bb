"""Warping tensors by flows: the only place where flows become coordinates of `grid_sample`.

    warped(x) = moving(x + u(x)),      u (B, D, *shape) in voxels along the axes of the arrays, linear between voxels

`grid_sample` wants the axes reversed and coordinates from -1 to 1; with `align_corners` these are the centres of the first and
the last voxel. Coordinates are float32 whatever the images are: bfloat16 would round them to half a voxel.
"""

from __future__ import annotations

import torch
from torch import nn


def warped(moving: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """The moving images (B, C, *shape) seen through flows (B, D, *shape), voxels; border values stand outside; float32."""
    with torch.autocast(flow.device.type, enabled=False):
        points = positions(flow.shape[2:], flow.device) + flow.float().movedim(1, -1)
        last = torch.tensor([max(n - 1, 1) for n in moving.shape[2:]], dtype=torch.float32, device=flow.device)
        coordinates = (2 * points / last - 1).flip(-1)
        return nn.functional.grid_sample(moving.float(), coordinates, "bilinear", "border", align_corners=True)


def composed(outer: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
    """The flow of x -> y + outer(y) at y = x + inner(x): inner(x) + outer(x + inner(x))."""
    return inner + warped(outer, inner)


def positions(shape: torch.Size | tuple[int, ...], device: torch.device) -> torch.Tensor:
    """The indices of all voxels, (*shape, D) float32."""
    axes = [torch.arange(n, dtype=torch.float32, device=device) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
