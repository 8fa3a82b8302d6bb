"""The guard: no determinant of id + u below a bound, in no point of no cell.

In a cell u is multilinear, so that the determinant is a polynomial, in 2-D linear and in 3-D of degree 2 in each variable: its
Bernstein coefficients bound it from below. Where one of them is too small, u is smoothed around the cell, again and again and
farther and farther; what that does not mend is shortened, which always does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter

from augreg.dense import _field_kernels as kernels
from augreg.threads import shared

Field = npt.NDArray[np.float32]
# rounds of smoothing, and after how many it reaches a cell farther
_ROUNDS, _FARTHER = 40, 4
# what is left of a field that smoothing has not mended
_SHORTER = 0.8
# nodes beyond the border, at most
_FADED = 24
# nanoseconds per node, about
_CELL, _NODE = 100, 10


def doubtful_cells(field: Field, guard: float) -> npt.NDArray[np.uint8]:
    """Which cells may have a determinant below `guard`, (h0 + 1, h1 + 1, h2 + 1), in 2-D (h0 + 1, 1, h2 + 1); see the kernel."""
    ndim, h0, h1, h2 = field.shape
    out = np.empty((h0 + 1, h1 + (ndim == 3), h2 + 1), dtype=np.uint8)
    harmless = 1 - guard ** (1 / ndim)
    shared(kernels.folded, out.shape[0] * out.shape[1], _CELL * out.shape[2], field, guard, harmless, out)
    return out


def unfolded(field: Field, guard: float) -> Field:
    """The field with all determinants at least `guard`, between 0 and 1; the same one where they are."""
    for number in range(_ROUNDS):
        cells = doubtful_cells(field, guard)
        if not cells.any():
            return field
        out = np.empty_like(field)
        _, h0, h1, h2 = field.shape
        shared(kernels.softened, h0 * h1, _NODE * h2, field, _nodes(cells, field.shape, 1 + number // _FARTHER), out)
        field = out
    while doubtful_cells(field, guard).any():
        field = field * np.float32(_SHORTER)
    return field


def faded(field: Field, guard: float) -> tuple[Field, list[int]]:
    """The field carried on to 0 beyond its border, so that it does not end in a jump, and how many nodes that takes on each axis.

    Twice as far as it moves what lies on the border; no determinant is below `guard` there either.
    """
    axes = [axis for axis in (1, 2, 3) if len(field) == 3 or axis != 2]
    reach = [0, 0, 0, 0]
    for axis in axes:
        reach[axis] = min(int(np.ceil(2 * np.abs(field.take([0, -1], axis=axis)).max())), _FADED)
    wide = np.pad(field, [(n, n) for n in reach], mode="linear_ramp").astype(np.float32)
    return unfolded(wide, guard), [reach[axis] for axis in axes]


def _nodes(cells: npt.NDArray[np.uint8], shape: tuple[int, ...], reach: int) -> npt.NDArray[np.uint8]:
    """The nodes of cells, and so many nodes around."""
    for axis in range(3):
        if cells.shape[axis] > shape[axis + 1]:
            rows = np.moveaxis(cells, axis, 0)
            cells = np.moveaxis(np.maximum(rows[1:], rows[:-1]), 0, axis)
    return np.ascontiguousarray(maximum_filter(cells, 2 * reach + 1, mode="constant"))
