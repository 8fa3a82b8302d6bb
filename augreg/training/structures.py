"""One structure of a pair at a time: a step costs the same for three labels and for a hundred.

A structure is a label number that both label maps of a pair have. Objectives that look at structures (`LabelOverlap`) see label
maps of 0 and 1.
"""

from __future__ import annotations

import numpy as np
import torch

from augreg.synthesis import PairBatch
from augreg.training.batches import ALL, Batches


def one_structure(batch_of: Batches, seed: int = 0, *, batch: int | None = None, part: slice = ALL) -> Batches:
    """The same pairs, the label maps of each 1 in one structure that both have, drawn at random, and 0 elsewhere.

    Parameters
    ----------
    batch_of : pairs with label maps
    seed : seed of the choice
    batch : pairs of a step, of all processes; None is as many as there are
    part : which of a step's pairs these are; see `Team.part`

    Raises
    ------
    ValueError : when pairs are asked for, for pairs without label maps, or a pair whose label maps have no number in common.
    """

    def chosen_batch(step: int) -> PairBatch:
        pairs, rng = batch_of(step), np.random.default_rng([seed, step, 4])
        fixed, moving = pairs.fixed_labels, pairs.moving_labels
        if fixed is None or moving is None:
            raise ValueError("batch_of: expected pairs with label maps on both sides, got pairs without; give the labels")
        luck = rng.random(len(pairs) if batch is None else batch)[part]
        chosen = torch.stack([_drawn(f, m, float(share)) for f, m, share in zip(fixed, moving, luck, strict=True)])
        wanted = chosen.reshape(-1, *[1] * (fixed.ndim - 1))
        return pairs.labelled((fixed == wanted).int(), (moving == wanted).int())

    return chosen_batch


def _drawn(fixed: torch.Tensor, moving: torch.Tensor, share: float) -> torch.Tensor:
    """One of the numbers that two label maps have in common, but 0."""
    numbers = fixed.unique()
    common = numbers[torch.isin(numbers, moving.unique()) & (numbers != 0)]
    if not len(common):
        raise ValueError("labels: expected a number that both label maps of a pair have, got none in common; check their numbers")
    return common[int(share * len(common))]
