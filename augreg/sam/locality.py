"""Locality: distant places vary independently, so a few images span many modes.

With n residuals r_i (M = m c numbers: c components at each of m places x_a) the covariance C = (n - 1)^-1 sum_i r_i r_i^T has
rank n - 1. Multiplied place by place with a taper, C o R, R_ab = rho(|x_a - x_b| / tau), distant correlations vanish and the
rank grows; the components of one place share the taper, so their covariance stays. C o R is positive semidefinite if R is
(Schur): so are Gaussian and Wendland tapers of Euclidean distances in up to three dimensions. Levels

    tau_l = d_max 2^(1 - l),  l = 1..L;    level 1 is C itself;    Gaussian: sigma = 2 tau;    Wendland: support 2 tau

go from global to local; they are merged as nested subspaces (see `subspace.nest`) or averaged, C o (sum_l R_l / L)
(Wilms, Handels, Ehrhardt 2017, Med. Image Anal. 38; Wilms et al. 2020, Med. Image Anal. 64 for the kernels).

No M x M matrix is formed: with R = G G^T, C o R = H H^T, H = (n - 1)^-1/2 [r_i o g_j], the row-wise Kronecker (Khatri-Rao)
product, and the modes are the left singular vectors of H by a randomised range finder (Halko, Martinsson, Tropp 2011, SIAM Rev.
53, 217) that only multiplies by R's factor G. On a grid G is a Kronecker product of one factor per axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import scipy.linalg
import scipy.spatial.distance

from augreg.grid import FloatArray, Grid
from augreg.sam.subspace import Subspace, nest

# share of a taper's trace that its truncated factor may lose; rows are rescaled, so that variances stay exact
_FACTOR_LOSS = 1e-4
_OVERSAMPLING = 12
# relative to the largest mode, or to the mean's square: rounding, no variation
_LEAST_VARIANCE = 1e-10


@dataclass(frozen=True)
class Locality:
    """How far correlations reach.

    Parameters
    ----------
    levels : L, from global (1: an ordinary statistical model of rank n - 1) to local
    taper : "gaussian" or "wendland" (compact support)
    merge : "nested" subspaces, coarse to fine, or the "sum" of the levels' tapers, equally weighted
    retained : share of the variance that each level keeps
    """

    levels: int = 5
    taper: Literal["gaussian", "wendland"] = "gaussian"
    merge: Literal["nested", "sum"] = "nested"
    retained: float = 0.95

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise ValueError(f"levels: expected at least 1, got {self.levels}")
        if self.taper not in ("gaussian", "wendland"):
            raise ValueError(f"taper: expected gaussian or wendland, got {self.taper!r}")
        if self.merge not in ("nested", "sum"):
            raise ValueError(f"merge: expected nested or sum, got {self.merge!r}")
        if not 0 < self.retained <= 1:
            raise ValueError(f"retained: expected a share in (0, 1], got {self.retained}")

    def scale(self, level: int, extent: float) -> float:
        """tau_l, mm, for level 1..L and the largest distance `extent` of the domain, mm; infinite for level 1."""
        return np.inf if level == 1 else extent * 2.0 ** (1 - level)

    def correlation(self, distance: FloatArray, level: int, extent: float) -> FloatArray:
        """R at distances (mm): 1 at 0, falling to 0."""
        r = np.asarray(distance, dtype=np.float64) / (2 * self.scale(level, extent))
        if self.taper == "gaussian":
            return np.exp(-0.5 * r**2)
        return np.maximum(0.0, 1 - r) ** 4 * (4 * r + 1)


class Factor(Protocol):
    """G of a taper R = G G^T, (m, q), seen through its products."""

    @property
    def columns(self) -> int:
        """q."""

    def times(self, x: FloatArray) -> FloatArray:
        """G x for x (q, k) -> (m, k)."""

    def transposed(self, y: FloatArray) -> FloatArray:
        """G^T y for y (m, k) -> (q, k)."""


@dataclass(frozen=True, eq=False)
class DenseFactor:
    """G as a matrix (m, q)."""

    matrix: FloatArray

    @property
    def columns(self) -> int:
        """q."""
        return self.matrix.shape[1]

    def times(self, x: FloatArray) -> FloatArray:
        """G x."""
        return self.matrix @ x

    def transposed(self, y: FloatArray) -> FloatArray:
        """G^T y."""
        return self.matrix.T @ y


@dataclass(frozen=True, eq=False)
class GridFactor:
    """G as the Kronecker product of one factor (n_a, q_a) per axis of a grid."""

    axes: tuple[FloatArray, ...]

    @property
    def columns(self) -> int:
        """q, the product of the q_a."""
        return int(np.prod([axis.shape[1] for axis in self.axes]))

    def times(self, x: FloatArray) -> FloatArray:
        """G x."""
        return self._apply(list(self.axes), x)

    def transposed(self, y: FloatArray) -> FloatArray:
        """G^T y."""
        return self._apply([axis.T for axis in self.axes], y)

    @staticmethod
    def _apply(matrices: Sequence[FloatArray], x: FloatArray) -> FloatArray:
        out = x.reshape(*[matrix.shape[1] for matrix in matrices], -1)
        for a, matrix in enumerate(matrices):
            lead = out.shape[:a]
            out = (matrix @ out.reshape(*lead, matrix.shape[1], -1)).reshape(*lead, matrix.shape[0], *out.shape[a + 1 :])
        return out.reshape(-1, x.shape[1])


def taper_factor(points: FloatArray, locality: Locality, level: int, extent: float) -> DenseFactor:
    """The factor of one level's taper at places (m, D) mm.

    Raises
    ------
    ValueError : if the taper is not positive semidefinite, with its least eigenvalue.
    """
    distance = scipy.spatial.distance.squareform(scipy.spatial.distance.pdist(points))
    return DenseFactor(_root(locality.correlation(distance, level, extent)))


def grid_taper_factor(grid: Grid, locality: Locality, level: int, extent: float) -> GridFactor:
    """The factor of one level's taper at the points of a grid, row-major.

    R is the product of one taper per axis: for Gaussians that is the taper of the Euclidean distance, for Wendland's functions a
    positive semidefinite relative with the same support along the axes.
    """
    axes = []
    for n, spacing in zip(grid.shape, grid.spacing, strict=True):
        distance = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) * spacing
        axes.append(_root(locality.correlation(distance, level, extent)).astype(np.float32))
    return GridFactor(tuple(axes))


@dataclass(frozen=True, eq=False)
class JoinedFactor:
    """G = [G_1, ..., G_L] / sqrt(L): its taper is the mean of the levels'."""

    factors: tuple[Factor, ...]

    @property
    def columns(self) -> int:
        """q."""
        return sum(factor.columns for factor in self.factors)

    def times(self, x: FloatArray) -> FloatArray:
        """G x."""
        parts = np.split(x, np.cumsum([factor.columns for factor in self.factors])[:-1])
        total = sum(factor.times(part) for factor, part in zip(self.factors, parts, strict=True))
        return np.asarray(total) / np.sqrt(len(self.factors), dtype=x.dtype)

    def transposed(self, y: FloatArray) -> FloatArray:
        """G^T y."""
        return np.concatenate([factor.transposed(y) for factor in self.factors]) / np.sqrt(len(self.factors), dtype=y.dtype)


