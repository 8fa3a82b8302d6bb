"""Truths of real pairs that their label maps know: maps that put outlines on each other, as SVF-Net learns from (Rohe et al.,
MICCAI 2017), with no look at the images.

    phi = ShapeRegistration()(F, M, fixed_labels, moving_labels),       u = phi - id at every voxel

A pair whose structures do not cover each other after phi is left out: outlines in pieces, or folded ones, have no corresponding
points.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from augreg import metrics
from augreg.geometry.grid import Grid
from augreg.geometry.image import Image, Labels
from augreg.geometry.resampling import warp
from augreg.geometry.transforms import Transform
from augreg.matching import ShapeRegistration
from augreg.registration import Registration
from augreg.synthesis import Later, PairBatch
from augreg.tensors import displacement_to_flow
from augreg.training.tables import RealPairs

# mean Dice of a match
_GOOD = 0.8


class Matched(NamedTuple):
    """Pairs with a truth, and the numbers of those that were left out."""

    pairs: RealPairs
    lost: tuple[int, ...]


def matched(known: RealPairs, registration: Registration | None = None, *, least: float = _GOOD) -> Matched:
    """The pairs with maps that put their label maps on each other as truth.

    Parameters
    ----------
    known : pairs with label maps
    registration : callable (fixed, moving, fixed_labels=, moving_labels=) -> phi; default `ShapeRegistration()`
    least : mean Dice of the structures after phi, from 0 to 1

    Raises
    ------
    ValueError : for pairs without label maps, another number, and where no pair is left.
    """
    pairs, method = known.pairs, ShapeRegistration() if registration is None else registration
    if pairs.fixed_labels is None or pairs.moving_labels is None:
        raise ValueError("targets: expected label maps of all pairs, whose outlines are matched, got pairs without; give them")
    if not 0 <= least <= 1:
        raise ValueError(f"least: expected a Dice from 0 to 1, got {least}")
    grid = Grid(known.shape, known.spacing)
    found, lost = [], []
    for number in range(len(pairs)):
        pair = pairs[number : number + 1]
        assert pair.fixed_labels is not None
        assert pair.moving_labels is not None
        images = [Image(one[0, 0].numpy(), grid) for one in (pair.fixed, pair.moving)]
        fixed, moving = (Labels(one[0, 0].numpy(), grid) for one in (pair.fixed_labels, pair.moving_labels))
        try:
            phi = method(*images, fixed_labels=fixed, moving_labels=moving)
        except ValueError:
            # without a structure in common, or one with hardly an outline
            lost.append(number)
            continue
        covered = [value or 0.0 for value in metrics.dice(fixed, warp(moving, phi, grid)).values()]
        if np.mean(covered) < least:
            lost.append(number)
        else:
            found.append(_with_truth(pair, phi, grid))
    if not found:
        raise ValueError(
            f"targets: expected outlines that can be matched to a mean Dice of {least:g}, got none in {len(pairs)} pairs; learn "
            "from the label maps themselves, --objective labels"
        )
    return Matched(RealPairs(PairBatch.concatenate(found), known.spacing), tuple(lost))


def _with_truth(pair: PairBatch, phi: Transform, grid: Grid) -> PairBatch:
    places = grid.points()

    def flow_of(ends: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        inside = torch.from_numpy(grid.contains(ends, margin=0.0))[None, None]
        return displacement_to_flow(ends - places, grid), inside

    flow, mask = flow_of(phi(places))
    return replace(pair, flow=flow, mask=mask, back=Later.known(*flow_of(phi.solve(places))))
