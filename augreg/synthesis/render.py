"""Rendering pairs: images and their exact correspondence, deterministic, batched, in torch.

With psi_k: template -> image k and its inverse B_k (see `augreg.sam.model`),

    image_k(y) = a_k(B_k(y)),        u(y) = psi_2(B_1(y)) - y = B_2^-1(B_1(y)) - y,

so that with one appearance image_2(y + u(y)) = a(B_2(psi_2(B_1(y)))) = a(B_1(y)) = image_1(y), exactly. psi is a cubic B-spline
and an affine pose; B_1 and B_2 are solved for by Newton's method, in double precision, and the residual |psi(B(y)) - y| is
measured.
Every image is sampled once, from the appearance on the template's grid, by cubic B-splines with mirrored borders: the
appearance has no end, so that the equation holds wherever the target y + u(y) lies inside image 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from types import ModuleType
from weakref import WeakKeyDictionary

import numpy as np
import torch

from augreg.grid import FloatArray, Grid
from augreg.image import Image, Labels
from augreg.sam.alignment import pose_transform
from augreg.sam.model import AppearanceModel
from augreg.synthesis import compiled, spline
from augreg.synthesis.draw import INTENSITY_NODES, PairDraw
from augreg.synthesis.spline import ControlFrame, Tensor, per_axis, prefilter_matrix
from augreg.transforms import DisplacementField

# pixels with a larger residual, in voxels, are not ground truth
TOLERANCE = 0.01


@dataclass(frozen=True, eq=False)
class PairBatch:
    """B pairs with their truth, moving(x + u(x)) = fixed(x), as tensors.

    Parameters
    ----------
    fixed, moving : (B, 1, *shape) float32
    flow : u, (B, D, *shape) float32, voxels along the index axes of image 1's grid
    mask : (B, 1, *shape) bool: the target lies inside the moving image and the residual is below TOLERANCE
    least_det : (B,) the least det(D psi) of the two maps
    residual : (B,) the largest |psi(B(y)) - y| of the two maps over all pixels, voxels
    """

    fixed: Tensor
    moving: Tensor
    flow: Tensor
    mask: Tensor
    least_det: Tensor
    residual: Tensor

    def __len__(self) -> int:
        """B."""
        return len(self.fixed)

    def __getitem__(self, pairs: Tensor | slice) -> PairBatch:
        """Some of the pairs."""
        return PairBatch(*(getattr(self, field.name)[pairs] for field in fields(self)))

    @staticmethod
    def concatenate(parts: Sequence[PairBatch]) -> PairBatch:
        """The pairs of all parts, in their order."""
        return PairBatch(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(PairBatch)))


@dataclass(frozen=True, eq=False)
class TrainingPair:
    """A pair on its grid: moving(x + displacement(x)) = fixed(x) inside the mask."""

    fixed: Image
    moving: Image
    displacement: DisplacementField
    mask: Labels


@dataclass(frozen=True, eq=False)
class _Constants:
    """What rendering needs of a model, on a device."""

    frame: ControlFrame
    fields: Tensor
    points: Tensor
    basis: Tensor
    textures: Tensor
    mixing: list[Tensor]
    filters: list[Tensor]
    light: list[Tensor]


_CONSTANTS: WeakKeyDictionary[AppearanceModel, dict[torch.device, _Constants]] = WeakKeyDictionary()


def _constants(model: AppearanceModel, device: torch.device) -> _Constants:
    known = _CONSTANTS.setdefault(model, {})
    if device not in known:
        grid = model.template

        # copies, not views: products of torch's own, aligned memory are the same to the last bit in every process
        def tensor(array: FloatArray, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.tensor(array, dtype=dtype, device=device)

        axes = [np.arange(n, dtype=np.float64) for n in grid.shape]
        index = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, grid.ndim)
        modes = (model.fields @ grid.world_to_index.T).reshape(model.shape.rank, -1)
        known[device] = _Constants(
            frame=ControlFrame.of(model.control, grid),
            fields=tensor(modes, torch.float64),
            points=tensor(index, torch.float64),
            basis=tensor((model.appearance.basis * np.sqrt(model.appearance.variance)).T),
            textures=tensor(model.textures),
            mixing=[tensor(axis) for axis in model.mixing.axes],
            filters=[tensor(prefilter_matrix(n)) for n in grid.shape],
            light=[tensor(_smooth_basis(n)) for n in grid.shape],
        )
    return known[device]


def render_pairs(model: AppearanceModel, draw: PairDraw, device: torch.device | str | None = None) -> PairBatch:
    """Render drawn pairs.

    Parameters
    ----------
    model : the model they were drawn from
    draw : B pairs
    device : where to compute and where the result lies; by default the CPU

    Returns
    -------
    the pairs on the grid of `model.template`, both images
    """
    device = torch.device(device or "cpu")
    known = _constants(model, device)
    B, ndim, shape = len(draw), model.ndim, model.template.shape
    maps = torch.tensor(draw.shape.reshape(2 * B, -1), device=device) @ known.fields
    maps = maps.reshape(2 * B, *known.frame.shape, ndim)
    forward, backward = (part.to(device) for part in _poses(model, draw))
    # z = T^-1(y), then (id + v)(x) = z gives x = B(y)
    targets = _affine(backward, known.points.expand(2 * B, -1, -1))
    x, residual = _maths(device).invert(maps, known.frame, targets)
    first = x[0::2]
    v = _maths(device).displacement(maps[1::2].contiguous(), known.frame, first.contiguous())
    target = _affine(forward[1::2], first + v)
    last = torch.tensor(shape, device=device) - 1
    # the residual is measured before the pose, which scales it
    residual = residual.reshape(B, 2, -1)
    mask = ((target >= 0) & (target <= last)).all(dim=-1) & (residual[:, 0] < TOLERANCE)
    textures = _textures(model, known, draw)
    images = _maths(device).interpolate(per_axis(textures, known.filters), x)
    images = (images.reshape(2 * B, *shape) * _light(known, draw)).reshape(B, 2, *shape)
    flow = (target - known.points).float().movedim(-1, 1).reshape(B, ndim, *shape)
    return PairBatch(
        fixed=images[:, :1],
        moving=images[:, 1:],
        flow=flow,
        mask=mask.reshape(B, 1, *shape),
        least_det=torch.tensor(draw.least_det.min(axis=1), device=device),
        residual=residual.amax(dim=(1, 2)),
    )


def training_pairs(batch: PairBatch, grid: Grid) -> Iterator[TrainingPair]:
    """The pairs of a batch as images on their grid; the flow becomes a displacement in mm, u = direction @ (spacing * flow)."""
    fixed, moving, mask = (tensor[:, 0].cpu().numpy() for tensor in (batch.fixed, batch.moving, batch.mask))
    flow = batch.flow.movedim(1, -1).cpu().numpy().astype(np.float64)
    for f, m, u, valid in zip(fixed, moving, flow, mask, strict=True):
        displacement_field = DisplacementField(u @ grid.index_to_world.T, grid)
        yield TrainingPair(Image(f, grid), Image(m, grid), displacement_field, Labels(valid.astype(np.uint8), grid))


def _maths(device: torch.device) -> ModuleType:
    """The same functions twice: compiled kernels on the CPU, tensor operations elsewhere."""
    return compiled if device.type == "cpu" else spline


def _poses(model: AppearanceModel, draw: PairDraw) -> tuple[Tensor, Tensor]:
    """T and T^-1 of all images in index units, (2 B, D, D + 1) each."""
    grid = model.template
    forward: list[FloatArray] = []
    backward: list[FloatArray] = []
    for pose in draw.pose.reshape(-1, draw.pose.shape[-1]):
        T = pose_transform(pose, model.center)
        for transform, out in ((T, forward), (T.inverse(), backward)):
            matrix = grid.world_to_index @ transform.matrix @ grid.index_to_world
            offset = grid.indices_at(transform(np.asarray(grid.origin)))
            out.append(np.column_stack([matrix, offset]))
    return torch.tensor(np.stack(forward)), torch.tensor(np.stack(backward))


def _affine(maps: Tensor, points: Tensor) -> Tensor:
    """(B, D, D + 1) applied to (B, N, D)."""
    return points @ maps[:, :, :-1].transpose(1, 2) + maps[:, None, :, -1]


def _textures(model: AppearanceModel, known: _Constants, draw: PairDraw) -> Tensor:
    """Appearances on the template's grid, (2 B, *shape): mosaics and modes, clipped to the known intensities."""
    device, B, n = known.textures.device, len(draw), len(model.textures)
    weights = torch.tensor(draw.mosaic, dtype=torch.float32, device=device)
    # the commonest draw has one appearance in both images: it is made once
    shared = bool((weights[:, 0] == weights[:, 1]).all())
    weights = weights[:, :1] if shared else weights
    choice = per_axis(weights.reshape(-1, *[axis.shape[1] for axis in known.mixing]), known.mixing)
    mosaics = _maths(device).blend(choice.reshape(-1, n, model.template.size), known.textures)
    textures = mosaics.reshape(B, -1, model.template.size).expand(-1, 2, -1)
    if draw.modes.any():
        textures = textures + torch.tensor(draw.modes, dtype=torch.float32, device=device) @ known.basis
    return textures.clamp(*model.intensities).reshape(2 * B, *model.template.shape)


def _light(known: _Constants, draw: PairDraw) -> Tensor:
    """The smooth gains of all images, (2 B, *shape) or, where there is none, 1."""
    if not draw.intensity.any():
        return torch.ones((), device=known.textures.device)
    nodes = torch.tensor(draw.intensity, dtype=torch.float32, device=known.textures.device)
    return per_axis(nodes.reshape(-1, *[INTENSITY_NODES] * len(known.light)), known.light).exp()


def _smooth_basis(n: int) -> FloatArray:
    """(n, INTENSITY_NODES): cubic B-splines over n points, rows of unit length, so that fields have unit variance."""
    t = 1 + np.linspace(0, 1, n)[:, None] * (INTENSITY_NODES - 3) - np.arange(INTENSITY_NODES)
    r = np.abs(t)
    weights = np.where(r < 1, 2 / 3 - r**2 + r**3 / 2, np.where(r < 2, (2 - np.minimum(r, 2)) ** 3 / 6, 0.0))
    return weights / np.linalg.norm(weights, axis=1, keepdims=True)
