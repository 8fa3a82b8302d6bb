"""Rendering by compiled kernels, on CPU tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from augreg.synthesis.render import _lattice_kernels, _map_kernels, _pair_kernels, _texture_kernels
from augreg.synthesis.render.arithmetic import ACCEPTED, ITERATIONS, Arithmetic, Textures
from augreg.synthesis.render.frame import ControlFrame, Tensor
from augreg.synthesis.render.tensor_splines import per_axis
from augreg.threads import shared

# nanoseconds in 2-D and 3-D, about: to solve for a point, for the field at one, for a texture at one
_PULL, _FIELD, _TEXTURE = {2: 80, 3: 220}, {2: 40, 3: 90}, {2: 15, 3: 30}
# for the field at a pixel of a lattice, for a determinant at one
_SPREAD, _LEAST = {2: 8, 3: 8}, {2: 10, 3: 30}
# for the nearest label, for a value along one axis, for a pixel of one image in a mosaic, for the end of a flow
_LABEL, _FILTER, _BLEND, _ENDS = 5, 6, 1, 5


@dataclass(frozen=True)
class CompiledArithmetic(Arithmetic):
    """Kernels shared among threads: many times faster than torch on the CPU."""

    def pull(self, coefficients: Tensor, frame: ControlFrame, affine: Tensor) -> tuple[Tensor, Tensor]:
        """See `Arithmetic.pull`."""
        ndim, batch, count = len(frame.pixels), len(coefficients), math.prod(frame.pixels)
        out = torch.empty((batch, count, ndim), dtype=coefficients.dtype)
        residual = torch.empty((batch, count), dtype=coefficients.dtype)
        sets = -(-count // frame.pixels[-1] // _map_kernels.LINES)
        work = _PULL[ndim] * count / sets
        arrays = _array(affine), frame.pixels, ACCEPTED, ITERATIONS, out.numpy(), residual.numpy()
        shared(_map_kernels.pull_at, batch * sets, work, *_splines(coefficients, frame), *arrays)
        return out, residual

    def spread(self, coefficients: Tensor, frame: ControlFrame, affine: Tensor) -> Tensor:
        """See `Arithmetic.spread`."""
        ndim, batch, count = len(frame.pixels), len(coefficients), math.prod(frame.pixels)
        out = torch.empty((batch, count, ndim), dtype=coefficients.dtype)
        planes = frame.pixels[0]
        arrays = _array(affine), frame.pixels, out.numpy()
        work = _SPREAD[ndim] * count / planes
        shared(_lattice_kernels.spread_at, batch * planes, work, *_splines(coefficients, frame), *arrays)
        return out

    def move(self, coefficients: Tensor, frame: ControlFrame, points: Tensor, affine: Tensor | None = None) -> Tensor:
        """See `Arithmetic.move`."""
        batch, count, ndim = points.shape
        if affine is None:
            affine = torch.eye(ndim, ndim + 1, dtype=coefficients.dtype).expand(batch, ndim, ndim + 1)
        out = torch.empty_like(points, memory_format=torch.contiguous_format)
        arrays = _array(affine), _array(points), out.numpy()
        shared(_map_kernels.move_at, batch * count, _FIELD[ndim], *_splines(coefficients, frame), *arrays)
        return out

    def ends(self, frame: ControlFrame, points: Tensor) -> tuple[Tensor, Tensor]:
        """See `Arithmetic.ends`."""
        batch, count, ndim = points.shape
        flow = torch.empty((batch, ndim, count), dtype=torch.float32)
        inside = torch.empty((batch, count), dtype=torch.bool)
        line = frame.pixels[-1]
        arrays = _array(points), frame.pixels, flow.numpy(), inside.numpy()
        shared(_map_kernels.ends_at, batch * count // line, _ENDS * line, *arrays)
        return flow, inside

    def prefilter(self, values: Tensor) -> Tensor:
        """See `Arithmetic.prefilter`."""
        out = values.contiguous().clone()
        for axis in range(1, values.ndim):
            lead = math.prod(out.shape[:axis])
            lines = out.numpy().reshape(lead, out.shape[axis], -1)
            shared(_texture_kernels.prefilter_along, lead, _FILTER * lines[:1].size, lines)
        return out

    def interpolate(self, coefficients: Tensor, points: Tensor) -> Tensor:
        """See `Arithmetic.interpolate`."""
        ndim = points.shape[-1]
        out = torch.empty(points.shape[:2], dtype=coefficients.dtype)
        arrays = *_raster(coefficients), _array(points).reshape(-1, ndim), out.numpy().reshape(-1)
        shared(_texture_kernels.interpolate_at, out.numel(), _TEXTURE[ndim], *arrays)
        return out

    def nearest(self, labels: Tensor, points: Tensor) -> Tensor:
        """See `Arithmetic.nearest`."""
        out = torch.empty(points.shape[:2], dtype=labels.dtype)
        arrays = *_raster(labels), _array(points).reshape(-1, points.shape[-1]), out.numpy().reshape(-1)
        shared(_texture_kernels.labels_at, out.numel(), _LABEL, *arrays)
        return out

    def exponential(self, coefficients: Tensor, frame: ControlFrame, points: Tensor, sign: float, steps: int) -> Tensor:
        """See `Arithmetic.exponential`."""
        ndim = points.shape[-1]
        flat = _array(points).reshape(-1, ndim)
        out = np.empty_like(flat)
        work = 4 * _FIELD[ndim] * steps
        shared(_map_kernels.exponential_at, len(flat), work, *_splines(coefficients, frame), flat, sign, steps, out)
        return torch.from_numpy(out).reshape(points.shape)

    def mosaic(self, weights: Tensor, mixing: Sequence[Tensor], textures: Tensor) -> tuple[Tensor, Tensor]:
        """See `Arithmetic.mosaic`."""
        (batch, n), basis = weights.shape[:2], mixing[-1]
        rows = per_axis(weights.flatten(0, 1), mixing[:-1]).reshape(batch, n, -1, basis.shape[1])
        out = torch.empty((batch, textures.shape[1]), dtype=textures.dtype)
        chosen = torch.empty(out.shape, dtype=torch.int32)
        arrays = _array(rows), _array(basis.T), _array(textures), out.numpy(), chosen.numpy()
        shared(_texture_kernels.mosaic_at, batch * rows.shape[2], _BLEND * n * len(basis), *arrays)
        return out, chosen

    def shown(
        self, splines: Tensor, frame: ControlFrame, affine: Tensor, textures: Textures, swapped: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See `Arithmetic.shown`."""
        ndim, batch, count, planes = len(frame.pixels), len(swapped), math.prod(frame.pixels), frame.pixels[0]
        flow = torch.empty((batch, ndim, count), dtype=torch.float32)
        mask = torch.empty((batch, count), dtype=torch.bool)
        fixed, moving = (torch.empty((batch, count), dtype=textures.coefficients.dtype) for _ in range(2))
        drawn = *_raster(textures.coefficients), _array(textures.low), _array(textures.high), _array(swapped)
        out = flow.numpy(), mask.numpy(), fixed.numpy(), moving.numpy()
        maps = *_splines(splines.flatten(0, 1), frame), _array(affine.flatten(0, 1)), frame.pixels
        work = (2 * (_SPREAD[ndim] + _TEXTURE[ndim]) + _FIELD[ndim] + _ENDS) * count / planes
        shared(_pair_kernels.shown_at, batch * planes, work, *maps, _array(textures.own.flatten()), *drawn, *out)
        return flow, mask, fixed, moving


