"""Centres on each other: for images of two scanners, whose world coordinates have nothing in common.

phi = initial @ (x -> x + t),      t = initial^-1(m) - f,      f, m the centres of the grids, or of what is masked
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from augreg.geometry.grid import FloatArray
from augreg.geometry.image import Image, Labels
from augreg.geometry.transforms import Affine
from augreg.registration.clock import Clock
from augreg.registration.method import Method, State
from augreg.registration.pair import Pair


@dataclass(frozen=True)
class Centred(Method):
    """A translation that puts centres on each other: the centroids of label maps or masks if both images have them, else the
    centres of the grids.

    A callable (fixed, moving) -> phi, for `Chained(Centred(), ...)`. Label maps go before masks, all that is not 0 counts.
    """

    def _states(self, pair: Pair, clock: Clock) -> Iterator[State]:
        """One state."""
        parts, warnings = _parts(pair)
        fixed, moving = (_center(image, part) for image, part in zip((pair.fixed, pair.moving), parts, strict=True))
        identity = Affine.identity(pair.fixed.ndim)
        shift = Affine(identity.matrix, (pair.initial or identity).solve(moving) - fixed)
        transform = shift if pair.initial is None else pair.initial @ shift
        yield State(0, 0, float("nan"), float("nan"), transform, clock.seconds, warnings)


def _parts(pair: Pair) -> tuple[tuple[Labels | None, Labels | None], tuple[str, ...]]:
    """The maps whose centroids are meant, and what is not used."""
    warnings: list[str] = []
    for name in ("labels", "mask"):
        fixed, moving = (getattr(pair, f"{side}_{name}") for side in ("fixed", "moving"))
        if fixed is not None and moving is not None and fixed.values.any() and moving.values.any():
            return (fixed, moving), tuple(warnings)
        if fixed is not None or moving is not None:
            warnings.append(f"fixed_{name}, moving_{name}: not used, since one of the images has nothing in its own")
    return (None, None), tuple(warnings)


def _center(image: Image, part: Labels | None) -> FloatArray:
    """Of a grid, or of the voxels of a map that are not 0, mm."""
    if part is None:
        return image.grid.center
    where = np.stack(np.nonzero(part.values), axis=-1).mean(axis=0)
    return np.asarray(part.grid.points_at(where))
