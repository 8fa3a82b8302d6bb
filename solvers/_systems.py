"""The Newton system of the interior point, M = A^T W A: full for few unknowns, banded for many."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse

from solvers import _full_kernels, _row_kernels
from solvers._band_kernels import empty_band, factorise, padded
from solvers.problem import FloatArray, IntArray

# up to so many unknowns M is full
FEW = 16


@dataclass(frozen=True, eq=False, slots=True)
class FullSystem:
    """A in full, (n, m), and the Cholesky factor of M, (n, n)."""

    A: FloatArray
    factor: FloatArray

    @staticmethod
    def of(matrix: scipy.sparse.csr_array, order: IntArray, places: IntArray) -> FullSystem:
        """The rows in another order, the unknowns at other places."""
        m, n = matrix.shape
        A = np.zeros((n, m))
        _full_kernels.filled(matrix.indptr, matrix.indices, matrix.data, order, places, A)
        return FullSystem(A, np.empty((n, n)))

    def unknowns(self) -> FloatArray:
        """Room for a number per unknown."""
        return np.empty(len(self.A))

    def products(
        self, c: FloatArray, low: FloatArray, y: FloatArray, x: FloatArray, balance: FloatArray, scale: FloatArray
    ) -> float:
        """x = A c - l, the balance A^T y and its scale |A|^T |y|; the largest relative imbalance."""
        worst: float = _full_kernels.products(self.A, c, low, y, x, balance, scale)
        return worst

    def factorise(self, weights: FloatArray, lift: float) -> bool:
        """Whether M, its diagonal raised by the share `lift` of itself, has a Cholesky factor."""
        found: bool = _full_kernels.factorised(self.A, weights, lift, self.factor)
        return found

    def newton(
        self, weights: FloatArray, q: FloatArray, y: FloatArray, right: FloatArray, dc: FloatArray, dy: FloatArray
    ) -> None:
        """dc = M^-1 A^T (W q - y), dy = W (A dc - q)."""
        _full_kernels.newton(self.A, self.factor, weights, q, y, right, dc, dy)

    def balance(self, weights: FloatArray, balance: FloatArray, right: FloatArray, y: FloatArray) -> None:
        """Move y to A^T y = 0, given the balance."""
        _full_kernels.balanced(self.A, self.factor, weights, balance, right, y)


@dataclass(frozen=True, eq=False, slots=True)
class BandSystem:
    """A in CSR with ascending columns, the rows by their first column, and M's factor as a band."""

    starts: IntArray
    columns: IntArray
    values: FloatArray
    visit: IntArray
    band: FloatArray
    n: int

    @staticmethod
    def of(matrix: scipy.sparse.csr_array, order: IntArray, places: IntArray, width: int) -> BandSystem:
        """The rows in another order, the unknowns at other places, where no row is wider than `width`."""
        m, n = matrix.shape
        rows = (np.empty(m + 1, np.int64), np.empty(matrix.nnz, np.uint64), np.empty(matrix.nnz))
        visit = np.empty(m, np.int64)
        counts = np.zeros(n + 1, np.int64)
        _row_kernels.rearranged(matrix.indptr, matrix.indices, matrix.data, order, places, *rows, counts, visit)
        return BandSystem(*rows, visit, empty_band(n, width), n)

    def unknowns(self) -> FloatArray:
        """Room for a number per unknown, and what stands behind."""
        return np.zeros(padded(self.band))

    def products(
        self, c: FloatArray, low: FloatArray, y: FloatArray, x: FloatArray, balance: FloatArray, scale: FloatArray
    ) -> float:
        """x = A c - l, the balance A^T y and its scale |A|^T |y|; the largest relative imbalance."""
        worst: float = _row_kernels.products(self.starts, self.columns, self.values, c, low, y, x, balance, scale)
        return worst

    def factorise(self, weights: FloatArray, lift: float) -> bool:
        """Whether M, its diagonal raised by the share `lift` of itself, has a Cholesky factor."""
        _row_kernels.normal_matrix(self.starts, self.columns, self.values, self.visit, weights, lift, self.n, self.band)
        found: bool = factorise(self.band)
        return found

    def newton(
        self, weights: FloatArray, q: FloatArray, y: FloatArray, right: FloatArray, dc: FloatArray, dy: FloatArray
    ) -> None:
        """dc = M^-1 A^T (W q - y), dy = W (A dc - q)."""
        _row_kernels.newton(self.starts, self.columns, self.values, self.band, weights, q, y, self.n, right, dc, dy)

    def balance(self, weights: FloatArray, balance: FloatArray, right: FloatArray, y: FloatArray) -> None:
        """Move y to A^T y = 0, given the balance."""
        _row_kernels.balanced(self.starts, self.columns, self.values, self.band, weights, balance, right, y)

    def refine(
        self,
        weights: FloatArray,
        y: FloatArray,
        scale: FloatArray,
        least: float,
        right: FloatArray,
        residual: FloatArray,
        dc: FloatArray,
        dy: FloatArray,
    ) -> bool:
        """Solve once more for what rounding has left of A^T (y + dy), if it is above `least`; whether it was."""
        done: bool = _row_kernels.refined(
            self.starts, self.columns, self.values, self.band, weights, y, self.n, scale, least, right, residual, dc, dy
        )
        return done


System = FullSystem | BandSystem


def system_of(matrix: scipy.sparse.csr_array, order: IntArray, places: IntArray, width: int) -> System:
    """The system that suits so many unknowns."""
    if matrix.shape[1] <= FEW:
        return FullSystem.of(matrix, order, places)
    return BandSystem.of(matrix, order, places, width)
