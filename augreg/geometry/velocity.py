"""Maps that never fold: the exponential of a stationary velocity,

    phi(x) = y(1),      dy/dt = v(y),   y(0) = x,      D phi = J(1),   dJ/dt = Dv(y) J,   J(0) = I,

integrated by the classical Runge-Kutta method of fourth order. exp(-v) is its inverse, up to the error of the integration
(Arsigny et al. 2006, MICCAI, LNCS 4190; scaling and squaring there, which interpolates its own result at every squaring).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.splines import through
from augreg.geometry.transforms import BSpline, DisplacementField, Transform

STEPS = 8

# arrays of numpy or tensors of torch: whatever has sums and products with numbers
Y = TypeVar("Y", bound=Any)


def runge_kutta(rate: Callable[[Y], Y], state: Y, time: float, steps: int) -> Y:
    """y(time) of dy/dt = rate(y) from y(0) = state, by so many steps of the classical method of fourth order."""
    h = time / steps
    for _ in range(steps):
        a = rate(state)
        b = rate(state + 0.5 * h * a)
        c = rate(state + 0.5 * h * b)
        d = rate(state + h * c)
        state = state + h / 6 * (a + 2 * (b + c) + d)
    return state


@dataclass(frozen=True, eq=False)
class Exponential(Transform):
    """phi = exp(v) of a velocity v(x) = velocity(x) - x, mm per unit of time.

    Parameters
    ----------
    velocity : a B-spline or a field whose displacement is v
    steps : number of steps of the integration
    """

    velocity: BSpline | DisplacementField
    steps: int = STEPS

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps: expected at least 1, got {self.steps}")

    @property
    def ndim(self) -> int:
        """D."""
        return self.velocity.ndim

    def inverse(self, grid: Grid | None = None, tolerance: float = 1e-6) -> Exponential:
        """exp(-v), right to the error of the integration; `solve` is right to a tolerance."""
        v = self.velocity
        minus = BSpline(-v.coefficients, v.grid) if isinstance(v, BSpline) else DisplacementField(-v.values, v.grid)
        return Exponential(minus, self.steps)

    def _map(self, points: FloatArray) -> FloatArray:
        return runge_kutta(self._v, points, 1.0, self.steps)

    def _jacobian(self, points: FloatArray) -> FloatArray:
        def rate(state: FloatArray) -> FloatArray:
            y, J = state[..., 0], state[..., 1:]
            return np.concatenate([self._v(y)[..., None], self._dv(y) @ J], axis=-1)

        # y and the columns of J go one way
        unit = np.broadcast_to(np.eye(self.ndim), (*points.shape, self.ndim))
        return runge_kutta(rate, np.concatenate([points[..., None], unit], axis=-1), 1.0, self.steps)[..., 1:]

    def _v(self, points: FloatArray) -> FloatArray:
        return self.velocity._map(np.ascontiguousarray(points)) - points

    def _dv(self, points: FloatArray) -> FloatArray:
        return self.velocity._jacobian(np.ascontiguousarray(points)) - np.eye(self.ndim)


def logarithm(displacements: FloatArray, control: Grid, rounds: int = 12) -> FloatArray:
    """Velocities whose exponentials displace the points of a control grid as wanted.

    v <- v + (u - (exp(v) - id)) at the nodes, from v = u: it contracts where exp(v) is near id + v; once it no longer does, the
    best so far is kept.

    Parameters
    ----------
    displacements : displacements u at the nodes, (*control.shape, D) mm
    control : the grid of the velocity's B-spline; u vanishes in its three outer layers

    Returns
    -------
    v at the nodes, (*control.shape, D) mm; see `through`
    """
    nodes = control.points()
    v, best, least = displacements.copy(), displacements, np.inf
    for _ in range(rounds):
        miss = displacements - (Exponential(BSpline(through(v[None], control)[0], control))(nodes) - nodes)
        error = float(np.sqrt(np.mean(miss**2)))
        if error < least:
            best, least = v.copy(), error
        else:
            break
        v += miss
    return best
