"""The problem

    minimise over c   sum_i f_i(a_i . c),      f_i convex, piecewise linear on a bounded interval [l_i, u_i]

with a sparse matrix A of rows a_i. In segments, xi_i = l_i + sum_k s_ik, 0 <= s_ik <= w_ik, with slopes g_i1 <= g_i2 <= ...:

    f_i(xi_i) = f_i(l_i) + sum_k g_ik s_ik          (the s_ik fill up in order, since the slopes ascend)

Data terms, L1 penalties, trust regions and bounds are all rows of this kind. The conjugate is finite everywhere,

    f_i*(mu) = max over the knots xi of mu xi - f_i(xi),

and the dual problem reads: maximise -sum_i f_i*(mu_i) subject to A^T mu = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse

from solvers import _problem_kernels

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.integer]

# by the numbers that the kernel returns
_FAULTS = (
    "",
    "program: expected at least one segment in every row",
    "program: expected finite numbers, got NaN or infinity",
    "widths: expected none below 0",
    "slopes: expected them to ascend within each row (a convex function)",
)


@dataclass(frozen=True, eq=False)
class PiecewiseLinearProgram:
    """min_c sum_i f_i(a_i . c), see the module.

    Parameters
    ----------
    matrix : sparse matrix A, (m, n)
    lower : left ends l of the intervals, (m,)
    values : function values f_i(l_i), (m,)
    pointers : row i has the segments pointers[i] : pointers[i + 1], (m + 1,); every row has at least one
    widths : lengths w of the segments, (S,), positive (zero is allowed: a fixed row)
    slopes : slopes g of the segments, (S,), ascending within each row

    Raises
    ------
    ValueError : for shapes that do not fit, numbers that are not finite, negative widths or slopes that descend.
    """

    matrix: scipy.sparse.csr_array
    lower: FloatArray
    values: FloatArray
    pointers: npt.NDArray[np.int64]
    widths: FloatArray
    slopes: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "matrix", canonical(self.matrix))
        for name in ("lower", "values", "widths", "slopes"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=np.float64))
        object.__setattr__(self, "pointers", np.ascontiguousarray(self.pointers, dtype=np.int64))
        m, segments = self.matrix.shape[0], len(self.widths)
        if not len(self.lower) == len(self.values) == len(self.pointers) - 1 == m:
            raise ValueError(
                f"program: expected lower, values and pointers for {m} rows, got {len(self.lower)}, {len(self.values)}, "
                f"{len(self.pointers)}"
            )
        if len(self.slopes) != segments or self.pointers[0] != 0 or self.pointers[-1] != segments:
            raise ValueError(f"program: expected pointers from 0 to {segments} segments with a slope each")
        parts = (self.matrix.data, self.lower, self.values, self.pointers, self.widths, self.slopes)
        fault = _problem_kernels.fault(*parts)
        if fault:
            raise ValueError(_FAULTS[fault])

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """The row of every segment, (S,)."""
        return np.repeat(np.arange(len(self.lower)), np.diff(self.pointers))

    @property
    def upper(self) -> FloatArray:
        """u, right ends of the intervals, (m,)."""
        return self.lower + np.add.reduceat(self.widths, self.pointers[:-1])

    def knots(self) -> tuple[FloatArray, FloatArray]:
        """Right end of every segment and the function's value there, (S,) each."""
        rows, first = self.rows, self.pointers[:-1]
        ends, rises = np.cumsum(self.widths), np.cumsum(self.widths * self.slopes)
        before = np.where(first > 0, first - 1, 0)
        xi = ends - np.where(first > 0, ends[before], 0.0)[rows] + self.lower[rows]
        f = rises - np.where(first > 0, rises[before], 0.0)[rows] + self.values[rows]
        return xi, f

    def terms(self, c: FloatArray) -> FloatArray:
        """f_i(a_i . c) for every row, (m,), continued with its last slopes outside the interval: see `excess`."""
        return self.terms_and_excess(c)[0]

    def objective(self, c: FloatArray) -> float:
        """sum_i f_i(a_i . c)."""
        return float(self.terms(c).sum())

    def excess(self, c: FloatArray) -> FloatArray:
        """How far a_i . c lies outside its interval, (m,); 0 inside: the primal residual."""
        return self.terms_and_excess(c)[1]

    def dual_objective(self, mu: FloatArray) -> float:
        """-sum_i f_i*(mu_i): a lower bound of the optimum for every mu with A^T mu = 0."""
        mu = np.ascontiguousarray(mu, dtype=np.float64)
        return -float(_problem_kernels.conjugates(self.lower, self.values, self.pointers, self.widths, self.slopes, mu))

    def balance(self, mu: FloatArray) -> tuple[FloatArray, FloatArray]:
        """A^T mu, the dual residual, and |A|^T |mu|, its scale, (n,) each."""
        residual, scale = np.empty((2, self.matrix.shape[1]))
        self._balanced(mu, residual, scale)
        return residual, scale

    def terms_and_excess(self, c: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Both in one pass."""
        f, excess = np.empty((2, len(self.lower)))
        self._costs(c, f, excess)
        return f, excess

    def judged(self, c: FloatArray, mu: FloatArray) -> tuple[float, float, float, float]:
        """Primal and dual objective, the largest excess, and the largest imbalance relative to 1 + its scale."""
        m, n = self.matrix.shape
        room = np.empty((2, max(m, n)))
        primal, outside = self._costs(c, room[0, :m], room[1, :m])
        unbalanced = self._balanced(mu, room[0, :n], room[1, :n])
        return primal, self.dual_objective(mu), outside, unbalanced

    def _costs(self, c: FloatArray, f: FloatArray, excess: FloatArray) -> tuple[float, float]:
        matrix, c = self.matrix, np.ascontiguousarray(c, dtype=np.float64)
        segments = (self.lower, self.values, self.pointers, self.widths, self.slopes)
        found: tuple[float, float] = _problem_kernels.costs(matrix.indptr, matrix.indices, matrix.data, *segments, c, f, excess)
        return found

    def _balanced(self, mu: FloatArray, residual: FloatArray, scale: FloatArray) -> float:
        matrix, mu = self.matrix, np.ascontiguousarray(mu, dtype=np.float64)
        found: float = _problem_kernels.balances(matrix.indptr, matrix.indices, matrix.data, mu, residual, scale)
        return found


def canonical(matrix: scipy.sparse.sparray) -> scipy.sparse.csr_array:
    """CSR with ascending columns, none twice, and indices of one type; the same object where it is so."""
    if not isinstance(matrix, scipy.sparse.csr_array) or matrix.dtype != np.float64:
        matrix = scipy.sparse.csr_array(matrix, dtype=np.float64)
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    if matrix.indices.dtype != np.int32 or matrix.indptr.dtype != np.int32:
        parts = (matrix.data, matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32))
        matrix = scipy.sparse.csr_array(parts, shape=matrix.shape)
    return matrix
