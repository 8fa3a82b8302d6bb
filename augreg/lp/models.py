"""What a level's unknowns c do: displacements v(x) = sum_j b_j(x) c_j on the fixed side, linear in c.

Matrix models   v(x) = sum_j c_j G_j (x - x0) / r + t,   G_j generators of the group: skew matrices (rigid), and the identity
                (similarity), all matrices (affine). The step id + v is an affine map; rotations are projected back to the group.
B-spline        v(x) = sum_j beta3(x - x_j) c_j, phi = phi0 @ (id + v).

Fold-free: components of c along the grid's axes are bounded so that id + v is injective (`augreg.geometry.transforms.INJECTIVE`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse

from augreg.geometry.grid import FloatArray
from augreg.geometry.transforms import INJECTIVE, Affine, BSpline
from augreg.lp import _bundle_kernels
from augreg.lp.program import Terms, absolute, bounded
from augreg.threads import shared

Group = Literal["rigid", "similarity", "affine"]

# without that guarantee, in control spacings
_WIDE = 4.0
# nanoseconds per entry of a row, about
_ENTRY = 2


@dataclass(frozen=True, eq=False)
class MatrixModel:
    """Steps of a matrix group about a centre.

    Parameters
    ----------
    group : rigid, similarity or affine
    center : x0, (D,) mm
    radius : r, mm: scales the unknowns so that all of them are displacements, mm
    """

    group: Group
    center: FloatArray
    radius: float

    @cached_property
    def generators(self) -> FloatArray:
        """G_j, (J, D, D)."""
        ndim = len(self.center)
        pairs = list(itertools.product(range(ndim), repeat=2))
        single = {pair: np.zeros((ndim, ndim)) for pair in pairs}
        for pair, matrix in single.items():
            matrix[pair] = 1.0
        if self.group == "affine":
            return np.stack([single[pair] for pair in pairs])
        skew = [single[a, b] - single[b, a] for a, b in pairs if a < b]
        return np.stack(skew + ([np.eye(ndim)] if self.group == "similarity" else []))

    @property
    def unknowns(self) -> int:
        """Number of unknowns: generators, then the translation."""
        return len(self.generators) + len(self.center)

    def rows(self, points: FloatArray, directions: FloatArray) -> scipy.sparse.csr_array:
        """Rows d . v(p), (N, unknowns)."""
        arms = (points - self.center) / self.radius
        turning = (directions[:, :, None] * arms[:, None, :]).reshape(len(points), -1)
        if self.group != "affine":
            turning = turning @ self.generators.reshape(len(self.generators), -1).T
        dense = np.hstack([turning, directions])
        count, unknowns = dense.shape
        columns, starts = np.tile(np.arange(unknowns), count), np.arange(count + 1) * unknowns
        return scipy.sparse.csr_array((dense.ravel(), columns, starts), shape=dense.shape)

    def penalties(self, reach: float) -> list[Terms]:
        """A trust region: every unknown moves points by at most `reach` mm."""
        n = self.unknowns
        return [bounded(self._each, np.full(n, -reach), np.full(n, reach))]

    @cached_property
    def _each(self) -> scipy.sparse.csr_array:
        return scipy.sparse.eye_array(self.unknowns, format="csr")

    def step(self, c: FloatArray) -> Affine:
        """The map id + v, projected to the group."""
        ndim = len(self.center)
        matrix = np.eye(ndim) + np.einsum("j,jab->ab", c[:-ndim], self.generators) / self.radius
        return self.nearest(Affine.about(matrix, self.center, c[-ndim:]))

    def nearest(self, affine: Affine) -> Affine:
        """The nearest member of the group that maps the centre alike."""
        if self.group == "affine":
            return affine
        u, s, vt = np.linalg.svd(affine.matrix)
        matrix = u @ vt * (s.mean() if self.group == "similarity" else 1.0)
        return Affine.about(matrix, self.center, affine(self.center) - self.center)


@dataclass(frozen=True, eq=False)
class SplineModel:
    """Displacements of the free coefficients of a B-spline.

    Parameters
    ----------
    spline : gives the control grid; its coefficients do not matter
    smoothness : weight of the L1 norm of second differences, cost per mm
    fold_free : bound the coefficients so that id + v is injective
    """

    spline: BSpline
    smoothness: float
    fold_free: bool

    @property
    def unknowns(self) -> int:
        """D per free coefficient."""
        return int(self.spline.free.sum()) * self.spline.ndim

    def rows(self, points: FloatArray, directions: FloatArray) -> scipy.sparse.csr_array:
        """Rows d . v(p), (N, unknowns)."""
        count, ndim = points.shape
        grid = self.spline.grid
        numbers = self._numbers
        columns = np.empty((count, 4**ndim * ndim), dtype=np.int64)
        values = np.empty(columns.shape)
        fillers = np.empty(count, dtype=np.int64)
        frame = (np.asarray(grid.origin), grid.world_to_index, numbers.shape, numbers.reshape(-1))
        ends = (points, np.ascontiguousarray(directions), *frame)
        shared(_bundle_kernels.spline_rows, count, _ENTRY * columns.shape[1], *ends, columns, values, fillers)
        starts = np.arange(count + 1) * columns.shape[1]
        matrix = scipy.sparse.csr_array((values.ravel(), columns.ravel(), starts), shape=(count, self.unknowns))
        if fillers.any():
            matrix.sum_duplicates()
            matrix.eliminate_zeros()
        return matrix

    @cached_property
    def _numbers(self) -> npt.NDArray[np.int64]:
        """Of every control point the position of its coefficient among the unknowns, (n0, n1, n2); -1 where it is fixed at 0."""
        numbers = np.full(self.spline.grid.shape, -1, dtype=np.int64)
        numbers[self.spline.free] = np.arange(self.spline.free.sum())
        return numbers.reshape((1, *self.spline.grid.shape)[-3:])

    @property
    def limits(self) -> FloatArray:
        """Bounds of the components of all free coefficients along the grid's axes, (unknowns,) mm."""
        share = INJECTIVE[self.spline.ndim] if self.fold_free else _WIDE
        return np.tile(share * np.asarray(self.spline.grid.spacing), self.unknowns // self.spline.ndim)

    @cached_property
    def penalties(self) -> list[Terms]:
        """Bounds of the total coefficients, and smoothness."""
        # components along the grid's axes: Q^T c, exact also on oblique grids
        turn = np.asarray(self.spline.grid.direction).T
        turned = scipy.sparse.kron(scipy.sparse.eye_array(self.unknowns // self.spline.ndim), turn, format="csr")
        penalties = [bounded(turned, -self.limits, self.limits)]
        if self.smoothness > 0:
            penalties.append(absolute(self.second_differences, self.smoothness, 8 * float(np.max(self.limits))))
        return penalties

    def clipped(self, c: FloatArray) -> FloatArray:
        """The nearest coefficients within the bounds."""
        direction = np.asarray(self.spline.grid.direction)
        turned = c.reshape(-1, self.spline.ndim) @ direction
        return (np.clip(turned.ravel(), -self.limits, self.limits).reshape(turned.shape) @ direction.T).ravel()

    def coefficients(self, c: FloatArray) -> BSpline:
        """The B-spline with the free coefficients c."""
        values = np.zeros_like(self.spline.coefficients)
        values[self.spline.free] = c.reshape(-1, self.spline.ndim)
        return BSpline(values, self.spline.grid)

    @cached_property
    def second_differences(self) -> scipy.sparse.csr_array:
        """Second differences of c along the axes and mixed ones, per component; affine v are free of them."""
        ndim = self.spline.ndim
        inner = np.asarray(self.spline.grid.shape) - 6
        second = [scipy.sparse.diags_array([1.0, -2.0, 1.0], offsets=[0, 1, 2], shape=(n - 2, n)) for n in inner]
        first = [scipy.sparse.diags_array([-1.0, 1.0], offsets=[0, 1], shape=(n - 1, n)) for n in inner]
        blocks = []
        for a, b in itertools.combinations_with_replacement(range(ndim), 2):
            product = scipy.sparse.eye_array(1)
            for axis, n in enumerate(inner):
                factor = second[axis] if a == b == axis else first[axis] if axis in (a, b) else scipy.sparse.eye_array(n)
                product = scipy.sparse.kron(product, factor)
            blocks.append(scipy.sparse.kron(product, scipy.sparse.eye_array(ndim)))
        matrix = scipy.sparse.vstack(blocks, format="csr")
        matrix.sort_indices()
        return matrix
