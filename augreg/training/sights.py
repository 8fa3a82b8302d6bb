"""What a critic sees of a pair and its map, and of what is real.

    Alignment(batch_of)    two images: made = (fixed, moving o predicted map), real = (fixed, moving o true map) of other pairs
    Fields(drawn)          a field less its affine part: made = the predicted map's, real = draws of a prior

A critic takes any difference for a reason, so both are interpolated alike: images once, linearly, both at places a random
fraction of a voxel beside their lattice (else a map by whole voxels would show by its sharpness); fields go through cells as
large as the map's. Alignment follows Fan et al. (MICCAI 2018), who had no true maps and took mixtures of the two images for real;
exact real pairs, whose looks may differ on purpose (`AppearancePairs(appearance="independent")`), are augreg's own. Fields follow
Hu et al. (MICCAI 2018), whose real ones were finite-element simulations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from augreg.geometry.grid import Grid
from augreg.networks import Composed, Displacement, Map, Velocity
from augreg.networks.cells import averages
from augreg.networks.losses.affine_free import affine_free
from augreg.networks.warping import positions, sampled
from augreg.synthesis import PairBatch, pair_rngs
from augreg.synthesis.generators.fields import Field
from augreg.synthesis.generators.flows import draw_flows
from augreg.training.batches import ALL, Batches

# how a network wants its images
Prepare = Callable[[torch.Tensor], torch.Tensor]


class Sight(Protocol):
    """What a critic sees, (B, channels, *shape), of the pairs of a step."""

    def channels(self, ndim: int) -> int:
        """Number of channels of what is seen."""

    def real(self, number: int, phi: Map, batch: PairBatch, prepare: Prepare) -> torch.Tensor:
        """What is real, of step `number`: a function of it, of the shape and cells of the maps, and of the batch's mask."""

    def made(self, number: int, phi: Map, batch: PairBatch) -> torch.Tensor:
        """What the network has made of the batch: its images, as the network wants them, and the predicted maps."""


@dataclass(frozen=True)
class Alignment:
    """A critic that sees whether images lie on each other.

    Parameters
    ----------
    batch_of : pairs with a truth, of images such as the network's own; in a team those of this process
    seed : seed of the places beside the lattice
    """

    batch_of: Batches
    seed: int = 0

    def channels(self, ndim: int) -> int:
        """Two grey images."""
        return 2

    def real(self, number: int, phi: Map, batch: PairBatch, prepare: Prepare) -> torch.Tensor:
        """The fixed image and the moving one, seen through the true map.

        Raises
        ------
        ValueError : for pairs without a truth.
        """
        pairs = self.batch_of(number).to(batch.fixed.device)
        if torch.isnan(pairs.flow).all():
            raise ValueError("Alignment: expected pairs with a truth, whose maps are real, got none; make them with a generator")
        flow = torch.where(pairs.mask, pairs.flow, 0)
        seen = self._through(number, Displacement.of(flow), prepare(pairs.fixed), prepare(pairs.moving))
        return seen * pairs.mask

    def made(self, number: int, phi: Map, batch: PairBatch) -> torch.Tensor:
        """The fixed image and the moving one, seen through the predicted map."""
        return self._through(number, phi, batch.fixed, batch.moving)

    def _through(self, number: int, phi: Map, fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
        """Both images, 0 where the map leads out of the moving one."""
        shape, D = fixed.shape[2:], phi.ndim
        beside = torch.from_numpy(np.random.default_rng([self.seed, number, 5]).uniform(0, 1, D).astype(np.float32))
        places = positions(shape, fixed.device) + beside.to(fixed.device)
        ends = Displacement.of(phi.flow()).at(places.expand(len(fixed), *places.shape))
        last = torch.tensor([n - 1 for n in shape], device=fixed.device)
        inside = ((ends >= 0) & (ends <= last)).all(dim=-1)[:, None]
        here = sampled(fixed, places.expand(len(fixed), *places.shape))
        return torch.cat([here, sampled(moving, ends)], dim=1) * inside


@dataclass(frozen=True)
class Fields:
    """A critic that sees whether bodies move like that, whatever the pose.

    Parameters
    ----------
    drawn : real flows (B, D, *shape) of a step, voxels, such as `fields_of`; in a team those of this process
    size : voxels that are 1 to the critic: about the size of what the real ones have beside affine maps
    """

    drawn: Callable[[int], torch.Tensor]
    size: float = 4.0

    def channels(self, ndim: int) -> int:
        """As many as components."""
        return ndim

    def real(self, number: int, phi: Map, batch: PairBatch, prepare: Prepare) -> torch.Tensor:
        """Draws, on cells as large as the map's, less their affine part.

        Raises
        ------
        ValueError : for draws of another number or shape than the maps'.
        """
        flow, wanted = self.drawn(number).to(batch.fixed.device), (len(phi), phi.ndim, *phi.shape)
        if flow.shape != wanted:
            raise ValueError(f"Fields: expected draws of shape {wanted}, as the maps, got {tuple(flow.shape)}")
        cells = _cells(phi)
        share = averages(torch.ones_like(flow[:1, :1]), cells)
        alike = Displacement(averages(flow, cells) / share, phi.shape, cells)
        return affine_free(alike.flow(), batch.mask) / self.size

    def made(self, number: int, phi: Map, batch: PairBatch) -> torch.Tensor:
        """The predicted maps less their affine part."""
        return affine_free(phi.flow(), batch.mask) / self.size


def fields_of(
    families: Sequence[Field], grid: Grid, batch: int, seed: int = 0, *, part: slice = ALL
) -> Callable[[int], torch.Tensor]:
    """Flows drawn from families of fields, shrunk where they would fold, as generators of pairs do.

    Parameters
    ----------
    families : families of fields; one is taken at random for every flow
    grid : grid of the images
    batch : pairs of a step, of all processes
    seed : seed of all random numbers
    part : which of a step's pairs are wanted; see `Team.part`
    """

    def drawn(step: int) -> torch.Tensor:
        return draw_flows(families, grid, pair_rngs(seed, range(step * batch, (step + 1) * batch)[part]))

    return drawn


def fields_from_pool(
    families: Sequence[Field],
    grid: Grid,
    count: int,
    drawn: int,
    seed: int = 0,
    *,
    part: slice = ALL,
    doubled: bool = False,
) -> Callable[[int], torch.Tensor]:
    """Flows out of some that are drawn once, in an order of chance: for families whose fields take long.

    Parameters
    ----------
    families, grid : as of `fields_of`
    count : flows that are drawn
    drawn : pairs that are drawn for a step, of all processes
    seed : seed of all random numbers
    part : which of a step's pairs are wanted
    doubled : whether a step has its pairs in both directions, see `in_both_directions`
    """
    known = draw_flows(families, grid, pair_rngs(seed, range(count))).float()

    def real(step: int) -> torch.Tensor:
        luck = np.random.default_rng([seed, step, 13]).integers(count, size=(1 + doubled, drawn))
        return known[torch.from_numpy(luck[:, part].ravel())]

    return real


def _cells(phi: Map) -> tuple[int, ...]:
    """The cells of a map; of a composition the largest of its parts along every axis."""
    if isinstance(phi, Composed):
        return tuple(max(sides) for sides in zip(*(_cells(part) for part in phi.parts), strict=True))
    return phi.cells if isinstance(phi, Displacement | Velocity) else (1,) * phi.ndim
