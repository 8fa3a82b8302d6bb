"""Vectors at the cells of a lattice as a displacement field in the world."""

from __future__ import annotations

import numpy as np

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.transforms import DisplacementField
from augreg.networks.cells import Sides


def continued(vectors: FloatArray, lattice: Grid, cells: Sides, low: FloatArray, high: FloatArray) -> DisplacementField:
    """Vectors at the cells as a field that goes on as at its border for all voxels from `low` to `high`, (D,) each."""
    sides = np.asarray(cells)
    before = np.ceil(-0.5 - ((low + 0.5) / sides - 0.5)).clip(min=0).astype(int)
    after = np.ceil((high + 0.5) / sides - 0.5 - (np.asarray(lattice.shape) - 0.5)).clip(min=0).astype(int)
    if not (before.any() or after.any()):
        return DisplacementField(vectors, lattice)
    widened = np.pad(vectors, [*zip(before, after, strict=True), (0, 0)], mode="edge")
    shape = tuple(int(n) for n in widened.shape[:-1])
    return DisplacementField(widened, Grid(shape, lattice.spacing, tuple(lattice.points_at(-before)), lattice.direction))
