"""The nearest correlation matrix by alternating projections with Dykstra's correction (Higham 2002, algorithm 3.3)."""

import numpy as np


def nearest_correlation(A, tolerance=1e-9, iterations=20000):
    Y, correction = A.copy(), np.zeros_like(A)
    for _ in range(iterations):
        R = Y - correction
        w, V = np.linalg.eigh(R)
        X = (V * np.maximum(w, 0)) @ V.T
        correction = X - R
        following = X.copy()
        np.fill_diagonal(following, 1)
        if np.linalg.norm(following - Y) < tolerance and np.linalg.norm(following - X) < tolerance:
            return following
        Y = following
    raise AssertionError("no convergence")
