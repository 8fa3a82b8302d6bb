"""Pairs with exact truth, and what makes them: a generator draws random numbers and renders them.

Every generator of pairs is an object with

    draw(rngs) -> D           everything that is random, small arrays, one random generator per pair
    render(D, device)         deterministic, batched, on any device: images, their displacement, its reverse, masks

so a pair depends on (generator, seed, index) alone: not on batches, workers or the pairs before it (`pair_rngs`). A draw whose
map folds is shrunk towards the identity; one that would have to shrink below LEAST_SCALE is replaced by the next draw of its own
stream, and counted (`make_pairs`), since both change the distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import torch

from augreg import notebook
from augreg.geometry import cards
from augreg.geometry.grid import Grid
from augreg.geometry.image import Image, Labels
from augreg.geometry.transforms import DisplacementField
from augreg.synthesis.later import Later
from augreg.tensors import flows_to_displacements

# a shape that must shrink more is not one of the model's
LEAST_SCALE = 0.3
# pixels with a larger residual, in voxels, are not ground truth
TOLERANCE = 0.01
_ATTEMPTS = 20


@dataclass(frozen=True, eq=False)
class PairBatch:
    """B pairs with their truth, moving(x + u(x)) = fixed(x), as tensors.

    Parameters
    ----------
    fixed, moving : images, (B, 1, *shape) float32
    flow : u, (B, D, *shape) float32, voxels along the index axes of the fixed image's grid
    mask : pixels that count, (B, 1, *shape) bool: the target lies inside the moving image and the residual is below TOLERANCE
    back : the same from moving to fixed, fixed(y + reverse(y)) = moving(y), made when `reverse` or `reverse_mask` is asked for;
        None for pairs that were kept without it
    least_det : least determinant, poses excepted, of the splines that the two images are made with, (B,)
    residual : largest error, in voxels, of what was inverted for `flow`, (B,); 0 where nothing was
    scale : factor by which the shape of each image was shrunk to keep it from folding, (B, 2); 1 for most
    rejected : number of draws that folded all the same and were replaced, (B,)
    labels : label maps of fixed and moving, (B, 1, *shape) each, where the generator has labels, made when `fixed_labels` or
        `moving_labels` is asked for; int32, or int64 where an id needs it
    """

    fixed: torch.Tensor
    moving: torch.Tensor
    flow: torch.Tensor
    mask: torch.Tensor
    back: Later | None
    least_det: torch.Tensor
    residual: torch.Tensor
    scale: torch.Tensor
    rejected: torch.Tensor
    labels: Later | None = None

    def __len__(self) -> int:
        """B."""
        return len(self.fixed)

    @property
    def reverse(self) -> torch.Tensor:
        """Flow from moving to fixed, (B, D, *shape). ValueError : for pairs that were kept without it."""
        return self._way_back.found[0]

    @property
    def reverse_mask(self) -> torch.Tensor:
        """Pixels of the moving image that count, (B, 1, *shape) bool. ValueError : as `reverse`."""
        return self._way_back.found[1]

    @property
    def fixed_labels(self) -> torch.Tensor | None:
        """Label maps of the fixed images, (B, 1, *shape)."""
        return None if self.labels is None else self.labels.found[0]

    @property
    def moving_labels(self) -> torch.Tensor | None:
        """Label maps of the moving images, (B, 1, *shape)."""
        return None if self.labels is None else self.labels.found[1]

    @property
    def names(self) -> tuple[str, ...]:
        """What is known or can be made, by name."""
        later = {"back": _BACK, "labels": _LABELS}
        known = (part.name for part in fields(self) if getattr(self, part.name) is not None)
        return tuple(name for part in known for name in later.get(part, (part,)))

    @property
    def parts(self) -> dict[str, torch.Tensor]:
        """All of that, made."""
        return self.chosen(None)

    def chosen(self, wanted: Sequence[str] | None) -> dict[str, torch.Tensor]:
        """Some of that by `names`, by default all; nothing else is made. ValueError : for what is not known."""
        return {name: getattr(self, name) for name in wanted_of(self.names, wanted)}

    @staticmethod
    def of(parts: Mapping[str, torch.Tensor]) -> PairBatch:
        """The inverse of `parts`."""
        rest = {name: part for name, part in parts.items() if name not in (*_BACK, *_LABELS)}
        back, labels = (Later.known(parts[a], parts[b]) if a in parts else None for a, b in (_BACK, _LABELS))
        return PairBatch(back=back, labels=labels, **rest)

    def labelled(self, fixed: torch.Tensor | None, moving: torch.Tensor | None) -> PairBatch:
        """The same pairs with other label maps, (B, 1, *shape) each, or without any."""
        return replace(self, labels=None if fixed is None or moving is None else Later.known(fixed, moving))

    def __getitem__(self, pairs: torch.Tensor | slice) -> PairBatch:
        """Some of the pairs."""
        return self._each(lambda part: part[pairs])

    @staticmethod
    def without_truth(fixed: torch.Tensor, moving: torch.Tensor) -> PairBatch:
        """Images (B, 1, *shape) whose displacement is unknown: NaN, with masks that take every pixel."""
        unknown = torch.full_like(fixed[:, :1], torch.nan).expand(-1, fixed.ndim - 2, *fixed.shape[2:])
        everywhere = torch.ones_like(fixed[:, :1], dtype=torch.bool)
        numbers = unknown.new_full((len(fixed),), torch.nan)
        whole, none = unknown.new_ones((len(fixed), 2)), torch.zeros(len(fixed), dtype=torch.int64, device=fixed.device)
        return PairBatch(fixed, moving, unknown, everywhere, Later.known(unknown, everywhere), numbers, numbers, whole, none)

    def exchanged(self) -> PairBatch:
        """The same pairs with fixed and moving image exchanged. ValueError : for pairs that were kept without the way back."""
        labels = self.labels
        return PairBatch(
            self.moving,
            self.fixed,
            self.reverse,
            self.reverse_mask,
            Later.known(self.flow, self.mask),
            self.least_det,
            self.residual,
            self.scale.flip(1),
            self.rejected,
            None if labels is None else Later(lambda: labels.found[::-1]),
        )

    def to(self, device: torch.device | str) -> PairBatch:
        """The pairs on a device."""
        return self._each(lambda part: part.to(device))

    @property
    def shrunk(self) -> int:
        """How many of the 2 B shapes would have folded and were shrunk."""
        return int((self.scale < 1).sum())

    @staticmethod
    def concatenate(batches: Sequence[PairBatch]) -> PairBatch:
        """The pairs of all batches, in their order."""
        columns = {name: torch.cat([getattr(batch, name) for batch in batches]) for name in _TENSORS}
        ways = [_joined([getattr(batch, name) for batch in batches]) for name in ("back", "labels")]
        return PairBatch(back=ways[0], labels=ways[1], **columns)

    def replaced(self, where: torch.Tensor, by: PairBatch) -> PairBatch:
        """These pairs, but for those at the indices `where` (k,), which are taken from `by`."""
        order = torch.arange(len(self), device=where.device)
        order[where] = len(self) + torch.arange(len(where), device=where.device)
        return PairBatch.concatenate([self, by])[order]

    @property
    def _way_back(self) -> Later:
        if self.back is None:
            raise ValueError("reverse: expected pairs with the way back, got pairs kept without it; make them with it")
        return self.back

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> PairBatch:
        """All parts changed alike."""
        back, labels = (None if later is None else later.then(change) for later in (self.back, self.labels))
        return PairBatch(back=back, labels=labels, **{name: change(getattr(self, name)) for name in _TENSORS})


def wanted_of(known: Sequence[str], wanted: Sequence[str] | None) -> tuple[str, ...]:
    """The wanted parts, by default all that are known. ValueError : for others."""
    if wanted is None:
        return tuple(known)
    other = [name for name in wanted if name not in known]
    if other:
        raise ValueError(f"parts: expected some of {', '.join(known)}, which these pairs have, got {', '.join(other)}")
    return tuple(wanted)


_BACK, _LABELS = ("reverse", "reverse_mask"), ("fixed_labels", "moving_labels")
_TENSORS = tuple(part.name for part in fields(PairBatch) if part.name not in ("back", "labels"))


def _joined(ways: Sequence[Later | None]) -> Later | None:
    """One behind the other; None where one is missing."""
    known = [way for way in ways if way is not None]
    if len(known) < len(ways):
        return None
    return Later(lambda: (torch.cat([way.found[0] for way in known]), torch.cat([way.found[1] for way in known])))


# what a pair on its grid has
PARTS = ("fixed", "moving", "displacement", "mask", *_BACK, *_LABELS)


@dataclass(frozen=True, eq=False)
class TrainingPair:
    """A pair on its grid; the way back and label maps are made when they are asked for.

    Parameters
    ----------
    batch : the pairs that it belongs to
    number : its place among them
    grid : grid of both images
    """

    batch: PairBatch
    number: int
    grid: Grid

    @cached_property
    def fixed(self) -> Image:
        """The fixed image."""
        return Image(self._values(self.batch.fixed), self.grid)

    @cached_property
    def moving(self) -> Image:
        """The moving image."""
        return Image(self._values(self.batch.moving), self.grid)

    @cached_property
    def displacement(self) -> DisplacementField:
        """Field of the fixed image, mm, with moving(x + u(x)) = fixed(x) inside `mask`."""
        return self._field(self.batch.flow)

    @cached_property
    def mask(self) -> Labels:
        """Where that holds."""
        return self._labels(self.batch.mask.to(torch.uint8))

    @cached_property
    def reverse(self) -> DisplacementField:
        """Field of the moving image, mm, with fixed(y + v(y)) = moving(y) inside `reverse_mask`."""
        return self._field(self.batch.reverse)

    @cached_property
    def reverse_mask(self) -> Labels:
        """Where that holds."""
        return self._labels(self.batch.reverse_mask.to(torch.uint8))

    @cached_property
    def fixed_labels(self) -> Labels | None:
        """Label map of the fixed image, where the generator has labels."""
        return None if self.batch.fixed_labels is None else self._labels(self.batch.fixed_labels)

    @cached_property
    def moving_labels(self) -> Labels | None:
        """Label map of the moving image, where the generator has labels."""
        return None if self.batch.moving_labels is None else self._labels(self.batch.moving_labels)

    @property
    def names(self) -> tuple[str, ...]:
        """What is known or can be made, by name."""
        return tuple(name for name in PARTS if name in (*self.batch.names, "displacement"))

    def _values(self, tensor: torch.Tensor) -> np.ndarray:
        values: np.ndarray = tensor[self.number, 0].cpu().numpy()
        return values

    def _field(self, flow: torch.Tensor) -> DisplacementField:
        [u] = flows_to_displacements(flow[self.number : self.number + 1], self.grid)
        return DisplacementField(u, self.grid)

    def _labels(self, tensor: torch.Tensor) -> Labels:
        return Labels(self._values(tensor), self.grid)

    def _repr_html_(self) -> str:
        grid, lengths = self.fixed.grid, np.linalg.norm(self.displacement.values, axis=-1)[self.mask.values != 0]
        told = {**cards.facts(grid), "truth": f"known of {lengths.size / grid.size:.1%} of the voxels"}
        if lengths.size:
            told["moves"] = f"{lengths.mean():.3g} mm, at most {lengths.max():.3g} mm"
        shown = (picture for image in (self.fixed, self.moving) for picture in cards.pictures(image.values, grid))
        return notebook.card("TrainingPair", told, [*shown, cards.drawing(self.displacement, grid)])


@dataclass(frozen=True, eq=False)
class Draw:
    """Random numbers of B pairs, abstract: arrays whose first axis is the pair, other ones for every kind of generator."""

    def __len__(self) -> int:
        """B."""
        return len(getattr(self, fields(self)[0].name))

    def __getitem__(self, pairs: slice) -> Self:
        """Some of the pairs."""
        return type(self)(*(getattr(self, part.name)[pairs] for part in fields(self)))


D = TypeVar("D", bound=Draw)


class PairGenerator(Protocol[D]):
    """What makes pairs: see the module's docstring. Generators are frozen dataclasses; equal ones make equal pairs.

    D is the type of their draws, which no one else looks into: where generators of any kind are held it is `Any`.
    """

    @property
    def grid(self) -> Grid:
        """The grid of both images."""

    def draw(self, rngs: Sequence[np.random.Generator]) -> D:
        """The random numbers of one pair per random generator."""

    def render(self, draw: D, device: torch.device | str | None = None) -> PairBatch:
        """The pairs of a draw, on a device, by default the CPU."""

    def describe(self) -> Mapping[str, Any]:
        """What the pairs depend on besides the seed, as JSON: options, and a hash of images or models."""


def pair_rngs(seed: int, indices: Iterable[int], attempt: int = 0) -> list[np.random.Generator]:
    """The random generators of some pairs of a data set: functions of (seed, index, attempt)."""
    return [np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index, attempt))) for index in indices]


def make_pairs(
    generator: PairGenerator[D], seed: int, indices: Iterable[int], device: torch.device | str | None = None
) -> PairBatch:
    """The pairs of a data set at some indices; any of them can be made again, alone or in any company.

    Parameters
    ----------
    generator : generator of the pairs
    seed : seed of the data set
    indices : numbers of the pairs in the data set, 0 or more
    device : device that renders, and where the result lies; by default the CPU

    Raises
    ------
    ValueError : for no indices, or where draw after draw folds.
    """
    wanted = list(indices)
    if not wanted or min(wanted) < 0:
        raise ValueError(f"indices: expected at least one, each 0 or more, got {wanted[:5]}")
    batch = generator.render(generator.draw(pair_rngs(seed, wanted)), device)
    for attempt in range(1, _ATTEMPTS):
        folding = torch.nonzero((batch.scale < LEAST_SCALE).any(dim=1))[:, 0]
        if not len(folding):
            return batch
        again = generator.draw(pair_rngs(seed, [wanted[int(i)] for i in folding], attempt))
        new = generator.render(again, device)
        batch = batch.replaced(folding, replace(new, rejected=batch.rejected[folding] + 1))
    raise ValueError(f"generator: expected pairs that do not fold, {_ATTEMPTS} draws in a row did; lower its amplitude")


def training_pairs(batch: PairBatch, grid: Grid) -> Iterator[TrainingPair]:
    """The pairs of a batch as images on their grid; flows become displacements in mm, u = direction @ (spacing * flow)."""
    return (TrainingPair(batch, number, grid) for number in range(len(batch)))
