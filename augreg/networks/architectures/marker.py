"""A network of one image that marks structures: probabilities of K labels at every voxel, from a U-net.

    m_k(x) in (0, 1),   sum_k m_k(x) < 1: what is left is the background

Where people have drawn structures in some 10 to 40 images, a network that sees one image at a time learns more from them than one
that sees pairs: each image is a lesson, not each of the pairs' many combinations.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, final

import torch
from torch import nn

from augreg.networks.architectures.layers import activated, checked_strides, convolution, cropped, features, in_full
from augreg.networks.cells import at_voxels

# features of the levels, the image's own first; the last number is that of all further ones
_WIDTHS = (16, 32, 64, 64)


@final
class Marker(nn.Module):
    """Structures of one image.

    Parameters
    ----------
    ndim : D, 2 or 3
    channels : number of channels of the image
    marks : K, number of structures
    width : multiplies all numbers of features
    strides : strides of the stages, one number per axis each; by default three stages of 2 along every axis
    finest : number of stages between the image and the cells on which marks are found; between these they are linear. 1, the
        default, takes half the time of 0

    Raises
    ------
    ValueError : for other numbers.
    """

    def __init__(
        self,
        ndim: int,
        channels: int = 1,
        marks: int = 1,
        width: float = 1.0,
        strides: Sequence[Sequence[int]] | None = None,
        finest: int = 1,
    ) -> None:
        super().__init__()
        if ndim not in (2, 3) or min(channels, marks) < 1 or not width > 0:
            raise ValueError(
                f"Marker: expected 2 or 3 dimensions, channels, marks and width above 0, got {ndim}, {channels}, {marks}, {width}"
            )
        self.strides = checked_strides("Marker", ndim, [(2,) * ndim] * 3 if strides is None else strides)
        levels = len(self.strides)
        if not 0 <= finest < levels:
            raise ValueError(f"Marker: expected finest from 0 to {levels - 1}, below the number of stages, got {finest}")
        self.ndim, self.channels, self.marks, self.width, self.finest = ndim, channels, marks, width, finest
        self.cells = tuple(prod(stage[axis] for stage in self.strides[:finest]) for axis in range(ndim))
        widths = [features(_WIDTHS[min(k, len(_WIDTHS) - 1)], width) for k in range(levels + 1)]
        self.enter = activated(convolution(ndim, channels, widths[0], 3))
        self.down = nn.ModuleList(
            nn.Sequential(activated(convolution(ndim, n, m, 3, stride)), activated(convolution(ndim, m, m, 3)))
            for n, m, stride in zip(widths, widths[1:], self.strides, strict=False)
        )
        rising = range(levels - 1, finest - 1, -1)
        self.up = nn.ModuleList(activated(convolution(ndim, widths[k] + widths[k + 1], widths[k], 3)) for k in rising)
        self.head = convolution(ndim, widths[finest], marks + 1, 3)

    @property
    def description(self) -> dict[str, Any]:
        """Its numbers."""
        parts = {name: getattr(self, name) for name in ("ndim", "channels", "marks", "width", "finest")}
        return {"architecture": "Marker", **parts, "strides": [list(stage) for stage in self.strides]}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Probabilities (B, K, *shape) of the structures in images (B, C, *shape) of any size."""
        found = [self.enter(images)]
        for stage in self.down:
            found.append(stage(found[-1]))
        x = found.pop()
        for join, stride in zip(self.up, reversed(self.strides), strict=False):
            own = found.pop()
            wide = nn.functional.interpolate(x, scale_factor=tuple(map(float, stride)), mode="nearest")
            x = join(torch.cat([own, cropped(wide, own.shape[2:])], dim=1))
        # float32 whatever the features are
        return torch.softmax(at_voxels(in_full(self.head, x), self.cells, images.shape[2:]), dim=1)[:, 1:]


@final
class Committee(nn.Module):
    """Markers that were trained apart, and err apart: the mean of their probabilities.

    Parameters
    ----------
    markers : alike in dimension, channels and marks

    Raises
    ------
    ValueError : for none, or markers that do not fit each other.
    """

    def __init__(self, markers: Sequence[Marker]) -> None:
        super().__init__()
        kinds = [(marker.ndim, marker.channels, marker.marks) for marker in markers]
        if len(set(kinds)) != 1:
            raise ValueError(f"Committee: expected one marker or more, alike in dimension, channels and marks, got {kinds}")
        self.markers = nn.ModuleList(markers)
        self.ndim, self.channels, self.marks = kinds[0]

    @property
    def description(self) -> dict[str, Any]:
        """Its markers."""
        markers: list[Marker] = list(self.markers)  # type: ignore[arg-type]  # modules in a list have lost their type
        return {"architecture": "Committee", "parts": [marker.description for marker in markers]}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Probabilities (B, K, *shape) of the structures in images (B, C, *shape)."""
        return torch.stack([marker(images) for marker in self.markers]).mean(dim=0)
