"""Overlap of labels after registration, of all pairs of people: `benchmarks.experiments.measures`, by tensors.

A network is used again on what it has left: with u what it has found so far, it sees the moving image warped by u and finds v,
and the two are composed, x -> x + v(x) + u(x + v(x)). Labels are taken from the nearest voxel, 0 outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from augreg.networks import Predictor, RefinedFlow, warped
from augreg.networks.warping import composed, positions

# of a label in both maps
_LEAST_VOXELS = 30
# pairs that are registered at once
_TOGETHER = 28


def measured(
    ways: dict[str, Sequence[Predictor]], images: npt.NDArray[Any], labels: npt.NDArray[np.integer], device: str
) -> dict[str, dict[str, float]]:
    """For every way, a list of networks that are used one after the other: means over all ordered pairs of people."""
    pairs = list(permutations(range(len(images)), 2))
    tensors = torch.from_numpy(images.astype(np.float32))[:, None].to(device)
    found = {}
    for how, networks in ways.items():
        # steps on the pair at hand look at one pair
        together = 1 if any(isinstance(network, RefinedFlow) for network in networks) else _TOGETHER
        rows = []
        for begin in range(0, len(pairs), together):
            some = pairs[begin : begin + together]
            flows = registered(networks, *(tensors[list(side)] for side in zip(*some, strict=True)))
            rows += [overlap(labels[a], labels[b], flow) for (a, b), flow in zip(some, flows.split(1), strict=True)]
        found[how] = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return found


def registered(networks: Sequence[Predictor], fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
    """The flow that some networks find one after the other; images (B, 1, *shape) are prepared here."""
    flow = torch.zeros(len(fixed), fixed.ndim - 2, *fixed.shape[2:], device=fixed.device)
    for network in networks:
        with torch.no_grad():
            step = network.predict(network.prepare(fixed), network.prepare(warped(moving, flow)))
            flow = composed(flow, step.flow())
    return flow


def overlap(fixed: npt.NDArray[np.integer], moving: npt.NDArray[np.integer], flow: torch.Tensor) -> dict[str, float]:
    """Means over labels with enough voxels in both maps, and the share of voxels where the flow (1, D, *shape) folds."""
    u = flow[0].movedim(0, -1)
    points = (positions(u.shape[:-1], u.device) + u).round().long().cpu().numpy()
    inside = np.all((points >= 0) & (points < fixed.shape), axis=-1)
    clipped = np.clip(points, 0, np.asarray(fixed.shape) - 1)
    moved = np.where(inside, moving[tuple(np.moveaxis(clipped, -1, 0))], 0)
    size = int(max(fixed.max(), moving.max())) + 1
    in_fixed, in_moving, in_moved = (np.bincount(part.ravel(), minlength=size) for part in (fixed, moving, moved))
    both = np.bincount(fixed[fixed == moved], minlength=size)
    known = (in_fixed >= _LEAST_VOXELS) & (in_moving >= _LEAST_VOXELS)
    known[0] = False
    both, total = both[known], (in_fixed + in_moved)[known]
    return {
        "jaccard": float(np.mean(both / (total - both))),
        "dice": float(np.mean(2 * both / total)),
        "folding": float((determinants(u) <= 0).double().mean()),
    }


def determinants(u: torch.Tensor) -> torch.Tensor:
    """det(I + Du) of a flow (*shape, D), voxels, by central differences."""
    ndim = u.shape[-1]
    slopes = torch.stack(torch.gradient(u, dim=list(range(ndim))), dim=-1)
    return torch.linalg.det(slopes + torch.eye(ndim, device=u.device))
