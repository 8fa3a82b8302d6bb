"""RegNet (Sokooti et al., MICCAI 2017) as a fully convolutional network: small neighbourhoods at two scales, fused late.

    full resolution     a stream for each image, 3 convolutions of 16; joined 25, 30; then means over 2^D voxels
    half resolution     a stream for each image, 3 convolutions of 16; joined 25, 25, 25, 30, 30, 30
    both                60, 70, 75, 150 and 150 of one cell, and a displacement on cells of 2 voxels

The paper has one pass per voxel, valid convolutions of patches of 29 and 53 voxels. Here a pass is a whole image, in 2-D and 3-D;
widths, fields of view and batch normalisation are the same. Without the last it does not learn: 16 convolutions without skips
leave features that are nearly the same everywhere, and the error has no slope but at no displacement (`benchmarks/experiments/
fields.md`). Its means and variances are those of a step's images while it learns, and running means in use, where a network looks
at what is near alone; networks are made as they are used.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, final

import torch
from torch import nn

from augreg.networks.architectures.layers import checked_sizes, convolution, features, in_full, standardised
from augreg.networks.cells import averages
from augreg.networks.maps import Displacement
from augreg.networks.network import Network

_OWN, _FINE, _COARSE, _BOTH = (16, 16, 16), (25, 30), (25, 25, 25, 30, 30, 30), (60, 70, 75, 150)
_CELL = 2


@final
class RegNet(Network):
    """A network that predicts displacements on cells of 2 voxels from what is near: its field of view is 53 voxels wide.

    Parameters
    ----------
    ndim : D, 2 or 3
    channels : number of channels of one image
    width : multiplies all numbers of features

    Raises
    ------
    ValueError : for other numbers.
    """

    def __init__(self, ndim: int, channels: int = 1, width: float = 1.0) -> None:
        super().__init__()
        checked_sizes("RegNet", ndim, channels, width)
        self.ndim, self.channels, self.width = ndim, channels, width

        def chain(inputs: int, *widths: int) -> nn.Sequential:
            counts = [inputs, *(features(n, width) for n in widths)]
            return nn.Sequential(*(standardised(ndim, n, m, 3) for n, m in pairwise(counts)))

        own = features(_OWN[-1], width)
        self.streams = nn.ModuleList(chain(channels, *_OWN) for _ in range(4))
        self.fine, self.coarse = chain(2 * own, *_FINE), chain(2 * own, *_COARSE)
        self.both = chain(features(_FINE[-1], width) + features(_COARSE[-1], width), *_BOTH)
        last = features(_BOTH[-1], width)
        self.cellwise = standardised(ndim, last, last, 1)
        self.heads = nn.ModuleList([convolution(ndim, last, ndim, 1, bias=False)])
        # the first prediction is hardly any displacement
        nn.init.normal_(self.heads[0].weight, std=1e-3)  # type: ignore[arg-type]  # a convolution
        self.eval()

    @property
    def description(self) -> dict[str, Any]:
        """Its numbers."""
        return {"architecture": "RegNet", **{name: getattr(self, name) for name in ("ndim", "channels", "width")}}

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> list[Displacement]:
        """One displacement; images (B, C, *shape) of any size."""
        cells = (_CELL,) * self.ndim
        share = averages(torch.ones_like(fixed[:1, :1]), cells)
        low = [averages(images, cells) / share for images in (fixed, moving)]
        near, far, near_low, far_low = (stream(x) for stream, x in zip(self.streams, (fixed, moving, *low), strict=True))
        fine = averages(self.fine(torch.cat([near, far], dim=1)), cells)
        coarse = self.coarse(torch.cat([near_low, far_low], dim=1))
        x = self.cellwise(self.both(torch.cat([fine, coarse], dim=1)))
        return [Displacement(in_full(self.heads[0], x), tuple(fixed.shape[2:]), cells, self.unit)]