def least_determinants(coefficients: Tensor, frame: ControlFrame, per_cell: int) -> Tensor:
    """The least det(I + Du) of splines over `per_cell` points per control cell and axis, (B,)."""
    arrays, _, step = _splines(coefficients, frame)
    lattice = tuple(per_cell * (n - 3) + 1 for n in frame.shape)
    least = torch.empty((len(coefficients), lattice[0]), dtype=coefficients.dtype)
    work = _LEAST[len(lattice)] * math.prod(lattice[1:])
    shared(_lattice_kernels.least_at, least.numel(), work, arrays, step, lattice, least.numpy())
    return least.amin(dim=1)


def _splines(coefficients: Tensor, frame: ControlFrame) -> tuple[np.ndarray, tuple[float, ...], tuple[float, ...]]:
    # the kernels' own orders of axes
    raster = coefficients if len(frame.shape) == 2 else coefficients.movedim(-1, 1)
    return _array(raster), tuple(map(float, frame.start)), tuple(map(float, frame.step))


def _raster(values: Tensor) -> tuple[np.ndarray, tuple[int, ...]]:
    """Flat, and the shape of one image, three axes and a channel."""
    return _array(values).reshape(-1), (*(1, *values.shape[1:])[-3:], 1)


def _array(values: Tensor) -> np.ndarray:
    return values.contiguous().numpy()
