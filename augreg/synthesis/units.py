"""Between displacements of numpy in the world and flows of torch in voxels: u = direction @ (spacing * flow)."""

from __future__ import annotations

import numpy as np
import torch

from augreg.geometry.grid import FloatArray, Grid


def flow_of(displacement: FloatArray, grid: Grid) -> torch.Tensor:
    """The flow (B, D, *shape) float32 of displacements (B, *shape, D) mm on a grid, in their own precision until the end."""
    voxels = displacement @ grid.world_to_index.T.astype(displacement.dtype)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(voxels, -1, 1), dtype=np.float32))


def displacement_of(flow: torch.Tensor, grid: Grid) -> FloatArray:
    """The displacements (B, *shape, D) mm of a flow (B, D, *shape) on a grid, float64."""
    return flow.movedim(1, -1).cpu().numpy().astype(np.float64) @ grid.index_to_world.T
