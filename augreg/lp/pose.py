"""Where a registration stands, and how its unknowns move it: phi = base @ affine, or phi = base @ (id + v) with a B-spline v.

Both are linear in the unknowns c to first order: a keypoint's displacement along a direction d on the fixed side is the row

    d . dv(p)  (matrix groups),      (J_v^-T d) . dv(p)  (B-splines, J_v = D(id + v): the step acts behind v).

Matrix steps compose, so c counts from where the pose stands; a B-spline's coefficients add up and c is their total.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse

from augreg.geometry.grid import FloatArray
from augreg.geometry.transforms import Affine, BSpline, Transform
from augreg.lp.models import MatrixModel, SplineModel
from augreg.lp.program import Terms


class Pose(ABC):
    """A transform under way."""

    @property
    @abstractmethod
    def transform(self) -> Transform:
        """phi."""

    @property
    @abstractmethod
    def coefficients(self) -> FloatArray:
        """The unknowns c where the pose stands, (K,)."""

    @abstractmethod
    def rows(self, points: FloatArray, directions: FloatArray) -> scipy.sparse.csr_array:
        """First-order displacements along directions (N, D) at points (N, D), as rows (N, K) of c."""

    @abstractmethod
    def penalties(self, reach: float) -> list[Terms]:
        """Bounds and smoothness; `reach` mm is a trust region where nothing else bounds the step."""

    @property
    @abstractmethod
    def smoothness(self) -> tuple[scipy.sparse.csr_array, float]:
        """R and lambda of the term lambda |R c|_1; R may have no rows."""

    @abstractmethod
    def moved(self, c: FloatArray) -> Pose | None:
        """The pose with unknowns c, brought within their bounds; None if it would fold."""


@dataclass(frozen=True, eq=False)
class MatrixPose(Pose):
    """phi = base @ affine, affine a member of the model's group."""

    model: MatrixModel
    base: Transform
    affine: Affine

    @cached_property
    def transform(self) -> Transform:
        """base @ affine."""
        return self.base @ self.affine

    @property
    def coefficients(self) -> FloatArray:
        """0: steps compose."""
        return np.zeros(self.model.unknowns)

    def rows(self, points: FloatArray, directions: FloatArray) -> scipy.sparse.csr_array:
        """d . dv(p)."""
        return self.model.rows(points, directions)

    def penalties(self, reach: float) -> list[Terms]:
        """A trust region."""
        return self.model.penalties(reach)

    @property
    def smoothness(self) -> tuple[scipy.sparse.csr_array, float]:
        """None."""
        return scipy.sparse.csr_array((0, self.model.unknowns)), 0.0

    def moved(self, c: FloatArray) -> MatrixPose | None:
        """The affine map behind which the step has gone, projected to the group; a step never mirrors."""
        step = self.model.step(c)
        return MatrixPose(self.model, self.base, self.affine.after(step)) if np.linalg.det(step.matrix) > 0 else None


@dataclass(frozen=True, eq=False)
class SplinePose(Pose):
    """phi = base @ (id + v), v the B-spline with coefficients c."""

    model: SplineModel
    base: Transform
    c: FloatArray

    @cached_property
    def spline(self) -> BSpline:
        """id + v."""
        return self.model.coefficients(self.c)

    @cached_property
    def transform(self) -> Transform:
        """base @ (id + v)."""
        return self.base @ self.spline

    @property
    def coefficients(self) -> FloatArray:
        """The total."""
        return self.c

    def rows(self, points: FloatArray, directions: FloatArray) -> scipy.sparse.csr_array:
        """(J_v^-T d) . dv(p)."""
        covectors = np.linalg.solve(np.swapaxes(self.spline.jacobian(points), 1, 2), directions[..., None])[..., 0]
        return self.model.rows(points, covectors)

    def penalties(self, reach: float) -> list[Terms]:
        """Bounds of the total, and smoothness."""
        return self.model.penalties

    @property
    def smoothness(self) -> tuple[scipy.sparse.csr_array, float]:
        """Second differences of the coefficients."""
        return self.model.second_differences, self.model.smoothness

    def moved(self, c: FloatArray) -> SplinePose:
        """Other coefficients, clipped to the bounds."""
        return SplinePose(self.model, self.base, self.model.clipped(c))
