"""What all networks are: modules that look at two images and predict maps, from fine to coarse."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from augreg.networks.maps import Map

# voxels that a number of a network stands for: of FlowNet's order of displacements, in the images that it was made for
UNIT = 20.0


Made = TypeVar("Made", bound=nn.Module)


class Network(nn.Module, ABC):
    """A network of two images.

    Attributes
    ----------
    ndim : D, 2 or 3
    channels : number of channels of one image
    unit : size of the unit of the numbers in its maps, voxels; losses are in these units, so what is added to a loss is divided
        by it
    """

    ndim: int
    channels: int
    unit: float = UNIT

    @property
    @abstractmethod
    def description(self) -> dict[str, Any]:
        """What `augreg.networks.network_of` makes a network like this one from: numbers, texts and lists of them."""

    @abstractmethod
    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> Sequence[Map]:
        """Maps from fine to coarse; images (B, C, *shape) of any size, as `prepare` leaves them."""

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, C, *shape) as the network wants them, in training and use."""
        return normalised(images)

    def predict(self, fixed: torch.Tensor, moving: torch.Tensor) -> Map:
        """The finest map, on the network's device; images as of `forward`."""
        device = next(self.parameters()).device
        finest: Map = self(fixed.to(device), moving.to(device))[0]
        return finest


def seeded(seed: int, make: Callable[[], Made]) -> Made:
    """A module whose first weights depend on the seed alone; the state of torch's own randomness stays."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Every image (B, C, *shape) with mean 0 and standard deviation 1 over its pixels."""
    axes = tuple(range(1, images.ndim))
    mean = images.mean(axes, keepdim=True)
    deviation = images.std(axes, keepdim=True, correction=0)
    # a constant image has a deviation of its rounding alone
    least = 1e-6 * images.abs().amax(axes, keepdim=True).clamp(min=1e-30)
    return (images - mean) / torch.maximum(deviation, least)
