"""Minimise a sum of convex piecewise-linear functions of linear forms. Knows nothing of images.

solution = HiGHS()(PiecewiseLinearProgram(matrix, lower, values, pointers, widths, slopes))
"""

from solvers.highs import HiGHS
from solvers.problem import PiecewiseLinearProgram
from solvers.solution import Solution

__all__ = ["HiGHS", "PiecewiseLinearProgram", "Solution"]
