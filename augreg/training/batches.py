"""What a network learns from: the pairs of every step, a pure function of (seed, step).

`Batches` is all that training knows of pairs. Where several processes train, each asks for its part of one common batch: what is
drawn does not depend on their number.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from augreg.geometry.image import Image, Labels
from augreg.sam import AppearanceModel
from augreg.synthesis import AppearancePairs, Later, PairBatch, PairGenerator, make_pairs, read_shards
from augreg.tensors import image_to_tensor, labels_to_tensor

Batches = Callable[[int], PairBatch]
ALL = slice(None)

# steps that no training reaches
_HELD_OUT = 1 << 40


def pairs_from_generators(
    generators: Callable[[int], PairGenerator[Any]],
    batch: int,
    seed: int = 0,
    *,
    part: slice = ALL,
    device: torch.device | str | None = None,
) -> Batches:
    """Pairs drawn on the fly.

    Parameters
    ----------
    generators : the generator of a step; take several in turns, or let one grow
    batch : pairs of a step, of all processes
    seed : seed of all random numbers
    part : which of a step's pairs are made; see `Team.part`
    device : device of the rendering, by default the CPU
    """

    def batch_of(step: int) -> PairBatch:
        return make_pairs(generators(step), seed, range(step * batch, (step + 1) * batch)[part], device)

    return batch_of


def pairs_from_model(
    model: AppearanceModel,
    batch: int,
    seed: int = 0,
    *,
    appearances: Sequence[str] = ("shared", "independent"),
    pose: float = 1.0,
    amplitude: Callable[[int], float] = lambda _: 1.0,
    part: slice = ALL,
    device: torch.device | str | None = None,
) -> Batches:
    """Pairs drawn from a model on the fly, see `augreg.synthesis.AppearancePairs`.

    Parameters
    ----------
    model : the appearance model
    batch, seed, part, device : as in `pairs_from_generators`
    appearances : correlations of the two appearances of a pair, taken in turns by the batches
    pose : factor on the training poses' spread
    amplitude : factor on the shapes' standard deviations at a step, such as `growing`
    """

    def generators(step: int) -> AppearancePairs:
        appearance = appearances[step % len(appearances)]
        return AppearancePairs(model, appearance=appearance, amplitude=amplitude(step), pose=pose, intensity=0.05)

    return pairs_from_generators(generators, batch, seed, part=part, device=device)


def growing(steps: int, *, share: float = 0.3, start: float = 0.25) -> Callable[[int], float]:
    """A curriculum: a factor that grows from `start` to 1 over the first `share` of the steps, then stays."""
    return lambda step: min(1.0, start + (1 - start) * step / (share * steps)) if share else 1.0


def held_out(batch_of: Batches, batches: int = 2) -> PairBatch:
    """Pairs that no training sees, of so many batches."""
    return PairBatch.concatenate([batch_of(_HELD_OUT + number) for number in range(batches)])


def pairs_from_memory(pairs: PairBatch, batch: int, seed: int = 0, *, part: slice = ALL) -> Batches:
    """Pairs out of those at hand: all are shown once, in an order of chance, before any is shown again.

    Parameters
    ----------
    pairs : pairs at hand
    batch : pairs of a step, of all processes
    seed : seed of the order
    part : which of a step's pairs are wanted; see `Team.part`

    Raises
    ------
    ValueError : for fewer pairs than a batch.
    """
    if len(pairs) < batch:
        raise ValueError(f"pairs: expected at least one batch of {batch}, got {len(pairs)}; take more pairs or a smaller batch")

    def batch_of(step: int) -> PairBatch:
        return pairs[torch.from_numpy(shown_in_turn(len(pairs), batch, seed, step)[part])]

    return batch_of


def pairs_from_shards(directory: str | os.PathLike[str], batch: int, seed: int = 0, *, part: slice = ALL) -> Batches:
    """`pairs_from_memory` of all pairs in a folder of shards; errors as `read_pairs`."""
    return pairs_from_memory(read_pairs(directory), batch, seed, part=part)


def pairs_from_images(
    images: Sequence[Image], batch: int, seed: int = 0, *, labels: Sequence[Labels] | None = None, part: slice = ALL
) -> Batches:
    """Pairs of two different images each, without a truth: the flow is NaN. For objectives that need none.

    Parameters
    ----------
    images : images of one shape and one channel
    labels : label maps of the images, of their shape, for objectives that look at these
    batch : pairs of a step, of all processes
    seed : seed of the choice
    part : which of a step's pairs are wanted; see `Team.part`

    Raises
    ------
    ValueError : for fewer than two images, or different shapes.
    """
    if len(images) < 2 or len({image.values.shape for image in images}) > 1:
        shapes = [image.values.shape for image in images]
        raise ValueError(f"images: expected two or more of one shape, got {shapes}; resample them to one grid")
    if labels is not None and [one.values.shape for one in labels] != [image.grid.shape for image in images]:
        shapes = [one.values.shape for one in labels]
        raise ValueError(f"labels: expected one for each image, all of shape {images[0].grid.shape}, got {shapes}; resample them")
    tensors = torch.cat([image_to_tensor(image) for image in images])
    known = None if labels is None else torch.cat([labels_to_tensor(one) for one in labels])

    def batch_of(step: int) -> PairBatch:
        rng = np.random.default_rng([seed, step])
        chosen = torch.from_numpy(np.stack([rng.permutation(len(images))[:2] for _ in range(batch)])[part])
        fixed, moving = (tensors[chosen[:, side]] for side in range(2))
        pairs = PairBatch.without_truth(fixed, moving)
        return pairs if known is None else pairs.labelled(known[chosen[:, 0]], known[chosen[:, 1]])

    return batch_of


def mirrored_by_chance(batch_of: Batches, seed: int = 0) -> Batches:
    """The same pairs, each batch mirrored along some axes by chance, which leaves them exact."""

    def mirrored_batch(step: int) -> PairBatch:
        rng = np.random.default_rng([seed, step, 1])
        batch = batch_of(step)
        return mirrored(batch, [axis for axis in range(batch.flow.shape[1]) if rng.random() < 0.5])

    return mirrored_batch


def mirrored(pairs: PairBatch, axes: Sequence[int]) -> PairBatch:
    """Pairs with both images mirrored along some axes of their arrays; components of the flow along them change sign."""
    along = [2 + axis for axis in axes]
    sign = torch.tensor([-1.0 if axis in axes else 1.0 for axis in range(pairs.flow.shape[1])], device=pairs.flow.device)
    signs = sign.reshape(1, -1, *[1] * (pairs.flow.ndim - 2))
    images = {name: getattr(pairs, name).flip(along) for name in ("fixed", "moving", "mask")}
    back = Later(lambda: (pairs.reverse.flip(along) * signs, pairs.reverse_mask.flip(along)))
    labels = None if pairs.labels is None else pairs.labels.then(lambda part: part.flip(along))
    flow = pairs.flow.flip(along) * signs
    return replace(pairs, **images, flow=flow, back=None if pairs.back is None else back, labels=labels)


def seen_differently(
    batch_of: Batches,
    *,
    gamma: float = 0.3,
    noise: float = 0.02,
    seed: int = 0,
    batch: int | None = None,
    part: slice = ALL,
) -> Batches:
    """The same pairs, each image through a camera of its own: with v = (image - least) / (largest - least),

        v -> v^exp(gamma z) + noise * range * N(0, 1) where v > 0,      z ~ N(0, 1) per image

    A network that sees the same two looks in all pairs learns nothing of other people's scanners.

    Parameters
    ----------
    batch_of : the pairs
    gamma : standard deviation of the logarithm of the exponent
    noise : standard deviation, as a share of the image's range; air that is exactly the least value stays as it is
    seed : seed of all random numbers
    batch : pairs of a step, of all processes; None is as many as there are
    part : which of a step's pairs these are; see `Team.part`

    Raises
    ------
    ValueError : for negative numbers.
    """
    if not (gamma >= 0 and noise >= 0):
        raise ValueError(f"gamma, noise: expected numbers of at least 0, got {gamma} and {noise}")

    def changed(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        axes = tuple(range(1, images.ndim))
        low, high = images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)
        span = (high - low).clamp(min=1e-12)
        count = len(images) if batch is None else batch
        powers = np.exp(gamma * rng.standard_normal((count, *[1] * len(axes)))).astype(np.float32)[part]
        grains = noise * rng.standard_normal((count, *images.shape[1:]), dtype=np.float32)[part]
        exponents, grain = (torch.from_numpy(values).to(images.device) for values in (powers, grains))
        share = (images - low) / span
        return low + span * (share**exponents + torch.where(share > 0, grain, 0))

    def changed_batch(step: int) -> PairBatch:
        pairs, rng = batch_of(step), np.random.default_rng([seed, step, 2])
        return replace(pairs, fixed=changed(pairs.fixed, rng), moving=changed(pairs.moving, rng))

    return changed_batch


def in_both_directions(batch_of: Batches) -> Batches:
    """The same pairs, then each with its images exchanged: a network that learns from them learns both directions alike."""

    def both(step: int) -> PairBatch:
        batch = batch_of(step)
        return PairBatch.concatenate([batch, batch.exchanged()])

    return both


def read_pairs(directory: str | os.PathLike[str]) -> PairBatch:
    """All pairs of a folder of shards, in memory.

    Raises
    ------
    ValueError : for a folder without shards, and for pairs with NaN or infinite voxels.
    """
    parts = list(read_shards(directory))
    if not parts:
        raise ValueError(f"{directory}: expected a folder with shards pairs-*.tar, got none; run augreg synthesize")
    pairs = PairBatch.concatenate(parts)
    if bad := not_finite(pairs):
        raise ValueError(
            f"{directory}: expected finite pairs, got NaN or infinity in {len(bad)} (the first is number {bad[0]}); "
            "remove its shard and run augreg synthesize again"
        )
    return pairs


def not_finite(pairs: PairBatch) -> list[int]:
    """Which pairs have images, or flows inside their mask, that are not finite."""
    good = torch.isfinite(torch.where(pairs.mask, pairs.flow, 0)).flatten(1).all(dim=1)
    for image in (pairs.fixed, pairs.moving):
        good &= torch.isfinite(image).flatten(1).all(dim=1)
    return [int(number) for number in torch.nonzero(~good).flatten()]


def shard_spacing(directory: str | os.PathLike[str]) -> tuple[float, ...]:
    """Spacing (mm) of the pairs in a folder of shards, from its `dataset.json`.

    Raises
    ------
    ValueError : where it is missing or says nothing of a grid.
    """
    path = Path(directory) / "dataset.json"
    try:
        return tuple(float(s) for s in json.loads(path.read_text(encoding="utf-8"))["grid"]["spacing"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected the description of a data set with its grid, got none; run augreg synthesize"
        ) from error


def shown_in_turn(count: int, batch: int, seed: int, step: int) -> npt.NDArray[np.intp]:
    """Which of so many pairs a step shows; epoch e goes through them in the order of a permutation that depends on (seed, e)."""
    places = np.arange(step * batch, (step + 1) * batch)
    orders = {epoch: np.random.default_rng([seed, epoch]).permutation(count) for epoch in set((places // count).tolist())}
    return np.array([orders[place // count][place % count] for place in places.tolist()])
