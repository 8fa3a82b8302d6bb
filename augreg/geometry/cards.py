"""What notebooks show of grids, images and maps: see `augreg.notebook`.

Planes of a volume are the axial, coronal and sagittal one through its middle, along those index axes that are nearest to the
world's; the patient's left is on the right, as radiologists look at them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from augreg import notebook
from augreg.geometry.grid import FloatArray, Grid

# lines of a lattice that shows a map, along either axis
_LINES = 15
# points along an axis at which a map is measured; entries of arrays that are told
_LOOKS, _FEW = 32, 9
# axes to the right and down, and whether the second runs up in the world (feet are below)
_VIEWS = ((0, 1, False), (0, 2, True), (1, 2, True))


def facts(grid: Grid) -> dict[str, str]:
    """Shape, spacing, and where it lies; the direction if it is not the usual one."""
    told = {"shape": by(grid.shape), "spacing": f"{by(grid.spacing)} mm", "origin": f"({row(grid.origin)}) mm"}
    if not np.array_equal(grid.axes, np.eye(grid.ndim)):
        told["direction"] = "; ".join(row(axis) for axis in grid.axes)
    return told


def line(thing: object, values: npt.NDArray[Any], grid: Grid) -> str:
    """What a terminal shows of values on a grid: their type and shape in the place of all of them."""
    return f"{type(thing).__name__}({values.dtype} {values.shape}, {grid!r})"


def pictures(
    values: npt.NDArray[Any], grid: Grid, draw: Callable[[npt.NDArray[Any], tuple[float, float]], str] = notebook.grey
) -> list[str]:
    """Pictures of values (*shape) or (*shape, C) on a grid, by `draw(plane, sides)`."""
    order, signs = grid.nearest_axes
    turned = values.transpose(*order, *range(grid.ndim, values.ndim))
    turned = turned[tuple(slice(None, None, sign) for sign in signs)]
    sides = grid.sides[list(order)]
    if grid.ndim == 2:
        return [draw(turned, (float(sides[0]), float(sides[1])))]
    shown = []
    for right, below, upward in _VIEWS:
        at: list[Any] = [slice(None)] * 3
        across = 3 - right - below
        at[across] = turned.shape[across] // 2
        plane = turned[tuple(at)]
        shown.append(draw(plane[:, ::-1] if upward else plane, (float(sides[right]), float(sides[below]))))
    return shown


def map_card(phi: Any) -> str:
    """What a transform, a dataclass that is callable on points (..., D) mm, is made of, how far it moves, and a lattice.

    Its first grid, that of the part which is applied first, is where this is looked at; without one, a square of 100 mm.
    """
    domain = next(_grids(phi), None)
    told = {"dimension": str(phi.ndim)}
    for part in fields(phi):
        told |= _fact(part.name, getattr(phi, part.name))
    if domain is not None:
        lengths = np.linalg.norm(phi.displacement(domain.with_shape([min(n, _LOOKS) for n in domain.shape])), axis=-1)
        told["moves"] = f"{lengths.mean():.3g} mm, at most {lengths.max():.3g} mm"
    square = Grid((2,) * phi.ndim, (100.0,) * phi.ndim)
    return notebook.card(type(phi).__name__, told, [drawing(phi, domain or square)])


def _grids(part: Any) -> Iterator[Grid]:
    if isinstance(part, Grid):
        yield part
    elif isinstance(part, tuple):
        # what is applied first stands last
        for one in reversed(part):
            yield from _grids(one)
    elif is_dataclass(part):
        for one in fields(part):
            yield from _grids(getattr(part, one.name))


def _fact(name: str, value: Any) -> dict[str, str]:
    if isinstance(value, Grid):
        return facts(value)
    if isinstance(value, np.ndarray):
        small = value.size <= _FEW
        return {name: "; ".join(row(line) for line in np.atleast_2d(value)) if small else f"{by(value.shape)} numbers"}
    if isinstance(value, tuple):
        return {f"{name}, the first at first": ", ".join(type(one).__name__ for one in reversed(value))}
    return {name: type(value).__name__ if is_dataclass(value) else str(value)}


def drawing(phi: Callable[[FloatArray], FloatArray], domain: Grid) -> str:
    """A lattice of the domain, its nodes where the map takes them; of volumes that of the axial plane through the middle."""
    order, signs = domain.nearest_axes
    steps = [np.linspace(0, domain.last[axis], _LINES)[::sign] for axis, sign in zip(order[:2], signs[:2], strict=True)]
    index = np.empty((_LINES, _LINES, domain.ndim))
    index[...] = domain.last / 2
    index[..., order[0]], index[..., order[1]] = np.meshgrid(steps[0], steps[1], indexing="ij")
    return notebook.lattice(phi(domain.points_at(index))[..., :2])


def by(numbers: tuple[Any, ...]) -> str:
    """256 x 256."""
    return " x ".join(f"{number:g}" for number in numbers)


def row(numbers: Any) -> str:
    """1, 0.02; zero has no sign."""
    return ", ".join(f"{number + 0.0:.4g}" for number in numbers)
