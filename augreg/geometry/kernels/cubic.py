"""The cubic B-spline: its four weights at 0 <= t <= 1 between the second and the third of four knots, and their slopes.

w = ((1 - t)^3, 3 t^3 - 6 t^2 + 4, -3 t^3 + 3 t^2 + 3 t + 1, t^3) / 6        (Unser 1999, IEEE SPM 16(6), eq. 5).
"""

import numpy as np

from solvers._compile import inlined


@inlined
def weights(t):
    """The four weights."""
    s, sixth, most = 1.0 - t, 1.0 / 6.0, 2.0 / 3.0
    # quotients take ten times as long as products
    return s * s * s * sixth, (0.5 * t - 1.0) * t * t + most, (0.5 * s - 1.0) * s * s + most, t * t * t * sixth


@inlined
def slopes(t):
    """Their derivatives."""
    s = 1.0 - t
    return -0.5 * s * s, (1.5 * t - 2.0) * t, (2.0 - 1.5 * s) * s, 0.5 * t * t


@inlined
def first_knot(index, size):
    """The first of the four control points around a continuous index, which lies in [1, size - 2] up to rounding."""
    return min(max(int(np.floor(index)) - 1, 0), size - 4)


@inlined
def mirrored_index(i, size):
    """An index reflected at the first and the last sample (whole-sample symmetry)."""
    if size == 1:
        return 0
    period = 2 * (size - 1)
    i = abs(i) % period
    return i if i < size else period - i
