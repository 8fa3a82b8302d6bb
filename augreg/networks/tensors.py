"""The only two places where images become tensors and flows become displacements, and the normalisation of intensities.

Tensors have the axis order of the arrays: (B, C, *shape), x first. A flow in voxels along the index axes is, in the world,
u = direction @ (spacing * flow).
"""

from __future__ import annotations

import numpy as np
import torch

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Image


def image_to_tensor(image: Image) -> torch.Tensor:
    """(1, C, *shape) float32."""
    values = np.ascontiguousarray(image.values, dtype=np.float32).reshape(*image.grid.shape, image.channels)
    return torch.from_numpy(values).movedim(-1, 0)[None].contiguous()


def flow_to_displacement(flow: torch.Tensor, grid: Grid) -> FloatArray:
    """World vectors (*shape, D) mm on `grid` of a flow (1, D, *shape) in voxels."""
    voxels = flow[0].detach().movedim(0, -1).cpu().numpy().astype(np.float64)
    return voxels @ grid.index_to_world.T


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Every image (B, C, *shape) with mean 0 and standard deviation 1 over its pixels: the same in training and use."""
    axes = tuple(range(1, images.ndim))
    mean = images.mean(axes, keepdim=True)
    deviation = images.std(axes, keepdim=True, correction=0)
    # a constant image has a deviation of its rounding alone
    least = 1e-6 * images.abs().amax(axes, keepdim=True).clamp(min=1e-30)
    return (images - mean) / torch.maximum(deviation, least)
