"""From shape vectors to maps psi: template -> instance.

A shape is a vector of displaced points, and psi is or comes from a cubic B-spline:

    LandmarkMaps       landmarks                      psi = id + u, u a smoothing thin-plate spline through their displacements
    DisplacementMaps   nodes of the control grid      psi = id + u, u the B-spline through their displacements
    VelocityMaps       nodes of the control grid      psi = exp(v), v the B-spline through them: never folds, B = exp(-v)

All three are linear from the points to the coefficients of u or v, so a mode of the points is a mode of the coefficients. The
last two are dense models: they know of every place, at the price of long vectors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.splines import lift, through
from augreg.geometry.transforms import BSpline
from augreg.geometry.velocity import STEPS, logarithm
from augreg.sam.locality import GridPlaces, LandmarkPlaces, Places
from augreg.sam.motion import Displacement, Motion, Velocity


class Maps(ABC):
    """How a shape becomes a map; `dense` ones have points everywhere, not only where something is."""

    name: ClassVar[str]
    dense: ClassVar[bool]

    @property
    @abstractmethod
    def motion(self) -> Motion:
        """What the coefficients mean."""

    @abstractmethod
    def points(self, landmarks: FloatArray, control: Grid) -> FloatArray:
        """The points of the mean shape, (m, D) mm, of a model made from landmarks."""

    @abstractmethod
    def displaced(self, displacements: FloatArray, coefficients: FloatArray, control: Grid) -> FloatArray:
        """Residuals (n, m, D) mm of the training shapes: displacements of landmarks, and coefficients of u that follow them."""

    @abstractmethod
    def coefficients(self, displacements: FloatArray, points: FloatArray, template: Grid, control: Grid) -> FloatArray:
        """Coefficients (K, *control.shape, D) of displaced points (K, m, D) mm."""

    @abstractmethod
    def places(self, points: FloatArray, control: Grid, extent: float, objects: npt.NDArray[np.integer] | None) -> Places:
        """Where the points of the mean shape lie, for tapers.

        Parameters
        ----------
        points : points of the mean shape, (m, D) mm
        control : control grid of the maps
        extent : largest distance of the domain, mm
        objects : number of the object that each landmark belongs to, (m,)
        """


@dataclass(frozen=True, eq=False)
class LandmarkMaps(Maps):
    """Landmarks; `smoothing` (m,) mm^2 is lambda of the thin-plate spline at each, see `augreg.geometry.splines`."""

    smoothing: FloatArray
    name: ClassVar[str] = "landmarks"
    dense: ClassVar[bool] = False

    @property
    def motion(self) -> Motion:
        """Displacements."""
        return Displacement()

    def points(self, landmarks: FloatArray, control: Grid) -> FloatArray:
        """The landmarks."""
        return landmarks

    def displaced(self, displacements: FloatArray, coefficients: FloatArray, control: Grid) -> FloatArray:
        """The displacements."""
        return displacements

    def coefficients(self, displacements: FloatArray, points: FloatArray, template: Grid, control: Grid) -> FloatArray:
        """Coefficients of the thin-plate splines."""
        return lift(displacements, points, template, control, self.smoothing)

    def places(self, points: FloatArray, control: Grid, extent: float, objects: npt.NDArray[np.integer] | None) -> Places:
        """The landmarks."""
        return LandmarkPlaces(points, extent, objects)


class DenseMaps(Maps):
    """A vector at every node of the control grid."""

    dense: ClassVar[bool] = True

    def points(self, landmarks: FloatArray, control: Grid) -> FloatArray:
        """The nodes."""
        return control.points().reshape(-1, control.ndim)

    def coefficients(self, displacements: FloatArray, points: FloatArray, template: Grid, control: Grid) -> FloatArray:
        """Coefficients of the B-splines through the nodes."""
        return through(displacements.reshape(-1, *control.shape, control.ndim), control)

    def places(self, points: FloatArray, control: Grid, extent: float, objects: npt.NDArray[np.integer] | None) -> Places:
        """The control grid."""
        return GridPlaces(control, extent)


@dataclass(frozen=True)
class DisplacementMaps(DenseMaps):
    """A displacement at every node of the control grid."""

    name: ClassVar[str] = "displacement"

    @property
    def motion(self) -> Motion:
        """Displacements."""
        return Displacement()

    def displaced(self, displacements: FloatArray, coefficients: FloatArray, control: Grid) -> FloatArray:
        """u at the nodes."""
        values = [BSpline(c, control).displacement(control) for c in coefficients]
        return np.stack(values).reshape(len(values), -1, control.ndim)


@dataclass(frozen=True)
class VelocityMaps(DenseMaps):
    """A velocity at every node of the control grid; `steps` of the integration of psi = exp(v)."""

    steps: int = STEPS
    name: ClassVar[str] = "velocity"

    def __post_init__(self) -> None:
        Velocity(self.steps)  # it checks them

    @property
    def motion(self) -> Motion:
        """Velocities."""
        return Velocity(self.steps)

    def displaced(self, displacements: FloatArray, coefficients: FloatArray, control: Grid) -> FloatArray:
        """The velocities at the nodes whose exponentials displace them as u does."""
        values = [logarithm(BSpline(c, control).displacement(control), control) for c in coefficients]
        return np.stack(values).reshape(len(values), -1, control.ndim)
