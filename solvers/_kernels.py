"""Numba kernels of the interior point. A symmetric band matrix M is stored by columns: band[q, p - q] = M[p, q], p >= q.

LAPACK's band Cholesky runs in threads that wait for each other when the machine is busy; these are single loops.
"""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def bandwidth(starts, columns):
    """Largest distance between two columns of one row (CSR)."""
    widest = 0
    for row in range(len(starts) - 1):
        if starts[row + 1] > starts[row]:
            part = columns[starts[row] : starts[row + 1]]
            widest = max(widest, part.max() - part.min())
    return widest


@njit(cache=True, nogil=True)
def normal_matrix(starts, columns, values, weights, out):
    """A^T diag(weights) A for A in CSR, as a band."""
    out[:] = 0.0
    for row in range(len(starts) - 1):
        for a in range(starts[row], starts[row + 1]):
            w = weights[row] * values[a]
            p = columns[a]
            for b in range(starts[row], starts[row + 1]):
                q = columns[b]
                if p >= q:
                    out[q, p - q] += w * values[b]


@njit(cache=True, nogil=True)
def factorise(band):
    """Cholesky factor in place of a band; False if the matrix is not positive definite."""
    n, width = band.shape
    for q in range(n):
        if not band[q, 0] > 0.0:
            return False
        pivot = np.sqrt(band[q, 0])
        last = min(width, n - q)
        for k in range(last):
            band[q, k] /= pivot
        for k in range(1, last):
            factor = band[q, k]
            if factor != 0.0:
                for r in range(last - k):
                    band[q + k, r] -= factor * band[q, k + r]
    return True


@njit(cache=True, nogil=True)
def substitute(band, x):
    """Solve L L^T x = x in place with the factor L of `factorise`."""
    n, width = band.shape
    for q in range(n):
        x[q] /= band[q, 0]
        for k in range(1, min(width, n - q)):
            x[q + k] -= band[q, k] * x[q]
    for q in range(n - 1, -1, -1):
        for k in range(1, min(width, n - q)):
            x[q] -= band[q, k] * x[q + k]
        x[q] /= band[q, 0]
