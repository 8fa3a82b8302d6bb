"""Velocities against those of a known truth, as SVF-Net learns (Rohe et al., MICCAI 2017).

    loss = sum_s w_s mean_b mean_{x in mask_b} |v_s(x) - v*_s(x)|^2 / unit^2,      exp(v*) = id + u

with the weights w of `multiscale_loss`. v* is the logarithm of the truth u on the cells of the finest map, by
v <- v + (u - (exp(v) - id)) from v = u, of which the best is kept; on coarser cells its means. exp is that of the network's
maps, so what its few steps miss is not held against it. Where u is not known it is continued from what is near. Many velocities
have nearly one exponential, so this asks for more than `multiscale_loss` of the same maps does: it is what was published.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from augreg.networks.cells import at_voxels, averages
from augreg.networks.losses.flows import WEIGHTS
from augreg.networks.maps import Map, Velocity

_ROUNDS = 8


def velocity_loss(maps: Sequence[Map], truth: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The loss of one to five velocities from fine to coarse against the logarithm of the truth (B, D, *shape), voxels; a scalar.

    Parameters
    ----------
    maps : from fine to coarse
    truth : u, anything outside of the mask
    mask : voxels where it is known, (B, 1, *shape)

    Raises
    ------
    TypeError : for maps that are no velocities.
    """
    velocities = [_checked(phi) for phi in maps]
    finest = velocities[0]
    target, share = logarithm(finest, truth, mask)
    total = truth.new_zeros(())
    for phi, w in zip(velocities, WEIGHTS[: len(velocities)], strict=True):
        ratio = tuple(coarse // fine for coarse, fine in zip(phi.cells, finest.cells, strict=True))
        weight = averages(share, ratio)
        wanted = averages(target * share, ratio) / weight.clamp(min=1e-6) / phi.unit
        missed = (phi.values.float() - wanted).square().sum(dim=1, keepdim=True)
        axes = tuple(range(1, missed.ndim))
        total = total + w * ((missed * weight).sum(axes) / weight.sum(axes).clamp(min=1e-6)).mean()
    return total


@torch.no_grad()
def logarithm(like: Velocity, truth: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """v* on the cells of a map, (B, D, *counts) voxels, and the share of each cell where the truth is known, (B, 1, *counts)."""
    weight = mask.to(truth.dtype)
    share = averages(weight, like.cells)
    known = averages(torch.where(mask > 0, truth, 0), like.cells) / share.clamp(min=1e-6)
    u = _filled(torch.where(share > 0, known, 0), (share > 0).to(known.dtype))
    v, best, least = u, u, u.new_full((len(u),), torch.inf)
    axes = tuple(range(1, u.ndim))
    for _ in range(_ROUNDS):
        miss = u - replace(like, values=v, unit=1.0).on_cells().values
        error = (miss.square() * share).sum(axes)
        better = error < least
        best = torch.where(better.reshape(-1, *[1] * (u.ndim - 1)), v, best)
        least = torch.minimum(error, least)
        v = v + miss
    return best, share


def _filled(values: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Values (B, C, *counts) where `known` is 1, and elsewhere what means over larger and larger cells say."""
    shape = values.shape[2:]
    if bool((known > 0).all()) or max(shape) == 1:
        return values
    twice = (2,) * len(shape)
    share = averages(known, twice)
    coarse = _filled(averages(values * known, twice) / share.clamp(min=1e-6), (share > 0).to(values.dtype))
    return torch.where(known > 0, values, at_voxels(coarse, twice, shape))


def _checked(phi: Map) -> Velocity:
    if not isinstance(phi, Velocity):
        raise TypeError(
            f"velocity_loss: expected a network that predicts velocities, got {type(phi).__name__}; take the map velocity, or "
            "another objective"
        )
    return phi
