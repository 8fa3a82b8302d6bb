"""Networks that mark structures in each image by itself, and register what they have marked.

    m_F, m_M = marker(F), marker(M)                     probabilities of K structures at every voxel
    phi = network((F, m_F), (M, m_M))                   images, and behind them their marks as further channels

    Moments:   A = diag(s),   s_a = sd_a(m_M) / sd_a(m_F),   phi(c(m_F)) = c(m_M)

with c the centroid and sd_a the standard deviation along axis a of the squared sum of an image's marks. Labels are needed in
training alone: `augreg.training.Outlined` holds the marks against them. This is the form in which weak labels serve today
(segment first, register what is segmented), in one network that learns both; Hu et al. (MICCAI 2018) regress the affine map
from features of both images at once. A shift of an image shifts its marks, so the map follows without having learned to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import nn

from augreg.networks.architectures.marker import Committee, Marker
from augreg.networks.maps import AffineMap, Map
from augreg.networks.network import Network
from augreg.networks.warping import positions

# of the sums of marks: an image without any has its moments about its centre
_FAINT = 1e-6
# scales beyond these are those of marks that have failed
_LEAST, _MOST = 0.5, 2.0


class MarkedMaps(list[Map]):
    """Maps from fine to coarse, and what was marked on the way.

    Attributes
    ----------
    fixed, moving : marks of both images, (B, K, *shape)
    """

    def __init__(self, maps: Sequence[Map], fixed: torch.Tensor, moving: torch.Tensor) -> None:
        super().__init__(maps)
        self.fixed, self.moving = fixed, moving


@final
class Marked(Network):
    """A network that sees images and their marks.

    Parameters
    ----------
    markers : one for both images, or one of the fixed and one of the moving images, for two scanners; each may be a `Committee`
    network : a network of images with as many more channels as there are marks, which stand last

    Raises
    ------
    ValueError : for parts that do not fit each other.
    """

    def __init__(self, markers: Sequence[Marker | Committee], network: Network) -> None:
        super().__init__()
        kinds = [(marker.ndim, marker.channels, marker.marks) for marker in markers]
        if len(markers) not in (1, 2) or len(set(kinds)) != 1:
            raise ValueError(f"Marked: expected one marker or two alike in dimension, channels and marks, got {kinds}")
        ndim, channels, marks = kinds[0]
        if (network.ndim, network.channels) != (ndim, channels + marks):
            raise ValueError(
                f"Marked: expected a network of {ndim} dimensions and {channels + marks} channels, image and marks, got "
                f"{network.ndim} and {network.channels}"
            )
        self.markers, self.network = nn.ModuleList(markers), network
        self.ndim, self.channels, self.unit = ndim, channels, network.unit

    @property
    def description(self) -> dict[str, Any]:
        """Its parts, the network last."""
        markers: list[Marker | Committee] = list(self.markers)  # type: ignore[arg-type]  # modules in a list have lost their type
        return {"architecture": "Marked", "parts": [*(one.description for one in markers), self.network.description]}

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> MarkedMaps:
        """Maps from fine to coarse."""
        if len(self.markers) == 1:
            # one pass for both
            marks = self.markers[0](torch.cat([fixed, moving])).chunk(2)
        else:
            marks = tuple(marker(images) for marker, images in zip(self.markers, (fixed, moving), strict=True))
        seen = (torch.cat([images, found.to(images.dtype)], dim=1) for images, found in zip((fixed, moving), marks, strict=True))
        return MarkedMaps(self.network(*seen), *marks)


@final
class Moments(Network):
    """Scales and a shift that put moments of marks on each other; without parameters, for a part of `Marked`.

    Parameters
    ----------
    ndim : D, 2 or 3
    channels : of an image with its marks
    marks : K, how many of the last channels are marks

    Raises
    ------
    ValueError : for other numbers.
    """

    def __init__(self, ndim: int, channels: int = 2, marks: int = 1) -> None:
        super().__init__()
        if ndim not in (2, 3) or not 1 <= marks <= channels:
            raise ValueError(f"Moments: expected 2 or 3 dimensions and marks among the channels, got {ndim}, {marks}, {channels}")
        self.ndim, self.channels, self.marks = ndim, channels, marks

    @property
    def description(self) -> dict[str, Any]:
        """Its numbers."""
        return {"architecture": "Moments", "ndim": self.ndim, "channels": self.channels, "marks": self.marks}

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> list[AffineMap]:
        """One map."""
        with torch.autocast(fixed.device.type, enabled=False):
            (a, spread), (b, other) = (self._moments(images) for images in (fixed, moving))
            scales = (other / spread).sqrt().clamp(_LEAST, _MOST)
            # both are measured from the image's centre
            return [AffineMap(torch.diag_embed(scales), b - scales * a, tuple(fixed.shape[2:]), self.unit)]

    def _moments(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Centroids from the centre and variances along the axes, (B, D) voxels and voxels^2."""
        # squares: what is faint but everywhere would draw the centroid to the image's centre
        mass = images[:, -self.marks :].float().sum(dim=1).square().flatten(1) + _FAINT
        shape = images.shape[2:]
        middle = torch.tensor([(n - 1) / 2 for n in shape], device=images.device)
        places = (positions(shape, images.device) - middle).reshape(-1, self.ndim)
        share = mass / mass.sum(dim=1, keepdim=True)
        center = share @ places
        return center, (share @ places.square() - center.square()).clamp(min=1e-3)
