"""Rendering pairs: images and their exact correspondence, deterministic, batched, in torch.

With psi_k: template -> image k and its inverse B_k (see `augreg.sam.model`),

    image_k(y) = a_k(B_k(y)),        u(y) = psi_2(B_1(y)) - y = B_2^-1(B_1(y)) - y,

so that with one appearance image_2(y + u(y)) = a(B_2(psi_2(B_1(y)))) = a(B_1(y)) = image_1(y), exactly; the reverse displacement
is psi_1(B_2(y)) - y. psi is a cubic B-spline and an affine pose; B_1 and B_2 are solved for by Newton's method, in double
precision, and the residual |psi(B(y)) - y| is measured. Where psi is the exponential of a velocity, B is that of its negative.
Every image is sampled once, from the appearance on the template's grid, by cubic B-splines with mirrored borders: the
appearance has no end, so that the equation holds wherever the target y + u(y) lies inside image 2. What an image shows of places
outside the appearance is its mirror image, labels alike; what a cubic overshoots is clipped. A smooth gain that was asked for
comes after that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.splines import control_grid, cubic
from augreg.sam.alignment import pose_transform
from augreg.sam.motion import Displacement, Motion, Velocity
from augreg.synthesis.pairs import TOLERANCE, PairBatch
from augreg.synthesis.render.arithmetic import Arithmetic
from augreg.synthesis.render.compiled import CompiledArithmetic
from augreg.synthesis.render.folding import FoldingCheck, least_slope
from augreg.synthesis.render.frame import ControlFrame, Tensor
from augreg.synthesis.render.held import held
from augreg.synthesis.render.tensor_splines import per_axis
from augreg.synthesis.render.tensors import TensorArithmetic

# a smooth change of intensity is a field of this many coefficients per axis
INTENSITY_NODES = 6


@dataclass(frozen=True, eq=False)
class Shapes:
    """The maps psi of 2 B images, two by two: fixed, moving, fixed, ...

    Parameters
    ----------
    coefficients : B-spline coefficients of u or v, without pose, (2 B, *control shape, D) float64, voxels
    motion : meaning of the coefficients; those of displacements are shrunk where they fold
    pose : parameters of the poses, (2 B, P), see `augreg.sam.alignment.pose_transform`
    center : fixed point of the poses' rotations and scales, (D,) mm
    """

    coefficients: Tensor
    motion: Motion
    pose: FloatArray
    center: FloatArray


@dataclass(frozen=True, eq=False)
class Looks:
    """The appearances of 2 B images.

    Parameters
    ----------
    textures : intensities on the template's grid, one per image (2 B, *shape) or one per pair (B, *shape), float32
    light : coefficients of the logarithm of a smooth gain, (2 B, INTENSITY_NODES^D)
    bounds : least and largest intensity of every texture's images, (2 B,) or (B,) each; by default the texture's own
    labels : label map of the template (1, *shape), or one per texture, where there are any
    """

    textures: Tensor
    light: FloatArray
    bounds: tuple[Tensor, Tensor] | None = None
    labels: Tensor | None = None


class _Correspondence(NamedTuple):
    """B of all pixels (2 B, N, D), its residuals (2 B, N) before the pose; flows to the pair's other image (2 B, D, N), whether
    they end inside (2 B, N); factors of shrinking and least determinants (2 B,).
    """

    points: Tensor
    residual: Tensor
    flow: Tensor
    inside: Tensor
    scale: Tensor
    least: Tensor


@dataclass(frozen=True, eq=False)
class Renderer:
    """Renders pairs on a grid, on a device.

    Parameters
    ----------
    grid : grid of template and images
    frame : position of the control grid of the maps over it
    folding : check of the maps for folds
    light : bases of smooth gains, one (n, INTENSITY_NODES) per axis
    arithmetic : implementation of the functions that are computed at every pixel
    device : device of all tensors
    """

    grid: Grid
    frame: ControlFrame
    folding: FoldingCheck
    light: list[Tensor]
    arithmetic: Arithmetic
    device: torch.device

    @staticmethod
    def of(grid: Grid, device: torch.device, arithmetic: Arithmetic) -> Renderer:
        """The renderer of a template's grid."""
        frame = ControlFrame.of(control_grid(grid), grid)
        light = [held(_smooth_basis(n), device) for n in grid.shape]
        return Renderer(grid, frame, FoldingCheck.of(frame, device), light, arithmetic, device)

    def pairs(self, shapes: Shapes, looks: Looks) -> PairBatch:
        """The pairs of shapes and looks."""
        B, shape, textures = len(shapes.coefficients) // 2, self.grid.shape, looks.textures
        found = self._corresponding(shapes)
        # the residual is measured before the pose, which scales it
        masks = (found.inside & (found.residual < TOLERANCE)).reshape(2 * B, 1, *shape)
        flows = found.flow.reshape(2 * B, self.grid.ndim, *shape)
        values = self.arithmetic.interpolate(self.arithmetic.prefilter(textures), found.points)
        sampled = clipped(values, looks.bounds or textures.flatten(1).aminmax(dim=1))
        images = sampled.reshape(2 * B, *shape) * self.gains(looks.light)
        known = None if looks.labels is None else self.arithmetic.nearest(looks.labels, found.points).reshape(2 * B, 1, *shape)
        return PairBatch(
            fixed=images[0::2, None],
            moving=images[1::2, None],
            flow=flows[0::2],
            mask=masks[0::2],
            reverse=flows[1::2],
            reverse_mask=masks[1::2],
            least_det=found.least.reshape(B, 2).amin(dim=1),
            residual=found.residual.reshape(B, -1).amax(dim=1),
            scale=found.scale.reshape(B, 2),
            rejected=torch.zeros(B, dtype=torch.int64, device=self.device),
            fixed_labels=None if known is None else known[0::2],
            moving_labels=None if known is None else known[1::2],
        )

    def gains(self, light: FloatArray) -> Tensor:
        """The smooth gains of all images, (2 B, *shape) or, where there is none, 1."""
        if not light.any():
            return torch.ones((), device=self.device)
        nodes = held(light, self.device)
        return per_axis(nodes.reshape(-1, *[INTENSITY_NODES] * len(self.light)), self.light).exp()

    def _corresponding(self, shapes: Shapes) -> _Correspondence:
        forward, backward = self._poses(shapes)
        match shapes.motion:
            case Displacement():
                return self._through_displacements(shapes.coefficients, forward, backward)
            case Velocity(steps):
                return self._along_velocities(shapes.coefficients, steps, forward, backward)

    def _through_displacements(self, coefficients: Tensor, forward: Tensor, backward: Tensor) -> _Correspondence:
        u, scale, least = self.folding.unfolded(coefficients)
        points, residual = self.arithmetic.pull(u, self.frame, backward)
        other = _others(u)
        flow, inside = self.arithmetic.push(u[other], self.frame, forward[other], points)
        return _Correspondence(points, residual, flow, inside, scale, least)

    def _along_velocities(self, v: Tensor, steps: int, forward: Tensor, backward: Tensor) -> _Correspondence:
        z, other = self.frame.targets(backward), _others(v)
        points = self.arithmetic.exponential(v, self.frame, z, -1.0, steps)
        residual = (self.arithmetic.exponential(v, self.frame, points, 1.0, steps) - z).norm(dim=-1)
        there = self.arithmetic.exponential(v[other], self.frame, points, 1.0, steps)
        flow, inside = self.frame.ends(forward[other], there)
        least = least_slope(points.reshape(len(v), *self.grid.shape, self.grid.ndim), backward)
        return _Correspondence(points, residual, flow, inside, torch.ones(len(v), dtype=v.dtype, device=v.device), least)

    def _poses(self, shapes: Shapes) -> tuple[Tensor, Tensor]:
        """T and T^-1 of all images in index units, (2 B, D, D + 1) each."""
        grid = self.grid
        forward: list[FloatArray] = []
        backward: list[FloatArray] = []
        for pose in shapes.pose:
            T = pose_transform(pose, shapes.center)
            for transform, out in ((T, forward), (T.inverse(), backward)):
                matrix = grid.world_to_index @ transform.matrix @ grid.index_to_world
                offset = grid.indices_at(transform(np.asarray(grid.origin)))
                out.append(np.column_stack([matrix, offset]))
        return held(np.stack(forward), self.device, torch.float64), held(np.stack(backward), self.device, torch.float64)


