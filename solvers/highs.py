"""The reference solver: HiGHS on the conjugate dual, its best form for these problems.

With slopes g_i1 <= g_i2 <= ... and inner knots xi_i1 < xi_i2 < ... of f_i, the multiplier of row i is

    mu_i = g_i1 - p_i + sum_k t_ik + q_i,     0 <= t_ik <= g_i,k+1 - g_ik,     p_i, q_i >= 0,
    f_i*(mu_i) = g_i1 l_i - f_i(l_i) - l_i p_i + sum_k xi_ik t_ik + u_i q_i,

and sum_i f_i*(mu_i) is minimised subject to A^T mu = 0: one equation per unknown, whose dual value is c.

* few unknowns: mu eliminated, n rows, dual simplex, which may start from an earlier c: columns whose knots are left of a_i . c
  at their upper bounds, the others at 0, and n columns with near knots in the basis;
* many unknowns: mu kept as columns, m + n rows (much sparser), interior point without crossover.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Literal

import highspy
import numpy as np
import scipy.sparse

from solvers.problem import FloatArray, PiecewiseLinearProgram
from solvers.solution import Solution, Status

Method = Literal["auto", "simplex", "ipx", "pdlp"]

_STATUS: dict[highspy.HighsModelStatus, Status] = {
    highspy.HighsModelStatus.kOptimal: "optimal",
    highspy.HighsModelStatus.kUnbounded: "infeasible",
    highspy.HighsModelStatus.kUnboundedOrInfeasible: "infeasible",
    highspy.HighsModelStatus.kTimeLimit: "limit",
    highspy.HighsModelStatus.kIterationLimit: "limit",
}


@dataclass(frozen=True)
class HiGHS:
    """Solve a `PiecewiseLinearProgram` with HiGHS (Huangfu and Hall 2018, Math. Prog. Comp. 10, 119-142).

    Parameters
    ----------
    method : "simplex" (dual), "ipx" (interior point without crossover), "pdlp" (first order), or "auto": simplex up to
        `few` unknowns, ipx above
    tolerance : largest relative gap of the interior-point and first-order methods; None for their own, 1e-8 and 1e-4
    time_limit : largest time of one call, seconds
    few : number of unknowns up to which "auto" takes the simplex
    """

    method: Method = "auto"
    tolerance: float | None = None
    time_limit: float = float("inf")
    few: int = 24

    def __call__(self, program: PiecewiseLinearProgram, start: Solution | None = None) -> Solution:
        """The solution; an infeasible program or a limit is a status, not an exception.

        Parameters
        ----------
        start : solution of a similar program; only the simplex uses it
        """
        begin = time.perf_counter()
        method = self.method
        if method == "auto":
            method = "simplex" if program.matrix.shape[1] <= self.few else "ipx"
        name = f"HiGHS {method}"
        costs, upper, to_rows = _columns(program)
        eliminated = method == "simplex" or program.matrix.shape[1] <= self.few
        matrix, right, cost, low, high = _model(program, costs, upper, to_rows, eliminated)

        # a fresh object each time: its time limit counts all its runs together
        highs = _Quiet()
        options: dict[str, bool | int | float | str] = {
            "output_flag": False,
            "threads": 1,
            "parallel": "off",
            "presolve": "off",
            "solver": method,
        }
        if method == "ipx":
            options["run_crossover"] = "off"
            if self.tolerance is not None:
                options["ipm_optimality_tolerance"] = max(self.tolerance, 1e-12)
        if method == "pdlp":
            options["pdlp_optimality_tolerance"] = self.tolerance or 1e-4
        if np.isfinite(self.time_limit):
            options["time_limit"] = self.time_limit
        for option, value in options.items():
            if highs.setOptionValue(option, value) == highspy.HighsStatus.kError:
                raise ValueError(f"HiGHS: expected an option {option} that takes {value!r}; is highspy recent enough?")
        rows, columns = matrix.shape
        # the array overload is several times faster than filling a HighsLp; integrality must be a full array
        loaded = highs.passModel(
            columns,
            rows,
            matrix.nnz,
            1,
            1,
            0.0,
            cost.astype(np.float64),
            low.astype(np.float64),
            high.astype(np.float64),
            right.astype(np.float64),
            right.astype(np.float64),
            matrix.indptr.astype(np.int32),
            matrix.indices.astype(np.int32),
            matrix.data,
            np.zeros(columns, dtype=np.int32),
        )
        if method == "simplex" and start is not None and start.x.shape == (rows,) and np.isfinite(start.x).all():
            highs.setBasis(_basis(program, costs, to_rows, start.x))
        ran = loaded != highspy.HighsStatus.kError and highs.run() != highspy.HighsStatus.kError
        status = _STATUS.get(highs.getModelStatus(), "failed") if ran else "failed"
        if status == "failed":
            # the interior point cannot tell an infeasible program from a hard one; the simplex can
            return (
                Solution.none(program, "failed", 0, 0.0, name)
                if method == "simplex"
                else replace(self, method="simplex")(program)
            )
        info = highs.getInfo()
        iterations = max(info.simplex_iteration_count, 0) + max(info.ipm_iteration_count, 0) + max(info.pdlp_iteration_count, 0)
        answer = highs.getSolution()
        if status == "infeasible" or not answer.dual_valid:
            return Solution.none(program, status, iterations, time.perf_counter() - begin, name)
        n = program.matrix.shape[1]
        c = np.asarray(answer.row_dual)[-n:] if n else np.zeros(0)
        values = np.asarray(answer.col_value)
        mu = _first_slopes(program) + to_rows @ values[: len(costs)] if eliminated else values[len(costs) :]
        return Solution.judged(program, c, mu, status, iterations, time.perf_counter() - begin, name)


class _Quiet(highspy.Highs):
    """HiGHS 1.16 greets on standard output, which belongs to the caller's results, as its constructor enables callbacks."""

    def enableCallbacks(self) -> None:
        self.silent()
        super().enableCallbacks()


