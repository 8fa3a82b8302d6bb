"""Rendering pairs: images and their exact correspondence, deterministic, batched, in torch.

    image_k(y) = a_k(B_k(y)),        B_k: image k -> template,        u(y) = phi(y) - y,        B_1 = B_2 o phi,

so that with one appearance image_2(y + u(y)) = a(B_2(phi(y))) = a(B_1(y)) = image_1(y), exactly. What is drawn are psi_k, the
ways from the template to the images; `augreg.synthesis.render.maps` makes B and phi of them, which need no inverse here. The
way back, phi^-1, is found by Newton's method, in double precision, and its residual is measured, when it is asked for.
Every image is sampled once, from the appearance on the template's grid, by cubic B-splines with mirrored borders: the
appearance has no end, so that the equation holds wherever the target y + u(y) lies inside image 2. What an image shows of places
outside the appearance is its mirror image, labels alike; what a cubic overshoots is clipped. A smooth gain that was asked for
comes after that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.splines import control_grid, cubic
from augreg.sam.alignment import pose_transform
from augreg.sam.motion import Motion
from augreg.synthesis.later import Later
from augreg.synthesis.pairs import TOLERANCE, PairBatch
from augreg.synthesis.render.arithmetic import Arithmetic, Textures, exchanged
from augreg.synthesis.render.compiled import CompiledArithmetic
from augreg.synthesis.render.folding import FoldingCheck
from augreg.synthesis.render.frame import ControlFrame, Tensor
from augreg.synthesis.render.held import held
from augreg.synthesis.render.maps import Fitting, PairMaps
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
    labels : gives the label map of the template (1, *shape), or one per texture, where there are any, for those who ask
    """

    textures: Tensor
    light: FloatArray
    bounds: tuple[Tensor, Tensor] | None = None
    labels: Callable[[], Tensor] | None = None


