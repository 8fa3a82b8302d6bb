"""A network on one tile after the other, for volumes that do not fit.

Every tile is seen with a margin around it, of which only the image's own border is none; what the network says in the margin is
thrown away. Where the margin is as wide as the network's field of view reaches, the result is that of the whole image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch

from augreg.networks.cells import Sides, counts
from augreg.networks.maps import AffineMap, Displacement, Map, Velocity
from augreg.networks.predictor import Wrapper


@dataclass(frozen=True, eq=False)
class Tiled(Wrapper):
    """A network that sees tiles. For networks that look nearby: maps of whole images, affine ones, cannot be put together.

    Images are prepared as a whole, so brightness does not change from tile to tile.

    Parameters
    ----------
    network : network whose predictions are put together
    tile : side of a tile without its margin, voxels
    margin : width of the margin, voxels
    stride : voxels along the side of the network's coarsest cells, by which tile and margin are divisible: 64 for FlowNet

    Raises
    ------
    ValueError : for other numbers. TypeError : in use, for a network of affine maps.
    """

    tile: int
    margin: int
    stride: int = 64

    def __post_init__(self) -> None:
        if self.tile < 1 or self.stride < 1 or self.tile % self.stride or self.margin % self.stride or self.margin < 0:
            raise ValueError(
                f"tile, margin: expected multiples of the coarsest cells of {self.stride} voxels, got {self.tile} and "
                f"{self.margin}; round them up"
            )
        if self.margin > self.tile:
            raise ValueError(f"margin: expected at most the tile of {self.tile} voxels, got {self.margin}; take a larger tile")

    def predict(self, fixed: torch.Tensor, moving: torch.Tensor) -> Map:
        """A velocity where the network predicts one, else a displacement: on the network's cells, or on voxels."""
        shape = tuple(fixed.shape[2:])
        whole: torch.Tensor | None = None
        for seen, kept in self._tiles(shape):
            found = _placed(self.network.predict(*(_cut(images, seen) for images in (fixed, moving))))
            if whole is None:
                first = found
                whole = found.values.new_empty(*found.values.shape[:2], *counts(shape, found.cells))
            axes = list(zip(seen, kept, found.cells, strict=True))
            target = [slice(k.start // c, -(-k.stop // c)) for _, k, c in axes]
            own = [slice((k.start - s.start) // c, -(-(k.stop - s.start) // c)) for s, k, c in axes]
            _cut(whole, target).copy_(_cut(found.values, own))
        assert whole is not None
        return replace(first, values=whole, shape=shape)

    def _tiles(self, shape: Sides) -> Iterator[tuple[list[slice], list[slice]]]:
        """What is seen and what of it is kept, of every tile."""
        for corner in product(*(range(0, n, self.tile) for n in shape)):
            kept = [slice(at, min(at + self.tile, n)) for at, n in zip(corner, shape, strict=True)]
            yield (
                [slice(max(k.start - self.margin, 0), min(k.stop + self.margin, n)) for k, n in zip(kept, shape, strict=True)],
                kept,
            )


def _placed(phi: Map) -> Displacement | Velocity:
    """A map of a tile as numbers on cells."""
    if isinstance(phi, AffineMap):
        raise TypeError("Tiled: expected a network that looks nearby, got one of affine maps, which needs the whole image")
    return phi if isinstance(phi, Displacement | Velocity) else Displacement.of(phi.flow())


def _cut(values: torch.Tensor, where: Sequence[slice]) -> torch.Tensor:
    """A part of values (B, C, *shape), not a copy."""
    return values[(slice(None), slice(None), *where)]
