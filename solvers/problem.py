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

FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class PiecewiseLinearProgram:
    """min_c sum_i f_i(a_i . c), see the module.

    Parameters
    ----------
    matrix : A, sparse (m, n)
    lower : l, left ends of the intervals, (m,)
    values : f_i(l_i), (m,)
    pointers : row i has the segments pointers[i] : pointers[i + 1], (m + 1,); every row has at least one
    widths : w, segment after segment, (S,), positive (zero is allowed: a fixed row)
    slopes : g, (S,), ascending within each row

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
        matrix = scipy.sparse.csr_array(self.matrix, dtype=np.float64)
        object.__setattr__(self, "matrix", matrix)
        for name in ("lower", "values", "widths", "slopes"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        object.__setattr__(self, "pointers", np.asarray(self.pointers, dtype=np.int64))
        m, segments = matrix.shape[0], len(self.widths)
        if not len(self.lower) == len(self.values) == len(self.pointers) - 1 == m:
            raise ValueError(
                f"program: expected lower, values and pointers for {m} rows, got {len(self.lower)}, {len(self.values)}, "
                f"{len(self.pointers)}"
            )
        if len(self.slopes) != segments or self.pointers[0] != 0 or self.pointers[-1] != segments:
            raise ValueError(f"program: expected pointers from 0 to {segments} segments with a slope each")
        if np.any(np.diff(self.pointers) < 1):
            raise ValueError("program: expected at least one segment in every row")
        parts = (matrix.data, self.lower, self.values, self.widths, self.slopes)
        if not all(np.isfinite(part).all() for part in parts):
            raise ValueError("program: expected finite numbers, got NaN or infinity")
        if np.any(self.widths < 0):
            raise ValueError("widths: expected none below 0")
        rises = np.diff(self.slopes)
        rises[self.pointers[1:-1] - 1] = 0
        if np.any(rises < 0):
            raise ValueError("slopes: expected them to ascend within each row (a convex function)")

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
        xi = self.matrix @ c - self.lower
        rows = self.rows
        starts = np.cumsum(self.widths) - self.widths
        starts -= starts[self.pointers[:-1]][rows]
        filled = np.clip(xi[rows] - starts, 0, self.widths)
        inside = np.add.reduceat(filled * self.slopes, self.pointers[:-1])
        length = self.upper - self.lower
        beyond = (
            np.minimum(xi, 0) * self.slopes[self.pointers[:-1]] + np.maximum(xi - length, 0) * self.slopes[self.pointers[1:] - 1]
        )
        return self.values + inside + beyond

    def objective(self, c: FloatArray) -> float:
        """sum_i f_i(a_i . c)."""
        return float(self.terms(c).sum())

    def excess(self, c: FloatArray) -> FloatArray:
        """How far a_i . c lies outside its interval, (m,); 0 inside: the primal residual."""
        xi = self.matrix @ c
        return np.maximum(np.maximum(self.lower - xi, xi - self.upper), 0)

    def dual_objective(self, mu: FloatArray) -> float:
        """-sum_i f_i*(mu_i): a lower bound of the optimum for every mu with A^T mu = 0."""
        xi, f = self.knots()
        rows = self.rows
        best = np.maximum.reduceat(mu[rows] * xi - f, self.pointers[:-1])
        return -float(np.maximum(best, mu * self.lower - self.values).sum())
