"""Cubic B-splines and their inverses in torch, batched, in index units.

Points are indices of one grid, displacements count in its voxels. A control grid parallel to it is an affine map of single axes,
t = start + step * index, so that

    f(x) = x + sum_j b_j(x) c_j,     b_j the tensor product of cubic B-splines at the control index, 0 outside [1, n - 2],

is the map of `augreg.transforms.BSpline`, number by number. Textures are interpolated by the same sums over prefiltered values:
with whole-sample mirrored borders the interpolation condition is a linear system per axis, solved once as a small dense matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from augreg.grid import FloatArray, Grid

Tensor = torch.Tensor


@dataclass(frozen=True, eq=False)
class ControlFrame:
    """How a control grid lies over an image grid: control index = start + step * index, per axis.

    Parameters
    ----------
    shape : of the control grid
    start, step : per axis
    line : length of the image's last axis, along which neighbouring points have neighbouring solutions
    """

    shape: tuple[int, ...]
    start: tuple[float, ...]
    step: tuple[float, ...]
    line: int

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
        return ControlFrame(control.shape, tuple(control.indices_at(grid.origin)), tuple(np.diag(matrix)), grid.shape[-1])


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
            along = (n - 1) - (torch.remainder(along, 2 * (n - 1)) - (n - 1)).abs()
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


def invert(
    coefficients: Tensor, frame: ControlFrame, targets: Tensor, tolerance: float = 1e-5, iterations: int = 40
) -> tuple[Tensor, Tensor]:
    """Points x with x + u(x) = z, by a damped Newton method, and the residuals |z - x - u(x)|.

    Each step solves J dx = z - f(x); it is halved where the residual does not fall. Only points that are not yet within
    `tolerance` voxels move.

    Parameters
    ----------
    coefficients, frame : of u, see `displacement`
    targets : z, (B, N, D) indices

    Returns
    -------
    x (B, N, D) indices and the residuals (B, N) voxels, measured
    """
    x = targets.clone()
    best = torch.full(targets.shape[:2], torch.inf, dtype=targets.dtype, device=targets.device)
    step = torch.zeros_like(targets)
    trial = x
    for _ in range(iterations):
        u, J = displacement_and_slopes(coefficients, frame, trial)
        residual = targets - trial - u
        error = residual.norm(dim=-1)
        better = error < best
        x = torch.where(better[..., None], trial, x)
        best = torch.where(better, error, best)
        step = torch.where(better[..., None], _solve(J, residual), step / 2)
        if bool((best <= tolerance).all()):
            break
        trial = torch.where((best > tolerance)[..., None], x + step, x)
    return x, best


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


def blend(fields: Tensor, textures: Tensor) -> Tensor:
    """sum_i w_i t_i with w = softmax_i(g_i), for fields (B, n, N) and textures (n, N): (B, N)."""
    # pair by pair: the weights of a whole batch would be its largest array by far
    return torch.stack([(torch.softmax(g, dim=0) * textures).sum(dim=0) for g in fields])


def prefilter_matrix(n: int) -> FloatArray:
    """(n, n): values at n points to the coefficients of the cubic B-spline through them, with whole-sample mirrored borders."""
    if n == 1:
        return np.eye(1)
    A = np.diag(np.full(n, 4.0)) + np.diag(np.ones(n - 1), 1) + np.diag(np.ones(n - 1), -1)
    A[0, 1] = A[-1, -2] = 2.0
    return np.linalg.inv(A / 6)


def per_axis(values: Tensor, matrices: list[Tensor]) -> Tensor:
    """One matrix (m_a, n_a) applied along each axis of (B, n_1, .., n_D)."""
    for a, matrix in enumerate(matrices):
        values = torch.movedim(torch.tensordot(matrix, values, dims=([1], [a + 1])), 0, a + 1)
    return values


def interpolate(coefficients: Tensor, points: Tensor) -> Tensor:
    """Cubic B-splines (B, *shape) at index points (B, N, D), mirrored beyond the borders, (B, N)."""
    shape = tuple(coefficients.shape[1:])
    first, weights = [], []
    for a in range(len(shape)):
        begin = points[..., a].floor()
        w, _ = _stencil((points[..., a] - begin).to(coefficients.dtype))
        first.append(begin.long() - 1)
        weights.append(w)
    found = coefficients.reshape(-1)[_neighbours(first, shape, reflect=True)]
    return _contract(found.reshape(*points.shape[:2], *(4,) * len(shape), 1), weights)[..., 0]
