"""The quadratic sibling of the problem, with the same sparse rows and the same band Cholesky:

minimise over x   sum_i w_i (a_i . x - r_i)^2 / 2,      (A^T W A) x = A^T W r.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse

from solvers._band_kernels import bandwidth
from solvers._systems import system_of
from solvers.problem import FloatArray, canonical

# operations of a band factorisation beyond which conjugate gradients take over
_LARGE = 3e8
_ITERATIONS = 20
_TOLERANCE = 0.1


def least_squares(matrix: scipy.sparse.csr_array, weights: FloatArray, right: FloatArray, damping: float = 0.0) -> FloatArray:
    """The minimiser x, (n,): exact for narrow bands, else by some conjugate gradients, enough for a step of Newton's method.

    Parameters
    ----------
    matrix : sparse matrix A, (m, n), column numbers ascending in each row
    weights : weights w of the rows, (m,), not negative
    right : right-hand side r, (m,)
    damping : relative increase of the diagonal of the normal matrix (Levenberg-Marquardt)
    """
    matrix = canonical(matrix)
    (m, n), places = matrix.shape, np.arange(matrix.shape[1])
    width = int(bandwidth(matrix.indptr, matrix.indices, places))
    if n * float(width) ** 2 <= _LARGE:
        system = system_of(matrix, np.arange(m), places, width)
        if system.factorise(weights, damping):
            x, rows = system.unknowns(), np.zeros((3, m))
            system.newton(weights, right, rows[0], rows[1], x, rows[2])
            return x[:n]
    from scipy.sparse.linalg import LinearOperator, cg  # slow to import, and needed for wide bands only

    transposed = matrix.T.tocsr()
    diagonal = (transposed**2) @ weights
    diagonal[diagonal == 0] = 1.0
    normal = LinearOperator((n, n), lambda x: transposed @ (weights * (matrix @ x)) + damping * diagonal * x)
    jacobi = LinearOperator((n, n), lambda x: x / diagonal)
    x, _ = cg(normal, transposed @ (weights * right), rtol=_TOLERANCE, maxiter=_ITERATIONS, M=jacobi)
    return x
