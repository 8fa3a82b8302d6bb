"""Correlation matrices: their roots, and the nearest one to a matrix that is none.

The nearest correlation matrix to a symmetric A, in the Frobenius norm, is unique (Higham 2002, IMA J. Numer. Anal. 22, 329, who
finds it by alternating projections with Dykstra's correction). Its dual is smooth, concave and has one unknown per row,

    max over y of  sum(y) - 1/2 |(A + Diag y)_+|^2,      X = (A + Diag y)_+,      gradient 1 - diag X

(Malick 2004, SIAM J. Matrix Anal. Appl. 26, 272; Qi and Sun 2006, ibid. 28, 360), so that L-BFGS gets there in fewer
eigendecompositions than the projections. What is returned is X scaled to unit diagonal: positive semidefinite without reserve.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.optimize

from augreg.geometry.grid import FloatArray

# share of a taper's trace that its truncated root may lose; rows are rescaled, so that variances stay exact
_ROOT_LOSS = 1e-4


def correlation_root(R: FloatArray) -> FloatArray:
    """G (m, q) with G G^T = R (m, m) but for a share 1e-4 of the trace; the diagonal 1 is kept exactly.

    Raises
    ------
    ValueError : if R is not positive semidefinite, with its least eigenvalue.
    """
    w, V = np.linalg.eigh(R)
    if w[0] < -1e-8 * w[-1]:
        raise ValueError(
            f"taper: expected a positive semidefinite correlation, its least eigenvalue is {w[0]:.3g}; "
            "use Euclidean distances and a gaussian or wendland taper"
        )
    w, V = np.maximum(w[::-1], 0), V[:, ::-1]
    keep = 1 + int(np.searchsorted(np.cumsum(w), (1 - _ROOT_LOSS) * w.sum()))
    G = V[:, :keep] * np.sqrt(w[:keep])
    return G / np.linalg.norm(G, axis=1, keepdims=True)


@dataclass(frozen=True, eq=False)
class Repair:
    """A nearest correlation matrix.

    Parameters
    ----------
    matrix : repaired matrix, (M, M), positive semidefinite but for rounding, with a unit diagonal
    change : relative change by the repair, |matrix - A| / |A| in Frobenius norms
    """

    matrix: FloatArray
    change: float


def nearest_correlation(A: FloatArray, tolerance: float = 1e-6, iterations: int = 500) -> Repair:
    """The nearest correlation matrix to a symmetric matrix (M, M).

    Parameters
    ----------
    A : matrix to repair
    tolerance : largest error of the diagonal, before it is scaled to 1
    iterations : largest number of eigendecompositions, about
    """
    A = 0.5 * (A + A.T)

    def dual(y: FloatArray) -> tuple[float, FloatArray]:
        X = _positive_part(A + np.diag(y))
        return 0.5 * float(np.sum(X**2)) - float(y.sum()), np.diag(X) - 1

    options = {"gtol": tolerance, "ftol": 0.0, "maxiter": iterations, "maxfun": iterations, "maxcor": 20}
    y = scipy.optimize.minimize(dual, 1 - np.diag(A), jac=True, method="L-BFGS-B", options=options).x
    X = _positive_part(A + np.diag(y))
    size = np.sqrt(np.diag(X))
    X = X / np.outer(size, size)
    np.fill_diagonal(X, 1.0)
    return Repair(X, float(np.linalg.norm(X - A) / np.linalg.norm(A)))


def _positive_part(A: FloatArray) -> FloatArray:
    w, V = scipy.linalg.eigh(A, check_finite=False)
    # the smaller of the two halves is the cheaper product
    if 2 * np.count_nonzero(w < 0) < len(w):
        low = V[:, w < 0]
        return A - (low * w[w < 0]) @ low.T
    high = V[:, w > 0]
    return (high * w[w > 0]) @ high.T
