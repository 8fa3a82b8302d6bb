"""Tensors at places between their voxels.

    warped(x) = moving(x + u(x)),      u (B, D, *shape) in voxels along the axes of the arrays, linear between voxels

Coordinates (`augreg.tensors.sampling_coordinates`) are float32 whatever the images are: bfloat16 would round them to half a
voxel.
"""

from __future__ import annotations

import torch
from torch import nn

from augreg.tensors import sampling_coordinates

# of the fixed point
ITERATIONS = 15


def sampled(images: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Images (B, C, *shape) at indices (B, *any, D), as many axes as the images have; border values stand outside; float32.

    At indices that are NaN images are NaN, too: torch reads and writes anywhere in memory for such.
    """
    with torch.autocast(points.device.type, enabled=False):
        coordinates = sampling_coordinates(points.float(), images.shape[2:], align_corners=True)
        lost = torch.isnan(coordinates)
        known = coordinates.masked_fill(lost, 0)
        found = nn.functional.grid_sample(images.float(), known, "bilinear", "border", align_corners=True)
        return found.masked_fill(lost.any(dim=-1)[:, None], torch.nan)


def looked_up(labels: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Label maps (B, C, *shape) at the voxels next to indices (B, *any, D), as many axes as the maps have; 0 outside."""
    last = torch.tensor([n - 1 for n in labels.shape[2:]], device=points.device)
    nearest = torch.floor(points.float() + 0.5).long()
    inside = ((nearest >= 0) & (nearest <= last)).all(dim=-1)
    place = torch.zeros_like(inside, dtype=torch.long)
    for axis, n in enumerate(labels.shape[2:]):
        place = place * n + nearest[..., axis].clamp(0, n - 1)
    flat = labels.flatten(2).gather(2, place.flatten(1)[:, None].expand(-1, labels.shape[1], -1))
    return flat.reshape(*labels.shape[:2], *place.shape[1:]) * inside[:, None]


def warped(moving: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """The moving images (B, C, *shape) seen through flows (B, D, *shape), voxels; border values stand outside; float32."""
    with torch.autocast(flow.device.type, enabled=False):
        points = positions(flow.shape[2:], flow.device) + flow.float().movedim(1, -1)
    return sampled(moving, points)


def composed(outer: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
    """The flow of x -> y + outer(y) at y = x + inner(x): inner(x) + outer(x + inner(x))."""
    return inner + warped(outer, inner)


def inverted(flow: torch.Tensor, start: torch.Tensor, iterations: int = ITERATIONS) -> tuple[torch.Tensor, torch.Tensor]:
    """v with id + v = (id + flow)^-1, (B, D, *shape) voxels, and by how much it misses, (B, 1, *shape).

    The fixed point of v(x) = -flow(x + v(x)) by iteration from `start`: exact where flow's derivative is below 1, else see the
    second part of the result.
    """
    v = start
    for _ in range(iterations):
        v = v - composed(flow, v)
    return v, torch.linalg.vector_norm(composed(flow, v), dim=1, keepdim=True)


def positions(shape: torch.Size | tuple[int, ...], device: torch.device) -> torch.Tensor:
    """The indices of all voxels, (*shape, D) float32."""
    axes = [torch.arange(n, dtype=torch.float32, device=device) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
