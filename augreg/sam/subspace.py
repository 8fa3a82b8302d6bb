"""Linear-Gaussian models of vectors: x = m + P diag(sqrt(lambda)) b, b ~ N(0, I), P^T P = I.

Coefficients b count in standard deviations, so that a coefficient means the same for every mode and model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray


@dataclass(frozen=True, eq=False)
class Subspace:
    """A mean and orthonormal modes with their variances.

    Parameters
    ----------
    mean : m, (M,)
    basis : P, (M, K), orthonormal columns
    variance : lambda, (K,), descending, positive

    Raises
    ------
    ValueError : for shapes that do not fit.
    """

    mean: FloatArray
    basis: FloatArray
    variance: FloatArray

    def __post_init__(self) -> None:
        size, rank = self.basis.shape
        if self.mean.shape != (size,) or self.variance.shape != (rank,):
            raise ValueError(
                f"mean, variance: expected shapes ({size},) and ({rank},) for a basis {self.basis.shape}, "
                f"got {self.mean.shape} and {self.variance.shape}"
            )

    @property
    def rank(self) -> int:
        """K, the number of modes."""
        return len(self.variance)

    @property
    def size(self) -> int:
        """M, the length of the vectors."""
        return len(self.mean)

    def instance(self, coefficients: npt.ArrayLike) -> FloatArray:
        """The vectors (..., M) of coefficients (..., k), k <= K: modes that are not named stay at 0."""
        b = self._padded(coefficients)
        return self.mean + (b * np.sqrt(self.variance)).astype(self.basis.dtype) @ self.basis.T

    def coefficients(self, vectors: npt.ArrayLike) -> FloatArray:
        """The coefficients (..., K) of the nearest points of the subspace to vectors (..., M)."""
        x = np.asarray(vectors)
        if x.shape[-1] != self.size:
            raise ValueError(f"vectors: expected length {self.size} along the last axis, got shape {x.shape}")
        return ((x - self.mean) @ self.basis) / np.sqrt(self.variance)

    def project(self, vectors: npt.ArrayLike) -> FloatArray:
        """The nearest points of the subspace to vectors (..., M)."""
        return self.instance(self.coefficients(vectors))

    def sample(self, rng: np.random.Generator, count: int) -> FloatArray:
        """Random vectors (count, M) of the model."""
        return self.instance(rng.standard_normal((count, self.rank)))

    def posterior(self, rows: npt.ArrayLike, values: npt.ArrayLike, noise: float) -> Subspace:
        """The model given some coordinates, known but for independent Gaussian errors.

        With A = P_rows Lambda^1/2 = U S V^T and y = A b + noise e, the coefficients given y have the covariance
        (I + A^T A / noise^2)^-1 = I - V diag(s^2 / (s^2 + noise^2)) V^T and the mean V diag(s / (s^2 + noise^2)) U^T y: ridge
        regression. The modes are turned to be principal axes again.

        Parameters
        ----------
        rows : indices (k,) of the known coordinates, or a mask of them, (M,) bool
        values : known coordinates, (k,)
        noise : standard deviation of the errors of the values, > 0

        Raises
        ------
        ValueError : for values that do not fit the rows or are not finite, or noise that is not positive and finite.
        """
        y = np.asarray(values, dtype=np.float64)
        scaled = self.basis * np.sqrt(self.variance)
        A = scaled[np.asarray(rows)].astype(np.float64)
        if y.shape != (len(A),) or not np.isfinite(y).all():
            raise ValueError(f"values: expected {len(A)} finite numbers, one per row, got shape {y.shape}")
        if not 0 < noise < np.inf:
            raise ValueError(f"noise: expected a positive, finite standard deviation, got {noise}")
        U, s, Vt = np.linalg.svd(A, full_matrices=False)
        b = Vt.T @ (s / (s**2 + noise**2) * (U.T @ (y - self.mean[np.asarray(rows)])))
        # I - V diag(1 - q^2) V^T = T T^T with T = I - V diag(1 - q) V^T: no difference of nearly equal numbers is squared
        q = noise / np.hypot(s, noise)
        T = np.eye(self.rank) - (Vt.T * (1 - q)) @ Vt
        W, root, _ = np.linalg.svd(np.sqrt(self.variance)[:, None] * T)
        kept = root > 1e-12 * np.sqrt(self.variance[0]) if self.rank else root > 0
        return Subspace(self.instance(b), self.basis @ W[:, kept].astype(self.basis.dtype), root[kept] ** 2)

    def truncate(self, rank: int) -> Subspace:
        """The first `rank` modes."""
        return Subspace(self.mean, self.basis[:, :rank], self.variance[:rank])

    def retain(self, share: float) -> Subspace:
        """The least number of modes that keep `share` of the total variance."""
        cumulative = np.cumsum(self.variance)
        if self.rank == 0:
            return self
        return self.truncate(1 + int(np.searchsorted(cumulative, share * cumulative[-1] * (1 - 1e-12))))

    def _padded(self, coefficients: npt.ArrayLike) -> FloatArray:
        b = np.asarray(coefficients, dtype=np.float64)
        missing = self.rank - b.shape[-1]
        if missing < 0:
            raise ValueError(f"coefficients: expected at most {self.rank}, one per mode, got {b.shape[-1]}")
        return np.pad(b, [(0, 0)] * (b.ndim - 1) + [(0, missing)])


def nest(coarse: Subspace, fine: Subspace, keep: Literal["coarse", "fine"] = "coarse") -> Subspace:
    """The subspace of the fine one's rank that contains the coarse one and is otherwise nearest to the fine one.

    With A, B the bases, A^T B = U S V^T (full), the result is spanned by G = [A U, B V_2], V_2 the last columns of V (Ye and Lim
    2016, SIAM J. Matrix Anal. Appl. 37, 1176). Its covariance is that of each part expressed there, E = diag(U^T Lambda_A U,
    V_2^T Lambda_B V_2), diagonalised and scaled to the total variance of the model that `keep` names (coarse: Wilms et al. 2017,
    fine: 2020). A fine model that has no more modes than the coarse one adds nothing: the coarse one is returned.
    """
    p, q = coarse.rank, fine.rank
    if p >= q:
        return coarse
    A, B = coarse.basis, fine.basis
    U, _, Vt = np.linalg.svd(np.asarray(A.T @ B, dtype=np.float64))
    added = Vt[p:].T
    G = np.concatenate([A @ U.astype(A.dtype), B @ added.astype(B.dtype)], axis=1)
    E = np.zeros((q, q))
    E[:p, :p] = (U.T * coarse.variance) @ U
    E[p:, p:] = (added.T * fine.variance) @ added
    w, W = np.linalg.eigh(E)
    w, W = w[::-1], W[:, ::-1]
    total = (coarse if keep == "coarse" else fine).variance.sum()
    return Subspace(coarse.mean, G @ W.astype(G.dtype), w * total / w.sum())
