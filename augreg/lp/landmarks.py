"""Landmark pairs that a registration must meet: rows of the same linear program.

Per axis e and landmark pair (x, y), to first order in the step dv,

    |e . (phi(x) + D phi(x) dw(x) - y)| <= tolerance,

where dw is the step seen as a displacement on the fixed side. What is beyond the tolerance costs; at any weight large enough
the program has the same solution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse

from augreg.grid import FloatArray
from augreg.lp.pose import Pose
from augreg.lp.program import Rows, near
from augreg.transforms import Transform


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

    def missed(self, transform: Transform) -> tuple[npt.NDArray[np.int64], float]:
        """The pairs that miss the tolerance by more than a tenth of it or of a mm, and the largest shortfall, mm."""
        short = np.abs(transform(self.fixed) - self.moving).max(axis=1) - self.tolerance
        return np.flatnonzero(short > 0.1 * max(self.tolerance, 1.0)), float(short.max())

    def rows(self, pose: Pose, weight: float, diagonal: float) -> Rows:
        """The rows for the coefficients of the next step.

        Parameters
        ----------
        weight : cost per mm beyond the tolerance
        diagonal : of the image, mm
        """
        jacobian = pose.transform.jacobian(self.fixed)
        axes = range(self.fixed.shape[1])
        matrix = scipy.sparse.vstack(
            [pose.rows(self.fixed, np.ascontiguousarray(jacobian[:, axis])) for axis in axes], format="csr"
        )
        residual = self.moving - pose.transform(self.fixed)
        target = residual.T.ravel() + matrix @ pose.coefficients
        return near(matrix, target, self.tolerance, weight, reach=4 * (diagonal + float(np.abs(residual).max())))
