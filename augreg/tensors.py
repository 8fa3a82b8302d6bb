"""The only place where numpy and torch cross: images, label maps and displacements become tensors and back.

Tensors have the axis order of the arrays: (B, C, *shape), x first. A flow (B, D, *shape) in voxels along the index axes is, in
the world,

    u = direction @ (spacing * flow),      (*shape, D) mm.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Image


def image_to_tensor(image: Image) -> torch.Tensor:
    """(1, C, *shape) float32."""
    return values_to_tensor(image.values.reshape(*image.grid.shape, image.channels))


def values_to_tensor(values: npt.NDArray[Any]) -> torch.Tensor:
    """Values (*shape, C), such as those of an image in colour or vectors, as (1, C, *shape) float32."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).movedim(-1, 0)[None].contiguous()


def tensor_to_values(tensor: torch.Tensor) -> npt.NDArray[Any]:
    """Tensors (B, C, *shape) as arrays (B, *shape, C); without the last axis where C is 1."""
    values = tensor.detach().movedim(1, -1).cpu().numpy()
    return values[..., 0] if tensor.shape[1] == 1 else values


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
