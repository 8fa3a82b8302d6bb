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

A map that folds, det(D psi) < LEAST_DETERMINANT anywhere on a lattice of two points per control cell, is shrunk: with
u = psi - id, det(I + s Du) = 1 + s I_1 + s^2 I_2 (+ s^3 I_3), I_k the invariants of Du, so one evaluation of Du serves all s.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.splines import control_grid, cubic, cubic_basis
from augreg.sam.alignment import pose_transform
from augreg.synthesis.pairs import TOLERANCE, PairBatch
from augreg.synthesis.render import on_arrays, on_tensors
from augreg.synthesis.render.on_tensors import ControlFrame, Tensor, per_axis

LEAST_DETERMINANT = 0.1
# the factors by which a folding map is shrunk
_SHRINK = 0.9 ** np.arange(24)
# maps whose determinants are looked at together on the CPU: they stay in the cache
_MAPS = 8
# elsewhere points of the lattice together: few large steps, in little memory
_POINTS = 1 << 23
# a smooth change of intensity is a field of this many coefficients per axis
INTENSITY_NODES = 6


@dataclass(frozen=True, eq=False)
class Stage:
    """What rendering needs of a grid, on a device.

    Parameters
    ----------
    grid : of template and images
    control : of the maps
    frame : how the control grid lies over the other
    light : bases of smooth gains, one (n, INTENSITY_NODES) per axis
    values, slopes : of the splines at the lattice where folding is looked for, one (points, controls) per axis
    """

    grid: Grid
    control: Grid
    frame: ControlFrame
    light: list[Tensor]
    values: list[Tensor]
    slopes: list[Tensor]

    @staticmethod
    @lru_cache(maxsize=8)
    def on(grid: Grid, device: torch.device) -> Stage:
        """The stage of a template's grid on a device; those used last are kept."""
        control = control_grid(grid)
        frame = ControlFrame.of(control, grid)
        values, slopes = zip(*[cubic_basis(n, per_cell=2) for n in frame.shape], strict=True)
        return Stage(
            grid=grid,
            control=control,
            frame=frame,
            light=[held(_smooth_basis(n), device) for n in grid.shape],
            values=[held(v, device, torch.float64) for v in values],
            slopes=[held(s * step, device, torch.float64) for s, step in zip(slopes, frame.step, strict=True)],
        )

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.values[0].device


