"""The loop of the interior point (equations: `interior`): phases are kernels over named buffers."""

from __future__ import annotations

from math import isfinite

import numpy as np

from solvers._segment_kernels import (
    advanced,
    centred,
    corrected,
    costs,
    lengths,
    predicted,
    row_order,
    scaled,
    slabs,
    started,
)
from solvers._systems import BandSystem, System, system_of
from solvers.problem import FloatArray, IntArray, PiecewiseLinearProgram

# where a factor costs more than its use: steps shorter than _LONG are tried _LONGER with products better centred, so many times
_ROUNDS, _LONG, _LONGER = 2, 0.9, 0.3
# a fixed row, zero wide, gets this width relative to the widest
_THIN = 1e-12
# of the normal matrix' diagonal: unknowns that the rows hardly determine stay where they are
_LIFT, _LARGEST_LIFT = 1e-13, 1e-6
# what rounding may leave of A^T (y + dy), relative to the tolerance
_LEFT = 0.01


def search(
    program: PiecewiseLinearProgram,
    places: IntArray,
    width: int,
    start: tuple[FloatArray, FloatArray, bool],
    tolerance: float,
    limit: int,
) -> tuple[FloatArray, FloatArray, bool, int]:
    """Improve c and y until they certify each other.

    Parameters
    ----------
    places, width : positions of the unknowns in the band, and the width of the band
    start : c (n,), y (m,), and whether y is a guess to be used; else the slopes at c are used
    tolerance : largest relative gap and residuals
    limit : largest number of iterations

    Returns
    -------
    c, y, whether they are certified, and the number of iterations; where the numbers fail, they are the last ones.
    """
    (m, n), count = program.matrix.shape, len(program.widths)
    order, slabs_begin = np.empty(m, np.int64), np.zeros(count + 2, np.int64)
    offsets = slabs_begin[: row_order(program.pointers, order, slabs_begin) + 1]
    segments, (low, x, dy, q, weights, filled, length, first, second) = np.empty((3, count)), np.empty((9, m))
    of_program = (program.pointers, order, program.lower, program.values, program.widths, program.slopes)
    constant, far = slabs(*of_program, _THIN, offsets, segments, low)
    system = system_of(program.matrix, order, places, width)
    careful = isinstance(system, BandSystem)

    c, y, sloped = np.empty(n), start[1][order], start[2]
    c[places] = start[0]
    dc, balance, scale = system.unknowns(), system.unknowns(), np.empty(n)
    iterate, step, aims = np.empty((7, count)), np.empty((3, count)), np.empty((3, count))

    unbalanced = system.products(c, low, y, x, balance, scale)
    started(offsets, segments, x, sloped, y, first, iterate, filled, length)
    for iteration in range(limit + 1):
        if iteration > 0:
            unbalanced = system.products(c, low, y, x, balance, scale)
            gap, beyond = costs(offsets, segments, low, length, constant, x, y, first, second)
            if max(gap, beyond / far, unbalanced) < tolerance:
                # A^T y = 0 to the last digit, so that the bound is one
                exact = y.copy()
                system.balance(weights, balance, first, exact)
                unbalanced = system.products(c, low, exact, x, balance, scale)
                gap, beyond = costs(offsets, segments, low, length, constant, x, exact, first, second)
                if max(gap, beyond / far, unbalanced) < tolerance:
                    return c[places], _in_order(exact, order), True, iteration
                system.products(c, low, y, x, balance, scale)
        if iteration == limit:
            break

        scaled(offsets, segments, iterate, y, filled, x, weights, q)
        if not _factorised(system, weights):
            break
        system.newton(weights, q, y, first, dc, dy)
        aim = predicted(offsets, segments, iterate, y, dy, step, first)

        corrected(offsets, segments, iterate, y, filled, x, step, aim, aims, q)
        system.newton(weights, q, y, first, dc, dy)
        primal, dual = lengths(offsets, iterate, aims, dy, step)
        for _ in range(_ROUNDS if careful else 0):
            if min(primal, dual) > _LONG:
                break
            before = (step.copy(), dc.copy(), dy.copy())
            centred(offsets, iterate, filled, x, step, aim, min(1.0, primal + _LONGER), min(1.0, dual + _LONGER), aims, q)
            system.newton(weights, q, y, first, dc, dy)
            further = lengths(offsets, iterate, aims, dy, step)
            if sum(further) < primal + dual + 0.1 * _LONGER:
                step, dc, dy = before
                break
            primal, dual = further
        if isinstance(system, BandSystem) and system.refine(weights, y, scale, _LEFT * tolerance, first, balance, dc, dy):
            primal, dual = lengths(offsets, iterate, aims, dy, step)

        if not isfinite(primal + dual + dc.sum()):
            break
        advanced(offsets, iterate, step, primal, dual, dc, dy, c, y, filled)
    return c[places], _in_order(y, order), False, iteration


def _factorised(system: System, weights: FloatArray) -> bool:
    """Whether the normal matrix has a Cholesky factor, with a little more on its diagonal if it must be."""
    lift = _LIFT
    while not system.factorise(weights, lift):
        lift *= 100
        if lift >= _LARGEST_LIFT:
            return False
    return True


def _in_order(values: FloatArray, order: IntArray) -> FloatArray:
    """Rows in the order of the program."""
    out = np.empty_like(values)
    out[order] = values
    return out
