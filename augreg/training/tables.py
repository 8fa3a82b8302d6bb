"""Real pairs to learn from, brought to one lattice: images of a table, with label maps where there are any.

Every pair is seen as in use (`augreg.networks.FlowRegistration`): on its fixed image's axes, centred there, at one spacing, the
moving image brought there by the pair's start. All have the shape of the first, larger images lose their borders, and where one
ends its least value goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from augreg.geometry.grid import Grid
from augreg.geometry.image import Image, Labels
from augreg.geometry.resampling import warp
from augreg.geometry.transforms import Affine, Transform
from augreg.registration import Pair, Registration
from augreg.registration.table import Line, told_of
from augreg.synthesis import PairBatch
from augreg.tensors import image_to_tensor, labels_to_tensor
from augreg.training.batches import ALL, Batches, shown_in_turn


@dataclass(frozen=True, eq=False)
class RealPairs:
    """Pairs without a truth on one lattice.

    Parameters
    ----------
    pairs : all of them
    spacing : size of a voxel, mm
    """

    pairs: PairBatch
    spacing: tuple[float, ...]

    @property
    def ndim(self) -> int:
        """D."""
        return len(self.spacing)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of every image."""
        return tuple(self.pairs.fixed.shape[2:])

    @property
    def structures(self) -> tuple[int, ...]:
        """Labels that both maps of every pair have; none without label maps."""
        sides = self.pairs.fixed_labels, self.pairs.moving_labels
        maps = [one for side in sides if side is not None for one in side]
        numbers = [set(one.unique().tolist()) - {0} for one in maps]
        return tuple(sorted(set.intersection(*numbers))) if numbers else ()

    @property
    def content(self) -> str:
        """A hash of all images and label maps."""
        digest = hashlib.sha256()
        for name in ("fixed", "moving", "fixed_labels", "moving_labels"):
            part = getattr(self.pairs, name)
            if part is not None:
                digest.update(repr((name, part.dtype, tuple(part.shape))).encode())
                digest.update(np.ascontiguousarray(part.numpy()).data)
        return f"table {digest.hexdigest()[:16]}"


def real_pairs(lines: Sequence[Line], spacing: Sequence[float] | None = None, *, before: Registration | None = None) -> RealPairs:
    """The pairs of a table's lines, see `augreg.registration.table`; label maps are kept if all pairs have them.

    Parameters
    ----------
    lines : lines of a table
    spacing : size of a voxel, mm, one number or one per axis; None is that of the first fixed image
    before : registration of the images alone that the network is to follow, such as `augreg.registration.Centred`

    Raises
    ------
    ValueError : with the number of the line, for all that is wrong with a pair, and images of another dimension than the first.
    """
    labelled = all(line.labelled for line in lines)
    grid: Grid | None = None
    parts = []
    for line in lines:
        pair = line.read()
        with told_of(line.where):
            if before is not None:
                pair = pair.with_initial(before(pair.fixed, pair.moving))
            if grid is None:
                grid = _lattice(pair.fixed.grid, spacing)
            if pair.fixed.ndim != grid.ndim:
                raise ValueError(f"fixed: expected a {grid.ndim}-D image, as in {lines[0].where}, got {pair.fixed.ndim}-D")
            parts.append(_on(grid, pair, labelled))
    assert grid is not None
    return RealPairs(PairBatch.concatenate(parts), grid.spacing)


def pairs_of_table(pairs: PairBatch, batch: int, seed: int = 0, *, part: slice = ALL) -> Batches:
    """Pairs out of those at hand, which may be fewer than a batch: all are shown once, in an order of chance, before any is shown
    again. Parameters as of `augreg.training.pairs_from_memory`.
    """

    def batch_of(step: int) -> PairBatch:
        return pairs[torch.from_numpy(shown_in_turn(len(pairs), batch, seed, step)[part])]

    return batch_of


def _lattice(grid: Grid, spacing: Sequence[float] | None) -> Grid:
    if spacing is None:
        return grid
    if len(spacing) not in (1, grid.ndim):
        raise ValueError(f"spacing: expected one number or {grid.ndim}, got {len(spacing)}")
    sides = np.broadcast_to(np.asarray(spacing, dtype=float), (grid.ndim,))
    shape = tuple(int(n) for n in np.maximum(1, np.rint(grid.sides / sides)))
    return Grid(shape, tuple(sides.tolist()), grid.origin, grid.direction)


def _on(lattice: Grid, pair: Pair, labelled: bool) -> PairBatch:
    """One pair on its own axes, with shape and spacing of the lattice."""
    middle = (np.asarray(lattice.shape) - 1) / 2
    corner = pair.fixed.grid.center - np.asarray(pair.fixed.grid.direction) @ (np.asarray(lattice.spacing) * middle)
    grid = Grid(lattice.shape, lattice.spacing, tuple(corner), pair.fixed.grid.direction)
    starts: tuple[Transform, Transform] = (Affine.identity(grid.ndim), pair.start)
    seen = [_seen(image, start, grid) for image, start in zip((pair.scenes.fixed, pair.scenes.moving), starts, strict=True)]
    found = PairBatch.without_truth(*seen)
    if not labelled:
        return found
    maps = [_labels(labels, start, grid) for labels, start in zip((pair.fixed_labels, pair.moving_labels), starts, strict=True)]
    if not torch.isin(maps[0][maps[0] != 0], maps[1][maps[1] != 0]).any():
        raise ValueError(
            "labels: expected a structure of both images where they are looked at, got none; check grids and --spacing"
        )
    return found.labelled(*maps)


def _seen(image: Image, start: Transform, grid: Grid) -> torch.Tensor:
    grey = image.with_values(image.values.astype(np.float32, copy=False)).luminance()
    return image_to_tensor(warp(grey, start, grid, fill=float(grey.values.min())))


def _labels(labels: Labels | None, start: Transform, grid: Grid) -> torch.Tensor:
    assert labels is not None
    # of structures few have more than 2^31
    return labels_to_tensor(warp(labels, start, grid)).int()
