"""Numba kernels of sparse rows a_i (CSR, columns ascending): products with A and A^T, and the Newton system, M = A^T W A a band.

Vectors of unknowns are as long as `padded` says, with zeros behind the n numbers (see `_band_kernels`). Columns are unsigned:
signed numbers would be looked at for negative ones before each use.
"""

import numpy as np

from solvers._band_kernels import BLOCK, substitute
from solvers._compile import FAST, inlined, kernel

_BLOCK = np.uint64(BLOCK)


@kernel
def rearranged(starts, columns, values, order, places, new_starts, new_columns, new_values, counts, visit):
    """The rows in another order, their columns at other places; `visit` has the rows by their first column.

    counts (n + 1,) come as zeros.
    """
    m, filled = len(order), 0
    new_starts[0] = 0
    for i in range(m):
        first = filled
        for a in range(starts[order[i]], starts[order[i] + 1]):
            place, b = np.uint64(places[columns[a]]), filled
            while b > first and new_columns[b - 1] > place:
                new_columns[b] = new_columns[b - 1]
                new_values[b] = new_values[b - 1]
                b -= 1
            new_columns[b] = place
            new_values[b] = values[a]
            filled += 1
        new_starts[i + 1] = filled
        counts[(np.int64(new_columns[first]) if filled > first else 0) + 1] += 1
    for j in range(len(counts) - 1):
        counts[j + 1] += counts[j]
    for i in range(m):
        j = np.int64(new_columns[new_starts[i]]) if new_starts[i + 1] > new_starts[i] else 0
        visit[counts[j]] = i
        counts[j] += 1


@inlined(fastmath=FAST)
def _forward(starts, columns, values, x, out):
    """A x."""
    for i in range(len(out)):
        total = 0.0
        for a in range(starts[i], starts[i + 1]):
            total += values[a] * x[columns[a]]
        out[i] = total


@inlined(fastmath=FAST)
def _backward(starts, columns, values, y, n, out):
    """A^T y, n numbers."""
    for j in range(n):
        out[j] = 0.0
    for i in range(len(y)):
        for a in range(starts[i], starts[i + 1]):
            out[columns[a]] += values[a] * y[i]


@kernel(fastmath=FAST)
def products(starts, columns, values, c, low, y, x, balance, scale):
    """x = A c - l, the balance A^T y, and |A|^T |y|; the largest entry of the one relative to 1 + the other."""
    _forward(starts, columns, values, c, x)
    for i in range(len(x)):
        x[i] -= low[i]
    n = len(c)
    for j in range(n):
        balance[j] = 0.0
        scale[j] = 0.0
    for i in range(len(y)):
        for a in range(starts[i], starts[i + 1]):
            part = values[a] * y[i]
            balance[columns[a]] += part
            scale[columns[a]] += abs(part)
    worst = 0.0
    for j in range(n):
        share = abs(balance[j]) / (1 + scale[j])
        worst = share if share > worst else worst
    return worst


@kernel(fastmath=FAST)
def normal_matrix(starts, columns, values, visit, weights, lift, n, band):
    """A^T diag(weights) A; each diagonal entry is raised by the share `lift` of itself, and is 1 where no row or unknown is."""
    blocks, _, reach = band.shape
    for b in range(blocks):
        for j in range(BLOCK):
            column = band[b, j]
            for r in range(reach):
                column[r] = 0.0
    # neighbours touch the same part of the band
    for k in range(len(visit)):
        i = visit[k]
        for a in range(starts[i], starts[i + 1]):
            q, factor = columns[a], weights[i] * values[a]
            block = q // _BLOCK
            column = band[block, q - block * _BLOCK]
            for b in range(a, starts[i + 1]):
                column[columns[b] - block * _BLOCK] += factor * values[b]
    for q in range(blocks * BLOCK):
        value = band[q // BLOCK, q % BLOCK, q % BLOCK]
        band[q // BLOCK, q % BLOCK, q % BLOCK] = value * (1 + lift) if value > 0.0 and q < n else 1.0


@kernel(fastmath=FAST)
def newton(starts, columns, values, band, weights, q, y, n, right, dc, dy):
    """dc = M^-1 A^T (W q - y), dy = W (A dc - q)."""
    for i in range(len(y)):
        right[i] = weights[i] * q[i] - y[i]
    _backward(starts, columns, values, right, n, dc)
    substitute(band, dc)
    _forward(starts, columns, values, dc, dy)
    for i in range(len(y)):
        dy[i] = weights[i] * (dy[i] - q[i])


@kernel(fastmath=FAST)
def refined(starts, columns, values, band, weights, y, n, scale, least, right, residual, dc, dy):
    """Solve once more for what rounding has left of A^T (y + dy), if it is above `least`; whether it was."""
    for i in range(len(y)):
        right[i] = y[i] + dy[i]
    _backward(starts, columns, values, right, n, residual)
    worst = 0.0
    for j in range(n):
        share = abs(residual[j]) / (1 + scale[j])
        worst = share if share > worst else worst
    if worst < least:
        return False
    substitute(band, residual)
    _forward(starts, columns, values, residual, right)
    for i in range(len(y)):
        dy[i] -= weights[i] * right[i]
    for j in range(n):
        dc[j] -= residual[j]
    return True


@kernel(fastmath=FAST)
def balanced(starts, columns, values, band, weights, balance, right, y):
    """Move y to A^T y = 0, given the balance: y - W A M^-1 A^T y."""
    substitute(band, balance)
    _forward(starts, columns, values, balance, right)
    for i in range(len(y)):
        y[i] -= weights[i] * right[i]
