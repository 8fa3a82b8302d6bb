"""What training minimises: functions of the maps predicted for a batch, and the batch, combined by wrapping.

    supervised                                    the multi-scale end-point error
    velocities                                    velocities against the logarithm of the truth
    Smooth(supervised, 0.1)                       and a smooth flow
    Alike(supervised, 2.0)                        and images that are alike: errors count where the images show them
    Smooth(Likeness(local_correlation), 0.5)      no truth: the warped image is to look like the other, smoothly
    Bending(LabelOverlap(), 0.1)                  structures are to cover each other, and what is not affine is to be little
    InverseConsistent(supervised, 0.1)            the maps of both directions are to be inverses of each other

A symmetric loss is a matter of the pairs, not of the objective: see `in_both_directions`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from augreg.networks.losses.flows import curvature, multiscale_loss, roughness
from augreg.networks.losses.likeness import Similarity, local_correlation
from augreg.networks.losses.overlap import SCALES, overlap_loss
from augreg.networks.losses.velocities import velocity_loss
from augreg.networks.maps import Map
from augreg.synthesis import PairBatch

# maps from fine to coarse as a network gives them; images of the batch are as the network wants them
Objective = Callable[[Sequence[Map], PairBatch], torch.Tensor]


def supervised(maps: Sequence[Map], batch: PairBatch) -> torch.Tensor:
    """`multiscale_loss` against the truth of the batch; a scalar."""
    return multiscale_loss(maps, batch.flow, batch.mask)


def velocities(maps: Sequence[Map], batch: PairBatch) -> torch.Tensor:
    """`velocity_loss` against the truth of the batch, for networks that predict velocities; a scalar."""
    return velocity_loss(maps, batch.flow, batch.mask)


@dataclass(frozen=True)
class Total:
    """Several objectives, each with a weight.

    Parameters
    ----------
    parts : objectives and their weights
    """

    parts: tuple[tuple[Objective, float], ...]

    def __call__(self, maps: Sequence[Map], batch: PairBatch) -> torch.Tensor:
        """A scalar."""
        return torch.stack([weight * objective(maps, batch) for objective, weight in self.parts]).sum()


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


@dataclass(frozen=True)
class Bending:
    """Another objective, and the bending of the finest map (1/voxel; see `augreg.networks.curvature`): affine maps have none.

    Parameters
    ----------
    objective : the other one
    weight : weight of the bending
    """

    objective: Objective
    weight: float

    def __call__(self, maps: Sequence[Map], batch: PairBatch) -> torch.Tensor:
        """A scalar."""
        return self.objective(maps, batch) + self.weight * curvature(maps[0])


@dataclass(frozen=True)
class LabelOverlap:
    """How well structures cover each other at several smoothings (see `augreg.networks.losses.overlap`); needs no truth.

    Label maps are looked at in training alone: in use a network sees images. Of maps with many structures `one_structure` draws
    one per pair and step.

    Parameters
    ----------
    structures : numbers of the labels that are looked at; pairs that lack one on a side do not count there
    scales : widths of the Gaussians, mm
    spacing : size of a voxel of the pairs, mm; one number, or one per axis
    """

    structures: tuple[int, ...] = (1,)
    scales: tuple[float, ...] = SCALES
    spacing: float | tuple[float, ...] = 1.0

    def __call__(self, maps: Sequence[Map], batch: PairBatch) -> torch.Tensor:
        """A scalar.

        Raises
        ------
        ValueError : for pairs without label maps.
        """
        if batch.fixed_labels is None or batch.moving_labels is None:
            raise ValueError(
                "LabelOverlap: expected pairs with label maps on both sides, got none; give labels, or another objective"
            )
        wanted = torch.tensor(self.structures, device=batch.fixed.device).reshape(1, -1, *[1] * maps[0].ndim)
        fixed, moving = ((labels == wanted).float() for labels in (batch.fixed_labels, batch.moving_labels))
        known = (fixed.flatten(2).any(dim=2) & moving.flatten(2).any(dim=2)).float()
        losses = overlap_loss(fixed, maps[0].warp(moving), self.scales, self.spacing)
        return (losses * known).sum() / known.sum().clamp(min=1)


@dataclass(frozen=True)
class InverseConsistent:
    """Another objective, and by how much the maps of both directions miss to be inverses: mean |phi(psi(x)) - x|^2, voxels^2.

    Parameters
    ----------
    objective : the other one
    weight : weight of the inconsistency
    """

    objective: Objective
    weight: float

    def __call__(self, maps: Sequence[Map], batch: PairBatch) -> torch.Tensor:
        """A scalar, of pairs `in_both_directions`: the second half of a batch is the first with its images exchanged.

        Raises
        ------
        ValueError : for an odd number of pairs.
        """
        half, odd = divmod(len(batch), 2)
        if odd:
            raise ValueError(f"InverseConsistent: expected pairs in both directions, got {len(batch)}; see in_both_directions")
        there, back = maps[0][:half], maps[0][half:]
        missed = (there @ back).flow().square().sum(dim=1).mean()
        return self.objective(maps, batch) + self.weight * missed
