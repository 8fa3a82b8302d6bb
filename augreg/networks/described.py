"""Networks that see descriptors of images instead of intensities: what a change of contrast leaves.

    network(d(F), d(M))

    mind      self-similarities of a voxel's neighbours, see `augreg.networks.losses.descriptors`: 4 channels in 2-D, 12 in 3-D
    edges     G * (g g^T) / (G * |g|^2 + s^2),   g = grad I, G the mean over 3 voxels along each axis, s = 0.025 of an image
              with deviation 1: directions of edges without their sign and height, 3 channels in 2-D, 6 in 3-D

A map of intensities r(I) that is smooth and nowhere flat changes g by a factor r'(I), so edges keep their directions; whoever
learns from descriptors of one contrast has to unlearn less in another.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import Any, final

import torch

from augreg.networks.losses.descriptors import self_similarity, slopes
from augreg.networks.maps import Map
from augreg.networks.network import Network
from augreg.networks.windows import window_mean

# edges below it are noise, 1 / voxel, in images as `prepare` leaves them; sides of the windows
_NOISE, _WINDOW = 0.025, 3


def edge_directions(images: torch.Tensor) -> torch.Tensor:
    """Directions of edges of normalised images (B, C, *shape), without sign: (B, C D (D + 1) / 2, *shape) float32."""
    with torch.autocast(images.device.type, enabled=False):
        g = slopes(images.float())
        ndim = images.ndim - 2
        lengths = g.square().sum(dim=2, keepdim=True)
        products = torch.stack([g[:, :, a] * g[:, :, b] for a, b in combinations_with_replacement(range(ndim), 2)], dim=2)
        both = window_mean(torch.cat([products, lengths], dim=2).flatten(1, 2), _WINDOW).unflatten(1, (images.shape[1], -1))
        return (both[:, :, :-1] / (both[:, :, -1:] + _NOISE**2)).flatten(1, 2)


DESCRIPTORS = {"mind": self_similarity, "edges": edge_directions}


def described_channels(kind: str, ndim: int) -> int:
    """Channels of the descriptor of an image with one channel."""
    return {"mind": 2 * ndim * (ndim - 1), "edges": ndim * (ndim + 1) // 2}[kind]


@final
class Described(Network):
    """A network of descriptors of images.

    Parameters
    ----------
    network : network of images with as many channels as their descriptors have
    kind : mind or edges

    Raises
    ------
    ValueError : for another descriptor, or a network with other channels.
    """

    def __init__(self, network: Network, kind: str = "mind") -> None:
        super().__init__()
        if kind not in DESCRIPTORS:
            raise ValueError(f"Described: expected one of {', '.join(DESCRIPTORS)}, got {kind!r}")
        each = described_channels(kind, network.ndim)
        if network.channels % each:
            raise ValueError(
                f"Described: expected a network of {each} channels for every channel of an image, got {network.channels}"
            )
        self.network, self.kind = network, kind
        self.ndim, self.channels, self.unit = network.ndim, network.channels // each, network.unit

    @property
    def description(self) -> dict[str, Any]:
        """Its part and its word."""
        return {"architecture": "Described", "parts": [self.network.description], "kind": self.kind}

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """As the network wants them, which may normalise contrast nearby; descriptors are those of what it leaves."""
        return self.network.prepare(images)

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> Sequence[Map]:
        """Maps of the network."""
        describe = DESCRIPTORS[self.kind]
        return self.network(describe(fixed), describe(moving))
