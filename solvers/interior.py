"""A structured interior point: Newton systems of the size of c.

Every segment belongs to one row, so eliminating the segments leaves a diagonal block. With s the segments, t = w - s, multipliers
y (rows), z (of s >= 0) and v (of t >= 0), the conditions of optimality are

    A c - sum_k s_k = l,      A^T y = 0,      g - y - z + v = 0,      s z = 0,  t v = 0,

and with theta = z/s + v/t, d_i = sum_k 1 / theta_ik each Newton step is one system

    (A^T D^-1 A) dc = r_c + A^T D^-1 q,       dy = D^-1 (A dc - q),       ds = (dy + h) / theta,

banded where c is a B-spline's. Predictor and corrector after Mehrotra 1992 (SIAM J. Optim. 2, 575-601).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from solvers import _kernels
from solvers.highs import HiGHS
from solvers.problem import FloatArray, PiecewiseLinearProgram
from solvers.solution import Solution

# how far a step goes towards the border
_SHARE = 0.995
# flops of one factorisation beyond which a sparse code is faster than a banded one
_LARGE = 1e9
# a fixed row, zero wide, gets this width relative to the widest
_THIN = 1e-12


@dataclass(frozen=True)
class InteriorPoint:
    """Solve a `PiecewiseLinearProgram` by the structured interior point.

    Parameters
    ----------
    tolerance : relative gap and residuals at which to stop
    iterations : at most so many
    fallback : takes over where the band is wide (3-D splines), and where no optimum was reached: it can tell infeasible programs
    """

    tolerance: float = 1e-8
    iterations: int = 60
    fallback: HiGHS = field(default_factory=HiGHS)

    def __call__(self, program: PiecewiseLinearProgram) -> Solution:
        """The solution; an infeasible program or a limit is a status, not an exception."""
        begin = time.perf_counter()
        n = program.matrix.shape[1]
        matrix = program.matrix
        band = int(_kernels.bandwidth(matrix.indptr, matrix.indices)) if matrix.nnz else 0
        if n == 0 or n * float(band + 1) ** 2 > _LARGE:
            return self.fallback(program)
        search = _Search(program, band)
        for iteration in range(self.iterations):
            if search.error() < self.tolerance:
                return Solution.judged(program, search.c, search.y, "optimal", iteration, time.perf_counter() - begin)
            if not search.step():
                break
        return self.fallback(program)


class _Search:
    """The iterate of one solve."""

    def __init__(self, program: PiecewiseLinearProgram, band: int) -> None:
        self.program, self.A, self.g = program, program.matrix, program.slopes
        self.At = self.A.T.tocsr()
        self.first, self.rows = program.pointers[:-1], program.rows
        n = self.A.shape[1]
        self.normal = np.zeros((n, band + 1))
        self.w = np.maximum(program.widths, _THIN * program.widths.max())
        self.c, self.s = np.zeros(n), 0.5 * self.w
        # the middle slope of every row
        self.y = self.g[self.first + np.diff(program.pointers) // 2].copy()
        margin = 0.1 * np.abs(self.g).mean() + 1e-6
        self.z = np.maximum(self.g - self.y[self.rows], 0) + margin
        self.v = np.maximum(self.y[self.rows] - self.g, 0) + margin
        self._residuals()

    def _sum(self, values: FloatArray) -> FloatArray:
        return np.add.reduceat(values, self.first)

    def _residuals(self) -> None:
        self.t = self.w - self.s
        self.r_p = self.program.lower + self._sum(self.s) - self.A @ self.c
        self.r_c = -(self.At @ self.y)
        self.r_k = self.y[self.rows] + self.z - self.v - self.g

    def error(self) -> float:
        """The largest of the relative gap and the relative residuals."""
        objective = float(self.program.values.sum() + self.g @ self.s)
        gap = float(self.s @ self.z + self.t @ self.v) / (1 + abs(objective))
        primal = float(np.abs(self.r_p).max()) / (1 + float(np.abs(self.program.lower).max()))
        dual = max(float(np.abs(self.r_c).max()), float(np.abs(self.r_k).max())) / (1 + float(np.abs(self.g).max()))
        return max(gap, primal, dual)

    def step(self) -> bool:
        """One predictor-corrector step; False where the numbers fail."""
        s, t, z, v, rows = self.s, self.t, self.z, self.v, self.rows
        theta = z / s + v / t
        weights = 1 / self._sum(1 / theta)
        _kernels.normal_matrix(self.A.indptr, self.A.indices, self.A.data, weights, self.normal)
        # unknowns that no row determines stay where they are
        self.normal[:, 0] += 1e-13 * self.normal[:, 0].max()
        if not _kernels.factorise(self.normal):
            return False

        def solve(r_z: FloatArray, r_v: FloatArray) -> tuple[FloatArray, ...]:
            h = self.r_k + r_z / s - r_v / t
            q = self.r_p + self._sum(h / theta)
            dc = self.r_c + self.At @ (weights * q)
            _kernels.substitute(self.normal, dc)
            dy = weights * (self.A @ dc - q)
            ds = (dy[rows] + h) / theta
            return dc, dy, ds, (r_z - z * ds) / s, (r_v + v * ds) / t

        mu = float(s @ z + t @ v) / (2 * len(s))
        _, _, ds, dz, dv = solve(-s * z, -t * v)
        primal, dual = self._lengths(ds, dz, dv, 1.0)
        ahead = float((s + primal * ds) @ (z + dual * dz) + (t - primal * ds) @ (v + dual * dv)) / (2 * len(s))
        aim = mu * (ahead / mu) ** 3
        dc, dy, ds, dz, dv = solve(aim - s * z - ds * dz, aim - t * v + ds * dv)
        if not np.isfinite(dc).all():
            return False
        primal, dual = self._lengths(ds, dz, dv, _SHARE)
        self.c += primal * dc
        self.s = s + primal * ds
        self.y += dual * dy
        self.z = z + dual * dz
        self.v = v + dual * dv
        self._residuals()
        return bool(np.all(self.s > 0) and np.all(self.t > 0))

    def _lengths(self, ds: FloatArray, dz: FloatArray, dv: FloatArray, share: float) -> tuple[float, float]:
        """How far s, t and z, v may move."""
        primal = max(float(np.max(-ds / self.s)), float(np.max(ds / self.t)), share)
        dual = max(float(np.max(-dz / self.z)), float(np.max(-dv / self.v)), share)
        return share / primal, share / dual