@dataclass(frozen=True, eq=False)
class Renderer:
    """Renders pairs on a grid, on a device.

    Parameters
    ----------
    grid : grid of template and images
    fitting : makes maps of what is drawn
    light : bases of smooth gains, one (n, INTENSITY_NODES) per axis
    arithmetic : implementation of the functions that are computed at every pixel
    device : device of all tensors
    """

    grid: Grid
    fitting: Fitting
    light: list[Tensor]
    arithmetic: Arithmetic
    device: torch.device

    @staticmethod
    def of(grid: Grid, device: torch.device, arithmetic: Arithmetic) -> Renderer:
        """The renderer of a template's grid."""
        frame = ControlFrame.of(control_grid(grid), grid)
        light = [held(_smooth_basis(n), device) for n in grid.shape]
        return Renderer(grid, Fitting.of(frame, device, arithmetic), light, arithmetic, device)

    @property
    def frame(self) -> ControlFrame:
        """Position of the control grid of the maps over the grid."""
        return self.fitting.frame

    @property
    def folding(self) -> FoldingCheck:
        """Check of the maps for folds."""
        return self.fitting.folding

    def pairs(self, shapes: Shapes, looks: Looks) -> PairBatch:
        """The pairs of shapes and looks."""
        maps = self.maps(shapes)
        B, shape = len(maps.swapped), self.grid.shape
        splines, affine = torch.stack([maps.other, maps.base]), torch.stack([maps.there, maps.home])
        textures = self._textures(looks, maps.swapped)
        flow, mask, *images = self.arithmetic.shown(splines, self.frame, affine, textures, maps.swapped)
        images = [image.reshape(B, 1, *shape) for image in images]
        if looks.light.any():
            light = self.gains(looks.light)[:, None]
            images = [image * light[k::2] for k, image in enumerate(images)]
        forth, residual = (flow, mask), torch.zeros(B, dtype=splines.dtype, device=self.device)
        # where the fixed image is the base, what is known is the way back
        turned = maps.swapped.nonzero()[:, 0]
        if len(turned):
            *inverse, errors = self._inverse(maps, turned)
            forth = _put(forth, turned, inverse)
            residual[turned] = errors

        def back() -> tuple[Tensor, Tensor]:
            others = (~maps.swapped).nonzero()[:, 0]
            found = _put((flow, mask), others, self._inverse(maps, others)[:2]) if len(others) else (flow, mask)
            return found[0].reshape(B, -1, *shape), found[1].reshape(B, 1, *shape)

        known = looks.labels
        labels = None if known is None else Later(lambda: self._labels(known(), maps))
        return PairBatch(
            fixed=images[0],
            moving=images[1],
            flow=forth[0].reshape(B, -1, *shape),
            mask=forth[1].reshape(B, 1, *shape),
            back=Later(back),
            least_det=maps.least,
            residual=residual,
            scale=maps.scale,
            rejected=torch.zeros(B, dtype=torch.int64, device=self.device),
            labels=labels,
        )

    def maps(self, shapes: Shapes) -> PairMaps:
        """The maps of the pairs of some shapes."""
        return self.fitting.maps(shapes.coefficients, shapes.motion, *self._poses(shapes))

    def gains(self, light: FloatArray) -> Tensor:
        """The smooth gains of all images, (2 B, *shape) or, where there is none, 1."""
        if not light.any():
            return torch.ones((), device=self.device)
        nodes = held(light, self.device)
        return per_axis(nodes.reshape(-1, *[INTENSITY_NODES] * len(self.light)), self.light).exp()

    def _inverse(self, maps: PairMaps, which: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """phi^-1 of some pairs at all pixels: flows (b, D, N), pixels that count (b, N), largest residuals (b,)."""
        points, residual = self.arithmetic.pull(maps.other[which], self.frame, maps.again[which])
        flow, inside = self.arithmetic.ends(self.frame, points)
        return flow, inside & (residual < TOLERANCE), residual.amax(dim=1)

    def _textures(self, looks: Looks, swapped: Tensor) -> Textures:
        """The textures of all images, prefiltered, with their bounds."""
        low, high = looks.bounds or looks.textures.flatten(1).aminmax(dim=1)
        own = _numbers(len(looks.textures), swapped)
        return Textures(self.arithmetic.prefilter(looks.textures), low, high, own)

    def _labels(self, labels: Tensor, maps: PairMaps) -> tuple[Tensor, Tensor]:
        """Label maps of fixed and moving images, (B, 1, *shape) each, of maps on the template: one, or one of each texture."""
        target = self.arithmetic.spread(maps.other, self.frame, maps.there)
        base = self.arithmetic.spread(maps.base, self.frame, maps.home)
        places = self.arithmetic.move(maps.base, self.frame, target, maps.home), base
        found = []
        for points, own in zip(places, _numbers(len(labels), maps.swapped), strict=True):
            known = labels if len(labels) == 1 else labels[own]
            found.append(self.arithmetic.nearest(known, points))
        fixed, moving = exchanged(maps.swapped, *found)
        shape = (-1, 1, *self.grid.shape)
        return fixed.reshape(shape), moving.reshape(shape)

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


def _numbers(count: int, swapped: Tensor) -> Tensor:
    """Which of `count` textures, one for all, a pair or an image, is that of the other image and of the base, (2, B)."""
    pairs = torch.arange(len(swapped), device=swapped.device)
    if count == 1:
        return torch.zeros_like(pairs).expand(2, -1)
    if count == len(pairs):
        return pairs.expand(2, -1)
    return torch.stack([2 * pairs + swapped, 2 * pairs + ~swapped])


def _put(parts: Sequence[Tensor], where: Tensor, by: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Flows and masks, but for those at the indices `where`, which are taken from `by`."""
    flow, mask = (part.index_copy(0, where, new) for part, new in zip(parts, by, strict=True))
    return flow, mask


def _smooth_basis(n: int) -> FloatArray:
    """(n, INTENSITY_NODES): cubic B-splines over n points, rows of unit length, so that fields have unit variance."""
    t = 1 + np.linspace(0, 1, n)[:, None] * (INTENSITY_NODES - 3) - np.arange(INTENSITY_NODES)
    weights = cubic(t)
    return weights / np.linalg.norm(weights, axis=1, keepdims=True)