def _root(R: FloatArray) -> FloatArray:
    """G with G G^T = R but for a share _FACTOR_LOSS of the trace; the diagonal 1 is kept exactly."""
    w, V = np.linalg.eigh(R)
    if w[0] < -1e-8 * w[-1]:
        raise ValueError(
            f"taper: expected a positive semidefinite correlation, its least eigenvalue is {w[0]:.3g}; "
            "use Euclidean distances and a gaussian or wendland taper"
        )
    w, V = np.maximum(w[::-1], 0), V[:, ::-1]
    keep = 1 + int(np.searchsorted(np.cumsum(w), (1 - _FACTOR_LOSS) * w.sum()))
    G = V[:, :keep] * np.sqrt(w[:keep])
    return G / np.linalg.norm(G, axis=1, keepdims=True)


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
    def shape(self) -> tuple[int, int]:
        """(M, n q)."""
        n, m, c = self.residuals.shape
        return m * c, n * self.factor.columns

    def times(self, x: FloatArray) -> FloatArray:
        """H x for x (n q, k) -> (M, k)."""
        n, m, c = self.residuals.shape
        out = np.zeros((m, c, x.shape[1]), dtype=self.residuals.dtype)
        for r, part in zip(self.residuals, np.split(x, n), strict=True):
            field = self.factor.times(part)
            for d in range(c):
                out[:, d] += r[:, d, None] * field
        return out.reshape(m * c, -1) / np.sqrt(n - 1, dtype=out.dtype)

    def transposed(self, y: FloatArray) -> FloatArray:
        """H^T y for y (M, k) -> (n q, k)."""
        n, m, c = self.residuals.shape
        y = y.reshape(m, c, -1)
        parts = []
        for r in self.residuals:
            weighted = r[:, 0, None] * y[:, 0]
            for d in range(1, c):
                weighted += r[:, d, None] * y[:, d]
            parts.append(self.factor.transposed(weighted))
        return np.concatenate(parts) / np.sqrt(n - 1, dtype=y.dtype)

    def modes(self, mean: FloatArray, rank: int, retained: float, total: float) -> Subspace:
        """The leading left singular vectors: at most `rank`, keeping `retained` of the variance `total`."""
        M, columns = self.shape
        sketch = min(rank + _OVERSAMPLING, M, columns)
        # the random test matrix is fixed: fitting is deterministic
        x = np.random.default_rng(0).standard_normal((columns, sketch)).astype(self.residuals.dtype)
        Q = _orthonormal(self.times(x))
        Q = _orthonormal(self.times(self.transposed(Q)))
        T = self.transposed(Q)
        w, W = np.linalg.eigh(np.asarray(T.T @ T, dtype=np.float64))
        w, W = w[::-1], W[:, ::-1]
        kept = min(rank, sketch, int((w > _LEAST_VARIANCE * max(w[0], 1e-300)).sum()))
        enough = 1 + int(np.searchsorted(np.cumsum(w), retained * total * (1 - 1e-9)))
        kept = max(1, min(kept, enough))
        return Subspace(mean, Q @ W[:, :kept].astype(Q.dtype), w[:kept])


