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
from augreg.tensors import flows_to_displacements

# a shape that must shrink more is not one of the model's
LEAST_SCALE = 0.3
# pixels with a larger residual, in voxels, are not ground truth
TOLERANCE = 0.01
_ATTEMPTS = 20


class Back:
    """The way back of some pairs, from moving to fixed: made when it is first asked for, since it costs as much as the pairs.

    Parameters
    ----------
    make : gives flows (B, D, *shape) float32 in voxels, and the pixels that count, (B, 1, *shape) bool
    """

    def __init__(self, make: Callable[[], tuple[torch.Tensor, torch.Tensor]]) -> None:
        self.make = make

    @staticmethod
    def known(flow: torch.Tensor, mask: torch.Tensor) -> Back:
        """A way back that is there."""
        return Back(lambda: (flow, mask))

    @cached_property
    def found(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Flows and masks."""
        return self.make()

    def then(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Back:
        """Both changed alike, when they are asked for."""
        return Back(lambda: (change(self.found[0]), change(self.found[1])))

    def __reduce__(self) -> tuple[Callable[..., Back], tuple[torch.Tensor, torch.Tensor]]:
        """To other processes it goes as it is known."""
        return Back.known, self.found


@dataclass(frozen=True, eq=False)
class PairBatch:
    """B pairs with their truth, moving(x + u(x)) = fixed(x), as tensors.

    Parameters
    ----------
    fixed, moving : images, (B, 1, *shape) float32
    flow : u, (B, D, *shape) float32, voxels along the index axes of the fixed image's grid
    mask : pixels that count, (B, 1, *shape) bool: the target lies inside the moving image and the residual is below TOLERANCE
    back : the same from moving to fixed, fixed(y + reverse(y)) = moving(y), made when `reverse` or `reverse_mask` is asked for
    least_det : least determinant, poses excepted, of the splines that the two images are made with, (B,)
    residual : largest error, in voxels, of what was inverted for `flow`, (B,); 0 where nothing was
    scale : factor by which the shape of each image was shrunk to keep it from folding, (B, 2); 1 for most
    rejected : number of draws that folded all the same and were replaced, (B,)
    fixed_labels, moving_labels : label maps, (B, 1, *shape), where the generator has labels; int32, or int64 where an id needs it
    """

    fixed: torch.Tensor
    moving: torch.Tensor
    flow: torch.Tensor
    mask: torch.Tensor
    back: Back
    least_det: torch.Tensor
    residual: torch.Tensor
    scale: torch.Tensor
    rejected: torch.Tensor
    fixed_labels: torch.Tensor | None = None
    moving_labels: torch.Tensor | None = None

    def __len__(self) -> int:
        """B."""
        return len(self.fixed)

    @property
    def reverse(self) -> torch.Tensor:
        """Flow from moving to fixed, (B, D, *shape)."""
        return self.back.found[0]

    @property
    def reverse_mask(self) -> torch.Tensor:
        """Pixels of the moving image that count, (B, 1, *shape) bool."""
        return self.back.found[1]

    @property
    def parts(self) -> dict[str, torch.Tensor]:
        """All that is known, by name; the way back is made."""
        told = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "back"}
        told |= {"reverse": self.reverse, "reverse_mask": self.reverse_mask}
        return {name: part for name, part in told.items() if part is not None}

    @staticmethod
    def of(parts: Mapping[str, torch.Tensor]) -> PairBatch:
        """The inverse of `parts`."""
        rest = {name: part for name, part in parts.items() if not name.startswith("reverse")}
        return PairBatch(back=Back.known(parts["reverse"], parts["reverse_mask"]), **rest)

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
        return PairBatch(fixed, moving, unknown, everywhere, Back.known(unknown, everywhere), numbers, numbers, whole, none)

    def exchanged(self) -> PairBatch:
        """The same pairs with fixed and moving image exchanged."""
        return PairBatch(
            self.moving,
            self.fixed,
            self.reverse,
            self.reverse_mask,
            Back.known(self.flow, self.mask),
            self.least_det,
            self.residual,
            self.scale.flip(1),
            self.rejected,
            self.moving_labels,
            self.fixed_labels,
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
        ways = [batch.back for batch in batches]

        def back() -> tuple[torch.Tensor, torch.Tensor]:
            return torch.cat([way.found[0] for way in ways]), torch.cat([way.found[1] for way in ways])

        columns = {name: [getattr(batch, name) for batch in batches] for name in _tensors()}
        joined = {name: None if column[0] is None else torch.cat(column) for name, column in columns.items()}
        return PairBatch(back=Back(back), **joined)  # type: ignore[arg-type]

    def replaced(self, where: torch.Tensor, by: PairBatch) -> PairBatch:
        """These pairs, but for those at the indices `where` (k,), which are taken from `by`."""
        order = torch.arange(len(self), device=where.device)
        order[where] = len(self) + torch.arange(len(where), device=where.device)
        return PairBatch.concatenate([self, by])[order]

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> PairBatch:
        """All parts changed alike."""
        parts = {name: None if (part := getattr(self, name)) is None else change(part) for name in _tensors()}
        return PairBatch(back=self.back.then(change), **parts)  # type: ignore[arg-type]


def _tensors() -> list[str]:
    return [part.name for part in fields(PairBatch) if part.name != "back"]


@dataclass(frozen=True, eq=False)
class TrainingPair:
    """A pair on its grid.

    Parameters
    ----------
    fixed, moving : the images
    displacement : displacement field of the fixed image, mm: moving(x + displacement(x)) = fixed(x) inside `mask`
    reverse : displacement field of the moving image, mm: fixed(y + reverse(y)) = moving(y) inside `reverse_mask`
    fixed_labels, moving_labels : label maps, where the generator has labels
    """

    fixed: Image
    moving: Image
    displacement: DisplacementField
    mask: Labels
    reverse: DisplacementField
    reverse_mask: Labels
    fixed_labels: Labels | None = None
    moving_labels: Labels | None = None

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

    def images(tensor: torch.Tensor) -> Iterator[Image]:
        return (Image(values, grid) for values in tensor[:, 0].cpu().numpy())

    def fields_of(flow: torch.Tensor) -> Iterator[DisplacementField]:
        return (DisplacementField(u, grid) for u in flows_to_displacements(flow, grid))

    def labels(tensor: torch.Tensor | None) -> Iterator[Labels | None]:
        if tensor is None:
            return (None for _ in range(len(batch)))
        return (Labels(values, grid) for values in tensor[:, 0].cpu().numpy())

    columns = (
        images(batch.fixed),
        images(batch.moving),
        fields_of(batch.flow),
        labels(batch.mask.to(torch.uint8)),
        fields_of(batch.reverse),
        labels(batch.reverse_mask.to(torch.uint8)),
        labels(batch.fixed_labels),
        labels(batch.moving_labels),
    )
    for parts in zip(*columns, strict=True):
        yield TrainingPair(*parts)
