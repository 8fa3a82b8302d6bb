"""Factors: covariances S = H H^T seen through products with H, and their modes; no M x M matrix of them is formed.

With a taper R = G G^T, the covariance of residuals r_i made local is C o R = H H^T, H = (n - 1)^-1/2 [r_i o g_j], the row-wise
Kronecker (Khatri-Rao) product. Its modes are the left singular vectors of H by a randomised range finder (Halko, Martinsson,
Tropp 2011, SIAM Rev. 53, 217) that only multiplies by G. On a grid G is a Kronecker product of one factor per axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.linalg

from augreg.geometry.grid import FloatArray
from augreg.sam.correlation import nearest_correlation
from augreg.sam.subspace import Subspace

_OVERSAMPLING = 12
# relative to the largest mode: rounding, no variation
_LEAST_VARIANCE = 1e-10


class Factor(Protocol):
    """H of a covariance H H^T, (M, q)."""

    @property
    def columns(self) -> int:
        """q."""

    def times(self, x: FloatArray) -> FloatArray:
        """H x for x (q, k) -> (M, k)."""

    def transposed(self, y: FloatArray) -> FloatArray:
        """H^T y for y (M, k) -> (q, k)."""


class Local(Protocol):
    """One level's taper at m places: it makes the covariance of residuals local."""

    def localised(self, residuals: FloatArray) -> Factor:
        """The factor of the local covariance of residuals (n, m, c), c components at every place."""


@dataclass(frozen=True, eq=False)
class DenseFactor:
    """H as a matrix (M, q)."""

    matrix: FloatArray

    @property
    def columns(self) -> int:
        """q."""
        return self.matrix.shape[1]

    def times(self, x: FloatArray) -> FloatArray:
        """H x."""
        return self.matrix @ x

    def transposed(self, y: FloatArray) -> FloatArray:
        """H^T y."""
        return self.matrix.T @ y

    def localised(self, residuals: FloatArray) -> KhatriRao:
        """C o R with R = H H^T."""
        return KhatriRao(residuals, self)


@dataclass(frozen=True, eq=False)
class GridFactor:
    """H as the Kronecker product of one factor (n_a, q_a) per axis of a grid."""

    axes: tuple[FloatArray, ...]

    @property
    def columns(self) -> int:
        """q, the product of the q_a."""
        return int(np.prod([axis.shape[1] for axis in self.axes]))

    def times(self, x: FloatArray) -> FloatArray:
        """H x."""
        return self._apply(list(self.axes), x)

    def transposed(self, y: FloatArray) -> FloatArray:
        """H^T y."""
        return self._apply([axis.T for axis in self.axes], y)

    def localised(self, residuals: FloatArray) -> KhatriRao:
        """C o R with R = H H^T."""
        return KhatriRao(residuals, self)

    def at(self, index: FloatArray) -> DenseFactor:
        """Its rows at any places, indices (m, D): those of the axes interpolated linearly and scaled to length 1.

        Fields G omega and G_at omega with the same omega are one field, seen on the grid and at the places.
        """
        rows = np.ones((len(index), 1))
        for axis, at in zip(self.axes, index.T, strict=True):
            at = np.clip(at, 0, len(axis) - 1)
            low = np.minimum(at.astype(int), max(len(axis) - 2, 0))
            share = (at - low)[:, None]
            between = (1 - share) * axis[low] + share * axis[np.minimum(low + 1, len(axis) - 1)]
            between /= np.linalg.norm(between, axis=1, keepdims=True)
            rows = (rows[:, :, None] * between[:, None, :]).reshape(len(index), -1)
        return DenseFactor(rows)

    @staticmethod
    def _apply(matrices: Sequence[FloatArray], x: FloatArray) -> FloatArray:
        out = x.reshape(*[matrix.shape[1] for matrix in matrices], -1)
        for a, matrix in enumerate(matrices):
            lead = out.shape[:a]
            out = (matrix @ out.reshape(*lead, matrix.shape[1], -1)).reshape(*lead, matrix.shape[0], *out.shape[a + 1 :])
        return out.reshape(-1, x.shape[1])


@dataclass(frozen=True, eq=False)
class JoinedFactor:
    """H = [sqrt(w_1) H_1, ..., sqrt(w_L) H_L]: its covariance is the weighted sum of the parts'."""

    factors: tuple[Factor, ...]
    weights: tuple[float, ...]

    @property
    def columns(self) -> int:
        """q."""
        return sum(factor.columns for factor in self.factors)

    def times(self, x: FloatArray) -> FloatArray:
        """H x."""
        parts = np.split(x, np.cumsum([factor.columns for factor in self.factors])[:-1])
        terms = zip(self._roots(x), self.factors, parts, strict=True)
        return np.asarray(sum(root * factor.times(part) for root, factor, part in terms))

    def transposed(self, y: FloatArray) -> FloatArray:
        """H^T y."""
        return np.concatenate([root * factor.transposed(y) for root, factor in zip(self._roots(y), self.factors, strict=True)])

    def _roots(self, like: FloatArray) -> FloatArray:
        return np.sqrt(np.asarray(self.weights)).astype(like.dtype)


