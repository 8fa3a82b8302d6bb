"""Solving phi(x) = y for many points at once, by a damped Newton method,

    x <- x + 2^-k J(x)^-1 (y - phi(x)),       k >= 0 the least that lowers |y - phi(x)|,

because the fixed-point iteration x <- x + y - phi(x) fails on invertible maps with large gradients.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from augreg.grid import FloatArray

_HALVINGS = 12


def solve(
    phi: Callable[[FloatArray], FloatArray],
    jacobian: Callable[[FloatArray], FloatArray],
    target: FloatArray,
    tolerance: float,
    iterations: int,
) -> FloatArray:
    """Points x (N, D) with |phi(x) - target| <= tolerance; where there are none, the best ones found.

    Parameters
    ----------
    phi, jacobian : (N, D) -> (N, D) and (N, D, D)
    target : y, (N, D)
    tolerance : of the residual, in the unit of the points
    iterations : at most
    """
    x = 2 * target - phi(target)
    residual = target - phi(x)
    error = np.linalg.norm(residual, axis=1)
    # the target itself is the better start where phi turns sharply
    start_error = np.linalg.norm(target - phi(target), axis=1)
    worse = start_error < error
    x[worse], error[worse] = target[worse], start_error[worse]
    residual[worse] = target[worse] - phi(target[worse])
    active = np.flatnonzero(error > tolerance)
    for _ in range(iterations):
        if active.size == 0:
            break
        step = _solve_small(jacobian(x[active]), residual[active])
        pending = active
        for halving in range(_HALVINGS):
            trial = x[pending] + step * 0.5**halving
            trial_residual = target[pending] - phi(trial)
            trial_error = np.linalg.norm(trial_residual, axis=1)
            better = trial_error < error[pending]
            taken = pending[better]
            x[taken], residual[taken], error[taken] = trial[better], trial_residual[better], trial_error[better]
            pending, step = pending[~better], step[~better]
            if pending.size == 0:
                break
        # points where no step helps have met a fold or the limit of the arithmetic
        active = np.setdiff1d(active, pending, assume_unique=True)
        active = active[error[active] > tolerance]
    return x


def _solve_small(matrices: FloatArray, vectors: FloatArray) -> FloatArray:
    """J^-1 r for stacks of D x D systems; singular ones get r itself, a fixed-point step."""
    steps = vectors.copy()
    regular = np.abs(np.linalg.det(matrices)) > 1e-12
    steps[regular] = np.linalg.solve(matrices[regular], vectors[regular, :, None])[..., 0]
    return steps
