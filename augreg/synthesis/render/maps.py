"""The maps of pairs: what is drawn, psi, becomes splines that need no inverse where images are made.

Drawn are psi_k: template -> image k, splines or exponentials in a pose. One image of a pair is its base b, the other one o: the
base is the moving image, or the fixed one where that alone does not move at all. At the nodes y of the control grid, Newton's
method finds psi^-1, and cubic B-splines w through the nodes take its place:

    B_b(y) = T_b^-1(y + w_b(y))          w_b(y) = T_b psi_b^-1(y) - y at the nodes, psi without its pose on the right: see below
    phi(y) = A (y + w_o(y))              A = T_b T_o^-1,  w_o(y) = A^-1 psi_b(psi_o^-1(y)) - y at the nodes
    B_o(y) = B_b(phi(y))                 by definition

From here on B_b and phi **are** the maps: image_k(y) = a(B_k(y)), so that image_o(y) = image_b(phi(y)) exactly, whatever the
splines lie off the nodes by. On the pixels w_b and w_o are sums over a regular lattice, B_o is one spline at scattered points,
and nothing is inverted; phi^-1, the way from b to o, is one inverse a pixel, for those who ask.

The bound that keeps psi from folding holds for them: psi is shrunk until det D psi >= LEAST_DETERMINANT on the lattice of
`FoldingCheck`, and then w_b and w_o are, by the same rule. So B_b, phi, and B_o, which is made of both, are one-to-one as far as
that lattice shows. A spline that had to be shrunk is another map than was drawn; the pair that it makes is as exact.

A pair's other image depends on its base: the same shape in two pairs is the same image but for the hundredths of a pixel that
phi's spline lies off psi_b o psi_o^-1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from augreg.sam.motion import Displacement, Motion, Velocity
from augreg.synthesis.render.arithmetic import Arithmetic
from augreg.synthesis.render.folding import FoldingCheck
from augreg.synthesis.render.frame import ControlFrame, Tensor, compose, transformed
from augreg.synthesis.render.held import held
from augreg.synthesis.render.tensor_splines import per_axis, prefilter_matrix

# how maps are made of what is drawn, for descriptions of pairs
MADE = "splines of B and phi"
# the join with what stays beyond the control grid
_ZERO_LAYERS = 3


@dataclass(frozen=True, eq=False)
class PairMaps:
    """The maps of B pairs, in index units.

    Parameters
    ----------
    base, other : coefficients of w_b and w_o, (B, *control shape, D) float64 voxels
    home : T_b^-1, (B, D, D + 1)
    there, again : A and A^-1, (B, D, D + 1) each
    swapped : whether the fixed image is the base, (B,) bool
    scale : factors by which the splines of both images were shrunk, (B, 2) of fixed and moving
    least : least determinant of the two, poses excepted, (B,)
    """

    base: Tensor
    other: Tensor
    home: Tensor
    there: Tensor
    again: Tensor
    swapped: Tensor
    scale: Tensor
    least: Tensor


@dataclass(frozen=True, eq=False)
class Fitting:
    """Makes maps of what is drawn.

    Parameters
    ----------
    frame : position of the control grid over the images
    filters : values at the nodes to coefficients without the three outer layers, one matrix per axis
    folding : check of splines for folds
    arithmetic : implementation of splines
    """

    frame: ControlFrame
    filters: list[Tensor]
    folding: FoldingCheck
    arithmetic: Arithmetic

    @staticmethod
    def of(frame: ControlFrame, device: torch.device, arithmetic: Arithmetic) -> Fitting:
        """The fitting of a control grid on a device."""
        filters = [prefilter_matrix(n) for n in frame.shape]
        for matrix in filters:
            matrix[:_ZERO_LAYERS] = matrix[-_ZERO_LAYERS:] = 0
        held_filters = [held(matrix, device, torch.float64) for matrix in filters]
        return Fitting(frame, held_filters, FoldingCheck.of(frame, device), arithmetic)

    def maps(self, coefficients: Tensor, motion: Motion, forward: Tensor, backward: Tensor) -> PairMaps:
        """Maps of the motions of 2 B images, two by two, (2 B, *control shape, D), and their poses T and T^-1."""
        match motion:
            case Displacement():
                u, scale, _ = self.folding.unfolded(coefficients)
            case Velocity():
                u, scale = coefficients, torch.ones(len(coefficients), dtype=coefficients.dtype, device=coefficients.device)
        swapped = self._swapped(u, forward)
        first = torch.arange(len(swapped), device=u.device) * 2
        b, o = first + (~swapped).long(), first + swapped.long()
        nodes = self.frame.nodes(u)
        found = self._inverted(u, motion, compose(backward, self.frame.of_nodes(u)))
        base = transformed(forward[b], found[b]) - nodes
        other = transformed(forward[o], self._moved(u[b], motion, found[o])) - nodes
        values = torch.cat([base, other]).reshape(-1, *self.frame.shape, nodes.shape[-1])
        w, shrunk, least = self.folding.unfolded(self._through(values))
        (w_b, w_o), (s_b, s_o) = w.chunk(2), shrunk.chunk(2)
        scale = scale.clone()
        scale[b], scale[o] = scale[b] * s_b, scale[o] * s_o
        there, again = compose(forward[b], backward[o]), compose(forward[o], backward[b])
        return PairMaps(w_b, w_o, backward[b], there, again, swapped, scale.reshape(-1, 2), torch.minimum(*least.chunk(2)))

    def _swapped(self, u: Tensor, forward: Tensor) -> Tensor:
        """Where the fixed image does not move, and the moving one does."""
        still = torch.eye(*forward.shape[1:], dtype=forward.dtype, device=forward.device)
        at_rest = (u.flatten(1) == 0).all(dim=1) & ((forward - still).abs() < 1e-12).flatten(1).all(dim=1)
        return at_rest[0::2] & ~at_rest[1::2]

    def _inverted(self, u: Tensor, motion: Motion, targets: Tensor) -> Tensor:
        """psi^-1, poses excepted, at the nodes as `targets` place them, (2 B, N, D)."""
        frame = replace(self.frame, pixels=self.frame.shape)
        match motion:
            case Displacement():
                return self.arithmetic.pull(u, frame, targets)[0]
            case Velocity(steps):
                return self.arithmetic.exponential(u, self.frame, frame.targets(targets), -1.0, steps)

    def _moved(self, u: Tensor, motion: Motion, points: Tensor) -> Tensor:
        """psi, poses excepted."""
        match motion:
            case Displacement():
                return self.arithmetic.move(u, self.frame, points)
            case Velocity(steps):
                return self.arithmetic.exponential(u, self.frame, points, 1.0, steps)

    def _through(self, values: Tensor) -> Tensor:
        """Coefficients (K, *shape, D) of the splines through values at the nodes, but for their outer layers, which are zero."""
        return (
            per_axis(values.movedim(-1, 0).flatten(0, 1), self.filters)
            .reshape(values.shape[-1], *values.shape[:-1])
            .movedim(0, -1)
        )
