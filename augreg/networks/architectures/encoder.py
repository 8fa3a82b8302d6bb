"""What networks see: features of two images at 1/2 to 1/64 of the resolution.

Six stages of stride 2 (kernels 7 5 5 3 3 3, features 64 128 256 512 512 1024 times a width multiplier), the third to the sixth
with one more convolution of stride 1. The two networks differ in the first three: over both images at once, or over each of them,
compared by their correlation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Any, final

import torch
from torch import nn

from augreg.networks.architectures.correlation import correlation, displacements
from augreg.networks.architectures.layers import activated, activation, checked_sizes, convolution, features

_WIDTHS = (64, 128, 256, 512, 512, 1024)
_KERNELS = (7, 5, 5, 3, 3, 3)
# largest displacement and step at 1/8 of the resolution: in 3-D, 21^3 would be too many
_REACH = {2: (20, 2), 3: (3, 1)}
_REDIRECTED = 32


class Encoder(nn.Module, ABC):
    """Features of two images.

    Parameters
    ----------
    ndim : D, 2 or 3
    channels : number of channels of one image
    width : multiplies all numbers of features

    Attributes
    ----------
    widths : numbers of the features, from fine to coarse

    Raises
    ------
    ValueError : for other numbers.
    """

    def __init__(self, ndim: int, channels: int, width: float) -> None:
        super().__init__()
        checked_sizes(type(self).__name__, ndim, channels, width)
        self.ndim, self.channels, self.width = ndim, channels, width
        self.widths = _widths(width)

    @property
    def description(self) -> dict[str, Any]:
        """What an encoder like this one is made from."""
        numbers = {name: getattr(self, name) for name in ("ndim", "channels", "width")}
        return {"architecture": type(self).__name__, **numbers}

    @abstractmethod
    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> list[torch.Tensor]:
        """Features (B, widths[i], ...) at 1/2, 1/4, ... 1/64."""


@final
class StackedEncoder(Encoder):
    """Features of two images stacked on their channels, as in FlowNetS; parameters as of `Encoder`."""

    def __init__(self, ndim: int, channels: int, width: float) -> None:
        super().__init__(ndim, channels, width)
        self.stages = _stages(ndim, (2 * channels, *self.widths), 0)

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> list[torch.Tensor]:
        """Features (B, widths[i], ...) at 1/2, 1/4, ... 1/64."""
        return _through(self.stages, torch.cat([fixed, moving], dim=1))


@final
class SiameseEncoder(Encoder):
    """Features of each image, their correlation, and what follows from it, as in FlowNetC; parameters as of `Encoder`."""

    def __init__(self, ndim: int, channels: int, width: float) -> None:
        super().__init__(ndim, channels, width)
        self.reach, self.step = _REACH[ndim]
        shared = self.widths[:3]
        self.own = nn.ModuleList(
            activated(convolution(ndim, inputs, outputs, kernel, 2))
            for (inputs, outputs), kernel in zip(pairwise((channels, *shared)), _KERNELS, strict=False)
        )
        redirected = features(_REDIRECTED, width)
        self.redirect = activated(convolution(ndim, shared[2], redirected, 1))
        self.activation = activation()
        seen = redirected + displacements(ndim, self.reach, self.step)
        self.joined = activated(convolution(ndim, seen, self.widths[2], 3))
        self.stages = _stages(ndim, self.widths[2:], 3)

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> list[torch.Tensor]:
        """Features (B, widths[i], ...) at 1/2, 1/4, ... 1/64; the first two are the fixed image's alone."""
        # both images in one pass: half as many, twice as large steps
        both = _through(self.own, torch.cat([fixed, moving]))
        (first, _), (second, _), (third, other) = (part.chunk(2) for part in both)
        compared = self.activation(correlation(third, other, self.reach, self.step))
        joined = self.joined(torch.cat([self.redirect(third), compared], dim=1))
        return [first, second, joined, *_through(self.stages, joined)]


def _widths(width: float) -> tuple[int, ...]:
    return tuple(features(n, width) for n in _WIDTHS)


def _stages(ndim: int, widths: tuple[int, ...], begin: int) -> nn.ModuleList:
    """The stages from number `begin` on, from widths[i] to widths[i + 1] features."""
    stages = []
    for number, (inputs, outputs) in enumerate(pairwise(widths), start=begin):
        more = [activated(convolution(ndim, outputs, outputs, 3))] if number >= 2 else []
        stages.append(nn.Sequential(activated(convolution(ndim, inputs, outputs, _KERNELS[number], 2)), *more))
    return nn.ModuleList(stages)


def _through(stages: nn.ModuleList, x: torch.Tensor) -> list[torch.Tensor]:
    """What comes out of every stage."""
    found = []
    for stage in stages:
        x = stage(x)
        found.append(x)
    return found
