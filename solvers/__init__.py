"""Minimise a sum of convex piecewise-linear functions of linear forms. Knows nothing of images.

solution = InteriorPoint()(PiecewiseLinearProgram(matrix, lower, values, pointers, widths, slopes))

HiGHS is the reference; InteriorPoint exploits the structure and is many times faster (benchmarks/README.md). Both take a start,
the solution of a program like this one, as a second argument; `Solution.solver` says whose answer it is.
"""

from solvers.highs import HiGHS
from solvers.interior import InteriorPoint
from solvers.problem import PiecewiseLinearProgram
from solvers.quadratic import least_squares
from solvers.solution import Solution

__all__ = ["HiGHS", "InteriorPoint", "PiecewiseLinearProgram", "Solution", "least_squares"]
