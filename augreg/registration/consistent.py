"""Forward-backward consistency: trust a registration where its two directions agree.

With phi from fixed to moving and psi from moving to fixed,

    e(x) = |psi(phi(x)) - x|      (mm)

is small where both found the same correspondence, and large where one image shows what the other does not. Places where e is
above a tolerance are masked, and the registration runs once more without them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Image, Labels
from augreg.geometry.resampling import resample
from augreg.geometry.transforms import Transform
from augreg.registration.pair import Registration

# points along the longest axis at which the directions are compared
_LATTICE = 64
# share of the image that must remain
_LEAST = 0.1


def inconsistency(forward: Transform, backward: Transform, grid: Grid) -> FloatArray:
    """e(x) = |psi(phi(x)) - x| at the points of a grid, (*shape) mm."""
    points = grid.points()
    return np.linalg.norm(backward(forward(points)) - points, axis=-1)


@dataclass(frozen=True)
class ConsistentRegistration:
    """Any registration, made robust against what only one of the images shows.

    Parameters
    ----------
    registration : takes `fixed_mask` and `moving_mask`, such as `LPRegistration`
    tolerance : largest e(x) that is trusted, mm; default three voxels of the fixed image
    """

    registration: Registration
    tolerance: float | None = None

    def __call__(
        self, fixed: Image, moving: Image, *, fixed_mask: Labels | None = None, moving_mask: Labels | None = None
    ) -> Transform:
        """phi, fixed space to moving space; that of the first run where too little would remain.

        Raises
        ------
        ValueError : for what the registration refuses.
        """
        forward = self.registration(fixed, moving, fixed_mask=fixed_mask, moving_mask=moving_mask)
        backward = self.registration(moving, fixed, fixed_mask=moving_mask, moving_mask=fixed_mask)
        lattice = fixed.grid.with_shape([max(2, round(_LATTICE * n / max(fixed.grid.shape))) for n in fixed.grid.shape])
        tolerance = 3 * min(fixed.grid.spacing) if self.tolerance is None else self.tolerance
        trusted = resample(Labels((inconsistency(forward, backward, lattice) <= tolerance).astype(np.uint8), lattice), fixed.grid)
        kept = trusted.values != 0
        if fixed_mask is not None:
            kept &= resample(fixed_mask, fixed.grid).values != 0
        if kept.all() or kept.mean() < _LEAST:
            return forward
        mask = Labels(kept.astype(np.uint8), fixed.grid)
        return self.registration(fixed, moving, fixed_mask=mask, moving_mask=moving_mask)