def _orthonormal(Y: FloatArray) -> FloatArray:
    # LAPACK answers in column order; products over rows want the other
    return np.ascontiguousarray(scipy.linalg.qr(Y, mode="economic", check_finite=False)[0])


def principal_modes(mean: FloatArray, residuals: FloatArray, retained: float) -> Subspace:
    """Plain principal components of residuals (n, M): at most n - 1 modes."""
    n = len(residuals)
    w, W = np.linalg.eigh(np.asarray(residuals @ residuals.T, dtype=np.float64) / (n - 1))
    w, W = w[::-1][: n - 1], W[:, ::-1][:, : n - 1]
    used = max(1, int((w > _LEAST_VARIANCE * max(w[0], 1e-300)).sum()))
    basis = residuals.T @ (W[:, :used] / np.sqrt(np.maximum(w[:used], 1e-300) * (n - 1))).astype(residuals.dtype)
    return Subspace(mean, basis, w[:used]).retain(retained)


def local_subspace(
    mean: FloatArray,
    residuals: FloatArray,
    factor: Callable[[int], Factor],
    locality: Locality,
    rank: int,
    name: str,
) -> Subspace:
    """The modes of residuals (n, m, c) under a locality.

    Parameters
    ----------
    mean : (m c,)
    residuals : r_i, centred
    factor : gives the factor of a level's taper
    locality : levels, taper and merge
    rank : most modes; with nested levels each level adds an equal share of it, else the finest levels would find no room
    name : of what is modelled, for messages

    Raises
    ------
    ValueError : if the residuals are zero but for rounding.
    """
    n = len(residuals)
    flat = residuals.reshape(n, -1)
    total = float(np.sum(flat.astype(np.float64) ** 2)) / (n - 1)
    if not total > _LEAST_VARIANCE * float(np.sum(mean.astype(np.float64) ** 2)):
        raise ValueError(f"{name}: expected images that differ, got identical {name}: there is nothing to model")
    plain = principal_modes(mean, flat, locality.retained).truncate(rank)
    if locality.levels == 1:
        return plain
    if locality.merge == "sum":
        everything = JoinedFactor(tuple(factor(level) for level in range(1, locality.levels + 1)))
        return KhatriRao(residuals, everything).modes(mean, rank, locality.retained, total)
    model = plain
    for level in range(2, locality.levels + 1):
        most = model.rank + -(-(rank - model.rank) // (locality.levels - level + 1))
        model = nest(model, KhatriRao(residuals, factor(level)).modes(mean, most, locality.retained, total))
    return model
