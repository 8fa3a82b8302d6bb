"""What rendering computes with: the same functions by tensor operations on any device, or by compiled kernels on the CPU.

All of them work on batches, in index units: points are indices of one image grid, displacements count in its voxels. u is a
spline over a control grid, u(x) = sum_j b_j(x) c_j with b_j cubic B-splines, and 0 outside the control grid's domain.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from augreg.synthesis.render.frame import ControlFrame, Tensor

# a point is left with one last Newton step when its residual, in voxels, has fallen so far
ACCEPTED = 2e-3
ITERATIONS = 40


@dataclass(frozen=True, eq=False)
class Textures:
    """What images are sampled from.

    Parameters
    ----------
    coefficients : of cubic B-splines, see `Arithmetic.prefilter`, (K, *shape)
    low, high : bounds of the images of each, (K,): cubic splines go beyond
    own : numbers of the textures of the other image and of the base, (2, B) int64
    """

    coefficients: Tensor
    low: Tensor
    high: Tensor
    own: Tensor


class Arithmetic(ABC):
    """The functions; both implementations take the same arguments and give the same results up to rounding."""

    @abstractmethod
    def pull(self, coefficients: Tensor, frame: ControlFrame, affine: Tensor) -> tuple[Tensor, Tensor]:
        """Points x with x + u(x) = A y + t at all pixels y, by a damped Newton method.

        A step is halved where the residual does not fall. A point whose residual is at most ACCEPTED takes one last step, which
        squares the error, and is not measured again.

        The method stands three times in augreg. That of `augreg.geometry` serves any transform, through its functions. Here it
        is one for splines alone: the kernels solve a point in registers, starting where its neighbours on the line have ended;
        the tensor operations solve all points at once and drop those that are done.

        Parameters
        ----------
        coefficients : coefficients of u, (B, *frame.shape, D) voxels
        frame : frame of their control grid
        affine : [A, t], (B, D, D + 1), indices

        Returns
        -------
        x (B, N, D) indices and the residuals |A y + t - x - u(x)| before the last step, (B, N) voxels
        """

    @abstractmethod
    def spread(self, coefficients: Tensor, frame: ControlFrame, affine: Tensor) -> Tensor:
        """A (y + u(y)) + t at all pixels y, (B, N, D): a lattice, so that the sum is made axis by axis."""

    @abstractmethod
    def move(self, coefficients: Tensor, frame: ControlFrame, points: Tensor, affine: Tensor | None = None) -> Tensor:
        """A (x + u(x)) + t at points x (B, N, D), by default without an affine map, (B, N, D)."""

    @abstractmethod
    def ends(self, frame: ControlFrame, points: Tensor) -> tuple[Tensor, Tensor]:
        """See `ControlFrame.ends`."""

    @abstractmethod
    def exponential(self, coefficients: Tensor, frame: ControlFrame, points: Tensor, sign: float, steps: int) -> Tensor:
        """exp(sign v) at points (B, N, D), v the spline of the coefficients: see `augreg.geometry.velocity`."""

    @abstractmethod
    def mosaic(self, weights: Tensor, mixing: Sequence[Tensor], textures: Tensor) -> tuple[Tensor, Tensor]:
        """sum_i w_i t_i with w = softmax_i(g_i), and argmax_i g_i, (B, N) each, of textures t (n, N).

        Fields g are products of weights (B, n, q_1, .., q_D) and one matrix (n_a, q_a) per axis.
        """

    @abstractmethod
    def prefilter(self, values: Tensor) -> Tensor:
        """Coefficients of the cubic B-splines through values (K, *shape) float32, with whole-sample mirrored borders."""

    @abstractmethod
    def interpolate(self, coefficients: Tensor, points: Tensor) -> Tensor:
        """Cubic B-splines (K, *shape) at points (B, N, D), mirrored beyond the borders, (B, N); B / K points share a spline."""

    @abstractmethod
    def nearest(self, labels: Tensor, points: Tensor) -> Tensor:
        """Labels (K, *shape) at the pixels nearest to points (B, N, D), mirrored, (B, N); B / K points share a map."""

    def shown(
        self, splines: Tensor, frame: ControlFrame, affine: Tensor, textures: Textures, swapped: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """phi - id of B pairs, (B, D, N), whether it ends inside, (B, N), and the fixed and the moving images, (B, N) each.

        Parameters
        ----------
        splines : coefficients of w_o and w_b, (2, B, *frame.shape, D), see `augreg.synthesis.render.maps`
        frame : of their control grid
        affine : A and T_b^-1, (2, B, D, D + 1)
        textures : of the images
        swapped : where the base is the fixed image, (B,) bool
        """
        target = self.spread(splines[0], frame, affine[0])
        flow, inside = self.ends(frame, target)
        places = self.move(splines[1], frame, target, affine[1]), self.spread(splines[1], frame, affine[1])
        images = []
        for points, own in zip(places, textures.own, strict=True):
            low, high = (bound[own, None] for bound in (textures.low, textures.high))
            images.append(self.interpolate(textures.coefficients[own], points).clamp(low, high))
        return flow, inside, *exchanged(swapped, *images)


def exchanged(swapped: Tensor, other: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
    """What belongs to fixed and to moving, (B, N) each, of what belongs to the other image and to the base."""
    turned = swapped[:, None]
    return torch.where(turned, base, other), torch.where(turned, other, base)
