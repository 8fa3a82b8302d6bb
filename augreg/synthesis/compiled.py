"""The functions of `augreg.synthesis.spline` on CPU tensors, by compiled kernels: same arguments, same results."""

from __future__ import annotations

import numpy as np
import torch

from augreg.synthesis import _kernels
from augreg.synthesis.spline import ControlFrame, Tensor


def displacement(coefficients: Tensor, frame: ControlFrame, points: Tensor) -> Tensor:
    """sum_j b_j(x) c_j at points (B, N, D), (B, N, D) voxels: see `spline.displacement`."""
    out = torch.empty_like(points)
    _kernels.displacement_at(_raster(coefficients, frame), *_axes(frame), points.numpy(), out.numpy())
    return out


def invert(
    coefficients: Tensor, frame: ControlFrame, targets: Tensor, tolerance: float = 1e-5, iterations: int = 40
) -> tuple[Tensor, Tensor]:
    """Points x with x + u(x) = z (B, N, D) and the residuals (B, N): see `spline.invert`."""
    out = torch.empty_like(targets)
    residual = torch.empty(targets.shape[:2], dtype=targets.dtype)
    arrays = targets.numpy(), frame.line, float(tolerance), iterations, out.numpy(), residual.numpy()
    _kernels.invert_at(_raster(coefficients, frame), *_axes(frame), *arrays)
    return out, residual


def interpolate(coefficients: Tensor, points: Tensor) -> Tensor:
    """Cubic B-splines (B, *shape) at index points (B, N, D), mirrored, (B, N): see `spline.interpolate`."""
    out = torch.empty(points.shape[:2], dtype=coefficients.dtype)
    raster = coefficients.numpy().reshape(len(points), *(1, *coefficients.shape[1:])[-3:])
    _kernels.interpolate_at(raster, points.numpy(), out.numpy())
    return out


def blend(fields: Tensor, textures: Tensor) -> Tensor:
    """sum_i softmax_i(g_i) t_i for fields (B, n, N) and textures (n, N), (B, N): see `spline.blend`."""
    out = torch.empty((len(fields), fields.shape[-1]), dtype=textures.dtype)
    _kernels.blend_at(fields.numpy(), textures.numpy(), out.numpy())
    return out


def _raster(coefficients: Tensor, frame: ControlFrame) -> np.ndarray:
    return coefficients.numpy().reshape(len(coefficients), *(1, *frame.shape)[-3:], coefficients.shape[-1])


def _axes(frame: ControlFrame) -> tuple[np.ndarray, np.ndarray]:
    return np.array(frame.start), np.array(frame.step)
