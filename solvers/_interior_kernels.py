"""The whole search of the interior point, compiled (equations: `interior`).

numba renews a cached kernel when its own file changes, not when a kernel that it calls does: clear the cache after changes in the
other files.
"""

from typing import NamedTuple

import numpy as np

from solvers._band_kernels import empty_band, empty_vector, factorise, substitute
from solvers._compile import njit
from solvers._row_kernels import arranged, backward, forward, imbalance, lift_diagonal, normal_matrix
from solvers._segment_kernels import (
    advance,
    centred,
    corrected,
    corrector_step,
    predicted,
    predictor_step,
    row_order,
    slabs,
    started,
    true_costs,
)

CERTIFIED, TIRED, BROKEN = 0, 1, 2
# how far a step goes towards the border
_SHARE = 0.995
# where a factor costs more than its use: steps shorter than _LONG are tried _LONGER with products better centred, so many times
_ROUNDS, _LONG, _LONGER = 2, 0.9, 0.3
# a fixed row, zero wide, gets this width relative to the widest
_THIN = 1e-12
# of the normal matrix' diagonal: unknowns that the rows hardly determine stay where they are
_LIFT, _LARGEST_LIFT = 1e-13, 1e-6


class Work(NamedTuple):
    """The rows' parts of one step: x = A c - l, weights 1 / d, right-hand sides, dy; balance = A^T y, the normal matrix."""

    x: np.ndarray
    weights: np.ndarray
    q: np.ndarray
    dy: np.ndarray
    first: np.ndarray
    second: np.ndarray
    balance: np.ndarray
    scale: np.ndarray
    band: np.ndarray
    dc: np.ndarray
    kept_dc: np.ndarray
    kept_dy: np.ndarray


@njit(cache=True, nogil=True, error_model="numpy")
def search(starts, columns, values, lower, at_lower, pointers, widths, slopes, places, width, c, y, sloped, tolerance, limit):
    """Improve c and y until they certify each other; how it ended, and the number of steps.

    The program's arrays; `places` of the unknowns in the band, and its `width`; c and y are overwritten, and y is a guess only if
    `sloped`.
    """
    m, n = len(lower), len(c)
    order = row_order(pointers)
    rows = arranged(starts, columns, values, order, places)
    segments = slabs(pointers, order, at_lower, widths, slopes, _THIN * widths.max())
    low, mu, placed = lower[order], y[order], np.empty(n)
    placed[places] = c
    band = empty_band(n, width)
    vectors = np.empty((7, m))
    work = Work(
        vectors[0],
        vectors[1],
        vectors[2],
        vectors[3],
        vectors[4],
        vectors[5],
        empty_vector(band),
        np.empty(n),
        band,
        empty_vector(band),
        empty_vector(band),
        vectors[6],
    )
    forward(rows, placed, work.x)
    for i in range(m):
        work.x[i] -= low[i]
    iterate, filled, length = started(segments, work.x, mu, sloped)
    constant, far = at_lower.sum(), 1 + np.abs(lower).max()
    ended, iteration = TIRED, 0
    while True:
        gap, beyond, unbalanced = _judged(rows, segments, low, constant, length, placed, mu, work)
        if max(gap, beyond / far, unbalanced) < tolerance and iteration > 0:
            # A^T y = 0 to the last digit, so that the bound is one
            work.q[:] = mu
            _project(rows, work, mu)
            gap, beyond, unbalanced = _judged(rows, segments, low, constant, length, placed, mu, work)
            if max(gap, beyond / far, unbalanced) < tolerance:
                ended = CERTIFIED
                break
            mu[:] = work.q
            imbalance(rows, mu, work.balance[:n], work.scale)
        if iteration == limit:
            break
        if not _step(rows, segments, iterate, filled, placed, mu, work, tolerance):
            ended = BROKEN
            break
        iteration += 1
    y[order] = mu
    c[:] = placed[places]
    return ended, iteration


@njit(cache=True, nogil=True, error_model="numpy")
def _judged(rows, segments, low, constant, length, c, y, work):
    """Relative gap, how far a row lies outside its interval, relative A^T y; fills x and the balance."""
    x, f, conjugate = work.x, work.first, work.second
    forward(rows, c, x)
    for i in range(len(x)):
        x[i] -= low[i]
    unbalanced = imbalance(rows, y, work.balance[: len(c)], work.scale)
    true_costs(segments, x, y, f, conjugate)
    primal, dual, beyond = 0.0, constant, 0.0
    for i in range(len(x)):
        primal += f[i]
        dual -= conjugate[i] + low[i] * y[i]
        beyond = max(beyond, -x[i], x[i] - length[i])
    return abs(primal - dual) / (1 + abs(primal)), beyond, unbalanced


