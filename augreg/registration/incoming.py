"""Moving images that come one after the other, all on one grid, to be registered to one fixed image.

Their place is a pair whose moving image is empty: it checks once what is known of all of them. A frame takes that place after
two passes over its voxels, for their least and their greatest value.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import Grid
from augreg.geometry.image import Image, Labels, as_image, kind_of
from augreg.geometry.transforms import Transform
from augreg.registration.pair import Array, Pair

if TYPE_CHECKING:
    from typing import Unpack


class Prepared(TypedDict, total=False):
    """What can be known before any moving image is seen.

    Parameters
    ----------
    fixed_mask : mask, not 0 where to look; on any grid
    moving_mask : the same of every frame
    rigid_mask : mask in the fixed space, not 0 where the transform is to be locally rigid
    """

    fixed_mask: Labels | Array | None
    moving_mask: Labels | Array | None
    rigid_mask: Labels | Array | None


def place_of(fixed: Image | Array, moving_grid: Grid | None, **given: Unpack[Prepared]) -> Pair:
    """A pair whose moving image is empty, with as many channels as the fixed one.

    Raises
    ------
    TypeError, ValueError : as `Pair` does, and for a grid that is none.
    """
    if unknown := sorted(set(given) - set(Prepared.__annotations__)):
        known = ", ".join(Prepared.__annotations__)
        raise TypeError(f"{', '.join(unknown)}: expected keywords among {known}; what differs between frames cannot be prepared")
    image = as_image("fixed", fixed)
    grid = image.grid if moving_grid is None else moving_grid
    if not isinstance(grid, Grid):
        raise TypeError(f"moving_grid: expected a Grid, got {type(grid).__name__}")
    return Pair.of(image, Image(np.zeros((*grid.shape, *image.values.shape[image.ndim :]), np.uint8), grid), **given)


def with_frame(place: Pair, frame: Image | Array, initial: Transform | None) -> Pair:
    """The pair of a frame.

    Raises
    ------
    TypeError, ValueError : for a frame of another kind, shape or grid, and a transform of another dimension.
    """
    grid, shape = place.moving.grid, place.moving.values.shape
    if not isinstance(frame, Image | np.ndarray):
        raise TypeError(f"frame: expected an Image or an array, got {kind_of(frame)}; give np.asarray of it")
    values = frame if isinstance(frame, np.ndarray) else frame.values
    if values.shape != shape:
        raise ValueError(
            f"frame: expected shape {shape}, that of the images that were prepared for, got {values.shape}; prepare again"
        )
    if isinstance(frame, Image) and not frame.grid.matches(grid):
        raise ValueError(
            "frame: expected an image on the grid that was prepared for, got one on another; give moving_grid to prepare"
        )
    if initial is not None and not isinstance(initial, Transform):
        raise TypeError(f"initial: expected a Transform, got {kind_of(initial)}; a matrix is one as Affine(matrix, translation)")
    return replace(place, moving=frame if isinstance(frame, Image) else Image(frame, grid), initial=initial)


def ends(values: npt.NDArray[Any]) -> tuple[float, float]:
    """Least and greatest finite value; (NaN, NaN) without any."""
    low, high = values.min(), values.max()
    if np.isfinite(low) and np.isfinite(high):
        return float(low), float(high)
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (float("nan"), float("nan"))


def empty(pair: Pair) -> str | None:
    """Why a frame shows nothing, in words; None if it shows something."""
    mask = pair.moving_mask
    values = pair.moving.values
    if mask is not None and mask.grid.matches(pair.moving.grid):
        values = values[mask.values != 0]
    low, high = ends(values)
    if low < high:
        return None
    return "the frame is constant" if low == high else "the frame has no finite voxel"


def finite(frame: Image, mask: Labels | None) -> tuple[Image, Labels | None, tuple[str, ...]]:
    """A frame whose voxels are finite, where to look in it, and what was changed: voxels that are not are masked."""
    values = frame.values
    if values.dtype.kind != "f":
        return frame, mask, ()
    with np.errstate(over="ignore"):
        values = values.astype(np.float32, copy=False)
    if np.isfinite(values.min()) and np.isfinite(values.max()):
        return frame.with_values(values), mask, ()
    known = np.isfinite(values)
    valid = known if values.ndim == frame.ndim else known.all(axis=-1)
    shown = valid if mask is None else valid & (mask.values != 0)
    filled = np.where(known, values, values[known].mean(dtype=np.float64).astype(np.float32))
    said = f"{valid.size - int(valid.sum())} of {valid.size} voxels of the frame are NaN or infinite: masked"
    return frame.with_values(filled), Labels(shown.astype(np.uint8), frame.grid), (said,)
