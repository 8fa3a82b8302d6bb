"""Grids that can fail wrong code: unequal shape and spacing, flipped, permuted and oblique directions."""

import numpy as np

from augreg import Grid

_ANGLE = np.deg2rad(25)
_TURN = np.array([[np.cos(_ANGLE), -np.sin(_ANGLE)], [np.sin(_ANGLE), np.cos(_ANGLE)]])


def directions(ndim: int) -> dict[str, np.ndarray]:
    flip = np.diag([-1.0] + [1.0] * (ndim - 1))
    both = np.diag([-1.0, -1.0] + [1.0] * (ndim - 2))
    swap = np.roll(np.eye(ndim), 1, axis=0)
    oblique = np.eye(ndim)
    oblique[:2, :2] = _TURN
    if ndim == 3:
        oblique = oblique @ np.roll(np.roll(np.block([[_TURN, np.zeros((2, 1))], [np.zeros((1, 2)), 1]]), 1, 0), 1, 1)
    return {"identity": np.eye(ndim), "flip": flip, "both": both, "swap": swap, "oblique": oblique}


def grid(ndim: int, name: str = "oblique", shape=None) -> Grid:
    shape = shape or (23, 17, 12)[:ndim]
    return Grid(shape, (0.8, 1.7, 1.1)[:ndim], (-11.0, 5.0, 40.0)[:ndim], directions(ndim)[name])


ALL = [(ndim, name) for ndim in (2, 3) for name in directions(ndim)]
