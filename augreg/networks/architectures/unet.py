"""A U-net (Ronneberger et al., MICCAI 2015) with strides of its own along every axis, so that volumes of few slices and
displacements at half the resolution, or the whole, have a network.

    features_0 = the images,   features_k = stage_k(features_(k-1)), on cells of s_1 s_2 ... s_k voxels

Upwards every level joins the features from below with its own and predicts a displacement on its cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, final

import torch
from torch import nn

from augreg.networks.architectures.layers import (
    activated,
    checked_sizes,
    checked_strides,
    convolution,
    cropped,
    features,
    in_full,
)
from augreg.networks.maps import Displacement
from augreg.networks.network import Network

# features of the levels, the images' own first; the last number is that of all further ones
_WIDTHS = (16, 32, 32, 64, 64)


@final
class UNet(Network):
    """A network that predicts displacements between two images, from its finest to its coarsest cells.

    Parameters
    ----------
    ndim : D, 2 or 3
    channels : number of channels of one image
    width : multiplies all numbers of features
    strides : strides of the stages, one number per axis each: ((2, 2, 1), (2, 2, 2)) leaves the slices alone at first; by default
        four stages of 2 along every axis
    finest : number of stages between the images and the finest displacement, so that its cells have the product of their
        strides; 0 for a displacement per voxel

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
        checked_sizes("UNet", ndim, channels, width)
        self.strides = checked_strides("UNet", ndim, [(2,) * ndim] * 4 if strides is None else strides)
        if not 0 <= finest <= len(self.strides) <= finest + 4:
            raise ValueError(
                f"UNet: expected 1 to 5 displacements, stages {finest} to {len(self.strides)}; change strides or finest"
            )
        self.ndim, self.channels, self.width, self.finest = ndim, channels, width, finest
        self.cells = tuple(accumulate(self.strides, lambda a, b: tuple(map(int.__mul__, a, b)), initial=(1,) * ndim))
        widths = [features(_WIDTHS[min(k, len(_WIDTHS) - 1)], width) for k in range(len(self.cells))]
        self.enter = activated(convolution(ndim, 2 * channels, widths[0], 3))
        self.down = nn.ModuleList(
            nn.Sequential(activated(convolution(ndim, n, m, 3, stride)), activated(convolution(ndim, m, m, 3)))
            for n, m, stride in zip(widths, widths[1:], self.strides, strict=False)
        )
        rising = range(len(self.strides) - 1, finest - 1, -1)
        self.up = nn.ModuleList(activated(convolution(ndim, widths[k] + widths[k + 1], widths[k], 3)) for k in rising)
        self.heads = nn.ModuleList(convolution(ndim, widths[k], ndim, 3, bias=False) for k in (len(self.strides), *rising))
        # the first prediction is hardly any displacement
        for head in self.heads:
            nn.init.normal_(head.weight, std=1e-3)  # type: ignore[arg-type]  # a convolution

    @property
    def description(self) -> dict[str, Any]:
        """Its numbers."""
        parts = {name: getattr(self, name) for name in ("ndim", "channels", "width", "finest")}
        return {"architecture": "UNet", **parts, "strides": [list(stage) for stage in self.strides]}

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> list[Displacement]:
        """Displacements on the cells of the levels from `finest` on; images (B, C, *shape) of any size."""
        found = [self.enter(torch.cat([fixed, moving], dim=1))]
        for stage in self.down:
            found.append(stage(found[-1]))
        x, level = found[-1], len(self.strides)
        maps = [self._map(self.heads[0], x, level, fixed)]
        for join, head in zip(self.up, self.heads[1:], strict=True):
            level -= 1
            own = found[level]
            # a cell's features stand for all that it covers
            wide = nn.functional.interpolate(x, scale_factor=tuple(map(float, self.strides[level])), mode="nearest")
            x = join(torch.cat([own, cropped(wide, own.shape[2:])], dim=1))
            maps.append(self._map(head, x, level, fixed))
        return maps[::-1]

    def _map(self, head: nn.Module, x: torch.Tensor, level: int, fixed: torch.Tensor) -> Displacement:
        return Displacement(in_full(head, x), tuple(fixed.shape[2:]), self.cells[level], self.unit)
