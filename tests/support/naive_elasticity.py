"""Linear elasticity as one dense matrix, by Gauss points in every cell."""

from itertools import product

import numpy as np

GAUSS = (0.5 - 0.5 / np.sqrt(3), 0.5 + 0.5 / np.sqrt(3))


def matrix(spacing, stiffness, poisson):
    """K, nodes in row-major order and in these component by component."""
    D, shape = len(spacing), tuple(n + 1 for n in stiffness.shape)
    number = np.arange(int(np.prod(shape))).reshape(shape)
    K = np.zeros((number.size * D, number.size * D))
    corners = list(product((0, 1), repeat=D))
    for cell in np.ndindex(*stiffness.shape):
        E, nu = stiffness[cell], poisson[cell]
        lame, shear = E * nu / ((1 + nu) * (1 - 2 * nu)), E / (2 * (1 + nu))
        rows = [number[tuple(np.add(cell, corner))] * D + d for corner in corners for d in range(D)]
        for point in product(GAUSS, repeat=D):
            # strains of unit displacements of every corner and component
            strains = []
            for corner in corners:
                slope = np.array(
                    [
                        np.prod(
                            [
                                (2 * c - 1) / h if k == axis else (t if c else 1 - t)
                                for k, (c, t, h) in enumerate(zip(corner, point, spacing, strict=True))
                            ]
                        )
                        for axis in range(D)
                    ]
                )
                for d in range(D):
                    gradient = np.zeros((D, D))
                    gradient[d] = slope
                    strains.append((gradient + gradient.T) / 2)
            weight = np.prod(spacing) / 2**D
            for i, one in zip(rows, strains, strict=True):
                for j, other in zip(rows, strains, strict=True):
                    K[i, j] += weight * (lame * np.trace(one) * np.trace(other) + 2 * shear * np.sum(one * other))
    return K
