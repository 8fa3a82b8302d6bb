"""The functions of `augreg.synthesis.spline` on CPU tensors, by compiled kernels: same arguments, same results."""

from __future__ import annotations

import numpy as np
import torch

from augreg.synthesis import _kernels, _texture_kernels
from augreg.synthesis.spline import ACCEPTED, ITERATIONS, ControlFrame, Tensor


def pull(coefficients: Tensor, frame: ControlFrame, affine: Tensor) -> tuple[Tensor, Tensor]:
    """Points x (B, N, D) with x + u(x) = A y + t at all pixels y, and residuals (B, N): see `spline.pull`."""
    batch, count = len(coefficients), int(np.prod(frame.pixels))
    out = torch.empty((batch, count, len(frame.pixels)), dtype=coefficients.dtype)
    residual = torch.empty((batch, count), dtype=coefficients.dtype)
    arrays = affine.numpy(), np.array(frame.pixels), ACCEPTED, ITERATIONS, out.numpy(), residual.numpy()
    _kernels.pull_at(*_splines(coefficients, frame), *arrays)
    return out, residual


def push(coefficients: Tensor, frame: ControlFrame, affine: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Flows (B, D, N) float32 of the points (B, N, D) of all pixels, and whether they end inside (B, N): see `spline.push`."""
    batch, count, ndim = points.shape
    flow = torch.empty((batch, ndim, count), dtype=torch.float32)
    inside = torch.empty((batch, count), dtype=torch.bool)
    arrays = affine.numpy(), np.array(frame.pixels), points.numpy(), flow.numpy(), inside.numpy()
    _kernels.push_at(*_splines(coefficients, frame), *arrays)
    return flow, inside


def prefilter(values: Tensor) -> Tensor:
    """Coefficients of the cubic B-splines through values (K, *shape) float32: see `spline.prefilter`."""
    out = values.contiguous().clone()
    for axis in range(1, values.ndim):
        lead = int(np.prod(out.shape[:axis]))
        _texture_kernels.prefilter_along(out.numpy().reshape(lead, out.shape[axis], -1))
    return out


def interpolate(coefficients: Tensor, points: Tensor) -> Tensor:
    """Cubic B-splines (K, *shape) at index points (B, N, D), mirrored, (B, N): see `spline.interpolate`."""
    out = torch.empty(points.shape[:2], dtype=coefficients.dtype)
    _texture_kernels.interpolate_at(_three_axes(coefficients), points.numpy(), out.numpy())
    return out


def nearest(labels: Tensor, points: Tensor) -> Tensor:
    """Labels (K, *shape) at the pixels nearest to index points (B, N, D), mirrored, (B, N): see `spline.nearest`."""
    out = torch.empty(points.shape[:2], dtype=labels.dtype)
    _texture_kernels.nearest_at(_three_axes(labels), points.numpy(), out.numpy())
    return out


def flow(coefficients: Tensor, frame: ControlFrame, points: Tensor, sign: float, steps: int) -> Tensor:
    """exp(sign v) at points (B, N, D): see `spline.flow`."""
    out = torch.empty_like(points)
    _kernels.flow_at(*_splines(coefficients, frame), points.numpy(), sign, steps, out.numpy())
    return out


def blend(fields: Tensor, textures: Tensor) -> tuple[Tensor, Tensor]:
    """sum_i softmax_i(g_i) t_i and argmax_i g_i for fields (B, n, N) and textures (n, N), (B, N) each: see `spline.blend`."""
    out = torch.empty((len(fields), fields.shape[-1]), dtype=textures.dtype)
    chosen = torch.empty(out.shape, dtype=torch.int32)
    _texture_kernels.blend_at(fields.numpy(), textures.numpy(), out.numpy(), chosen.numpy())
    return out, chosen


def _splines(coefficients: Tensor, frame: ControlFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # the kernels' own orders of axes
    raster = coefficients[:, None] if len(frame.shape) == 2 else coefficients.movedim(-1, 1).contiguous()
    return raster.numpy(), np.array(frame.start), np.array(frame.step)


def _three_axes(values: Tensor) -> np.ndarray:
    return values.numpy().reshape(len(values), *(1, *values.shape[1:])[-3:])
