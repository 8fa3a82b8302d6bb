"""One flow from both directions.

A network predicts u from fixed to moving and w from moving to fixed. Where id + w is invertible, (id + w)^-1 = id + v is another
estimate of the first, with

    v(x) = -w(x + v(x)),

a fixed point, which iteration from u reaches where w changes slowly. The result is (u + v) / 2 there, and u elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from augreg.networks.predictor import Predictor
from augreg.networks.warping import composed

_ITERATIONS = 15
# voxels by which v may miss its equation
_TOLERANCE = 0.1


@dataclass(frozen=True, eq=False)
class SymmetricFlow:
    """A network asked in both directions.

    Parameters
    ----------
    network : of which both flows are averaged
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

    def predict(self, fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
        """The flow (B, D, *shape) voxels."""
        forward, backward = self.network.predict(torch.cat([fixed, moving]), torch.cat([moving, fixed])).chunk(2)
        inverse, residual = inverted(backward, forward)
        return torch.where(residual < _TOLERANCE, (forward + inverse) / 2, forward)


def inverted(flow: torch.Tensor, start: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """v with id + v = (id + flow)^-1, (B, D, *shape) voxels, and by how much it misses, (B, 1, *shape).

    Fixed-point iteration from `start`: exact where flow's derivative is below 1, else see the second part of the result.
    """
    v = start
    for _ in range(_ITERATIONS):
        v = v - composed(flow, v)
    return v, torch.linalg.vector_norm(composed(flow, v), dim=1, keepdim=True)
