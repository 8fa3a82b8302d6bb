"""Where a field between nodes does not fold, with proof: the determinant of id + u in every point of every cell.

In a cell u is multilinear, so that the determinant is a polynomial, in 2-D linear and in 3-D of degree 2 in each variable: its
Bernstein coefficients, in 2-D the corners, bound it from below.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.kernels import cells as kernels
from augreg.geometry.transforms import Affine, DisplacementField
from augreg.threads import shared

Field = npt.NDArray[np.float32]
# nanoseconds per cell, about, and per one that is looked at closely
_CELL, _LOOK = 20, 100
# determinants that are certainly positive, whatever rounding to float32 does to displacements below so many voxels
_POSITIVE, _FARTHEST = 0.01, 1000.0


def doubtful_cells(field: Field, guard: float) -> npt.NDArray[np.uint8]:
    """Which cells may have a determinant below `guard`, between 0 and 1: (h0 + 1, h1 + 1, h2 + 1), in 2-D (h0 + 1, 1, h2 + 1).

    Parameters
    ----------
    field : u in steps of the nodes, (D, h0, h1, h2), in 2-D with h1 = 1; beyond the border it is repeated
    """
    ndim, h0, h1, h2 = field.shape
    out = np.empty((h0 + 1, h1 + (ndim == 3), h2 + 1), dtype=np.uint8)
    harmless = 1 - guard ** (1 / ndim)
    shared(kernels.doubtful, out.shape[0] * out.shape[1], _CELL * out.shape[2], field, guard, harmless, out)
    return out


def doubtful_among(cells: npt.NDArray[np.int64], field: Field, guard: float) -> npt.NDArray[np.int64]:
    """Those of some cells (N, 3) that may have a determinant below `guard`; numbers are places in what `doubtful_cells` gives."""
    out = np.empty(len(cells), dtype=np.uint8)
    shared(kernels.doubtful_among, len(cells), _LOOK, cells, field, guard, out)
    return cells[out != 0]


def never_folds_within(field: DisplacementField, inner: Affine | None, grid: Grid) -> bool:
    """Whether no cell of a field folds, and field @ inner sees no step where the field ends, half a voxel beyond its nodes.

    There is none where it comes to rest on its border. `inner` is None for a map that leads anywhere.
    """
    steps: FloatArray = field.values @ field.grid.world_to_index.T
    if any(steps.take([0, -1], axis=axis).any() for axis in range(field.ndim)):
        index = np.array(np.nan) if inner is None else field.grid.indices_at(inner(grid.lattice([2] * grid.ndim)))
        if not (np.all(index >= -0.5) and np.all(index <= field.grid.last + 0.5)):
            return False
    if np.abs(steps).max(initial=0.0) > _FARTHEST:
        return False
    lines = np.ascontiguousarray(np.moveaxis(steps, -1, 0), dtype=np.float32)
    return not doubtful_cells(lines if field.ndim == 3 else lines[:, :, None, :], _POSITIVE).any()
