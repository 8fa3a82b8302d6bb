"""A network at a coarser scale: it sees block means, and far displacements are near ones there.

    AtScale(n, s):   phi(x) = s phi_s((x - o) / s) + o,   o = (s - 1) / 2,   phi_s = n(means of F over s^D voxels, of M likewise)

The maps of `Cascade([AtScale(n4, 4), AtScale(n2, 2), n1])` go from coarse to fine, composed, never added (Sokooti et al. 2019,
arXiv 1908.10235, has stages at 4, 2, 1; its displacements are added up, which errs by about |Du| |u|).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, final

import torch

from augreg.networks.cells import Sides, averages
from augreg.networks.maps import AffineMap, Composed, Displacement, Map, Velocity
from augreg.networks.network import Network


@final
class AtScale(Network):
    """A network that sees images at a coarser scale.

    Parameters
    ----------
    network : network of the coarse images
    scale : voxels along the side of a block; one number, or one per axis

    Raises
    ------
    ValueError : for other numbers.
    """

    def __init__(self, network: Network, scale: int | Sides) -> None:
        super().__init__()
        sides = (scale,) * network.ndim if isinstance(scale, int) else tuple(scale)
        if len(sides) != network.ndim or min(sides) < 1:
            raise ValueError(f"AtScale: expected a scale of 1 voxel or more, or {network.ndim} of them, got {scale}")
        self.network, self.sides = network, sides
        self.ndim, self.channels, self.unit = network.ndim, network.channels, network.unit * max(sides)

    @property
    def description(self) -> dict[str, Any]:
        """Its part and the scale."""
        return {"architecture": "AtScale", "parts": [self.network.description], "scale": list(self.sides)}

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """As the network wants them."""
        return self.network.prepare(images)

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> list[Map]:
        """Maps of the images as they are, from fine to coarse."""
        share = averages(torch.ones_like(fixed[:1, :1]), self.sides)
        coarse = [averages(images, self.sides) / share for images in (fixed, moving)]
        return [self._fine(phi, tuple(fixed.shape[2:])) for phi in self.network(*coarse)]

    def _fine(self, phi: Map, shape: Sides) -> Map:
        """A map of the coarse images as one of the images."""
        if isinstance(phi, Composed):
            return Composed(tuple(self._fine(part, shape) for part in phi.parts))
        # as tensors these hold numbers of coarse voxels, which differ from axis to axis where the blocks do
        sides = torch.tensor(self.sides, dtype=torch.float32, device=next(self.parameters()).device)
        if isinstance(phi, AffineMap):
            ratio = sides[:, None] / sides
            matrix, center = phi.matrix * ratio, phi.shape
            apart = [(n - m * s) / 2 for n, m, s in zip(shape, center, self.sides, strict=True)]
            off = matrix @ sides.new_tensor(apart) - sides.new_tensor(apart)
            return AffineMap(matrix, phi.translation * sides + off, shape, self.unit)
        if not isinstance(phi, Displacement | Velocity):
            raise TypeError(f"AtScale: expected a network that predicts maps of augreg, got {type(phi).__name__}")
        values = phi.values * (sides / max(self.sides)).reshape(-1, *[1] * self.ndim)
        cells = tuple(c * s for c, s in zip(phi.cells, self.sides, strict=True))
        return replace(phi, values=values, shape=shape, cells=cells, unit=phi.unit * max(self.sides))
