"""FlowNetS and FlowNetC (Dosovitskiy, Fischer et al., ICCV 2015), in 2-D and 3-D, with a width multiplier.

An encoder of two images and a decoder with displacements at five scales, on cells of 4, 8, ... 64 voxels (see
`augreg.networks.cells`). Layers and numbers of parameters are those of the published networks; the first weights are not in one
place: the heads start near zero, see `augreg.networks.architectures.decoder`.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, final

import torch

from augreg.networks.architectures.decoder import FlowDecoder
from augreg.networks.architectures.encoder import Encoder, SiameseEncoder, StackedEncoder
from augreg.networks.architectures.layers import checked_sizes
from augreg.networks.maps import Displacement
from augreg.networks.network import Network, seeded
from augreg.networks.windows import local_contrast

# voxels along the side of a cell of the finest displacement
_FINEST = 4


class FlowNet(Network):
    """A network that predicts displacements between two images.

    Parameters
    ----------
    ndim : D, 2 or 3
    channels : number of channels of one image
    width : multiplies all numbers of features
    window : voxels, an odd number, within which contrast is normalised first (see `augreg.networks.windows`); None for images as
        they are

    Raises
    ------
    ValueError : for other numbers.
    """

    def __init__(self, ndim: int, channels: int = 1, width: float = 1.0, window: int | None = None) -> None:
        super().__init__()
        name = type(self).__name__
        checked_sizes(name, ndim, channels, width)
        if window is not None and (window < 3 or window % 2 == 0):
            raise ValueError(f"{name}: expected a window of 3 voxels or more, an odd number, got {window}")
        self.ndim, self.channels, self.width, self.window = ndim, channels, width, window
        self.encoder = self._encoder()
        self.decoder = FlowDecoder(ndim, self.encoder.widths, width)

    @abstractmethod
    def _encoder(self) -> Encoder:
        """Features of two images: what networks differ in."""

    @property
    def description(self) -> dict[str, Any]:
        """Its numbers."""
        parts = {name: getattr(self, name) for name in ("ndim", "channels", "width", "window")}
        return {"architecture": type(self).__name__, **parts}

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> list[Displacement]:
        """Displacements on cells of 4, 8, ... 64 voxels; images (B, C, *shape) of any size."""
        shape = tuple(fixed.shape[2:])
        if self.window is not None:
            fixed, moving = (local_contrast(images, self.window) for images in (fixed, moving))
        numbers = self.decoder(self.encoder(fixed, moving))
        return [Displacement(u, shape, (_FINEST * 2**k,) * self.ndim, self.unit) for k, u in enumerate(numbers)]


@final
class FlowNetS(FlowNet):
    """Both images stacked on their channels; see `FlowNet`."""

    def _encoder(self) -> StackedEncoder:
        return StackedEncoder(self.ndim, self.channels, self.width)


@final
class FlowNetC(FlowNet):
    """Features of each image, compared by their correlation; see `FlowNet`."""

    def _encoder(self) -> SiameseEncoder:
        return SiameseEncoder(self.ndim, self.channels, self.width)


def seeded_network(
    seed: int,
    ndim: int,
    width: float,
    *,
    architecture: type[FlowNet] = FlowNetS,
    channels: int = 1,
    window: int | None = None,
) -> FlowNet:
    """A FlowNet whose first weights depend on the seed alone; parameters as of `FlowNet`."""
    return seeded(seed, lambda: architecture(ndim, channels, width, window))