@dataclass(frozen=True, eq=False)
class KhatriRao:
    """H = (n - 1)^-1/2 [r_i o g_j], with H H^T = C o R, through its products.

    Parameters
    ----------
    residuals : r_i, (n, m, c)
    factor : G
    """

    residuals: FloatArray
    factor: Factor

    @property
    def columns(self) -> int:
        """n q."""
        return len(self.residuals) * self.factor.columns

    def times(self, x: FloatArray) -> FloatArray:
        """H x for x (n q, k) -> (m c, k)."""
        n, m, c = self.residuals.shape
        out = np.zeros((m, c, x.shape[1]), dtype=self.residuals.dtype)
        for r, part in zip(self.residuals, np.split(x, n), strict=True):
            field = self.factor.times(part)
            for d in range(c):
                out[:, d] += r[:, d, None] * field
        return out.reshape(m * c, -1) / np.sqrt(n - 1, dtype=out.dtype)

    def transposed(self, y: FloatArray) -> FloatArray:
        """H^T y for y (m c, k) -> (n q, k)."""
        n, m, c = self.residuals.shape
        y = y.reshape(m, c, -1)
        parts = []
        for r in self.residuals:
            weighted = r[:, 0, None] * y[:, 0]
            for d in range(1, c):
                weighted += r[:, d, None] * y[:, d]
            parts.append(self.factor.transposed(weighted))
        return np.concatenate(parts) / np.sqrt(n - 1, dtype=y.dtype)


@dataclass(frozen=True, eq=False)
class RepairedFactor(DenseFactor):
    """H of S X S: X the nearest correlation to a cut one, S the standard deviations.

    Parameters
    ----------
    matrix : H, (M, M)
    change : relative change of the correlation by its repair, see `augreg.sam.correlation.Repair`
    """

    change: float


@dataclass(frozen=True, eq=False)
class Cut:
    """A mask of correlations to keep, (m, m) of 0 and 1, that need not be positive semidefinite (Wilms et al. 2017)."""

    mask: FloatArray

    def localised(self, residuals: FloatArray) -> RepairedFactor:
        """S X S, X nearest to Rho o mask, Rho = S^-1 C S^-1; components that never vary stay so."""
        n, _, c = residuals.shape
        flat = residuals.reshape(n, -1).astype(np.float64)
        sigma = np.sqrt(np.sum(flat**2, axis=0) / (n - 1))
        unit = flat / np.where(sigma > 0, sigma, 1.0)
        rho = unit.T @ unit / (n - 1) * np.kron(self.mask, np.ones((c, c)))
        np.fill_diagonal(rho, 1.0)
        repair = nearest_correlation(rho)
        w, V = scipy.linalg.eigh(repair.matrix)
        return RepairedFactor(sigma[:, None] * V * np.sqrt(np.maximum(w, 0)), repair.change)


def modes(factor: Factor, mean: FloatArray, rank: int, retained: float, total: float) -> Subspace:
    """The leading left singular vectors of a factor: at most `rank`, keeping `retained` of the variance `total`."""
    columns, dtype = factor.columns, mean.dtype
    sketch = min(rank + _OVERSAMPLING, len(mean), columns)
    # the random test matrix is fixed: fitting is deterministic
    x = np.random.default_rng(0).standard_normal((columns, sketch)).astype(dtype)
    Q = _orthonormal(factor.times(x))
    Q = _orthonormal(factor.times(factor.transposed(Q)))
    T = factor.transposed(Q)
    w, W = np.linalg.eigh(np.asarray(T.T @ T, dtype=np.float64))
    w, W = w[::-1], W[:, ::-1]
    kept = min(rank, sketch, int((w > _LEAST_VARIANCE * max(w[0], 1e-300)).sum()))
    enough = 1 + int(np.searchsorted(np.cumsum(w), retained * total * (1 - 1e-9)))
    kept = max(1, min(kept, enough))
    return Subspace(mean, Q @ W[:, :kept].astype(Q.dtype), w[:kept])


def principal_modes(mean: FloatArray, residuals: FloatArray, retained: float) -> Subspace:
    """Plain principal components of residuals (n, M): at most n - 1 modes."""
    n = len(residuals)
    w, W = np.linalg.eigh(np.asarray(residuals @ residuals.T, dtype=np.float64) / (n - 1))
    w, W = w[::-1][: n - 1], W[:, ::-1][:, : n - 1]
    used = max(1, int((w > _LEAST_VARIANCE * max(w[0], 1e-300)).sum()))
    basis = residuals.T @ (W[:, :used] / np.sqrt(np.maximum(w[:used], 1e-300) * (n - 1))).astype(residuals.dtype)
    return Subspace(mean, basis, w[:used]).retain(retained)


def _orthonormal(Y: FloatArray) -> FloatArray:
    # LAPACK answers in column order; products over rows want the other
    return np.ascontiguousarray(scipy.linalg.qr(Y, mode="economic", check_finite=False)[0])
