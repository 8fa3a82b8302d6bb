"""What a registration needs of a network; others wrap one and are one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from augreg.networks.maps import Map


class Predictor(Protocol):
    """Anything that predicts a map from two images: a network, or what wraps one."""

    @property
    def ndim(self) -> int:
        """D."""

    @property
    def channels(self) -> int:
        """Of one image."""

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, C, *shape) as `predict` wants them."""

    def predict(self, fixed: torch.Tensor, moving: torch.Tensor) -> Map:
        """phi with fixed(x) = moving(phi(x)), for images (B, C, *shape) that are prepared."""


@dataclass(frozen=True, eq=False)
class Wrapper:
    """A predictor that asks another one.

    Parameters
    ----------
    network : the other one
    """

    network: Predictor

    @property
    def ndim(self) -> int:
        """D."""
        return self.network.ndim

    @property
    def channels(self) -> int:
        """Of one image."""
        return self.network.channels

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """As the other one wants them."""
        return self.network.prepare(images)
