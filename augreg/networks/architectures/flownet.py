"""FlowNetS and FlowNetC (Dosovitskiy, Fischer et al., ICCV 2015), in 2-D and 3-D, with a width multiplier.

An encoder of two images and a decoder with flows at five scales, the finest at 1/4 of the resolution. Flows are in voxels of the
full resolution divided by `FLOW_SCALE`, at every scale. Layers and numbers of parameters are those of the published networks; the
first weights are not in one place: the heads start near zero, see `augreg.networks.architectures.decoder`.

A cell of a flow at 1/2^k covers the voxels 2^k i to 2^k (i + 1) - 1; where a side is no multiple of 2^k the last cell reaches
beyond the image. So sizes may be any.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, final

import torch
from torch import nn

from augreg.networks.architectures.decoder import FlowDecoder
from augreg.networks.architectures.encoder import SiameseEncoder, StackedEncoder
from augreg.networks.architectures.layers import cropped
from augreg.networks.windows import local_contrast

FLOW_SCALE = 20.0
# voxels along the side of a cell of the finest flow
FINEST = 4


class FlowNet(nn.Module, ABC):
    """A network that predicts the flow between two images.

    Parameters
    ----------
    ndim : D, 2 or 3
    channels : of one image
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
        if ndim not in (2, 3) or channels < 1 or not width > 0:
            raise ValueError(f"{name}: expected 2 or 3 dimensions, channels and width above 0, got {ndim}, {channels}, {width}")
        if window is not None and (window < 3 or window % 2 == 0):
            raise ValueError(f"{name}: expected a window of 3 voxels or more, an odd number, got {window}")
        self.ndim, self.channels, self.width, self.window = ndim, channels, width, window
        self.encoder = self._encoder()
        self.decoder = FlowDecoder(ndim, self.encoder.widths, width)

    @abstractmethod
    def _encoder(self) -> StackedEncoder | SiameseEncoder:
        """Features of two images: what networks differ in."""

    @property
    def description(self) -> dict[str, Any]:
        """What `network_of` makes a network like this one from."""
        parts = {name: getattr(self, name) for name in ("ndim", "channels", "width", "window")}
        return {"architecture": type(self).__name__, **parts}

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> list[torch.Tensor]:
        """Flows (B, D, ...) at 1/4, 1/8, ... 1/64 of the resolution, voxels / FLOW_SCALE; images (B, C, *shape) of any size."""
        if self.window is not None:
            fixed, moving = (local_contrast(images, self.window) for images in (fixed, moving))
        return self.decoder(self.encoder(fixed, moving))

    def predict(self, fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
        """The flow at full resolution, (B, D, *shape) voxels, on the network's device; images (B, C, *shape) of any size."""
        device = next(self.parameters()).device
        return full_resolution(self(fixed.to(device), moving.to(device))[0], fixed.shape[2:])


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


ARCHITECTURES: dict[str, type[FlowNet]] = {"FlowNetS": FlowNetS, "FlowNetC": FlowNetC}


def network_of(description: Mapping[str, Any]) -> FlowNet:
    """A network with random weights as described.

    Raises
    ------
    ValueError : for an architecture that is not known. KeyError : for a description that lacks something.
    """
    name = description["architecture"]
    if name not in ARCHITECTURES:
        raise ValueError(f"architecture: expected one of {', '.join(ARCHITECTURES)}, got {name!r}")
    # files of before know no window
    return ARCHITECTURES[name](description["ndim"], description["channels"], description["width"], description.get("window"))


def full_resolution(flow: torch.Tensor, shape: torch.Size | tuple[int, ...]) -> torch.Tensor:
    """The finest flow, linearly interpolated, in voxels: (B, D, ...) -> (B, D, *shape) float32."""
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    # coordinates and flows in voxels need more digits than reduced precision has
    full = nn.functional.interpolate(flow.float() * FLOW_SCALE, scale_factor=FINEST, mode=mode, align_corners=False)
    return cropped(full, shape)
