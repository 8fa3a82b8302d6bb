"""Numba kernels of the interior point."""

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
    """A^T diag(weights) A for A in CSR, its lower triangle by diagonals: out[p - q, q], p >= q."""
    out[:] = 0.0
    for row in range(len(starts) - 1):
        for a in range(starts[row], starts[row + 1]):
            w = weights[row] * values[a]
            p = columns[a]
            for b in range(starts[row], starts[row + 1]):
                q = columns[b]
                if p >= q:
                    out[p - q, q] += w * values[b]
