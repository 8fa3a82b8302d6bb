"""Tapers: how a correlation fades with distance, rho(d, tau), rho(0) = 1.

    Gaussian    exp(-d^2 / (2 sigma^2)), sigma = 2 tau                    (Wilms et al. 2020, Med. Image Anal. 64)
    Wendland    (1 - r)^4_+ (4 r + 1), r = d / (2 tau)                    (Wendland 1995, Adv. Comput. Math. 4, 389: phi_{3,1})
    Threshold   1 if d <= tau, else 0                                     (Wilms, Handels, Ehrhardt 2017, Med. Image Anal. 38)

The first two are positive semidefinite on Euclidean distances in up to three dimensions, on distances along contours they need
not be (Feragen, Lauze, Hauberg 2015, CVPR). The threshold never is: what it cuts has to be repaired, see
`augreg.sam.correlation`, so it has no factor and serves landmarks alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from augreg.geometry.grid import FloatArray


@dataclass(frozen=True)
class Gaussian:
    """Smooth and never quite 0: the default."""

    def correlation(self, distance: FloatArray, tau: float) -> FloatArray:
        """R at distances, in the unit of tau; 1 everywhere for an infinite tau."""
        return np.exp(-0.5 * np.square(np.asarray(distance, dtype=np.float64) / (2 * tau)))


@dataclass(frozen=True)
class Wendland:
    """0 beyond 2 tau: places farther apart are independent."""

    def correlation(self, distance: FloatArray, tau: float) -> FloatArray:
        """R at distances, in the unit of tau; 1 everywhere for an infinite tau."""
        r = np.asarray(distance, dtype=np.float64) / (2 * tau)
        return np.maximum(0.0, 1 - r) ** 4 * (4 * r + 1)


@dataclass(frozen=True)
class Threshold:
    """All or nothing: not positive semidefinite, for landmarks alone."""

    def correlation(self, distance: FloatArray, tau: float) -> FloatArray:
        """R at distances, in the unit of tau; 1 everywhere for an infinite tau."""
        return (np.asarray(distance, dtype=np.float64) <= tau).astype(np.float64)


Taper = Gaussian | Wendland | Threshold

# by the names that files and the command line use
TAPERS: dict[str, Taper] = {"gaussian": Gaussian(), "wendland": Wendland(), "threshold": Threshold()}
