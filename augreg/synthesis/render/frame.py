"""How a control grid lies over the grid of an image, and the pixels of that image as tensors, in index units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from augreg.geometry.grid import Grid

Tensor = torch.Tensor

# targets may miss the grid by rounding
EDGE = 1e-6


@dataclass(frozen=True, eq=False)
class ControlFrame:
    """How a control grid lies over an image grid: control index = start + step * index, per axis.

    Parameters
    ----------
    shape : shape of the control grid
    start, step : one number per axis
    pixels : shape of the image grid
    """

    shape: tuple[int, ...]
    start: tuple[float, ...]
    step: tuple[float, ...]
    pixels: tuple[int, ...]

    @staticmethod
    def of(control: Grid, grid: Grid) -> ControlFrame:
        """The frame of a control grid parallel to an image grid.

        Raises
        ------
        ValueError : if they are not parallel.
        """
        matrix = control.world_to_index @ grid.index_to_world
        if np.abs(matrix - np.diag(np.diag(matrix))).max() > 1e-9:
            raise ValueError("control: expected a control grid parallel to the image grid")
        return ControlFrame(control.shape, tuple(control.indices_at(grid.origin)), tuple(np.diag(matrix)), grid.shape)

    def targets(self, affine: Tensor) -> Tensor:
        """A y + t at all pixels y, (B, N, D), of affine maps [A, t] (B, D, D + 1)."""
        return transformed(affine, self.pixels_like(affine))

    def ends(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """What takes all pixels y to points (B, N, D): the flow (B, D, N) float32 voxels, and whether it ends inside, (B, N)."""
        last = torch.tensor(self.pixels, device=points.device) - 1
        inside = ((points >= -EDGE) & (points <= last + EDGE)).all(dim=-1)
        return (points - self.pixels_like(points)).movedim(-1, 1).float(), inside

    def of_nodes(self, like: Tensor) -> Tensor:
        """Numbers of nodes of the control grid to indices of the image grid, an affine map (1, D, D + 1)."""
        start, step = (torch.tensor(part, dtype=like.dtype, device=like.device) for part in (self.start, self.step))
        return torch.cat([torch.diag(1 / step), (-start / step)[:, None]], dim=1)[None]

    def nodes(self, like: Tensor) -> Tensor:
        """The nodes of the control grid as indices of the image grid, (1, N, D)."""
        return ControlFrame(self.shape, self.start, self.step, self.shape).targets(self.of_nodes(like))

    def pixels_like(self, like: Tensor) -> Tensor:
        """Indices of all pixels, (1, N, D)."""
        axes = [torch.arange(n, dtype=like.dtype, device=like.device) for n in self.pixels]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(1, -1, len(axes))


def transformed(affine: Tensor, points: Tensor) -> Tensor:
    """Affine maps (B, D, D + 1) applied to points (B or 1, N, D)."""
    return points @ affine[:, :, :-1].transpose(1, 2) + affine[:, None, :, -1]


def compose(first: Tensor, second: Tensor) -> Tensor:
    """x -> first(second(x)) of affine maps (B or 1, D, D + 1)."""
    offset = transformed(first, second[:, None, :, -1]).transpose(1, 2)
    return torch.cat([first[:, :, :-1] @ second[:, :, :-1], offset], dim=2)
