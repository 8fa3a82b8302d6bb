"""LocalNet (Hu et al., MedIA 2018): residual blocks on the way down, added skips on the way up, and heads that are added up.

    x_0 = r_0(images),   x_k = r_k(pool(x_(k-1))),      r(x) = a(x' + c(a(c(x')))),  x' = a(c(x)), the first with kernels of 7
    y_K = x_K,           y_k = r'_k(x_k + c(wide(y_(k+1)))),      wide linear between the centres of cells
    u   = sum_k wide(h_k y_k)

A head's small output is a correction of what coarser ones have said. Heads begin at exactly 0. After the code of the authors
(label-reg): means instead of largest values are pooled, which any strides along every axis allow, linear interpolation and a
convolution stand for transposed convolutions, and batch normalisation is left out: blocks have a way around them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, final

import torch
from torch import nn

from augreg.networks.architectures.layers import (
    activated,
    activation,
    checked_sizes,
    checked_strides,
    convolution,
    features,
    in_full,
)
from augreg.networks.cells import at_voxels, averages
from augreg.networks.maps import Displacement
from augreg.networks.network import Network

# features of the levels, the images' own first; the last number is that of all further ones
_WIDTHS = (16, 32, 64, 128)


@final
class LocalNet(Network):
    """A network that predicts one displacement, the sum of what the levels find.

    Parameters
    ----------
    ndim : D, 2 or 3
    channels : number of channels of one image
    width : multiplies all numbers of features; 2 is as published
    strides : strides of the stages, one number per axis each; by default four of 2 along every axis
    finest : number of stages between the images and the finest displacement; 0 for one per voxel, as published

    Raises
    ------
    ValueError : for other numbers.
    """

    def __init__(
        self,
        ndim: int,
        channels: int = 1,
        width: float = 1.0,
        strides: Sequence[Sequence[int]] | None = None,
        finest: int = 1,
    ) -> None:
        super().__init__()
        checked_sizes("LocalNet", ndim, channels, width)
        self.strides = checked_strides("LocalNet", ndim, [(2,) * ndim] * 4 if strides is None else strides)
        if not 0 <= finest <= len(self.strides):
            raise ValueError(f"LocalNet: expected finest from 0 to {len(self.strides)}, the stages, got {finest}")
        self.ndim, self.channels, self.width, self.finest = ndim, channels, width, finest
        self.cells = tuple(accumulate(self.strides, lambda a, b: tuple(map(int.__mul__, a, b)), initial=(1,) * ndim))
        widths = [features(_WIDTHS[min(k, len(_WIDTHS) - 1)], width) for k in range(len(self.cells))]
        inputs = [2 * channels, *widths]
        self.down = nn.ModuleList(
            _Block(ndim, n, m, 7 if k == 0 else 3) for k, (n, m) in enumerate(zip(inputs, widths, strict=False))
        )
        rising = range(len(self.strides) - 1, finest - 1, -1)
        self.wide = nn.ModuleList(convolution(ndim, widths[k + 1], widths[k], 3) for k in rising)
        self.up = nn.ModuleList(_Block(ndim, widths[k], widths[k], 3) for k in rising)
        self.heads = nn.ModuleList(convolution(ndim, widths[k], ndim, 3, bias=False) for k in (len(self.strides), *rising))
        for head in self.heads:
            nn.init.zeros_(head.weight)  # type: ignore[arg-type]  # a convolution

    @property
    def description(self) -> dict[str, Any]:
        """Its numbers."""
        parts = {name: getattr(self, name) for name in ("ndim", "channels", "width", "finest")}
        return {"architecture": "LocalNet", **parts, "strides": [list(stage) for stage in self.strides]}

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> list[Displacement]:
        """One displacement; images (B, C, *shape) of any size."""
        x = self.down[0](torch.cat([fixed, moving], dim=1))
        found = [x]
        for block, stride in zip(self.down[1:], self.strides, strict=True):
            x = block(averages(x, stride) / averages(torch.ones_like(x[:1, :1]), stride))
            found.append(x)
        total = in_full(self.heads[0], x)
        level = len(self.strides)
        for widen, block, head in zip(self.wide, self.up, self.heads[1:], strict=True):
            level -= 1
            own, stride = found[level], self.strides[level]
            x = block(own + widen(at_voxels(x, stride, own.shape[2:])))
            total = at_voxels(total, stride, own.shape[2:]) + in_full(head, x)
        return [Displacement(total, tuple(fixed.shape[2:]), self.cells[self.finest], self.unit)]


class _Block(nn.Module):
    """A convolution, and two more with a way around them."""

    def __init__(self, ndim: int, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.enter = activated(convolution(ndim, inputs, outputs, kernel))
        self.rest = nn.Sequential(activated(convolution(ndim, outputs, outputs, 3)), convolution(ndim, outputs, outputs, 3))
        self.leave = activation()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features."""
        x = self.enter(x)
        left: torch.Tensor = self.leave(x + self.rest(x))
        return left
