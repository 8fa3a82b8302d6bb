"""The same pairs with other looks: what networks have to bear that learn from what is made. The truth stays.

    occluded         ellipsoids of one intensity, in places of chance in each image alone (Sokooti et al. 2019, arXiv 1908.10235)
    denser           lungs that are squeezed are denser, fixed'(x) = air + (fixed(x) - air) det(D phi)(x)^s with s ~ U(0, 1): the
                     sponge model (Staring et al., Med. Phys. 2014), used so by Sokooti et al. 2019; the random s is augreg's own
    shaded           smooth gains, as of coils and of sound that tissue has swallowed

Other contrasts are in `augreg.training.contrasts`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import scipy.ndimage
import torch
from torch import nn

from augreg.geometry.grid import FloatArray
from augreg.synthesis import PairBatch
from augreg.training.batches import ALL, Batches

# determinants beyond these are those of no lung
_VOLUMES = (1 / 3, 3.0)
Drawn = npt.NDArray[np.float32]


def occluded(
    batch_of: Batches,
    *,
    most: int = 3,
    size: tuple[float, float] = (0.03, 0.12),
    seed: int = 0,
    batch: int | None = None,
    part: slice = ALL,
) -> Batches:
    """The same pairs, in each image 0 to `most` ellipsoids of one intensity of its range.

    Parameters
    ----------
    batch_of : the pairs
    most : largest number of ellipsoids in an image
    size : least and largest half axis, as a share of the mean side
    seed : seed of all random numbers
    batch : pairs of a step, of all processes; None is as many as there are
    part : which of a step's pairs these are; see `Team.part`

    Raises
    ------
    ValueError : for a negative number or sizes that are not in order.
    """
    if most < 0 or not 0 < size[0] <= size[1]:
        raise ValueError(f"most, size: expected 0 or more, and shares above 0 in order, got {most} and {size}")

    def seen(pairs: PairBatch, pair: int, rng: np.random.Generator) -> tuple[Drawn, Drawn]:
        return tuple(hidden(values_of(side[pair]), rng) for side in (pairs.fixed, pairs.moving))  # type: ignore[return-value]

    def hidden(image: Drawn, rng: np.random.Generator) -> Drawn:
        out, shape = image.copy(), image.shape[1:]
        D = len(shape)
        low, high = image.min(), image.max()
        places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).astype(np.float32)
        for _ in range(rng.integers(most + 1)):
            center, axes = rng.uniform(0, shape), np.mean(shape) * rng.uniform(*size, D)
            turn, _ = np.linalg.qr(rng.standard_normal((D, D)))
            inside = np.square((places - center) @ (turn / axes)).sum(axis=-1) < 1
            out[:, inside] = low + (high - low) * rng.random()
        return out

    return one_by_one(batch_of, seen, seed, 6, batch, part)


def denser(
    batch_of: Batches,
    *,
    air: float = -1000.0,
    tissue: tuple[float, float] = (-950.0, -400.0),
    soft: float = 1.0,
    seed: int = 0,
    batch: int | None = None,
    part: slice = ALL,
) -> Batches:
    """The same pairs, lungs of the fixed image as dense as their volume asks for.

    Parameters
    ----------
    batch_of : pairs with a truth
    air : intensity of nothing, HU
    tissue : least and largest intensity of lungs, HU
    soft : deviation of the Gaussian that smooths the border of what is lung, voxels
    seed, batch, part : see `occluded`
    """

    def seen(pairs: PairBatch, pair: int, rng: np.random.Generator) -> tuple[Drawn, Drawn]:
        image = values_of(pairs.fixed[pair])
        volume = (_volumes(pairs.flow[pair], pairs.mask[pair]).clip(*_VOLUMES) ** rng.random()).astype(np.float32)
        lung = ((image[0] > tissue[0]) & (image[0] < tissue[1])).astype(np.float32)
        share = scipy.ndimage.gaussian_filter(lung, soft)
        return air + (image - air) * (1 + share * (volume - 1)), values_of(pairs.moving[pair])

    return one_by_one(batch_of, seen, seed, 7, batch, part)


def shaded(
    batch_of: Batches,
    *,
    gain: float = 0.3,
    nodes: int = 3,
    seed: int = 0,
    batch: int | None = None,
    part: slice = ALL,
) -> Batches:
    """The same pairs, each image under a smooth gain of its own,

        image'(x) = least + (image(x) - least) exp(g(x)),      g ~ N(0, gain^2) at nodes^D places, linear in between

    Parameters
    ----------
    batch_of : the pairs
    gain : standard deviation of the logarithm
    nodes : places along each axis, from border to border, 2 or more
    seed, batch, part : see `occluded`

    Raises
    ------
    ValueError : for a negative gain or fewer nodes.
    """
    if not gain >= 0 or nodes < 2:
        raise ValueError(f"gain, nodes: expected 0 or more, and 2 or more, got {gain} and {nodes}")

    def seen(pairs: PairBatch, pair: int, rng: np.random.Generator) -> tuple[Drawn, Drawn]:
        return lit(values_of(pairs.fixed[pair]), rng), lit(values_of(pairs.moving[pair]), rng)

    def lit(image: Drawn, rng: np.random.Generator) -> Drawn:
        shape = image.shape[1:]
        grains = torch.from_numpy(rng.standard_normal((1, 1, *[nodes] * len(shape)), dtype=np.float32))
        mode = "bilinear" if len(shape) == 2 else "trilinear"
        g = nn.functional.interpolate(grains, shape, mode=mode, align_corners=True)[0].numpy()
        low = image.min()
        return np.asarray(low + (image - low) * np.exp(np.float32(gain) * g), dtype=np.float32)

    return one_by_one(batch_of, seen, seed, 10, batch, part)


def _volumes(flow: torch.Tensor, mask: torch.Tensor) -> FloatArray:
    """det(D phi) of a flow (D, *shape), central differences; 1 where the flow or one of its neighbours is not known."""
    D = len(flow)
    known = torch.where(mask, flow, 0).double()
    slopes = torch.stack([torch.stack(torch.gradient(part), dim=-1) for part in known], dim=-2)
    det = torch.linalg.det(slopes + torch.eye(D, dtype=slopes.dtype, device=flow.device))
    pool = nn.functional.max_pool2d if D == 2 else nn.functional.max_pool3d
    beside = pool((~mask).float()[None], 3, 1, 1)[0, 0] > 0
    return torch.where(beside, 1.0, det).cpu().numpy()


def values_of(image: torch.Tensor) -> Drawn:
    """Of a tensor."""
    return np.asarray(image.cpu().numpy(), dtype=np.float32)


def one_by_one(
    batch_of: Batches,
    seen: Callable[[PairBatch, int, np.random.Generator], tuple[Drawn, Drawn]],
    seed: int,
    stream: int,
    batch: int | None,
    part: slice,
) -> Batches:
    """Pairs whose images are made anew, each with random numbers of its own: they do not depend on who makes which."""

    def made(step: int) -> PairBatch:
        pairs = batch_of(step)
        numbers = range(len(pairs) if batch is None else batch)[part]
        looks = [seen(pairs, pair, np.random.default_rng([seed, step, stream, number])) for pair, number in enumerate(numbers)]
        fixed, moving = (torch.from_numpy(np.stack(side)).to(pairs.fixed.device) for side in zip(*looks, strict=True))
        return replace(pairs, fixed=fixed, moving=moving)

    return made
