"""Weighted least squares with a banded normal matrix, compiled (equations: `quadratic`)."""

import numpy as np

from solvers._band_kernels import empty_band, empty_vector, factorise, substitute
from solvers._compile import njit
from solvers._row_kernels import arranged, lift_diagonal, normal_matrix


@njit(cache=True, nogil=True, error_model="numpy")
def normal_solution(starts, columns, values, weights, right, width, damping, out):
    """x (n,) of A^T W A x = A^T W right, each diagonal entry raised by the share `damping`; False if that fails."""
    m, n = len(weights), len(out)
    rows = arranged(starts, columns, values, np.arange(m), np.arange(n))
    band = empty_band(n, width)
    normal_matrix(rows, weights, np.empty(m), band)
    lift_diagonal(band, n, damping)
    if not factorise(band):
        return False
    x = empty_vector(band)
    for i in range(m):
        for a in range(starts[i], starts[i + 1]):
            x[columns[a]] += values[a] * weights[i] * right[i]
    substitute(band, x)
    out[:] = x[:n]
    return True