def renderer_on(grid: Grid, device: torch.device) -> Renderer:
    """The renderer of a grid on a device, with the arithmetic that is fastest there."""
    return _kept(grid, device, arithmetic_on(device))


# a function of its arguments alone, kept since it takes some milliseconds, as long as some pairs on a card
@lru_cache(maxsize=8)
def _kept(grid: Grid, device: torch.device, arithmetic: Arithmetic) -> Renderer:
    return Renderer.of(grid, device, arithmetic)


def arithmetic_on(device: torch.device) -> Arithmetic:
    """Compiled kernels on the CPU, tensor operations elsewhere."""
    return CompiledArithmetic() if device.type == "cpu" else TensorArithmetic()


def clipped(values: Tensor, bounds: Sequence[Tensor]) -> Tensor:
    """Values (K, N) between the least and largest of their texture, (L,) each, L | K: cubic splines go beyond."""
    low, high = (bound.repeat_interleave(len(values) // len(bound))[:, None] for bound in bounds)
    return values.clamp(low, high)


def _others(images: Tensor) -> Tensor:
    """For every image the number of the other one of its pair: 1 0 3 2 ..."""
    return torch.arange(len(images), device=images.device) ^ 1


def _smooth_basis(n: int) -> FloatArray:
    """(n, INTENSITY_NODES): cubic B-splines over n points, rows of unit length, so that fields have unit variance."""
    t = 1 + np.linspace(0, 1, n)[:, None] * (INTENSITY_NODES - 3) - np.arange(INTENSITY_NODES)
    weights = cubic(t)
    return weights / np.linalg.norm(weights, axis=1, keepdims=True)
