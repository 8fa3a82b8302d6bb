"""Patches of the same pairs: what fits into memory of volumes that do not, and as many large displacements as small ones.

A patch lies around a voxel x of the fixed image, drawn in two steps (Cao et al., MICCAI 2017: "equalized active points"; RegNet,
Sokooti et al. 2017, balances alike):

    1. a class of |u|, [0, 1.5), [1.5, 4), [4, 8) or more voxels, every class that the pair has with equal probability
    2. x in this class, with probability proportional to |grad fixed(x)|

Both images lose the same borders, so flows stay as they are; the truth counts where it leads to a place of the patch. Pairs
without a truth have one class. Networks see images of mean 0 and deviation 1: those of the whole images, which they have in use,
not of a patch's own (`prepare`). `augreg train --tile` is this.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from augreg.geometry.grid import FloatArray
from augreg.networks.warping import positions
from augreg.synthesis import Later, PairBatch
from augreg.training.batches import ALL, Batches

CLASSES = (1.5, 4.0, 8.0)
_PARTS = ("fixed", "moving", "flow", "mask")


def patches(
    batch_of: Batches,
    size: int | Sequence[int],
    *,
    each: int = 1,
    prepare: Callable[[torch.Tensor], torch.Tensor] | None = None,
    classes: Sequence[float] = CLASSES,
    seed: int = 0,
    batch: int | None = None,
    part: slice = ALL,
    doubled: bool = False,
) -> Batches:
    """Patches of the pairs of another source.

    Parameters
    ----------
    batch_of : the pairs
    size : sides of a patch, voxels, one number or one per axis; an axis that is shorter is taken whole
    each : patches of every pair
    prepare : what is done to whole images first, such as `Network.prepare`
    classes : least |u| of the classes but the first, voxels
    seed : seed of the choice
    batch : pairs of a step, of all processes; None is as many as there are
    part : which of a step's pairs these are; see `Team.part`
    doubled : whether these pairs are followed by the same pairs with their images exchanged

    Raises
    ------
    ValueError : for sizes or numbers below 1, classes that do not ascend, and, when patches are asked for, sides that are not one
        per axis.
    """
    sides = (size,) if isinstance(size, int) else tuple(size)
    if min(sides, default=0) < 1 or each < 1:
        raise ValueError(f"size, each: expected 1 or more, got {size} and {each}")
    if any(not 0 < a < b for a, b in itertools.pairwise((*classes, np.inf))):
        raise ValueError(f"classes: expected displacements above 0 that ascend, got {tuple(classes)}")

    def patch_batch(step: int) -> PairBatch:
        pairs = batch_of(step)
        if prepare is not None:
            pairs = replace(pairs, fixed=prepare(pairs.fixed), moving=prepare(pairs.moving))
        shape = tuple(pairs.fixed.shape[2:])
        if len(sides) not in (1, len(shape)):
            raise ValueError(f"size: expected one number or {len(shape)}, one per axis, got {len(sides)}")
        wanted = tuple(min(n, side) for n, side in zip(shape, np.broadcast_to(sides, len(shape)).tolist(), strict=True))
        found = []
        numbers = [*range(len(pairs) // (1 + doubled) if batch is None else batch)[part]]
        # each direction has patches of its own
        numbers += [~number for number in numbers] * doubled
        for pair, number in enumerate(numbers):
            rng, one = np.random.default_rng([seed, step, 14 + (number < 0), max(number, ~number)]), pairs[pair : pair + 1]
            kinds, weight = _classes(one, classes), _steepness(one.fixed[0].cpu().numpy())
            for _ in range(each):
                found.append(_around(one, _center(rng, kinds, weight), wanted))
        return PairBatch.concatenate(found)

    return patch_batch


def _classes(pair: PairBatch, classes: Sequence[float]) -> npt.NDArray[np.intp]:
    """The class of every voxel, (*shape); -1 where the truth is not known."""
    known = pair.mask[0, 0].cpu().numpy()
    if torch.isnan(pair.flow).all():
        return np.zeros(known.shape, dtype=np.intp)
    size = torch.where(pair.mask, pair.flow, 0)[0].norm(dim=0).cpu().numpy()
    return np.where(known, np.digitize(size, classes), -1)


def _steepness(image: npt.NDArray[np.float32]) -> FloatArray:
    """|grad| over all channels, (*shape), and a little everywhere: flat images have places too."""
    axes = [axis for axis in range(1, image.ndim) if image.shape[axis] > 1]
    total = sum((np.square(np.gradient(image.astype(float), axis=axis)).sum(axis=0) for axis in axes), np.zeros(image.shape[1:]))
    steep = np.sqrt(total)
    return np.asarray(steep + 1e-6 * steep.max() + 1e-12)


def _center(rng: np.random.Generator, kinds: npt.NDArray[np.intp], weight: FloatArray) -> tuple[int, ...]:
    present = np.unique(kinds[kinds >= 0])
    share = weight * (kinds == rng.choice(present)) if len(present) else weight
    running = np.cumsum(share)
    place = np.searchsorted(running, rng.uniform(0, running[-1]), side="right")
    return tuple(int(i) for i in np.unravel_index(min(place, kinds.size - 1), kinds.shape))


def _around(pair: PairBatch, center: tuple[int, ...], sides: tuple[int, ...]) -> PairBatch:
    """The patch around a voxel, moved into the image where it would stand out."""
    shape = pair.fixed.shape[2:]
    begin = [min(max(0, c - side // 2), n - side) for c, side, n in zip(center, sides, shape, strict=True)]
    window = (slice(None), slice(None), *(slice(b, b + side) for b, side in zip(begin, sides, strict=True)))
    cut = replace(pair, **{name: getattr(pair, name)[window] for name in _PARTS})
    labels = None if pair.labels is None else pair.labels.then(lambda part: part[window])

    def back() -> tuple[torch.Tensor, torch.Tensor]:
        reverse, mask = pair.reverse[window], pair.reverse_mask[window]
        return reverse, mask & _inside(reverse)

    return replace(cut, mask=cut.mask & _inside(cut.flow), back=None if pair.back is None else Later(back), labels=labels)


def _inside(flow: torch.Tensor) -> torch.Tensor:
    """Where x + u is a place of the patch, (1, 1, *shape); everywhere without a truth."""
    if torch.isnan(flow).all():
        return torch.ones_like(flow[:, :1], dtype=torch.bool)
    shape = flow.shape[2:]
    ends = positions(shape, flow.device) + flow.nan_to_num(nan=torch.inf).movedim(1, -1)
    last = torch.tensor([n - 1 for n in shape], device=flow.device)
    return ((ends >= 0) & (ends <= last)).all(dim=-1)[:, None]
