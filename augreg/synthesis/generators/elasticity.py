"""Linear elasticity on a regular lattice: bodies of several stiffnesses of which some places are moved and others held.

    find u :  integral of  lambda div(u) div(w) + 2 mu eps(u) : eps(w)  =  0   for all w,      u = g where it is prescribed
    lambda = E nu / ((1 + nu) (1 - 2 nu)),      mu = E / (2 (1 + nu)),      eps(u) = (Du + Du^T) / 2

with trilinear (2-D: bilinear, plane strain) elements, exact integrals, one E and nu per cell. All cells have one shape, so two
small matrices serve them all, K = sum over cells of lambda K_l + mu K_m, and no large one is ever made: conjugate gradients,
scaled by the diagonal, ask for K u alone. Vectors follow the axes of the lattice.
"""

from __future__ import annotations

from functools import cached_property, reduce
from itertools import product

import numpy as np
import numpy.typing as npt
import scipy.sparse.linalg

from augreg.geometry.grid import FloatArray
from augreg.sam.one_thread import one_thread

# residual over right-hand side: displacements are drawn at random anyway
_TOLERANCE = 1e-5
_MOST = 4000


class ElasticLattice:
    """Cells of one shape and their materials.

    Parameters
    ----------
    spacing : sides of a cell, (D,) mm
    stiffness : Young's modulus E of every cell, (*cells) > 0; its unit does not matter
    poisson : Poisson's ratio nu of every cell, alike, in (0, 0.5)
    """

    def __init__(self, spacing: npt.ArrayLike, stiffness: FloatArray, poisson: FloatArray) -> None:
        self.spacing = np.asarray(spacing, dtype=np.float64)
        self.shape = tuple(n + 1 for n in stiffness.shape)
        self.first = (stiffness * poisson / ((1 + poisson) * (1 - 2 * poisson))).reshape(-1, 1)
        self.second = (stiffness / (2 * (1 + poisson))).reshape(-1, 1)
        self.corners = list(product((0, 1), repeat=len(self.shape)))

    def forces(self, u: FloatArray) -> FloatArray:
        """K u of displacements of all nodes, (*shape, D)."""
        D = len(self.shape)
        seen = np.stack([u[self._nodes(corner)] for corner in self.corners], axis=-2).reshape(-1, D * len(self.corners))
        first, second = self._matrices
        told = self.first * (seen @ first) + self.second * (seen @ second)
        return self._summed(told)

    def solve(self, known: npt.NDArray[np.bool_], given: FloatArray) -> FloatArray:
        """The displacements (*shape, D) that are `given` at nodes that are `known`, (*shape), and in equilibrium elsewhere."""
        start = np.where(known[..., None], given, 0.0)
        free = ~known
        if not free.any() or not start.any():
            return start
        diagonal = self._summed(self.first * np.diag(self._matrices[0]) + self.second * np.diag(self._matrices[1]))[free]

        def held(x: FloatArray) -> FloatArray:
            u = np.zeros_like(start)
            u[free] = x.reshape(diagonal.shape)
            return self.forces(u)[free].ravel()

        size = diagonal.size
        system = scipy.sparse.linalg.LinearOperator((size, size), matvec=held, dtype=np.float64)
        scaled = scipy.sparse.linalg.LinearOperator((size, size), matvec=lambda x: x / diagonal.ravel(), dtype=np.float64)
        # sums of several threads would differ in the last bit with their number
        with one_thread():
            x, _ = scipy.sparse.linalg.cg(system, -self.forces(start)[free].ravel(), rtol=_TOLERANCE, maxiter=_MOST, M=scaled)
        start[free] = x.reshape(diagonal.shape)
        return start

    @cached_property
    def _matrices(self) -> tuple[FloatArray, FloatArray]:
        """K_l and K_m of a cell, corner by corner and in these component by component."""
        D = len(self.shape)
        mass = [h / 6 * np.array([[2.0, 1.0], [1.0, 2.0]]) for h in self.spacing]
        slope = [np.array([[1.0, -1.0], [-1.0, 1.0]]) / h for h in self.spacing]
        # integral of N_a' N_b
        mixed = np.array([[-0.5, -0.5], [0.5, 0.5]])

        def integral(i: int, j: int) -> FloatArray:
            """Of d_i N_a d_j N_b, for all corners a and b."""
            factors = [
                slope[k] if i == j == k else mixed if k == i != j else mixed.T if k == j != i else mass[k] for k in range(D)
            ]
            return reduce(np.kron, factors)

        first, second = np.zeros((2, 2**D, D, 2**D, D))
        for d, e in product(range(D), repeat=2):
            first[:, d, :, e] = integral(d, e)
            second[:, d, :, e] += integral(e, d)
            second[:, d, :, d] += integral(e, e)
        return first.reshape(D * 2**D, -1), second.reshape(D * 2**D, -1)

    def _nodes(self, corner: tuple[int, ...]) -> tuple[slice, ...]:
        """The nodes that are this corner of a cell."""
        return tuple(slice(c, n - 1 + c) for c, n in zip(corner, self.shape, strict=True))

    def _summed(self, told: FloatArray) -> FloatArray:
        """What cells say of their corners (cells, corners D), added up at the nodes, (*shape, D)."""
        parts = told.reshape(*[n - 1 for n in self.shape], len(self.corners), len(self.shape))
        total = np.zeros((*self.shape, len(self.shape)))
        for number, corner in enumerate(self.corners):
            total[self._nodes(corner)] += parts[..., number, :]
        return total