@njit(cache=True, nogil=True, error_model="numpy")
def _step(rows, segments, iterate, filled, c, y, work, tolerance):
    """One predictor-corrector step; False where the numbers fail."""
    m, n = len(y), len(c)
    weights, q, x = work.weights, work.q, work.x
    predicted(segments, iterate, y, weights, q)
    for i in range(m):
        weights[i] = 1 / weights[i]
        q[i] += filled[i] - x[i]
    if not _factorised(rows, work, n):
        return False
    _newton(rows, work, y, n)
    now, ahead = predictor_step(segments, iterate, y, work.dy, work.first, work.second)
    # Mehrotra's choice: the better the predictor, the less is left to centre
    aim = now / (2 * len(iterate.s)) * max(ahead / now, 0.0) ** 3
    corrected(segments, iterate, y, aim, q)
    for i in range(m):
        q[i] += filled[i] - x[i]
    _newton(rows, work, y, n)
    primal, dual = _lengths(segments, iterate, work)
    for _ in range(_ROUNDS):
        if rows.dense.shape[0] > 0 or min(primal, dual) > _LONG:
            break
        iterate.kept[:] = iterate.step
        work.kept_dc[:] = work.dc
        work.kept_dy[:] = work.dy
        centred(segments, iterate, aim, min(1.0, primal + _LONGER), min(1.0, dual + _LONGER), q)
        for i in range(m):
            q[i] += filled[i] - x[i]
        _newton(rows, work, y, n)
        further, longer = _lengths(segments, iterate, work)
        if further + longer < primal + dual + 0.1 * _LONGER:
            iterate.step[:] = iterate.kept
            work.dc[:] = work.kept_dc
            work.dy[:] = work.kept_dy
            break
        primal, dual = further, longer
    if rows.dense.shape[0] == 0 and _refined(rows, work, y, n, tolerance):
        primal, dual = _lengths(segments, iterate, work)
    if not (np.isfinite(primal + dual) and np.isfinite(work.dc).all()):
        return False
    for j in range(n):
        c[j] += primal * work.dc[j]
    for i in range(m):
        y[i] += dual * work.dy[i]
    advance(segments, iterate, primal, dual, filled)
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def _lengths(segments, iterate, work):
    """How far primal and dual variables may go along the step."""
    primal, dual = corrector_step(segments, iterate, work.dy, work.first, work.second)
    return _SHARE / max(primal, _SHARE), _SHARE / max(dual, _SHARE)


@njit(cache=True, nogil=True, error_model="numpy")
def _factorised(rows, work, n):
    """Whether the normal matrix has a Cholesky factor, with a little more on its diagonal if it must be."""
    share = _LIFT
    while share < _LARGEST_LIFT:
        normal_matrix(rows, work.weights, work.first, work.band)
        lift_diagonal(work.band, n, share)
        if factorise(work.band):
            return True
        share *= 100
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def _newton(rows, work, y, n):
    """dc = M^-1 A^T (W q - y), dy = W (A dc - q)."""
    weights, q, first = work.weights, work.q, work.first
    for i in range(len(y)):
        first[i] = weights[i] * q[i] - y[i]
    backward(rows, first, work.dc[:n])
    substitute(work.band, work.dc)
    forward(rows, work.dc[:n], work.dy)
    for i in range(len(y)):
        work.dy[i] = weights[i] * (work.dy[i] - q[i])


@njit(cache=True, nogil=True, error_model="numpy")
def _refined(rows, work, y, n, tolerance):
    """Solve once more for what rounding has left of A^T (y + dy), if it matters; whether it did."""
    first, second, residual = work.first, work.second, work.balance
    for i in range(len(y)):
        first[i] = y[i] + work.dy[i]
    backward(rows, first, residual[:n])
    worst = 0.0
    for j in range(n):
        worst = max(worst, abs(residual[j]) / (1 + work.scale[j]))
    if worst < 0.01 * tolerance:
        return False
    substitute(work.band, residual)
    forward(rows, residual[:n], second)
    for i in range(len(y)):
        work.dy[i] -= work.weights[i] * second[i]
    for j in range(n):
        work.dc[j] -= residual[j]
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def _project(rows, work, y):
    """Move y to A^T y = 0, given the balance: y - W A M^-1 A^T y."""
    substitute(work.band, work.balance)
    forward(rows, work.balance[: len(work.scale)], work.dy)
    for i in range(len(y)):
        y[i] -= work.weights[i] * work.dy[i]
