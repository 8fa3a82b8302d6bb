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
    x : the unknowns c, (n,); NaN where there is no answer
    multipliers : mu, one slope per row, (m,)
    status : "optimal", "infeasible" (no c meets all intervals), "limit" (time or iterations), "failed"
    iterations, seconds : what it took
    primal_residual : largest distance of a row from its interval
    dual_residual : largest entry of |A^T mu|, relative to 1 + |A|^T |mu|
    gap : (primal - dual objective) / (1 + |primal objective|); a certificate when both residuals are small
    objective : sum_i f_i(a_i . x)
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

    @staticmethod
    def judged(
        program: PiecewiseLinearProgram, x: FloatArray, multipliers: FloatArray, status: Status, iterations: int, seconds: float
    ) -> Solution:
        """Recompute residuals and gap: a solver's own claim is not evidence."""
        balance = np.abs(program.matrix.T @ multipliers)
        scale = 1 + abs(program.matrix).T @ np.abs(multipliers)
        primal, dual = program.objective(x), program.dual_objective(multipliers)
        return Solution(
            x=x,
            multipliers=multipliers,
            status=status,
            iterations=iterations,
            seconds=seconds,
            primal_residual=float(program.excess(x).max(initial=0.0)),
            dual_residual=float((balance / scale).max(initial=0.0)),
            gap=(primal - dual) / (1 + abs(primal)),
            objective=primal,
        )

    @staticmethod
    def none(program: PiecewiseLinearProgram, status: Status, iterations: int, seconds: float) -> Solution:
        """No answer."""
        m, n = program.matrix.shape
        nan = float("nan")
        return Solution(np.full(n, nan), np.full(m, nan), status, iterations, seconds, nan, nan, nan, nan)