def _first_slopes(program: PiecewiseLinearProgram) -> FloatArray:
    return program.slopes[program.pointers[:-1]]


def _columns(program: PiecewiseLinearProgram) -> tuple[FloatArray, FloatArray, scipy.sparse.csr_array]:
    """Costs and upper bounds of the columns t, p, q, and the matrix (m, columns) that sums them to mu - g_1."""
    m = len(program.lower)
    knots, _ = program.knots()
    rows = program.rows
    inner = np.ones(len(knots), dtype=bool)
    inner[program.pointers[1:] - 1] = False
    where = np.flatnonzero(inner)
    costs = np.concatenate([knots[where], -program.lower, program.upper])
    upper = np.concatenate([program.slopes[where + 1] - program.slopes[where], np.full(2 * m, highspy.kHighsInf)])
    row = np.concatenate([rows[where], np.arange(m), np.arange(m)])
    sign = np.concatenate([np.ones(len(where)), -np.ones(m), np.ones(m)])
    to_rows = scipy.sparse.csr_array((sign, (row, np.arange(len(row)))), shape=(m, len(row)))
    return costs, upper, to_rows


def _basis(
    program: PiecewiseLinearProgram, costs: FloatArray, to_rows: scipy.sparse.csr_array, c: FloatArray
) -> highspy.HighsBasis:
    """The basis that c suggests, for the model with mu eliminated."""
    m, n = program.matrix.shape
    inner = len(costs) - 2 * m
    rows = to_rows.tocsc().indices
    right_of = np.concatenate([costs[:inner], program.lower, program.upper]) - (program.matrix @ c)[rows]
    near = np.argsort(np.abs(right_of))[: 4 * n]
    # independent rows, near knots first: Gram-Schmidt with pivots
    scale = 1 / (np.abs(right_of[near]) + 1e-9 * np.abs(right_of).max() + 1e-300)
    left, basic = program.matrix[rows[near]].toarray() * scale[:, None], []
    for _ in range(min(n, len(near))):
        lengths = np.linalg.norm(left, axis=1)
        basic.append(int(np.argmax(lengths)))
        direction = left[basic[-1]] / (lengths[basic[-1]] + 1e-300)
        left -= np.outer(left @ direction, direction)
        # not once more, whatever rounding leaves of it
        left[basic[-1]] = 0.0
    kinds = highspy.HighsBasisStatus
    columns = [kinds.kUpper if upper else kinds.kLower for upper in (right_of[:inner] < 0).tolist()] + [kinds.kLower] * (2 * m)
    for column in near[basic].tolist():
        columns[column] = kinds.kBasic
    basis = highspy.HighsBasis()
    basis.col_status, basis.row_status = columns, [kinds.kLower] * n
    basis.valid = True
    return basis


def _model(
    program: PiecewiseLinearProgram, costs: FloatArray, upper: FloatArray, to_rows: scipy.sparse.csr_array, eliminated: bool
) -> tuple[scipy.sparse.csc_array, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Constraint matrix, right-hand side, cost and bounds of the columns."""
    first = _first_slopes(program)
    transposed = program.matrix.T
    if eliminated:
        matrix = scipy.sparse.csc_array(transposed @ to_rows)
        return matrix, -(transposed @ first), costs, np.zeros(len(costs)), upper
    m, n = program.matrix.shape
    matrix = scipy.sparse.block_array([[-to_rows, scipy.sparse.eye_array(m)], [None, transposed]], format="csc")
    free = np.full(m, highspy.kHighsInf)
    cost = np.concatenate([costs, np.zeros(m)])
    low, high = np.concatenate([np.zeros(len(costs)), -free]), np.concatenate([upper, free])
    return matrix, np.concatenate([first, np.zeros(n)]), cost, low, high
