from .highs import HiGHS as HiGHS
from .interior import InteriorPoint as InteriorPoint
from .problem import PiecewiseLinearProgram as PiecewiseLinearProgram
from .quadratic import least_squares as least_squares
from .solution import Solution as Solution
