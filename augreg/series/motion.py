"""How a frame has moved, as numbers of a curve.

With x_i the points of a lattice over the fixed grid, phi the transform of a frame, and R the rotation that fits phi best (Kabsch:
R = U diag(1, .., det UV^T) V^T from the singular values of sum (phi(x_i) - mean)(x_i - mean)^T),

    translation  t = mean_i phi(x_i) - mean_i x_i,      rotation  log R as degrees,
    shift        mean_i |phi(x_i) - x_i|,               step  mean_i |phi(x_i) - phi_before(x_i)|.

The last one is what "framewise displacement" means in functional MR, measured on the image's own points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.transforms import Transform

_NODES = 9


@dataclass(frozen=True)
class Moved:
    """The motion of one frame against the fixed one.

    Parameters
    ----------
    translation : of the centre, D numbers, mm
    rotation : about it, degrees: one number in 2-D, about x, y and z in 3-D
    shift : mean distance from where points are in the fixed frame, mm
    step : mean distance from where they were in the frame before, mm
    """

    translation: tuple[float, ...]
    rotation: tuple[float, ...]
    shift: float
    step: float


def moved_of(transform: Transform, before: Transform | None, grid: Grid) -> Moved:
    """The motion of a frame; without a frame before, it has made no step."""
    points = grid.lattice([min(n, _NODES) for n in grid.shape])
    images = transform(points)
    step = 0.0 if before is None else float(np.linalg.norm(images - before(points), axis=1).mean())
    shift = float(np.linalg.norm(images - points, axis=1).mean())
    return Moved(tuple((images - points).mean(axis=0).tolist()), _rotation(points, images), shift, step)


def _rotation(points: FloatArray, images: FloatArray) -> tuple[float, ...]:
    """Degrees of the rotation that fits best."""
    u, _, vt = np.linalg.svd((images - images.mean(axis=0)).T @ (points - points.mean(axis=0)))
    sign = np.ones(len(u))
    sign[-1] = np.sign(np.linalg.det(u @ vt))
    R = (u * sign) @ vt
    if len(R) == 2:
        return (math.degrees(math.atan2(R[1, 0], R[0, 0])),)
    axis = np.array([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]]) / 2
    sine, cosine = float(np.linalg.norm(axis)), (float(np.trace(R)) - 1) / 2
    if sine == 0:
        return (0.0, 0.0, 0.0)
    return tuple((axis / sine * math.degrees(math.atan2(sine, cosine))).tolist())
