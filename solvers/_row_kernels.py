"""Numba kernels of the rows a_i: products with A and A^T, and the normal matrix A^T W A as a band (see `_band_kernels`).

Few unknowns: A as full columns, dense[j, i] = A[i, j], so that all loops run over the rows. Many: CSR, and `dense` has none.
"""

from typing import NamedTuple

import numpy as np

from solvers._band_kernels import BLOCK, FAST
from solvers._compile import njit

# up to so many unknowns A is full
FULL = 16


class Rows(NamedTuple):
    """A in CSR, and in full if it has few columns; `visit` has the rows by their first column."""

    starts: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    dense: np.ndarray
    visit: np.ndarray


@njit(cache=True, nogil=True, error_model="numpy")
def arranged(starts, columns, values, order, places):
    """The rows in another order, their columns at other places."""
    m, n = len(order), len(places)
    new_starts = np.zeros(m + 1, dtype=np.int64)
    if n <= FULL:
        dense = np.zeros((n, m))
        for i in range(m):
            for a in range(starts[order[i]], starts[order[i] + 1]):
                dense[places[columns[a]], i] += values[a]
        return Rows(new_starts, np.empty(0, dtype=np.int64), np.empty(0), dense, order)
    new_columns, new_values = np.empty(len(columns), dtype=np.int64), np.empty(len(columns))
    filled = 0
    for i in range(m):
        for a in range(starts[order[i]], starts[order[i] + 1]):
            place, b = places[columns[a]], filled
            while b > new_starts[i] and new_columns[b - 1] > place:
                new_columns[b], new_values[b] = new_columns[b - 1], new_values[b - 1]
                b -= 1
            new_columns[b], new_values[b] = place, values[a]
            filled += 1
        new_starts[i + 1] = filled
    return Rows(new_starts, new_columns, new_values, np.zeros((0, m)), _visits(new_starts, new_columns, n))


@njit(cache=True, nogil=True, error_model="numpy")
def _visits(starts, columns, n):
    """The rows by their first column."""
    m = len(starts) - 1
    places, visit = np.zeros(n + 1, dtype=np.int64), np.empty(m, dtype=np.int64)
    for i in range(m):
        if starts[i + 1] > starts[i]:
            places[columns[starts[i]] + 1] += 1
        else:
            places[1] += 1
    for j in range(n):
        places[j + 1] += places[j]
    for i in range(m):
        j = columns[starts[i]] if starts[i + 1] > starts[i] else 0
        visit[places[j]] = i
        places[j] += 1
    return visit


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def forward(rows, x, out):
    """A x."""
    if rows.dense.shape[0] > 0:
        out[:] = 0.0
        for j in range(len(x)):
            column, factor = rows.dense[j], x[j]
            for i in range(len(out)):
                out[i] += factor * column[i]
        return
    for i in range(len(out)):
        total = 0.0
        for a in range(rows.starts[i], rows.starts[i + 1]):
            total += rows.values[a] * x[rows.columns[a]]
        out[i] = total


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def backward(rows, y, out):
    """A^T y."""
    if rows.dense.shape[0] > 0:
        for j in range(len(out)):
            column, total = rows.dense[j], 0.0
            for i in range(len(y)):
                total += column[i] * y[i]
            out[j] = total
        return
    out[:] = 0.0
    for i in range(len(y)):
        for a in range(rows.starts[i], rows.starts[i + 1]):
            out[rows.columns[a]] += rows.values[a] * y[i]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def imbalance(rows, y, out, scale):
    """A^T y, and the largest of its entries relative to 1 + |A|^T |y|."""
    n = len(out)
    if rows.dense.shape[0] > 0:
        for j in range(n):
            column, total, size = rows.dense[j], 0.0, 0.0
            for i in range(len(y)):
                part = column[i] * y[i]
                total += part
                size += abs(part)
            out[j], scale[j] = total, size
    else:
        out[:] = 0.0
        scale[:] = 0.0
        for i in range(len(y)):
            for a in range(rows.starts[i], rows.starts[i + 1]):
                part = rows.values[a] * y[i]
                out[rows.columns[a]] += part
                scale[rows.columns[a]] += abs(part)
    largest = 0.0
    for j in range(n):
        largest = max(largest, abs(out[j]) / (1 + scale[j]))
    return largest


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def normal_matrix(rows, weights, work, band):
    """A^T diag(weights) A; columns of a row must ascend; work (m,) is overwritten."""
    flat, reach = band.ravel(), band.shape[2]
    flat[:] = 0.0
    n = rows.dense.shape[0]
    for q in range(n):
        left = rows.dense[q]
        for i in range(len(work)):
            work[i] = weights[i] * left[i]
        for p in range(q, n):
            right, total = rows.dense[p], 0.0
            for i in range(len(work)):
                total += work[i] * right[i]
            band[q // BLOCK, q % BLOCK, p - q // BLOCK * BLOCK] = total
    if n == 0:
        # neighbours touch the same part of the band
        for i in rows.visit:
            last = rows.starts[i + 1]
            for a in range(rows.starts[i], last):
                q, factor = rows.columns[a], weights[i] * rows.values[a]
                column = flat[q * reach - q // BLOCK * BLOCK :]
                for b in range(a, last):
                    column[rows.columns[b]] += factor * rows.values[b]


@njit(cache=True, nogil=True, error_model="numpy")
def lift_diagonal(band, n, share):
    """Add a share of each diagonal entry to itself; 1 where no row or no unknown is."""
    for q in range(band.shape[0] * BLOCK):
        diagonal = band[q // BLOCK, q % BLOCK]
        value = diagonal[q % BLOCK]
        diagonal[q % BLOCK] = value * (1 + share) if value > 0.0 and q < n else 1.0
