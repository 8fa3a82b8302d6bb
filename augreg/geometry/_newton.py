"""Solving phi(x) = y for many points at once, by a damped Newton method,

    x <- x + 2^-k J(x)^-1 (y - phi(x)),       k >= 0 the least that lowers |y - phi(x)|,

because the fixed-point iteration x <- x + y - phi(x) fails on invertible maps with large gradients.

A displacement on a box ends at its border: beyond it phi is the identity. A point y there may have two solutions, y itself and
one inside the box, which is the one that is wanted: it is where the point has come from. It is found by continuing the
displacement beyond the box, u(x) = u(nearest point of the box).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from augreg.geometry.grid import FloatArray, Grid

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
    phi : map of points, (N, D) -> (N, D)
    jacobian : derivative of phi at points, (N, D) -> (N, D, D)
    target : points y to be reached, (N, D)
    tolerance : largest residual that is accepted, in the unit of the points
    iterations : largest number of steps
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


def solve_from_box(
    phi: Callable[[FloatArray], FloatArray],
    jacobian: Callable[[FloatArray], FloatArray],
    target: FloatArray,
    tolerance: float,
    iterations: int,
    box: tuple[Grid, float],
    reach: float,
) -> FloatArray:
    """As `solve`, of a phi that is the identity outside a box: solutions inside are preferred to those outside.

    Parameters
    ----------
    box : a grid, and by how many voxels the box reaches beyond its points
    reach : distance beyond the box, mm, up to which solutions of the continued map are kept: nodes of an inverse need neighbours
    """
    grid, margin = box
    last = grid.last

    def nearest(points: FloatArray) -> tuple[FloatArray, FloatArray]:
        index = grid.indices_at(points)
        clipped = np.clip(index, -margin, last + margin)
        free = clipped == index
        return np.where(free.all(axis=-1, keepdims=True), points, grid.points_at(clipped)), free.astype(float)

    def continued(points: FloatArray) -> FloatArray:
        place = nearest(points)[0]
        return points + (phi(place) - place)

    def slope(points: FloatArray) -> FloatArray:
        place, free = nearest(points)
        unit = np.eye(grid.ndim)
        # nothing changes along the axes that have left the box
        kept = np.einsum("da,na,ab->ndb", grid.index_to_world, free, grid.world_to_index)
        return unit + (jacobian(place) - unit) @ kept

    x = solve(continued, slope, target, tolerance, iterations)
    error = np.linalg.norm(target - phi(x), axis=1)
    away = np.linalg.norm(x - nearest(x)[0], axis=1)
    rest = np.flatnonzero((away > reach) | ((away == 0) & (error > tolerance)))
    if rest.size:
        other = solve(phi, jacobian, target[rest], tolerance, iterations)
        other_error = np.linalg.norm(target[rest] - phi(other), axis=1)
        # where there is no solution at all, the continued one is at least smooth
        better = (other_error <= tolerance) | ((away[rest] == 0) & (other_error < error[rest]))
        x[rest[better]] = other[better]
    return x


def _solve_small(matrices: FloatArray, vectors: FloatArray) -> FloatArray:
    """J^-1 r for stacks of D x D systems; singular ones get r itself, a fixed-point step."""
    steps = vectors.copy()
    regular = np.abs(np.linalg.det(matrices)) > 1e-12
    steps[regular] = np.linalg.solve(matrices[regular], vectors[regular, :, None])[..., 0]
    return steps
