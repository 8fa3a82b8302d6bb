"""Minimise a sum of convex piecewise-linear functions of linear forms. Knows nothing of images.

solution = InteriorPoint()(PiecewiseLinearProgram(matrix, lower, values, pointers, widths, slopes))

HiGHS is the reference; InteriorPoint exploits the structure and is many times faster (benchmarks/README.md). Both take a start,
the solution of a program like this one, as a second argument; `Solution.solver` says whose answer it is.

Nothing is imported before it is asked for: who compiles kernels needs no HiGHS.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
