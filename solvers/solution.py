"""What a solver returns, judged from the problem alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from solvers.problem import FloatArray, PiecewiseLinearProgram

Status = Literal["optimal", "infeasible", "limit", "failed"]


@dataclass(frozen=True, eq=False)
class Solution:
    """A solver's answer.

    Parameters
    ----------
    x : values of the unknowns c, (n,); NaN where there is no answer
    multipliers : multipliers mu, one slope per row, (m,)
    status : "optimal", "infeasible" (no c meets all intervals), "limit" (time or iterations), "failed"
    iterations, seconds : effort of the solver
    primal_residual : largest distance of a row from its interval
    dual_residual : largest entry of |A^T mu|, relative to 1 + |A|^T |mu|
    gap : (primal - dual objective) / (1 + |primal objective|); a certificate when both residuals are small
    objective : sum_i f_i(a_i . x)
    solver : name of the solver that found it, "InteriorPoint" or "HiGHS simplex", "HiGHS ipx", "HiGHS pdlp"
    """

    x: FloatArray
    multipliers: FloatArray
    status: Status
    iterations: int
    seconds: float
    primal_residual: float
    dual_residual: float
    gap: float
    objective: float
    solver: str = ""

    @staticmethod
    def judged(
        program: PiecewiseLinearProgram,
        x: FloatArray,
        multipliers: FloatArray,
        status: Status,
        iterations: int,
        seconds: float,
        solver: str = "",
    ) -> Solution:
        """Recompute residuals and gap: a solver's own claim is not evidence."""
        primal, dual, outside, unbalanced = program.judged(x, multipliers)
        return Solution(
            x=x,
            multipliers=multipliers,
            status=status,
            iterations=iterations,
            seconds=seconds,
            primal_residual=outside,
            dual_residual=unbalanced,
            gap=(primal - dual) / (1 + abs(primal)),
            objective=primal,
            solver=solver,
        )

    @staticmethod
    def none(program: PiecewiseLinearProgram, status: Status, iterations: int, seconds: float, solver: str = "") -> Solution:
        """No answer."""
        m, n = program.matrix.shape
        nan = float("nan")
        return Solution(np.full(n, nan), np.full(m, nan), status, iterations, seconds, nan, nan, nan, nan, solver)