def held(array: npt.NDArray[Any], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """A copy of an array on a device: products of torch's own, aligned memory are the same to the last bit in every process."""
    return torch.tensor(array, dtype=dtype, device=device)


@contextmanager
def rendering(device: torch.device) -> Iterator[None]:
    """On the CPU torch has one thread inside the block: compiled kernels do the work, and its threads would wait for theirs."""
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if device.type == "cpu":
            torch.set_num_threads(before)


def render_maps(
    stage: Stage,
    maps: Tensor,
    textures: Tensor,
    *,
    pose: FloatArray,
    center: FloatArray,
    light: FloatArray,
    bounds: tuple[Tensor, Tensor] | None = None,
    labels: Tensor | None = None,
    steps: int = 0,
) -> PairBatch:
    """The pairs of maps and textures, two by two: fixed, moving, fixed, ...

    Parameters
    ----------
    stage : of the template's grid
    maps : coefficients of psi - id without pose, (2 B, *control shape, D) float64, voxels, shrunk where they fold; or of
        velocities
    textures : on the template's grid, one per image (2 B, *shape) or one per pair (B, *shape), float32
    pose : (2 B, P), see `augreg.sam.alignment.pose_transform`
    center : fixed point of the poses' rotations and scales, (D,) mm
    light : coefficients of the logarithm of a smooth gain, (2 B, INTENSITY_NODES^D)
    bounds : least and largest intensity of every texture's images, (2 B,) or (B,); by default the texture's own
    labels : of the template (1, *shape), or like textures, where there are any
    steps : of the integration of psi = exp(v), where maps are velocities; 0 where they are displacements
    """
    B, shape, maths = len(maps) // 2, stage.grid.shape, maths_on(stage.device)
    forward, backward = _poses(stage, pose, center)
    # psi of the other image of the pair: 1 0 3 2 ...
    other = torch.arange(2 * B, device=stage.device) ^ 1
    if steps:
        scale = torch.ones(2 * B, dtype=maps.dtype, device=stage.device)
        z = on_tensors.targets(stage.frame, backward)
        x = maths.flow(maps, stage.frame, z, -1.0, steps)
        residual = (maths.flow(maps, stage.frame, x, 1.0, steps) - z).norm(dim=-1)
        flow, inside = on_tensors.ends(stage.frame, forward[other], maths.flow(maps[other], stage.frame, x, 1.0, steps))
        least = _least_slope(x.reshape(2 * B, *shape, stage.grid.ndim), backward)
    else:
        maps, scale, least = unfolded(stage, maps)
        x, residual = maths.pull(maps, stage.frame, backward)
        flow, inside = maths.push(maps[other], stage.frame, forward[other], x)
    # the residual is measured before the pose, which scales it
    masks = (inside & (residual < TOLERANCE)).reshape(2 * B, 1, *shape)
    flows = flow.reshape(2 * B, stage.grid.ndim, *shape)
    sampled = clipped(maths.interpolate(maths.prefilter(textures), x), bounds or textures.flatten(1).aminmax(dim=1))
    images = sampled.reshape(2 * B, *shape) * gains(stage, light)
    known = None if labels is None else maths.nearest(labels, x).reshape(2 * B, 1, *shape)
    return PairBatch(
        fixed=images[0::2, None],
        moving=images[1::2, None],
        flow=flows[0::2],
        mask=masks[0::2],
        reverse=flows[1::2],
        reverse_mask=masks[1::2],
        least_det=least.reshape(B, 2).amin(dim=1),
        residual=residual.reshape(B, -1).amax(dim=1),
        scale=scale.reshape(B, 2),
        rejected=torch.zeros(B, dtype=torch.int64, device=stage.device),
        fixed_labels=None if known is None else known[0::2],
        moving_labels=None if known is None else known[1::2],
    )


def clipped(values: Tensor, bounds: Sequence[Tensor]) -> Tensor:
    """Values (K, N) between the least and largest of their texture, (L,) each, L | K: cubic splines go beyond."""
    low, high = (bound.repeat_interleave(len(values) // len(bound))[:, None] for bound in bounds)
    return values.clamp(low, high)


def held_labels(array: npt.NDArray[np.integer], device: torch.device) -> Tensor:
    """`held` of labels, whatever their type: int32, or int64 where an id needs it.

    Raises
    ------
    ValueError : for ids that torch has no type for, 2^63 and more.
    """
    return torch.from_numpy(as_labels("labels", array)).to(device, copy=True)


def as_labels(name: str, array: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    """Labels as int32, or int64 where an id needs it; ValueError for ids of 2^63 and more."""
    values = np.asarray(array)
    least, most = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if most > np.iinfo(np.int64).max:
        raise ValueError(f"{name}: expected ids below 2^63, got {most}; give the structures other numbers")
    narrow = np.iinfo(np.int32)
    kind: type[np.integer] = np.int32 if narrow.min <= least and most <= narrow.max else np.int64
    return values.astype(kind)


def unfolded(stage: Stage, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Maps (N, *control shape, D) shrunk until none folds, the factors (N,) and the least determinants (N,)."""
    scale = torch.ones(len(maps), dtype=maps.dtype, device=maps.device)
    least = torch.empty_like(scale)
    factors = torch.tensor(_SHRINK, device=maps.device)
    together = _MAPS if maps.device.type == "cpu" else -(-_POINTS // math.prod(map(len, stage.values)))
    for rows in torch.arange(len(maps), device=maps.device).split(together):
        invariants = list(_invariants(stage, maps[rows]))
        least[rows] = _determinant(invariants, factors[:1])[:, 0]
        folding = least[rows] < LEAST_DETERMINANT
        if bool(folding.any()):
            trials = _determinant([part[folding] for part in invariants], factors)
            # the first factor that will do; the last one where none does
            chosen = (trials >= LEAST_DETERMINANT).float().cumsum(dim=1).eq(0).sum(dim=1).clamp(max=len(factors) - 1)
            scale[rows[folding]] = factors[chosen]
            least[rows[folding]] = trials.gather(1, chosen[:, None])[:, 0]
    return maps * scale.reshape(-1, *[1] * (maps.ndim - 1)), scale, least


def _invariants(stage: Stage, maps: Tensor) -> Iterator[Tensor]:
    """I_1, I_2 (and I_3) of Du at the lattice, (N, points) each."""
    ndim = stage.grid.ndim

    def along(component: int, axis: int) -> Tensor:
        matrices = [stage.slopes[a] if a == axis else stage.values[a] for a in range(ndim)]
        return per_axis(maps[..., component], matrices).reshape(len(maps), -1)

    J = [[along(component, axis) for axis in range(ndim)] for component in range(ndim)]
    yield sum((J[d][d] for d in range(1, ndim)), J[0][0])
    pairs = [(0, 1)] if ndim == 2 else [(0, 1), (0, 2), (1, 2)]
    minors = [J[a][a] * J[b][b] - J[a][b] * J[b][a] for a, b in pairs]
    yield sum(minors[1:], minors[0])
    if ndim == 3:
        cofactors = [J[1][(k + 1) % 3] * J[2][(k + 2) % 3] - J[1][(k + 2) % 3] * J[2][(k + 1) % 3] for k in range(3)]
        yield J[0][0] * cofactors[0] + J[0][1] * cofactors[1] + J[0][2] * cofactors[2]


def _determinant(invariants: list[Tensor], factors: Tensor) -> Tensor:
    """The least 1 + s I_1 + s^2 I_2 (+ s^3 I_3) over the points for every factor s, (N, factors)."""
    least = []
    for s in factors:
        total = torch.zeros_like(invariants[0])
        for invariant in reversed(invariants):
            total = (total + invariant) * s
        least.append(1 + total.amin(dim=1))
    return torch.stack(least, dim=1)


def _least_slope(x: Tensor, backward: Tensor) -> Tensor:
    """The least det(D psi) of psi^-1: y -> x, poses excepted, from differences of x (N, *shape, D) between neighbours, (N,)."""
    ndim = x.shape[-1]
    common = (slice(None), *(slice(0, n - 1) for n in x.shape[1:-1]))
    slopes = torch.stack([x.diff(dim=a + 1)[common] for a in range(ndim)], dim=-1)
    det = torch.linalg.det(slopes) / torch.linalg.det(backward[:, :, :-1]).reshape(-1, *[1] * ndim)
    return 1 / det.flatten(1).amax(dim=1)


def maths_on(device: torch.device) -> ModuleType:
    """The same functions twice: compiled kernels on the CPU, tensor operations elsewhere."""
    return on_arrays if device.type == "cpu" else on_tensors


def _poses(stage: Stage, poses: FloatArray, center: FloatArray) -> tuple[Tensor, Tensor]:
    """T and T^-1 of all images in index units, (2 B, D, D + 1) each."""
    grid = stage.grid
    forward: list[FloatArray] = []
    backward: list[FloatArray] = []
    for pose in poses:
        T = pose_transform(pose, center)
        for transform, out in ((T, forward), (T.inverse(), backward)):
            matrix = grid.world_to_index @ transform.matrix @ grid.index_to_world
            offset = grid.indices_at(transform(np.asarray(grid.origin)))
            out.append(np.column_stack([matrix, offset]))
    return held(np.stack(forward), stage.device, torch.float64), held(np.stack(backward), stage.device, torch.float64)


def gains(stage: Stage, light: FloatArray) -> Tensor:
    """The smooth gains of all images, (2 B, *shape) or, where there is none, 1."""
    if not light.any():
        return torch.ones((), device=stage.device)
    nodes = held(light, stage.device)
    return per_axis(nodes.reshape(-1, *[INTENSITY_NODES] * len(stage.light)), stage.light).exp()


def _smooth_basis(n: int) -> FloatArray:
    """(n, INTENSITY_NODES): cubic B-splines over n points, rows of unit length, so that fields have unit variance."""
    t = 1 + np.linspace(0, 1, n)[:, None] * (INTENSITY_NODES - 3) - np.arange(INTENSITY_NODES)
    weights = cubic(t)
    return weights / np.linalg.norm(weights, axis=1, keepdims=True)
