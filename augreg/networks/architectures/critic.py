"""A critic: a network that says of places whether what it sees there is real.

    D(x) = a number for every cell of 8 voxels, above 0 for what looks real, below for what looks made

FlowNet's first three stages (kernels 7 5 5, stride 2, 64 128 256 features times a width multiplier, one more convolution at 1/8)
and a convolution to one number. It serves two: with the two images of a pair as channels it judges alignment (after Fan et al.,
MICCAI 2018, whose critic says one number of a patch), with the D components of a field whether bodies move like that (after Hu et
al., MICCAI 2018). A number for every place instead of one for all is from Isola et al. (CVPR 2017): images may have any size.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, final

import torch
from torch import nn

from augreg.networks.architectures.layers import activated, checked_sizes, convolution, features

_WIDTHS = (64, 128, 256)
_KERNELS = (7, 5, 5)


@final
class Critic(nn.Module):
    """A number for every cell of 8 voxels.

    Parameters
    ----------
    ndim : D, 2 or 3
    channels : number of channels of what is seen: 2 for pairs of grey images, D for fields
    width : multiplies all numbers of features

    Raises
    ------
    ValueError : for other numbers.
    """

    def __init__(self, ndim: int, channels: int, width: float = 0.25) -> None:
        super().__init__()
        checked_sizes("Critic", ndim, channels, width)
        self.ndim, self.channels, self.width = ndim, channels, width
        widths = (channels, *(features(n, width) for n in _WIDTHS))
        stages = [
            activated(convolution(ndim, inputs, outputs, kernel, 2))
            for (inputs, outputs), kernel in zip(pairwise(widths), _KERNELS, strict=True)
        ]
        self.stages = nn.Sequential(*stages, activated(convolution(ndim, widths[-1], widths[-1], 3)))
        self.verdict = convolution(ndim, widths[-1], 1, 3)

    @property
    def description(self) -> dict[str, Any]:
        """What a critic like this one is made from."""
        return {"architecture": "Critic", "ndim": self.ndim, "channels": self.channels, "width": self.width}

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        """Verdicts (B, 1, *cells) of what is seen, (B, channels, *shape) of any size."""
        verdicts: torch.Tensor = self.verdict(self.stages(seen))
        return verdicts
