"""Other solvers of a `PiecewiseLinearProgram`: callables (program, start) -> Solution, judged like our own.

Clarabel solves the epigraph form, xi = A c, D_i >= b_ik + g_ik xi_i, l <= xi <= u; `scipy.optimize.linprog` the conjugate dual
that `solvers.highs` states, with the multipliers mu as columns or eliminated.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import clarabel
import numpy as np
import scipy.optimize
import scipy.sparse

from solvers import PiecewiseLinearProgram, Solution, highs


@dataclass(frozen=True)
class Clarabel:
    """The interior point of Goulart and Chen (2024), one thread."""

    tolerance: float
    time_limit: float

    def __call__(self, program: PiecewiseLinearProgram, start: Solution | None = None) -> Solution:
        """A start is of no use."""
        begin = time.perf_counter()
        m, n = program.matrix.shape
        xi, f = program.knots()
        rows, segments = program.rows, len(xi)
        eye, none = scipy.sparse.eye_array(m), scipy.sparse.csc_array((m, n))
        to_segments = scipy.sparse.csr_array((np.ones(segments), (np.arange(segments), rows)), shape=(segments, m))
        sloped = scipy.sparse.csr_array((program.slopes, (np.arange(segments), rows)), shape=(segments, m))
        matrix = scipy.sparse.block_array(
            [
                [-program.matrix, eye, None],
                [None, sloped, -to_segments],
                [none, eye, None],
                [none, -eye, None],
            ],
            format="csc",
        )
        right = np.concatenate([np.zeros(m), program.slopes * xi - f, program.upper, -program.lower])
        cost = np.concatenate([np.zeros(n + m), np.ones(m)])
        cones = [clarabel.ZeroConeT(m), clarabel.NonnegativeConeT(segments + 2 * m)]
        settings = clarabel.DefaultSettings()
        settings.verbose, settings.max_threads, settings.time_limit = False, 1, self.time_limit
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = self.tolerance
        nothing = scipy.sparse.csc_array((n + 2 * m, n + 2 * m))
        parts = (scipy.sparse.csc_matrix(nothing), cost, scipy.sparse.csc_matrix(matrix), right)
        answer = clarabel.DefaultSolver(*parts, cones, settings).solve()
        status = "optimal" if str(answer.status) in ("Solved", "AlmostSolved") else "limit"
        x, mu = np.asarray(answer.x)[:n], -np.asarray(answer.z)[:m]
        return Solution.judged(program, x, mu, status, answer.iterations, time.perf_counter() - begin, "Clarabel")


@dataclass(frozen=True)
class Linprog:
    """SciPy's interface to HiGHS."""

    method: str
    time_limit: float
    few: int = 24

    def __call__(self, program: PiecewiseLinearProgram, start: Solution | None = None) -> Solution:
        """It takes no start."""
        begin = time.perf_counter()
        n = program.matrix.shape[1]
        costs, upper, to_rows = highs._columns(program)
        eliminated = n <= self.few
        matrix, right, cost, low, high = highs._model(program, costs, upper, to_rows, eliminated)
        answer = scipy.optimize.linprog(
            cost,
            A_eq=matrix,
            b_eq=right,
            bounds=np.column_stack([low, high]),
            method=self.method,
            options={"time_limit": self.time_limit},
        )
        if answer.status != 0:
            return Solution.none(program, "limit", 0, time.perf_counter() - begin, "linprog")
        x = answer.eqlin.marginals[-n:]
        mu = highs._first_slopes(program) + to_rows @ answer.x[: len(costs)] if eliminated else answer.x[len(costs) :]
        return Solution.judged(program, x, mu, "optimal", answer.nit, time.perf_counter() - begin, "linprog")
