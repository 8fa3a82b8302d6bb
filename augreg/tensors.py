"""The only place where numpy and torch cross: images become tensors, displacements flows and back.

Tensors have the axis order of the arrays: (B, C, *shape), x first. A flow (B, D, *shape) in voxels along the index axes is, in
the world,

    u = direction @ (spacing * flow),      (*shape, D) mm.
"""

from __future__ import annotations

import numpy as np
import torch

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Image, Labels


def image_to_tensor(image: Image) -> torch.Tensor:
    """(1, C, *shape) float32."""
    values = np.ascontiguousarray(image.values, dtype=np.float32).reshape(*image.grid.shape, image.channels)
    return torch.from_numpy(values).movedim(-1, 0)[None].contiguous()


def labels_to_tensor(labels: Labels) -> torch.Tensor:
    """(1, 1, *shape) int64."""
    return torch.from_numpy(np.ascontiguousarray(labels.values, dtype=np.int64))[None, None]


def flow_to_displacement(flow: torch.Tensor, grid: Grid) -> FloatArray:
    """World vectors (*shape, D) mm on `grid` of a flow (1, D, *shape) in voxels."""
    found: FloatArray = flows_to_displacements(flow, grid)[0]
    return found


def flows_to_displacements(flows: torch.Tensor, grid: Grid) -> FloatArray:
    """World vectors (B, *shape, D) mm of flows (B, D, *shape) in voxels of `grid`."""
    voxels = flows.detach().movedim(1, -1).cpu().numpy().astype(np.float64)
    return voxels @ grid.index_to_world.T


def displacement_to_flow(displacement: FloatArray, grid: Grid) -> torch.Tensor:
    """The flow (1, D, *shape) float32 in voxels of `grid` of world vectors (*shape, D) mm."""
    return displacements_to_flows(displacement[None], grid)


def displacements_to_flows(displacements: FloatArray, grid: Grid) -> torch.Tensor:
    """Flows (B, D, *shape) float32 in voxels of `grid` of world vectors (B, *shape, D) mm, computed in their precision."""
    voxels = displacements @ grid.world_to_index.T.astype(displacements.dtype)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(voxels, -1, 1), dtype=np.float32))
