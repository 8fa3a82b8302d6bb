"""Any registration, looked at where it has something to look at, and made fold-free (after Cao et al., MICCAI 2017).

    phi_0 = registration(F, M),   psi_0 = registration(M, F),   p_j keypoints of F,   e_j = |psi_0(phi_0(p_j)) - p_j|
    phi   = splined(p_j, phi_0(p_j)), with trust 1 / (1 + (e_j / tolerance)^2) in pair j      (`augreg.matching.spline`)

In the paper a network predicts at keypoints only; here it is asked as it is, and what it says between them is not used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from augreg.geometry.grid import FloatArray
from augreg.keypoints.boundary import find_keypoints
from augreg.keypoints.pyramid import rasters
from augreg.matching.spline import splined
from augreg.registration.clock import Clock
from augreg.registration.method import Method, Registration, State, as_method, last
from augreg.registration.pair import Pair

# keypoints that a spline needs
_FEWEST = 8


@dataclass(frozen=True)
class SplinedRegistration(Method):
    """Any registration at keypoints, lifted to an affine map and a B-spline that does not fold; itself a registration.

    Parameters
    ----------
    registration : any registration, such as a network whose displacements fold
    keypoints : about how many keypoints of the fixed image it is asked at
    consistent : whether it is asked in the other direction too, and keypoints are trusted where both agree
    tolerance : disagreement of both directions that halves the trust, mm; default a voxel of the fixed image
    spacing : distance of the B-spline's control points, mm; see `splined`
    guard : least determinant of the B-spline, between 0 and 1

    Raises
    ------
    ValueError : for other numbers, and, when called, for fixed images with hardly any boundary.
    """

    registration: Registration
    keypoints: int = 1000
    consistent: bool = True
    tolerance: float | None = None
    spacing: float | None = None
    guard: float = 0.05

    def __post_init__(self) -> None:
        as_method("registration", self.registration)
        for name in ("keypoints", "tolerance", "spacing"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}: expected a positive number, got {value}")
        if not 0 < self.guard < 1:
            raise ValueError(f"guard: expected a determinant between 0 and 1, got {self.guard}")

    def _states(self, pair: Pair, clock: Clock) -> Iterator[State]:
        """Those of the registration, and one with the spline."""
        method = as_method("registration", self.registration)
        found = None
        for state in method._states(pair, clock):
            found = state
            yield state
        assert found is not None
        if clock.spent:
            yield found.late_saying(f"{clock.told} was spent before the spline: it was left out")
            return
        back = last(method._states(pair.exchanged(), clock.onward())) if self.consistent else None
        points = self._points(pair)
        partners = found.transform(points)
        trust = None if back is None else self._trust(pair, points, back.transform(partners))
        transform = splined(points, partners, pair.fixed.grid, trust=trust, spacing=self.spacing, guard=self.guard)
        yield replace(
            found,
            iteration=found.iteration + 1,
            objective=float("nan"),
            transform=transform,
            keypoints=len(points),
            seconds=clock.seconds,
            stage="spline",
        )

    def _points(self, pair: Pair) -> FloatArray:
        """Keypoints of the fixed image, (N, D) mm."""
        scenes = pair.scenes
        (raster,) = rasters(scenes.fixed, scenes.fixed_mask, [min(scenes.fixed.grid.spacing)])
        points = find_keypoints(raster, self.keypoints).points
        if len(points) < _FEWEST:
            raise ValueError(f"fixed: expected an image with boundaries, got {len(points)} keypoints; leave out the spline")
        return points

    def _trust(self, pair: Pair, points: FloatArray, returned: FloatArray) -> FloatArray:
        tolerance = self.tolerance or min(pair.fixed.grid.spacing)
        return 1 / (1 + np.square(np.linalg.norm(returned - points, axis=1) / tolerance))
