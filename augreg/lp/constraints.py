"""What a registration must meet besides the images: terms of the same linear program.

A step is seen as a displacement dw on the fixed side, phi <- phi o (id + dw). To first order:

landmarks      |e . (phi(x) + J dw(x) - y)| <= tolerance           per axis e and pair (x, y), J = D phi(x)
rigid mask     J^T J + S + S^T = I,    S = J^T J D dw(x)            at points x of the mask

What is beyond costs; at any weight large enough the program has the same solution, and it is never infeasible: what is not met
is told by `shortfall`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.transforms import Transform
from augreg.lp.pose import Pose
from augreg.lp.program import Terms, near, stacked
from augreg.registration import Pair

# points at which a mask is held rigid, about
_HELD = 300
# strain that counts as rigid
_STIFF = 1e-3


class Constraint(ABC):
    """Terms of the program."""

    @abstractmethod
    def terms(self, pose: Pose, keypoints: int) -> Terms:
        """For the coefficients of the next step; weighted so that all keypoints together do not outweigh one row."""

    @abstractmethod
    def cost(self, transform: Transform, keypoints: int) -> float:
        """What is beyond, weighted alike."""

    @abstractmethod
    def shortfall(self, transform: Transform) -> str | None:
        """What the transform does not meet, in words; None if it meets all."""


@dataclass(frozen=True, eq=False)
class Landmarks(Constraint):
    """Pairs of points.

    Parameters
    ----------
    fixed, moving : positions in both images, (M, D) mm
    tolerance : largest distance along each axis, mm
    grid : grid of the fixed image
    """

    fixed: FloatArray
    moving: FloatArray
    tolerance: float
    grid: Grid

    @staticmethod
    def of(pair: Pair, tolerance: float) -> list[Constraint]:
        """Those of a pair; nothing without any."""
        if pair.fixed_points is None or pair.moving_points is None:
            return []
        return [Landmarks(pair.fixed_points, pair.moving_points, tolerance, pair.fixed.grid)]

    def terms(self, pose: Pose, keypoints: int) -> Terms:
        """D rows a pair."""
        jacobian = pose.transform.jacobian(self.fixed)
        axes = range(self.fixed.shape[1])
        matrix = stacked([pose.rows(self.fixed, np.ascontiguousarray(jacobian[:, axis])) for axis in axes])
        residual = self.moving - pose.transform(self.fixed)
        target = residual.T.ravel() + matrix @ pose.coefficients
        reach = 4 * (self.grid.diagonal + float(np.abs(residual).max()))
        return near(matrix, target, self.tolerance, self._weight(keypoints), reach)

    def cost(self, transform: Transform, keypoints: int) -> float:
        """Summed over pairs and axes."""
        beyond = np.maximum(np.abs(transform(self.fixed) - self.moving) - self.tolerance, 0)
        return self._weight(keypoints) * float(beyond.sum())

    def shortfall(self, transform: Transform) -> str | None:
        """The pairs that miss the tolerance by more than a tenth of it or of a mm."""
        short = np.abs(transform(self.fixed) - self.moving).max(axis=1) - self.tolerance
        missed = np.flatnonzero(short > 0.1 * max(self.tolerance, 1.0))
        if missed.size == 0:
            return None
        pairs = ", ".join(str(i) for i in missed[:8]) + (", ..." if missed.size > 8 else "")
        return f"landmarks: pairs {pairs} (from 0) miss the tolerance, by up to {short.max():.3g} mm"

    def _weight(self, keypoints: int) -> float:
        return keypoints / min(self.grid.spacing)


@dataclass(frozen=True, eq=False)
class RigidMask(Constraint):
    """Points around which the transform is to be a rotation and a translation.

    Parameters
    ----------
    points : positions, (M, D) mm
    step : step of the differences, mm
    size : size of the region, mm
    """

    points: FloatArray
    step: float
    size: float

    @staticmethod
    def of(pair: Pair) -> list[Constraint]:
        """A lattice of points inside a pair's rigid mask; nothing without one."""
        mask = pair.rigid_mask
        if mask is None:
            return []
        inside = np.argwhere(mask.values != 0)
        every = max(1, int(np.ceil((len(inside) / _HELD) ** (1 / mask.ndim))))
        kept = inside[np.all(inside % every == inside[0] % every, axis=1)]
        points = mask.grid.points_at(kept)
        return [RigidMask(points, min(mask.grid.spacing), float(np.linalg.norm(np.ptp(points, axis=0))) + max(mask.grid.spacing))]

    def terms(self, pose: Pose, keypoints: int) -> Terms:
        """D (D + 1) / 2 rows a point."""
        jacobian = pose.transform.jacobian(self.points)
        metric = np.swapaxes(jacobian, 1, 2) @ jacobian
        ndim = self.points.shape[1]
        parts, targets = [], []
        for a in range(ndim):
            for b in range(a, ndim):
                parts.append(self._slope(pose, metric[:, a], b) + self._slope(pose, metric[:, b], a))
                targets.append(float(a == b) - metric[:, a, b])
        matrix = stacked([part.tocsr() for part in parts])
        target = np.concatenate(targets)
        reach = 8 * (1 + float(np.abs(target).max()))
        return near(matrix, target + matrix @ pose.coefficients, _STIFF, self._weight(keypoints), reach)

    def cost(self, transform: Transform, keypoints: int) -> float:
        """Summed over points and pairs of axes."""
        strain = np.maximum(np.abs(self._strain(transform)) - _STIFF, 0)
        return self._weight(keypoints) * float(strain[:, *np.triu_indices(strain.shape[1])].sum())

    def shortfall(self, transform: Transform) -> str | None:
        """How much lengths change."""
        stretch = np.sqrt(np.maximum(1 + np.linalg.eigvalsh(self._strain(transform)), 0)) - 1
        drift = float(np.abs(stretch).max())
        return f"rigid mask: lengths inside change by up to {drift:.2%}" if drift > _STIFF else None

    def _strain(self, transform: Transform) -> FloatArray:
        jacobian = transform.jacobian(self.points)
        return np.swapaxes(jacobian, 1, 2) @ jacobian - np.eye(self.points.shape[1])

    def _slope(self, pose: Pose, directions: FloatArray, axis: int) -> scipy.sparse.csr_array:
        """Rows of the derivative along an axis of the displacement along `directions`."""
        aside = self.step * np.eye(self.points.shape[1])[axis]
        d = np.ascontiguousarray(directions)
        return (pose.rows(self.points + aside, d) - pose.rows(self.points - aside, d)) / (2 * self.step)

    def _weight(self, keypoints: int) -> float:
        return keypoints * self.size
