"""Volumes registered as pictures: what lies along an axis is projected, and what is found of the pictures is lifted.

    phi = start @ lift(phi_2),     phi_2 = registration(P F, P (M o start)),     lift(phi_2)(p) = (phi_2(p_1, p_2), p_3)

with p mm along the fixed image's axes, p_3 along that which is looked along, and P of `augreg.geometry.projections`. For what
moves in a plane, such as a body on a table; several axes in turn make a pose: `Chained(Projected(r, 2), Projected(r, 1))`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from augreg.geometry.grid import Grid
from augreg.geometry.projections import Projection, projected
from augreg.geometry.resampling import warp
from augreg.geometry.transforms import Affine
from augreg.registration.clock import Clock
from augreg.registration.method import Method, Registration, State, as_method
from augreg.registration.pair import Pair


@dataclass(frozen=True)
class Projected(Method):
    """A registration of pictures for volumes: a callable (fixed, moving) -> phi.

    Parameters
    ----------
    registration : registration of 2-D images that finds affine maps
    axis : index axis of the fixed image along which both are seen
    kinds, threshold : as of `augreg.projected`
    """

    registration: Registration
    axis: int = 2
    kinds: Sequence[Projection] = ("depth", "mean", "max")
    threshold: float | None = None

    def __post_init__(self) -> None:
        as_method("registration", self.registration)

    def _states(self, pair: Pair, clock: Clock) -> Iterator[State]:
        """Those of the registration of pictures, lifted."""
        scenes = pair.scenes
        fixed, moving = (image.with_values(image.values.astype(np.float32)) for image in (scenes.fixed, scenes.moving))
        moving = warp(moving, pair.start, fixed.grid, fill=float(moving.values.min()))
        pictures = [projected(image, self.axis, self.kinds, self.threshold) for image in (fixed, moving)]
        warnings = pair.warnings
        if unused := sorted(pair.known().keys() - {"initial"}):
            warnings = (*warnings, f"{', '.join(unused)}: not used by projections")
        for state in as_method("registration", self.registration)._states(Pair.of(*pictures), clock):
            if not isinstance(state.transform, Affine):
                kind = type(state.transform).__name__
                raise TypeError(
                    f"registration: expected an affine map of the projections, got {kind}; take an affine registration"
                )
            found = pair.start @ lifted(state.transform, fixed.grid, self.axis)
            yield replace(state, transform=found, warnings=tuple(dict.fromkeys((*warnings, *state.warnings))))


def lifted(phi: Affine, grid: Grid, axis: int) -> Affine:
    """A map of pictures along an axis of a grid, mm from its first voxel, as a map of its world that leaves this axis alone."""
    rest = [a for a in range(3) if a != axis % 3]
    matrix, translation = np.eye(3), np.zeros(3)
    matrix[np.ix_(rest, rest)], translation[rest] = phi.matrix, phi.translation
    frame = Affine(grid.axes, np.asarray(grid.origin))
    return frame.after(Affine(matrix, translation)).after(frame.inverse())
