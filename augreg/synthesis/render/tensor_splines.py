"""Cubic B-splines in torch, batched, in index units.

A control grid parallel to the image grid is an affine map of single axes, t = start + step * index, so that

    f(x) = x + sum_j b_j(x) c_j,     b_j the tensor product of cubic B-splines at the control index, 0 outside [1, n - 2],

is the map of `augreg.BSpline`, number by number. The 4^D neighbours of a point are never gathered: the sum over
them is one over 2^D linear interpolations, whose own sums are made where they are read; derivatives likewise.

Textures are interpolated by the same sums over prefiltered values:
with whole-sample mirrored borders the interpolation condition is a linear system per axis, solved once as a small dense matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from augreg.geometry.grid import FloatArray
from augreg.geometry.splines import cubic
from augreg.synthesis.render.frame import ControlFrame, Tensor


def displacement(coefficients: Tensor, frame: ControlFrame, points: Tensor) -> Tensor:
    """sum_j b_j(x) c_j at points.

    Parameters
    ----------
    coefficients : coefficients c_j, (B, *frame.shape, D) voxels
    frame : frame of the control grid
    points : index points x, (B, N, D)

    Returns
    -------
    (B, N, D) voxels
    """
    x, which = flat(points)
    return unflat(SplineField(coefficients, frame).at(x, which, slopes=False)[0], points)


def displacement_and_slopes(coefficients: Tensor, frame: ControlFrame, points: Tensor) -> tuple[Tensor, Tensor]:
    """`displacement` and its derivatives (B, N, D, D) with entry [..., d, a] = d u_d / d x_a."""
    x, which = flat(points)
    u, J = SplineField(coefficients, frame).at(x, which)
    return unflat(u, points), unflat(torch.stack(J, dim=1), points)


def flat(points: Tensor) -> tuple[Tensor, Tensor]:
    """Points (B, N, D) as (D, B N), and whose they are, (B N,): any of them may be left out."""
    B, N, _ = points.shape
    return points.movedim(-1, 0).reshape(-1, B * N), torch.arange(B, device=points.device).repeat_interleave(N)


def unflat(values: Tensor, points: Tensor) -> Tensor:
    """Values (..., B N) at points (B, N, D), as (B, N, ...)."""
    return values.reshape(*values.shape[:-1], *points.shape[:2]).movedim((-2, -1), (0, 1))


class SplineField:
    """The splines of many images, one behind the other along the first axis: a point needs only know whose it is."""

    def __init__(self, coefficients: Tensor, frame: ControlFrame) -> None:
        B, first, *_, ndim = coefficients.shape
        self.stacked = coefficients.reshape(1, B * first, *coefficients.shape[2:]).movedim(-1, 1)
        numbers = torch.tensor([frame.start, frame.step, frame.shape], dtype=coefficients.dtype, device=coefficients.device)
        self.start, self.step, self.count = numbers[..., None]
        self.first, self.ndim, self.scale = first, ndim, _scale(self.stacked)

    def at(self, x: Tensor, which: Tensor, *, slopes: bool = True) -> tuple[Tensor, list[Tensor]]:
        """Displacements (D, P) at points (D, P) of the images (P,), and their derivatives along each axis, (D, P) each."""
        t = self.start + self.step * x
        outside = ((t < 1) | (t > self.count - 2)).any(dim=0)
        begin = torch.minimum(t.floor().clamp(min=1), self.count - 3)
        t = (t - begin).clamp(0, 1)
        begin[0] += self.first * which
        places, share = _values(begin, t)
        u = _blended(_linear(self.stacked, places, self.scale), share).masked_fill_(outside, 0)
        J = []
        if slopes:
            steep, rate = _slopes(begin, t)
            rate = (rate * self.step).masked_fill_(outside, 0)
            for a in range(self.ndim):
                chosen = places.clone()
                chosen[:, a] = steep[:, a]
                J.append(_blended(_linear(self.stacked, chosen, self.scale), share, along=a) * rate[a])
        return u, J


def _values(begin: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Two places per axis, where linear interpolation stands for the four neighbours of begin + t, and the share of the second.

    w_0 c_0 + w_1 c_1 = (w_0 + w_1) c(w_1 / (w_0 + w_1)) with c linear between c_0 and c_1, and so for c_2 and c_3 (Sigg,
    Hadwiger, Fast third-order texture filtering, 2005). The weights of cubic B-splines have w_0(1 - t) = w_3(t) = t^3 / 6, so
    that the places are begin - w_0 / (w_0 + w_1) and begin + 1 + w_3 / (w_2 + w_3), w_2 + w_3 = (1 + 3 t + 3 t^2 - 2 t^3) / 6.
    """
    e = torch.stack([1 - t, t])
    sums = 1 + e * (3 + e * (3 - 2 * e))
    before, after = e * e * e / sums
    return torch.stack([begin - before, begin + 1 + after]), sums[1] / 6


