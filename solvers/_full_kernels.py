"""Numba kernels of a matrix with few columns, kept in full: A[j, i] is column j, so that all loops run over the rows."""

import numpy as np

from solvers._compile import FAST, inlined, kernel


@kernel
def filled(starts, columns, values, order, places, A):
    """The rows of a CSR matrix in another order, its columns at other places; A comes as zeros."""
    for i in range(len(order)):
        for a in range(starts[order[i]], starts[order[i] + 1]):
            A[places[columns[a]], i] += values[a]


@inlined(fastmath=FAST)
def _forward(A, x, out):
    """A x."""
    for i in range(len(out)):
        out[i] = 0.0
    for j in range(A.shape[0]):
        column, factor = A[j], x[j]
        for i in range(len(out)):
            out[i] += factor * column[i]


@inlined(fastmath=FAST)
def _solve(L, x):
    """Solve L L^T x = x in place."""
    n = L.shape[0]
    for i in range(n):
        total = x[i]
        for j in range(i):
            total -= L[i, j] * x[j]
        x[i] = total / L[i, i]
    for k in range(n):
        i = n - 1 - k
        total = x[i]
        for j in range(i + 1, n):
            total -= L[j, i] * x[j]
        x[i] = total / L[i, i]


@kernel(fastmath=FAST)
def products(A, c, low, y, x, balance, scale):
    """x = A c - l, the balance A^T y, and |A|^T |y|; the largest entry of the one relative to 1 + the other."""
    _forward(A, c, x)
    for i in range(len(x)):
        x[i] -= low[i]
    worst = 0.0
    for j in range(A.shape[0]):
        column, total, size = A[j], 0.0, 0.0
        for i in range(len(y)):
            part = column[i] * y[i]
            total += part
            size += abs(part)
        balance[j] = total
        scale[j] = size
        share = abs(total) / (1 + size)
        worst = share if share > worst else worst
    return worst


@kernel(fastmath=FAST)
def factorised(A, weights, lift, L):
    """Cholesky factor of A^T diag(weights) A, its diagonal raised by the share `lift` of itself; False if there is none."""
    n, m = A.shape
    for i in range(n):
        left = A[i]
        for j in range(i + 1):
            right, total = A[j], 0.0
            for k in range(m):
                total += weights[k] * left[k] * right[k]
            L[i, j] = total
        # 1 where no row is
        L[i, i] = L[i, i] * (1 + lift) if L[i, i] > 0.0 else 1.0
        for j in range(i + 1):
            total = L[i, j]
            for k in range(j):
                total -= L[i, k] * L[j, k]
            if j < i:
                L[i, j] = total / L[j, j]
            elif total > 0.0:
                L[i, i] = np.sqrt(total)
            else:
                return False
    return True


@kernel(fastmath=FAST)
def newton(A, L, weights, q, y, right, dc, dy):
    """dc = M^-1 A^T (W q - y), dy = W (A dc - q)."""
    m = len(y)
    for i in range(m):
        right[i] = weights[i] * q[i] - y[i]
    for j in range(A.shape[0]):
        column, total = A[j], 0.0
        for i in range(m):
            total += column[i] * right[i]
        dc[j] = total
    _solve(L, dc)
    _forward(A, dc, dy)
    for i in range(m):
        dy[i] = weights[i] * (dy[i] - q[i])


@kernel
def balanced(A, L, weights, balance, right, y):
    """Move y to A^T y = 0, given the balance: y - W A M^-1 A^T y."""
    _solve(L, balance)
    _forward(A, balance, right)
    for i in range(len(y)):
        y[i] -= weights[i] * right[i]
