"""One map from both directions.

A network predicts u from fixed to moving and w from moving to fixed. Where id + w is invertible, (id + w)^-1 = id + v is another
estimate of the first, with

    v(x) = -w(x + v(x)),

a fixed point, which iteration from u reaches where w changes slowly. The result is (u + v) / 2 there, and u elsewhere. Affine
maps have exact inverses, and their mean is affine; of velocities it is half their difference, since the inverse of exp(v) is
exp(-v).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from augreg.networks.maps import AffineMap, Displacement, Map, Velocity
from augreg.networks.predictor import Wrapper
from augreg.networks.warping import inverted

# voxels by which v may miss its equation
_TOLERANCE = 0.1


@dataclass(frozen=True, eq=False)
class SymmetricFlow(Wrapper):
    """A network asked in both directions.

    Parameters
    ----------
    network : network whose maps of both directions are averaged
    """

    def predict(self, fixed: torch.Tensor, moving: torch.Tensor) -> Map:
        """A velocity or an affine map where the network predicts such, else a displacement."""
        both = self.network.predict(torch.cat([fixed, moving]), torch.cat([moving, fixed]))
        if isinstance(both, Velocity):
            there, back = both.values.chunk(2)
            return replace(both, values=(there - back) / 2)
        if isinstance(both, AffineMap):
            count = len(fixed)
            first, second = both[:count], both[count:].inverse()
            means = [(a + b) / 2 for a, b in ((first.matrix, second.matrix), (first.translation, second.translation))]
            return replace(first, matrix=means[0], translation=means[1])
        forward, backward = both.flow().chunk(2)
        inverse, residual = inverted(backward, forward)
        return Displacement.of(torch.where(residual < _TOLERANCE, (forward + inverse) / 2, forward))
