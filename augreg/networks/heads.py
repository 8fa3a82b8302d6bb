"""What makes maps of another kind from what a network finds.

    VelocityFlow(network)       the numbers of displacements, at every scale, are velocities
    Antisymmetric(network)      v = (n(F, M) - n(M, F)) / 2: the maps of both directions are inverses of each other, exactly
    AffineFlow(encoder)         an affine map about the image's centre, from features of the whole image

The head of FlowNet, displacements on cells, has no parameters: see `augreg.networks.architectures.flownet`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, final

import torch
from torch import nn

from augreg.networks.architectures.encoder import Encoder
from augreg.networks.maps import FEW_STEPS, AffineMap, Displacement, Map, Velocity
from augreg.networks.network import Network

# along each axis: one mean of all would not know where things lie
_POOLED = 3


@final
class VelocityFlow(Network):
    """The displacements of a network taken as velocities: maps that do not fold, and whose inverses are exact.

    Parameters
    ----------
    network : one that predicts displacements, such as `FlowNetS`
    steps : number of steps of the integration, see `augreg.networks.maps.Velocity`
    """

    def __init__(self, network: Network, steps: int = FEW_STEPS) -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"VelocityFlow: expected 1 step or more, got {steps}")
        self.network, self.steps = network, steps
        self.ndim, self.channels, self.unit = network.ndim, network.channels, network.unit

    @property
    def description(self) -> dict[str, Any]:
        """Its part and a number."""
        return {"architecture": "VelocityFlow", "parts": [self.network.description], "steps": self.steps}

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """As the network wants them."""
        return self.network.prepare(images)

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> list[Velocity]:
        """Velocities from fine to coarse."""
        return [self._velocity(phi) for phi in self.network(fixed, moving)]

    def _velocity(self, phi: Map) -> Velocity:
        if not isinstance(phi, Displacement):
            raise TypeError(f"VelocityFlow: expected a network that predicts displacements, got {type(phi).__name__}")
        return Velocity(phi.values, phi.shape, phi.cells, phi.unit, self.steps)


@final
class Antisymmetric(Network):
    """A network of velocities asked in both directions: exchanging the images inverts the map.

    Parameters
    ----------
    network : one that predicts velocities
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.ndim, self.channels, self.unit = network.ndim, network.channels, network.unit

    @property
    def description(self) -> dict[str, Any]:
        """Its part."""
        return {"architecture": "Antisymmetric", "parts": [self.network.description]}

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """As the network wants them."""
        return self.network.prepare(images)

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> list[Velocity]:
        """Velocities from fine to coarse."""
        # each direction by itself: a batch of both may be added up in another order, and the sum would not be exactly 0
        both = zip(self.network(fixed, moving), self.network(moving, fixed), strict=True)
        return [self._half(there, back) for there, back in both]

    def _half(self, there: Map, back: Map) -> Velocity:
        if not (isinstance(there, Velocity) and isinstance(back, Velocity)):
            raise TypeError(f"Antisymmetric: expected a network that predicts velocities, got {type(there).__name__}")
        return replace(there, values=(there.values - back.values) / 2)


@final
class AffineFlow(Network):
    """An affine map from features of the whole image; new networks predict the identity.

        A = I + P,   t = p * sides / 2,      P and p D (D + 1) numbers, linear in the features' means over 3^D parts of the image

    With a gain g the means have mean 0 and deviation 1 over all of them first, and the numbers are multiplied by g. A step of
    Adam moves a thousand weights of each number at once: at rates that suit a U-net, maps of features as they are leave the image
    in the first hundred steps and do not come back.

    Parameters
    ----------
    encoder : encoder of two images, whose coarsest features are used
    gain : g; None leaves the means as they are
    """

    def __init__(self, encoder: Encoder, gain: float | None = None) -> None:
        super().__init__()
        if gain is not None and not gain > 0:
            raise ValueError(f"AffineFlow: expected a gain above 0, got {gain}")
        self.encoder, self.gain = encoder, gain
        self.ndim, self.channels = encoder.ndim, encoder.channels
        D = self.ndim
        self.numbers = nn.Linear(encoder.widths[-1] * _POOLED**D, D * (D + 1))
        nn.init.zeros_(self.numbers.weight)
        nn.init.zeros_(self.numbers.bias)

    @property
    def description(self) -> dict[str, Any]:
        """Its part and a number."""
        return {"architecture": "AffineFlow", "parts": [self.encoder.description], "gain": self.gain}

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> list[AffineMap]:
        """One map."""
        found = self.encoder(fixed, moving)[-1]
        D, shape = self.ndim, tuple(fixed.shape[2:])
        pool = nn.functional.adaptive_avg_pool2d if D == 2 else nn.functional.adaptive_avg_pool3d
        # a matrix in bfloat16 would round places to a voxel
        with torch.autocast(found.device.type, enabled=False):
            means = pool(found.float(), _POOLED).flatten(1)
            if self.gain is None:
                numbers = self.numbers(means)
            else:
                numbers = self.gain * self.numbers(nn.functional.layer_norm(means, means.shape[1:]))
            matrix = torch.eye(D, device=numbers.device) + numbers[:, : D * D].reshape(-1, D, D)
            half = torch.tensor(shape, dtype=torch.float32, device=numbers.device) / 2
            return [AffineMap(matrix, numbers[:, D * D :] * half, shape, self.unit)]


@final
class Cascade(Network):
    """Networks one after the other, trained jointly: each sees the moving image as the maps before it leave it.

        phi = phi_1 @ phi_2 @ ...,      phi_k = n_k(F, M o (phi_1 @ ... @ phi_(k-1)))

    The moving image is interpolated once for each, through the composed map. The maps are those of the last network, from fine to
    coarse, after those before it.

    Parameters
    ----------
    networks : networks of equal dimension and number of channels

    Raises
    ------
    ValueError : for fewer than two, or networks that do not fit each other.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__()
        if len(networks) < 2 or len({(network.ndim, network.channels) for network in networks}) != 1:
            kinds = [(network.ndim, network.channels) for network in networks]
            raise ValueError(f"Cascade: expected two or more networks of equal dimension and channels, got {kinds}")
        self.networks = nn.ModuleList(networks)
        self.ndim, self.channels, self.unit = networks[0].ndim, networks[0].channels, networks[-1].unit

    @property
    def description(self) -> dict[str, Any]:
        """Its parts."""
        return {"architecture": "Cascade", "parts": [network.description for network in self.networks]}

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """As the first network wants them."""
        prepared: torch.Tensor = self.networks[0].prepare(images)  # type: ignore[operator]  # modules in a list have lost their type
        return prepared

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> list[Map]:
        """Composed maps."""
        first, *others = self.networks
        maps: list[Map] = list(first(fixed, moving))
        for network in others:
            so_far = maps[0]
            maps = [so_far @ phi for phi in network(fixed, so_far.warp(moving))]
        return maps
