"""Splines that fold are shrunk.

A map psi = id + u that folds, det(D psi) < LEAST_DETERMINANT anywhere on a lattice of two points per control cell, is shrunk:
det(I + s Du) = 1 + s I_1 + s^2 I_2 (+ s^3 I_3), I_k the invariants of Du, so one evaluation of Du serves all s.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from augreg.geometry.splines import cubic_basis
from augreg.synthesis.render.compiled import least_determinants
from augreg.synthesis.render.frame import ControlFrame, Tensor
from augreg.synthesis.render.held import held
from augreg.synthesis.render.tensor_splines import per_axis

LEAST_DETERMINANT = 0.1
_PER_CELL = 2
# the factors by which a folding map is shrunk
_SHRINK = 0.9 ** np.arange(24)
# elsewhere than on the CPU points of the lattice together: few large steps, in little memory
_POINTS = 1 << 23


@dataclass(frozen=True, eq=False)
class FoldingCheck:
    """The splines of a control frame at the lattice where folding is looked for.

    Parameters
    ----------
    frame : position of the control grid
    values, slopes : splines and their derivatives per voxel, one matrix (points, controls) per axis, float64
    """

    frame: ControlFrame
    values: list[Tensor]
    slopes: list[Tensor]

    @staticmethod
    def of(frame: ControlFrame, device: torch.device) -> FoldingCheck:
        """The check of a frame's splines on a device."""
        values, slopes = zip(*[cubic_basis(n, _PER_CELL) for n in frame.shape], strict=True)
        return FoldingCheck(
            frame,
            values=[held(v, device, torch.float64) for v in values],
            slopes=[held(s * step, device, torch.float64) for s, step in zip(slopes, frame.step, strict=True)],
        )

    def unfolded(self, coefficients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Splines (N, *control shape, D) shrunk until none folds, the factors (N,) and the least determinants (N,)."""
        scale = torch.ones(len(coefficients), dtype=coefficients.dtype, device=coefficients.device)
        least = torch.empty_like(scale)
        factors = torch.tensor(_SHRINK, device=coefficients.device)
        whole = max(len(coefficients), 1)
        together = whole if coefficients.device.type == "cpu" else -(-_POINTS // math.prod(map(len, self.values)))
        for rows in torch.arange(len(coefficients), device=coefficients.device).split(together):
            least[rows] = self.least(coefficients[rows])
            folding = least[rows] < LEAST_DETERMINANT
            if bool(folding.any()):
                trials = _determinant(list(self._invariants(coefficients[rows[folding]])), factors)
                # the first factor that will do; the last one where none does
                chosen = (trials >= LEAST_DETERMINANT).float().cumsum(dim=1).eq(0).sum(dim=1).clamp(max=len(factors) - 1)
                scale[rows[folding]] = factors[chosen]
                least[rows[folding]] = trials.gather(1, chosen[:, None])[:, 0]
        return coefficients * scale.reshape(-1, *[1] * (coefficients.ndim - 1)), scale, least

    def least(self, coefficients: Tensor) -> Tensor:
        """The least determinants of splines, (N,)."""
        if coefficients.device.type == "cpu":
            return least_determinants(coefficients, self.frame, _PER_CELL)
        return self.by_tensors(coefficients)

    def by_tensors(self, coefficients: Tensor) -> Tensor:
        """`least` on any device."""
        whole = torch.ones(1, dtype=coefficients.dtype, device=coefficients.device)
        return _determinant(list(self._invariants(coefficients)), whole)[:, 0]

    def _invariants(self, coefficients: Tensor) -> Iterator[Tensor]:
        """I_1, I_2 (and I_3) of Du at the lattice, (N, points) each."""
        ndim = len(self.values)

        def along(component: int, axis: int) -> Tensor:
            matrices = [self.slopes[a] if a == axis else self.values[a] for a in range(ndim)]
            return per_axis(coefficients[..., component], matrices).reshape(len(coefficients), -1)

        J = [[along(component, axis) for axis in range(ndim)] for component in range(ndim)]
        yield sum((J[d][d] for d in range(1, ndim)), J[0][0])
        pairs = [(0, 1)] if ndim == 2 else [(0, 1), (0, 2), (1, 2)]
        minors = [J[a][a] * J[b][b] - J[a][b] * J[b][a] for a, b in pairs]
        yield sum(minors[1:], minors[0])
        if ndim == 3:
            cofactors = [J[1][(k + 1) % 3] * J[2][(k + 2) % 3] - J[1][(k + 2) % 3] * J[2][(k + 1) % 3] for k in range(3)]
            yield J[0][0] * cofactors[0] + J[0][1] * cofactors[1] + J[0][2] * cofactors[2]


def _determinant(invariants: list[Tensor], factors: Tensor) -> Tensor:
    """The least 1 + s I_1 + s^2 I_2 (+ s^3 I_3) over the points for every factor s, (N, factors)."""
    least = []
    for s in factors:
        total = torch.zeros_like(invariants[0])
        for invariant in reversed(invariants):
            total = (total + invariant) * s
        least.append(1 + total.amin(dim=1))
    return torch.stack(least, dim=1)