def _slopes(begin: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """`_values` of the derivative, whose weights -(1 - t)^2 / 2, .., t^2 / 2 sum to -r and r, r = 1/2 + t (1 - t), two by two."""
    s = 1 - t
    rate = 0.5 + t * s
    return torch.stack([begin - s * s / (2 * rate), begin + 1 + t * t / (2 * rate)]), rate


def _scale(values: Tensor) -> Tensor:
    """Coordinates from -1 to 1 per index of values (K, C, *shape), (D, 1): a copy to a card, for which it waits."""
    return torch.tensor([[2 / max(n - 1, 1)] for n in values.shape[2:]], dtype=values.dtype, device=values.device)


def _linear(values: Tensor, places: Tensor, scale: Tensor, border: str = "border") -> Tensor:
    """Values (K, C, *shape), linear in between, at all combinations of two places per axis (2, D, K P): (K, C, 2, .., 2, P)."""
    (K, C), ndim = values.shape[:2], len(scale)
    at = places * scale - 1
    # the last axis comes first in the coordinates of `grid_sample`
    axes = [at[:, a].reshape(*[2 if a == b else 1 for b in range(ndim)], K, -1) for a in reversed(range(ndim))]
    grid = torch.stack(torch.broadcast_tensors(*axes)).flatten(1, ndim).permute(2, 1, 3, 0)
    lines = grid.reshape(K, *[1] * (ndim - 2), 2**ndim, -1, ndim)
    found = nn.functional.grid_sample(values, lines, "bilinear", border, align_corners=True)
    return found.reshape(K, C, *[2] * ndim, -1)


def _blended(found: Tensor, share: Tensor, along: int | None = None) -> Tensor:
    """(K, C, 2, .., 2, P) -> (C, K P): of each two the second has its share (D, K P); along one axis it is their difference."""
    K = len(found)
    for a, part in enumerate(share):
        low, high = found[:, :, 0], found[:, :, 1]
        found = high - low if a == along else low.lerp(high, part.reshape(K, *[1] * (low.ndim - 2), -1))
    return found.movedim(1, 0).flatten(1)


def prefilter(values: Tensor) -> Tensor:
    """Coefficients of the cubic B-splines through values (K, *shape), with whole-sample mirrored borders."""
    return per_axis(values, [_filter(n, values.device, values.dtype) for n in values.shape[1:]])


# a matrix of a few thousand numbers, which a card would wait for: a constant, kept
@lru_cache(maxsize=16)
def _filter(n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.tensor(prefilter_matrix(n), device=device, dtype=dtype)


# as are these
@lru_cache(maxsize=16)
def bases(frame: ControlFrame, device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """The B-splines of a control grid at the pixels, one matrix (pixels, nodes) per axis; 0 outside the control grid's domain."""
    matrices = []
    for n, start, step, pixels in zip(frame.shape, frame.start, frame.step, frame.pixels, strict=True):
        t = start + step * np.arange(pixels)
        values = cubic(np.subtract.outer(t, np.arange(n))) * ((t >= 1) & (t <= n - 2))[:, None]
        matrices.append(torch.tensor(values, device=device, dtype=dtype))
    return matrices


def prefilter_matrix(n: int) -> FloatArray:
    """(n, n): values at n points to the coefficients of the cubic B-spline through them, with whole-sample mirrored borders."""
    if n == 1:
        return np.eye(1)
    A = np.diag(np.full(n, 4.0)) + np.diag(np.ones(n - 1), 1) + np.diag(np.ones(n - 1), -1)
    A[0, 1] = A[-1, -2] = 2.0
    return np.linalg.inv(A / 6)


def per_axis(values: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """One matrix (m_a, n_a) applied along each axis of (B, n_1, .., n_D)."""
    for a, matrix in enumerate(matrices, start=1):
        lead, trail = values.shape[:a], values.shape[a + 1 :]
        if trail:
            flat = torch.matmul(matrix, values.reshape(-1, values.shape[a], math.prod(trail)))
        else:
            flat = values.reshape(-1, values.shape[a]) @ matrix.T
        values = flat.reshape(*lead, len(matrix), *trail)
    return values


def interpolate(coefficients: Tensor, points: Tensor) -> Tensor:
    """Cubic B-splines (K, *shape) at index points (B, N, D), mirrored beyond the borders, (B, N); B / K points share a spline."""
    x, _ = flat(points)
    begin = x.floor()
    places, share = _values(begin, x - begin)
    values = coefficients[:, None].to(x.dtype)
    found = _linear(values, places, _scale(values), border="reflection")
    return _blended(found, share).reshape(points.shape[:2]).to(coefficients.dtype)
