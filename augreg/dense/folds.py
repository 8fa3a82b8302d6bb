"""The guard: no determinant of id + u below a bound, in no point of no cell.

The proof is that of `augreg.geometry.cells`. Where it fails, u is smoothed around the cell, again and again and farther and
farther; what that does not mend is shortened, which always does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from augreg.dense import _field_kernels as kernels
from augreg.geometry.cells import doubtful_among, doubtful_cells
from augreg.threads import shared

Field = npt.NDArray[np.float32]
# rounds of smoothing, and after how many it reaches a cell farther
_ROUNDS, _FARTHER = 40, 4
# what is left of a field that smoothing has not mended
_SHORTER = 0.8
# nodes beyond the border, at most
_FADED = 24
# nanoseconds per node, about
_NODE = 150


def unfolded(field: Field, guard: float) -> Field:
    """The field with all determinants at least `guard`, between 0 and 1; the same one where they are."""
    marked = doubtful_cells(field, guard)
    cells = np.ascontiguousarray(np.argwhere(marked))
    for number in range(_ROUNDS):
        if not len(cells):
            return field
        near = np.zeros(field.shape[1:], dtype=np.uint8)
        kernels.reached(0, len(cells), cells, 1 + number // _FARTHER, near)
        nodes, out = np.argwhere(near), field.copy()
        shared(kernels.softened, len(nodes), _NODE, field, nodes, out)
        field = out
        # no other cell has changed
        marked[:] = 0
        kernels.touched(0, len(nodes), nodes, marked)
        cells = doubtful_among(np.argwhere(marked), field, guard)
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
