"""Cubic B-splines and their inverses in torch, batched, in index units.

Points are indices of one grid, displacements count in its voxels. A control grid parallel to it is an affine map of single axes,
t = start + step * index, so that

    f(x) = x + sum_j b_j(x) c_j,     b_j the tensor product of cubic B-splines at the control index, 0 outside [1, n - 2],

is the map of `augreg.transforms.BSpline`, number by number. Textures are interpolated by the same sums over prefiltered values:
with whole-sample mirrored borders the interpolation condition is a linear system per axis, solved once as a small dense matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from augreg.grid import FloatArray, Grid

Tensor = torch.Tensor

# a point is left with one last Newton step when its residual, in voxels, has fallen so far
ACCEPTED = 2e-3
ITERATIONS = 40
# targets may miss the grid by rounding
_EDGE = 1e-6


@dataclass(frozen=True, eq=False)
class ControlFrame:
    """How a control grid lies over an image grid: control index = start + step * index, per axis.

    Parameters
    ----------
    shape : of the control grid
    start, step : per axis
    pixels : shape of the image grid
    """

    shape: tuple[int, ...]
    start: tuple[float, ...]
    step: tuple[float, ...]
    pixels: tuple[int, ...]

    @staticmethod
    def of(control: Grid, grid: Grid) -> ControlFrame:
        """The frame of a control grid parallel to an image grid.

        Raises
        ------
        ValueError : if they are not parallel.
        """
        matrix = control.world_to_index @ grid.index_to_world
        if np.abs(matrix - np.diag(np.diag(matrix))).max() > 1e-9:
            raise ValueError("control: expected a control grid parallel to the image grid")
        return ControlFrame(control.shape, tuple(control.indices_at(grid.origin)), tuple(np.diag(matrix)), grid.shape)


def _stencil(t: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and slopes of the four neighbours at offset t in [0, 1], stacked last: (..., 4)."""
    s = 1 - t
    weights = torch.stack(
        [s * s * s / 6, (3 * t * t * t - 6 * t * t + 4) / 6, (3 * s * s * s - 6 * s * s + 4) / 6, t * t * t / 6], dim=-1
    )
    return weights, torch.stack([-s * s / 2, 1.5 * t * t - 2 * t, 2 * s - 1.5 * s * s, t * t / 2], dim=-1)


def _neighbours(first: list[Tensor], shape: tuple[int, ...], reflect: bool) -> Tensor:
    """Flat positions (B, N, 4^D) of the stencils that begin at `first`, one (B, N) tensor per axis; the batch comes first."""
    batch = first[0].shape[0]
    flat = torch.arange(batch, device=first[0].device)[:, None, None]
    for start, n in zip(first, shape, strict=True):
        along = start[..., None] + torch.arange(4, device=start.device)
        if reflect:
            along = _reflected(along, n)
        flat = (flat[..., :, None] * n + along[..., None, :]).flatten(-2)
    return flat


def _contract(found: Tensor, weights: list[Tensor]) -> Tensor:
    """(B, N, 4, .., 4, C) with D weights (B, N, 4) -> (B, N, C), the last axis first."""
    for w in reversed(weights):
        found = (found * w.reshape(*w.shape[:2], *(1,) * (found.ndim - 4), 4, 1)).sum(dim=-2)
    return found


def displacement(coefficients: Tensor, frame: ControlFrame, points: Tensor) -> Tensor:
    """sum_j b_j(x) c_j at points.

    Parameters
    ----------
    coefficients : (B, *frame.shape, D) voxels
    frame : of the control grid
    points : (B, N, D) indices

    Returns
    -------
    (B, N, D) voxels
    """
    found, weights, _, inside = _surroundings(coefficients, frame, points)
    return _contract(found, weights).masked_fill_(~inside[..., None], 0)


def displacement_and_slopes(coefficients: Tensor, frame: ControlFrame, points: Tensor) -> tuple[Tensor, Tensor]:
    """`displacement` and its derivatives (B, N, D, D) with entry [..., d, a] = d u_d / d x_a."""
    found, weights, slopes, inside = _surroundings(coefficients, frame, points)
    columns = []
    for a in range(points.shape[-1]):
        chosen = [slope if a == b else weight for b, (weight, slope) in enumerate(zip(weights, slopes, strict=True))]
        columns.append(frame.step[a] * _contract(found, chosen))
    J = torch.stack(columns, dim=-1).masked_fill_(~inside[..., None, None], 0)
    return _contract(found, weights).masked_fill_(~inside[..., None], 0), J


