"""A structured interior point: Newton systems of the size of c.

Every segment belongs to one row, so eliminating the segments leaves a diagonal block. With s the segments, t = w - s, multipliers
y (rows), z (of s >= 0) and v (of t >= 0), the conditions of optimality are

    A c - sum_k s_k = l,      A^T y = 0,      g - y - z + v = 0,      s z = 0,  t v = 0,

and with theta = z/s + v/t, d_i = sum_k 1 / theta_ik each Newton step is one system

    (A^T D^-1 A) dc = A^T (D^-1 q - y),      dy = D^-1 (A dc - q),      ds = (dy + h) / theta,
    q = l + sum_k s_k - A c + sum_k h / theta,    h = y - g + (what s z and t v shall become),

banded where c is a B-spline's. Predictor and corrector after Mehrotra 1992 (SIAM J. Optim. 2, 575-601); where the factor costs
more than its use, centred further after Gondzio 1996 (Comput. Optim. Appl. 6, 137-156). The search ends on the problem's own
terms, sum_i f_i(a_i . c) against -sum_i f_i*(y_i), which c and y alone decide.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import scipy.sparse

from solvers import _band_kernels
from solvers._search import search
from solvers.highs import HiGHS
from solvers.problem import PiecewiseLinearProgram
from solvers.solution import Solution

# flops of a factor from which on another numbering may pay
_WORTHWHILE = 1e8
# floats of a band beyond which the fallback takes over
_LARGE = 1e8


@dataclass(frozen=True)
class InteriorPoint:
    """Solve a `PiecewiseLinearProgram` by the structured interior point.

    Parameters
    ----------
    tolerance : relative gap and residuals at which to stop
    iterations : largest number of iterations
    fallback : solver of programs whose optimum was not certified: it can tell infeasible ones; `Solution.solver` names it
    """

    tolerance: float = 1e-8
    iterations: int = 60
    fallback: HiGHS = field(default_factory=HiGHS)

    def __call__(self, program: PiecewiseLinearProgram, start: Solution | None = None) -> Solution:
        """The solution; an infeasible program or a limit is a status, not an exception.

        Parameters
        ----------
        start : solution of a similar program; its multipliers are used only if it has as many rows
        """
        begin = time.perf_counter()
        matrix = program.matrix
        m, n = matrix.shape
        if m == 0 or n == 0:
            return self.fallback(program)
        places, width = _numbering(matrix)
        if n * float(width + 1) > _LARGE:
            return self.fallback(program)
        steps = 0
        # a start may be a bad one: then once more without it
        for guess in (start, None) if _fits(start, n) else (None,):
            c = np.zeros(n) if guess is None else guess.x
            sloped = guess is not None and len(guess.multipliers) == m
            y = guess.multipliers if guess is not None and sloped else np.zeros(m)
            c, y, certified, iterations = search(program, places, width, (c, y, sloped), self.tolerance, self.iterations)
            steps += iterations
            if certified:
                return Solution.judged(program, c, y, "optimal", steps, time.perf_counter() - begin, "InteriorPoint")
        return self.fallback(program)


def _numbering(matrix: scipy.sparse.csr_array) -> tuple[npt.NDArray[np.int64], int]:
    """Places of the unknowns, and the width of the band.

    On a tensor grid j = (i_1 n_2 + i_2) p + r the columns of a row jump by p and by n_2 p. Where n_2 > n_1, the band is narrower
    with i_2 slowest; whether the guess is right, the width tells.
    """
    starts, columns, n = matrix.indptr, matrix.indices, matrix.shape[1]
    plain = np.arange(n)
    width = int(_band_kernels.bandwidth(starts, columns, plain))
    if n * float(width) ** 2 < _WORTHWHILE:
        return plain, width
    longest = int(np.argmax(np.diff(starts)))
    row = columns[starts[longest] : starts[longest + 1]]
    runs = row[np.append(True, np.diff(row) > 1)]
    jumps = np.diff(runs)
    period = int(jumps.min(initial=n))
    far = np.diff(runs[np.append(True, jumps != period)])
    layer = int(far.min(initial=n))
    if layer % period or n % layer:
        return plain, width
    turned = plain.reshape(-1, layer // period, period).swapaxes(0, 1).ravel()
    places = np.empty(n, dtype=np.int64)
    places[turned] = plain
    narrower = int(_band_kernels.bandwidth(starts, columns, places))
    return (places, narrower) if narrower < width else (plain, width)


def _fits(start: Solution | None, n: int) -> bool:
    return start is not None and len(start.x) == n and bool(np.isfinite(start.x).all() and np.isfinite(start.multipliers).all())
