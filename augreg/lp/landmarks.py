"""Landmark pairs that a registration must meet: rows of the same linear program.

Per axis e and landmark pair (x, y), to first order in the step dv,

    |e . (phi(x) + D phi0 dv(x) - y)| <= tolerance,

where phi0 is what stands left of the deformation. What is beyond the tolerance costs; at any weight large enough the program has
the same solution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse

from augreg.grid import FloatArray
from augreg.lp.models import MatrixModel, SplineModel
from augreg.lp.program import Rows, near
from augreg.transforms import BSpline, Transform


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Pairs of points.

    Parameters
    ----------
    fixed, moving : (M, D) mm
    tolerance : mm, per axis
    """

    fixed: FloatArray
    moving: FloatArray
    tolerance: float

    @staticmethod
    def of(
        fixed_points: npt.ArrayLike | None, moving_points: npt.ArrayLike | None, tolerance: float, ndim: int
    ) -> Landmarks | None:
        """The pairs, checked; None without any.

        Raises
        ------
        ValueError : for only one of the two, or different numbers or dimensions.
        """
        if (fixed_points is None) != (moving_points is None):
            raise ValueError("landmarks: expected fixed_points and moving_points together, got only one of them")
        if fixed_points is None:
            return None
        fixed, moving = np.asarray(fixed_points, dtype=float), np.asarray(moving_points, dtype=float)
        if fixed.shape != moving.shape or fixed.ndim != 2 or fixed.shape[1] != ndim:
            raise ValueError(
                f"landmarks: expected equal numbers of {ndim}-D points, got shapes {fixed.shape} (fixed) and "
                f"{moving.shape} (moving)"
            )
        return Landmarks(fixed, moving, tolerance)

    def excess(self, transform: Transform) -> float:
        """How far the pairs are beyond the tolerance, mm, summed over pairs and axes."""
        return float(np.maximum(np.abs(transform(self.fixed) - self.moving) - self.tolerance, 0).sum())

    def rows(
        self,
        model: MatrixModel | SplineModel,
        transform: Transform,
        c: FloatArray,
        weight: float,
        diagonal: float,
        spline: BSpline | None = None,
    ) -> Rows:
        """The rows for the coefficients of the next step.

        Parameters
        ----------
        model : of the step; `spline` is the deformation so far, which stands on the right of `transform`, and c its coefficients
        weight : cost per mm beyond the tolerance
        diagonal : of the image, mm
        """
        jacobian = transform.jacobian(self.fixed)
        if spline is not None:
            jacobian = jacobian @ np.linalg.inv(spline.jacobian(self.fixed))
        axes = range(self.fixed.shape[1])
        matrix = scipy.sparse.vstack(
            [model.rows(self.fixed, np.ascontiguousarray(jacobian[:, axis])) for axis in axes], format="csr"
        )
        residual = self.moving - transform(self.fixed)
        target = residual.T.ravel() + matrix @ c
        return near(matrix, target, self.tolerance, weight, reach=4 * (diagonal + float(np.abs(residual).max())))
