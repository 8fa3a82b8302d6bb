"""What the vectors of a shape mean: how a cubic B-spline through them becomes psi, template -> instance.

    Displacement    psi = id + u                  the spline is u
    Velocity        psi = exp(v), B = exp(-v)     the spline is v, a stationary velocity: psi never folds

Each is an object that makes the transform; programs that render choose by its type.
"""

from __future__ import annotations

from dataclasses import dataclass

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.transforms import BSpline, Transform
from augreg.geometry.velocity import STEPS, Exponential


@dataclass(frozen=True)
class Displacement:
    """Vectors are displacements."""

    def transform(self, coefficients: FloatArray, control: Grid) -> Transform:
        """psi of B-spline coefficients (*control.shape, D) mm."""
        return BSpline(coefficients, control)


@dataclass(frozen=True)
class Velocity:
    """Vectors are velocities, mm per unit of time.

    Parameters
    ----------
    steps : number of steps of the integration from time 0 to 1

    Raises
    ------
    ValueError : for less than one step.
    """

    steps: int = STEPS

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps: expected at least 1, got {self.steps}")

    def transform(self, coefficients: FloatArray, control: Grid) -> Transform:
        """psi of B-spline coefficients (*control.shape, D) mm."""
        return Exponential(BSpline(coefficients, control), self.steps)


Motion = Displacement | Velocity
