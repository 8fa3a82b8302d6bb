"""What training minimises: functions of the maps predicted for a batch, and the batch, combined by wrapping.

    supervised                                    the multi-scale end-point error
    Smooth(supervised, 0.1)                       and a smooth flow
    Alike(supervised, 2.0)                        and images that are alike: errors count where the images show them
    Smooth(Likeness(local_correlation), 0.5)      no truth: the warped image is to look like the other, smoothly

A symmetric loss is a matter of the pairs, not of the objective: see `in_both_directions`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from augreg.networks.losses.flows import multiscale_loss, roughness
from augreg.networks.losses.likeness import Similarity, local_correlation
from augreg.networks.maps import Map
from augreg.synthesis import PairBatch

# maps from fine to coarse as a network gives them; images of the batch are as the network wants them
Objective = Callable[[Sequence[Map], PairBatch], torch.Tensor]


def supervised(maps: Sequence[Map], batch: PairBatch) -> torch.Tensor:
    """`multiscale_loss` against the truth of the batch; a scalar."""
    return multiscale_loss(maps, batch.flow, batch.mask)


@dataclass(frozen=True)
class Likeness:
    """How alike the fixed and the warped moving image are; needs no truth.

    Parameters
    ----------
    similarity : dissimilarity of two images, smaller for more alike ones
    """

    similarity: Similarity = local_correlation

    def __call__(self, maps: Sequence[Map], batch: PairBatch) -> torch.Tensor:
        """A scalar."""
        return self.similarity(batch.fixed, maps[0].warp(batch.moving))


@dataclass(frozen=True)
class Alike:
    """Another objective, and how alike the fixed and the warped moving image are.

    The end-point error counts every pixel alike, and at a quarter of the resolution. Where a truth is known this adds what can be
    seen at edges, in full resolution.

    Parameters
    ----------
    objective : the other one
    weight : weight of the likeness
    similarity : dissimilarity of two images, smaller for more alike ones
    """

    objective: Objective
    weight: float
    similarity: Similarity = local_correlation

    def __call__(self, maps: Sequence[Map], batch: PairBatch) -> torch.Tensor:
        """A scalar."""
        return self.objective(maps, batch) + self.weight * Likeness(self.similarity)(maps, batch)


@dataclass(frozen=True)
class Smooth:
    """Another objective, and the mean squared gradient of the finest map (voxels per voxel; see `augreg.networks.roughness`).

    Parameters
    ----------
    objective : the other one
    weight : weight of the smoothness
    """

    objective: Objective
    weight: float

    def __call__(self, maps: Sequence[Map], batch: PairBatch) -> torch.Tensor:
        """A scalar."""
        return self.objective(maps, batch) + self.weight * roughness(maps[0])
