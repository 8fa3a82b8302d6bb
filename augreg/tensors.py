"""The only place where numpy and torch cross: images become tensors, displacements flows and back.

Tensors have the axis order of the arrays: (B, C, *shape), x first. A flow (B, D, *shape) in voxels along the index axes is, in
the world,

    u = direction @ (spacing * flow),      (*shape, D) mm.

Torch's sampling wants the axes reversed, and coordinates g along an axis of n voxels for the index i:

    g = (2 i + 1) / n - 1                  torch's default: -1 and 1 are the ends of the first and the last voxel
    g = 2 i / (n - 1) - 1                  with align_corners: -1 and 1 are their centres
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from augreg._torch import torch
from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Image, Labels
from augreg.geometry.transforms import Transform


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


def sampling_coordinates(indices: torch.Tensor, shape: Sequence[int], *, align_corners: bool) -> torch.Tensor:
    """Coordinates (..., D) for torch's sampling of (continuous) indices (..., D) into tensors (B, C, *shape), axes reversed."""
    # sizes are tensors while a network is traced, and those do not subtract truth values
    sizes = torch.tensor([max(n - int(align_corners), 1) for n in shape], dtype=indices.dtype, device=indices.device)
    doubled = 2 * indices if align_corners else 2 * indices + 1
    return (doubled / sizes - 1).flip(-1)


def grid_sample_grid(
    transform: Transform, fixed: Image | Labels | Grid, moving: Image | Labels | Grid, *, align_corners: bool = False
) -> torch.Tensor:
    """The grid with which `torch.nn.functional.grid_sample` shows a moving image through a transform on the fixed grid.

    Inside the moving image the values are those of `warp`. Outside its voxels torch has its own rules (`padding_mode`).

    Parameters
    ----------
    transform : phi, fixed space to moving space
    fixed, moving : the images, or their grids; the moving tensor is (1, C, *shape), as `image_to_tensor` makes it
    align_corners : what is then said to torch; both say the same in other coordinates

    Returns
    -------
    (1, *shape of the fixed grid, D) float32.

    Raises
    ------
    TypeError : for what has no grid. ValueError : for different dimensions.
    """
    to, of = _grid("fixed", fixed), _grid("moving", moving)
    if not transform.ndim == to.ndim == of.ndim:
        raise ValueError(
            f"transform: expected one dimension, got a {transform.ndim}-D transform, a {to.ndim}-D fixed and a {of.ndim}-D "
            "moving image"
        )
    indices = of.indices_at(to.points() + transform.displacement(to))
    return sampling_coordinates(torch.from_numpy(indices), of.shape, align_corners=align_corners).float()[None]


def _grid(name: str, part: Image | Labels | Grid) -> Grid:
    if not isinstance(part, Image | Labels | Grid):
        raise TypeError(f"{name}: expected an image, labels or a Grid, got {type(part).__name__}")
    return part if isinstance(part, Grid) else part.grid
