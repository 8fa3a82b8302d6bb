"""A network of patches (Cao et al., MICCAI 2017): what a voxel's neighbourhood in both images says of its displacement.

    two convolutions, means over 2^D voxels, two convolutions, means over 2^D, two convolutions      32, 64, 128 features
    a layer of 128 and one of 64 features at every place by itself, and a displacement on cells of 4 voxels

A cell sees the 32 voxels around it and nothing else. The paper has one pass for a patch, valid convolutions, and asks at
keypoints; here a pass is a whole image, and away from the borders it says what the patch around each place alone would. Learn it
from patches at edges, balanced over |u| (`augreg.training.patches`), ask it everywhere, or at keypoints
(`augreg.matching.SplinedRegistration`).
Widths and depth are not in the paper. Batch normalisation is as in `RegNet`, for the same reason.
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

_WIDTHS, _LAST = (32, 64, 128), (128, 64)
_CELL = 2 ** (len(_WIDTHS) - 1)


@final
class PatchNet(Network):
    """A network that predicts displacements on cells of 4 voxels from the 32 voxels around them.

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
        checked_sizes("PatchNet", ndim, channels, width)
        self.ndim, self.channels, self.width = ndim, channels, width
        counts = [2 * channels, *(features(n, width) for n in _WIDTHS)]
        self.levels = nn.ModuleList(
            nn.Sequential(standardised(ndim, n, m, 3), standardised(ndim, m, m, 3)) for n, m in pairwise(counts)
        )
        last = [counts[-1], *(features(n, width) for n in _LAST)]
        self.cellwise = nn.Sequential(*(standardised(ndim, n, m, 1) for n, m in pairwise(last)))
        self.heads = nn.ModuleList([convolution(ndim, last[-1], ndim, 1, bias=False)])
        # the first prediction is hardly any displacement
        nn.init.normal_(self.heads[0].weight, std=1e-3)  # type: ignore[arg-type]  # a convolution
        self.eval()

    @property
    def description(self) -> dict[str, Any]:
        """Its numbers."""
        return {"architecture": "PatchNet", **{name: getattr(self, name) for name in ("ndim", "channels", "width")}}

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> list[Displacement]:
        """One displacement; images (B, C, *shape) of any size."""
        x, present = torch.cat([fixed, moving], dim=1), torch.ones_like(fixed[:1, :1])
        twice = (2,) * self.ndim
        for number, level in enumerate(self.levels):
            if number:
                # what lies beyond the image counts for nothing
                share = averages(present, twice)
                x, present = averages(x, twice) / share, (share > 0).to(share.dtype)
            x = level(x)
        cells = (_CELL,) * self.ndim
        return [Displacement(in_full(self.heads[0], self.cellwise(x)), tuple(fixed.shape[2:]), cells, self.unit)]
