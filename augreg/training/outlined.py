"""What networks that mark structures are held to, beside what is asked of their maps (see `augreg.networks.Marked`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from augreg.networks import Map, MarkedMaps, overlap_loss
from augreg.synthesis import PairBatch
from augreg.training.objectives import Objective

_TINY = 1e-6


@dataclass(frozen=True)
class Outlined:
    """Another objective, and how far the marks of both images are from their label maps.

        (1 - overlap) + mean over voxels of -log p(x),      p(x) the probability given to the label at x, 0 among them

    Parameters
    ----------
    objective : the other one
    structures : label of every mark, in the marks' order
    weight : weight of the marks

    Raises
    ------
    TypeError : when called with maps of a network that marks nothing. ValueError : for pairs without label maps, and another
        number of structures than marks.
    """

    objective: Objective
    structures: tuple[int, ...] = (1,)
    weight: float = 1.0

    def __call__(self, maps: Sequence[Map], batch: PairBatch) -> torch.Tensor:
        """A scalar."""
        if not isinstance(maps, MarkedMaps):
            raise TypeError("Outlined: expected a network that marks structures, Marked, got maps without marks")
        sides = ((maps.fixed, batch.fixed_labels), (maps.moving, batch.moving_labels))
        missed = torch.stack([self._missed(marks, labels) for marks, labels in sides]).mean()
        return self.objective(maps, batch) + self.weight * missed

    def _missed(self, marks: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        if labels is None:
            raise ValueError("Outlined: expected pairs with label maps on both sides, got none; give the labels")
        if marks.shape[1] != len(self.structures):
            raise ValueError(f"Outlined: expected a structure for each of {marks.shape[1]} marks, got {self.structures}")
        wanted = torch.tensor(self.structures, device=labels.device).reshape(1, -1, *[1] * (labels.ndim - 2))
        truth = (labels == wanted).float()
        marks = marks.float()
        # the background is what is left
        both = [torch.cat([1 - part.sum(dim=1, keepdim=True), part], dim=1) for part in (marks, truth)]
        entropy = -(both[1] * both[0].clamp(min=_TINY).log()).sum(dim=1).mean()
        known = truth.flatten(2).any(dim=2).float()
        overlap = (overlap_loss(truth, marks, (0.0,)) * known).sum() / known.sum().clamp(min=1)
        return overlap + entropy