def _surroundings(coefficients: Tensor, frame: ControlFrame, points: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
    """The 4^D coefficients (B, N, 4, .., 4, D) around points, weights and slopes per axis (B, N, 4), and what is inside."""
    batch, count, ndim = points.shape
    inside = torch.ones((batch, count), dtype=torch.bool, device=points.device)
    first, weights, slopes = [], [], []
    for a, n in enumerate(frame.shape):
        t = frame.start[a] + frame.step[a] * points[..., a]
        inside &= (t >= 1) & (t <= n - 2)
        begin = t.floor().clamp(1, n - 3)
        w, s = _stencil((t - begin).clamp(0, 1))
        first.append(begin.long() - 1)
        weights.append(w)
        slopes.append(s)
    found = coefficients.reshape(-1, ndim)[_neighbours(first, frame.shape, reflect=False)]
    return found.reshape(batch, count, *(4,) * ndim, ndim), weights, slopes, inside


def pull(coefficients: Tensor, frame: ControlFrame, affine: Tensor) -> tuple[Tensor, Tensor]:
    """Points x with x + u(x) = A y + t at all pixels y, by a damped Newton method.

    Each step solves J dx = z - f(x), z = A y + t; it is halved where the residual does not fall. A point whose residual is at
    most ACCEPTED takes one last step, which squares the error; it is not measured again.

    Parameters
    ----------
    coefficients, frame : of u, see `displacement`
    affine : (B, D, D + 1) [A, t], indices

    Returns
    -------
    x (B, N, D) indices and the residuals |z - f(x)| before the last step, (B, N) voxels
    """
    z = targets(frame, affine)
    x = z.clone()
    best = torch.full(z.shape[:2], torch.inf, dtype=z.dtype, device=z.device)
    step = torch.zeros_like(z)
    trial = x
    for _ in range(ITERATIONS):
        u, J = displacement_and_slopes(coefficients, frame, trial)
        residual = z - trial - u
        error = residual.norm(dim=-1)
        better = error < best
        x = torch.where(better[..., None], trial, x)
        shorter = torch.where((best > ACCEPTED)[..., None], step / 2, step)
        step = torch.where(better[..., None], _solve(J, residual), shorter)
        best = torch.where(better, error, best)
        accepted = (best <= ACCEPTED)[..., None]
        if bool(accepted.all()):
            break
        trial = torch.where(accepted, x, x + step)
    return torch.where(accepted, x + step, x), best


def push(coefficients: Tensor, frame: ControlFrame, affine: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Where the points x (B, N, D) of all pixels y go: A (x + u(x)) + t.

    Returns
    -------
    the flow A (x + u(x)) + t - y, (B, D, N) float32 voxels, and whether its end lies inside the grid, (B, N) bool
    """
    return ends(frame, affine, points + displacement(coefficients, frame, points))


def targets(frame: ControlFrame, affine: Tensor) -> Tensor:
    """A y + t at all pixels y, (B, N, D)."""
    return _affine(affine, _pixels(frame, affine))


def ends(frame: ControlFrame, affine: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Flows A x + t - y of points x (B, N, D) that belong to all pixels y, and whether they end inside: see `push`."""
    target = _affine(affine, points)
    last = torch.tensor(frame.pixels, device=points.device) - 1
    inside = ((target >= -_EDGE) & (target <= last + _EDGE)).all(dim=-1)
    return (target - _pixels(frame, affine)).movedim(-1, 1).float(), inside


def _pixels(frame: ControlFrame, like: Tensor) -> Tensor:
    """Indices of all pixels, (1, N, D)."""
    axes = [torch.arange(n, dtype=like.dtype, device=like.device) for n in frame.pixels]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(1, -1, len(axes))


def _affine(maps: Tensor, points: Tensor) -> Tensor:
    """(B, D, D + 1) applied to (B or 1, N, D)."""
    return points @ maps[:, :, :-1].transpose(1, 2) + maps[:, None, :, -1]


def _solve(J: Tensor, r: Tensor) -> Tensor:
    """(I + J)^-1 r in closed form, (..., D, D) and (..., D); near a singular matrix a small multiple of r's direction."""
    if r.shape[-1] == 2:
        a, b, c, d = 1 + J[..., 0, 0], J[..., 0, 1], J[..., 1, 0], 1 + J[..., 1, 1]
        adjugate = torch.stack([d * r[..., 0] - b * r[..., 1], a * r[..., 1] - c * r[..., 0]], dim=-1)
        det = a * d - b * c
    else:
        A = J + torch.eye(3, dtype=J.dtype, device=J.device)
        columns = A.unbind(dim=-1)
        minors = [torch.linalg.cross(columns[(k + 1) % 3], columns[(k + 2) % 3], dim=-1) for k in range(3)]
        det = (columns[0] * minors[0]).sum(dim=-1)
        adjugate = torch.stack([(minor * r).sum(dim=-1) for minor in minors], dim=-1)
    return adjugate / torch.where(det.abs() < 1e-3, torch.ones_like(det), det)[..., None]


def flow(coefficients: Tensor, frame: ControlFrame, points: Tensor, sign: float, steps: int) -> Tensor:
    """exp(sign v) at points (B, N, D), by so many steps of the classical Runge-Kutta method: see `augreg.velocity`."""
    h = sign / steps
    for _ in range(steps):
        a = displacement(coefficients, frame, points)
        b = displacement(coefficients, frame, points + 0.5 * h * a)
        c = displacement(coefficients, frame, points + 0.5 * h * b)
        d = displacement(coefficients, frame, points + h * c)
        points = points + h / 6 * (a + 2 * (b + c) + d)
    return points


def blend(fields: Tensor, textures: Tensor) -> tuple[Tensor, Tensor]:
    """sum_i w_i t_i with w = softmax_i(g_i), and argmax_i g_i, for fields (B, n, N) and textures (n, N): (B, N) each."""
    # pair by pair: the weights of a whole batch would be its largest array by far
    mixed = torch.stack([(torch.softmax(g, dim=0) * textures).sum(dim=0) for g in fields])
    return mixed, fields.argmax(dim=1).int()


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


def prefilter(values: Tensor) -> Tensor:
    """Coefficients of the cubic B-splines through values (K, *shape), with whole-sample mirrored borders."""
    return per_axis(values, [_filter(n, values.device, values.dtype) for n in values.shape[1:]])


@lru_cache(maxsize=16)
def _filter(n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.tensor(prefilter_matrix(n), device=device, dtype=dtype)


def interpolate(coefficients: Tensor, points: Tensor) -> Tensor:
    """Cubic B-splines (K, *shape) at index points (B, N, D), mirrored beyond the borders, (B, N); B / K points share a spline."""
    shape = tuple(coefficients.shape[1:])
    first, weights = [], []
    for a in range(len(shape)):
        begin = points[..., a].floor()
        w, _ = _stencil((points[..., a] - begin).to(coefficients.dtype))
        first.append(begin.long() - 1)
        weights.append(w)
    several = coefficients.repeat_interleave(len(points) // len(coefficients), dim=0)
    found = several.reshape(-1)[_neighbours(first, shape, reflect=True)]
    return _contract(found.reshape(*points.shape[:2], *(4,) * len(shape), 1), weights)[..., 0]


def nearest(labels: Tensor, points: Tensor) -> Tensor:
    """Labels (K, *shape) at the pixels nearest to index points (B, N, D), mirrored, (B, N); B / K points share a map."""
    flat = torch.zeros(points.shape[:-1], dtype=torch.int64, device=points.device)
    for a, n in enumerate(labels.shape[1:]):
        flat = flat * n + _reflected(points[..., a].round().long(), n)
    return labels.flatten(1).repeat_interleave(len(points) // len(labels), dim=0).gather(1, flat)


def _reflected(index: Tensor, n: int) -> Tensor:
    """Indices mirrored at the outer voxels of an axis of length n."""
    return (n - 1) - (torch.remainder(index, max(2 * (n - 1), 1)) - (n - 1)).abs()
