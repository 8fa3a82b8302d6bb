"""Lattices coarser than an image: cells of so many voxels along each axis.

A cell i of c voxels covers the voxels c i to c (i + 1) - 1 and its centre lies at c i + (c - 1) / 2; where a side is no multiple
of c the last cell reaches beyond the image. So sizes may be any, and c may differ from axis to axis.
"""

from __future__ import annotations

import torch
from torch import nn

Sides = tuple[int, ...]


def counts(shape: Sides | torch.Size, cells: Sides) -> Sides:
    """How many cells cover an image along each axis."""
    return tuple(-(-n // c) for n, c in zip(shape, cells, strict=True))


def at_voxels(values: torch.Tensor, cells: Sides, shape: Sides | torch.Size) -> torch.Tensor:
    """Values of cells (B, C, *counts), linear between their centres and constant beyond the outer ones, (B, C, *shape)."""
    if max(cells) > 1:
        mode = "bilinear" if len(shape) == 2 else "trilinear"
        scale = tuple(float(c) for c in cells)
        values = nn.functional.interpolate(values, scale_factor=scale, mode=mode, align_corners=False)
    return values[(slice(None), slice(None), *(slice(0, n) for n in shape))]


def averages(values: torch.Tensor, cells: Sides) -> torch.Tensor:
    """Means (B, C, *counts) over the cells of values (B, C, *shape); what lies beyond the image counts as 0."""
    shape = values.shape[2:]
    if max(cells) == 1:
        return values
    margin = [side for n, c in zip(reversed(shape), reversed(cells), strict=True) for side in (0, -n % c)]
    padded = nn.functional.pad(values, margin)
    return nn.functional.avg_pool2d(padded, cells) if len(shape) == 2 else nn.functional.avg_pool3d(padded, cells)


def check_cells(values: torch.Tensor, shape: Sides, cells: Sides) -> None:
    """Refuse values (B, D, *counts) that do not cover images of a shape with cells.

    Raises
    ------
    ValueError : with the shape that would.
    """
    wanted = (len(shape), *counts(shape, cells))
    if values.shape[1:] != wanted:
        raise ValueError(
            f"values: expected (B, {', '.join(map(str, wanted))}), cells of {cells} voxels over images of {shape}, got "
            f"{tuple(values.shape)}"
        )
