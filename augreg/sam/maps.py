"""From shape vectors to maps psi: template -> instance.

A shape is a vector of displaced points, and psi is or comes from a cubic B-spline:

    LandmarkMaps       landmarks                      psi = id + u, u a smoothing thin-plate spline through their displacements
    DisplacementMaps   nodes of the control grid      psi = id + u, u the B-spline through their displacements
    VelocityMaps       nodes of the control grid      psi = exp(v), v the B-spline through them: never folds, B = exp(-v)

All three are linear from the points to the coefficients of u or v, so a mode of the points is a mode of the coefficients. The
last two are dense models: they know of every place, at the price of long vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.splines import lift, through
from augreg.geometry.transforms import BSpline, Transform
from augreg.geometry.velocity import STEPS, Exponential, logarithm
from augreg.sam.factors import Local
from augreg.sam.locality import Locality, grid_taper_factor, landmark_taper


class Maps(Protocol):
    """How a shape becomes a map; `dense` ones have points everywhere, not only where something is."""

    name: ClassVar[str]
    dense: ClassVar[bool]

    def points(self, landmarks: FloatArray, control: Grid) -> FloatArray:
        """The points of the mean shape, (m, D) mm, of a model made from landmarks."""

    def displaced(self, displacements: FloatArray, coefficients: FloatArray, control: Grid) -> FloatArray:
        """Residuals (n, m, D) mm of the training shapes: displacements of landmarks, and coefficients of u that follow them."""

    def coefficients(self, displacements: FloatArray, points: FloatArray, template: Grid, control: Grid) -> FloatArray:
        """Coefficients (K, *control.shape, D) of displaced points (K, m, D) mm."""

    def transform(self, coefficients: FloatArray, control: Grid) -> Transform:
        """psi without pose of coefficients (*control.shape, D)."""

    def taper(
        self,
        points: FloatArray,
        control: Grid,
        locality: Locality,
        level: int,
        extent: float,
        objects: npt.NDArray[np.integer] | None,
    ) -> Local:
        """One level's taper at the points."""


@dataclass(frozen=True, eq=False)
class LandmarkMaps:
    """Landmarks; `smoothing` (m,) mm^2 is lambda of the thin-plate spline at each, see `augreg.geometry.splines`."""

    smoothing: FloatArray
    name: ClassVar[str] = "landmarks"
    dense: ClassVar[bool] = False

    def points(self, landmarks: FloatArray, control: Grid) -> FloatArray:
        """The landmarks."""
        return landmarks

    def displaced(self, displacements: FloatArray, coefficients: FloatArray, control: Grid) -> FloatArray:
        """The displacements."""
        return displacements

    def coefficients(self, displacements: FloatArray, points: FloatArray, template: Grid, control: Grid) -> FloatArray:
        """Of the thin-plate splines."""
        return lift(displacements, points, template, control, self.smoothing)

    def transform(self, coefficients: FloatArray, control: Grid) -> Transform:
        """The B-spline."""
        return BSpline(coefficients, control)

    def taper(
        self,
        points: FloatArray,
        control: Grid,
        locality: Locality,
        level: int,
        extent: float,
        objects: npt.NDArray[np.integer] | None,
    ) -> Local:
        """At the landmarks."""
        return landmark_taper(points, locality, level, extent, objects)


@dataclass(frozen=True)
class DisplacementMaps:
    """A displacement at every node of the control grid."""

    name: ClassVar[str] = "displacement"
    dense: ClassVar[bool] = True

    def points(self, landmarks: FloatArray, control: Grid) -> FloatArray:
        """The nodes."""
        return control.points().reshape(-1, control.ndim)

    def displaced(self, displacements: FloatArray, coefficients: FloatArray, control: Grid) -> FloatArray:
        """u at the nodes."""
        fields = [BSpline(c, control).displacement(control) for c in coefficients]
        return np.stack(fields).reshape(len(fields), -1, control.ndim)

    def coefficients(self, displacements: FloatArray, points: FloatArray, template: Grid, control: Grid) -> FloatArray:
        """Of the B-splines through the nodes."""
        return through(displacements.reshape(-1, *control.shape, control.ndim), control)

    def transform(self, coefficients: FloatArray, control: Grid) -> Transform:
        """The B-spline."""
        return BSpline(coefficients, control)

    def taper(
        self,
        points: FloatArray,
        control: Grid,
        locality: Locality,
        level: int,
        extent: float,
        objects: npt.NDArray[np.integer] | None,
    ) -> Local:
        """On the control grid."""
        return grid_taper_factor(control, locality, level, extent)


@dataclass(frozen=True)
class VelocityMaps(DisplacementMaps):
    """A velocity at every node of the control grid; `steps` of the integration of psi = exp(v)."""

    steps: int = STEPS
    name: ClassVar[str] = "velocity"

    def displaced(self, displacements: FloatArray, coefficients: FloatArray, control: Grid) -> FloatArray:
        """The velocities at the nodes whose exponentials displace them as u does."""
        fields = [logarithm(BSpline(c, control).displacement(control), control) for c in coefficients]
        return np.stack(fields).reshape(len(fields), -1, control.ndim)

    def transform(self, coefficients: FloatArray, control: Grid) -> Transform:
        """exp(v)."""
        return Exponential(BSpline(coefficients, control), self.steps)
