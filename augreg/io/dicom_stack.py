"""Slices as one regular volume, or the reason why they are none.

Slice k lies at p_k. With the slices' own axes r (along a row) and c (down a column) and the normal n = r x c,

    p_k = p_0 + d_k n + s_k,        s_k in the plane of r and c.

Regular is d_k = k h and s_k = 0. A gantry that was tilted gives s_k = k s; every slice is then shifted within its plane. Where
the distances d_(k+1) - d_k are within a fifth of their median, slices are interpolated at equal distances. All else is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from augreg.geometry.grid import FloatArray
from augreg.io.dicom_frames import Frame

# of the distance of slices: files round positions
_ROUNDED = 0.01
_SMALL = 0.2
_STEEPEST = 1.0  # shift in the plane per distance: 45 degrees


@dataclass(frozen=True, eq=False)
class Stack:
    """Where slices lie, in ascending order along their normal.

    Parameters
    ----------
    frames : the slices
    distances : d_k, mm
    shifts : s_k along r and c, (n, 2) mm
    apart : mm between slices of the volume
    """

    frames: tuple[Frame, ...]
    distances: FloatArray
    shifts: FloatArray
    apart: float

    @property
    def regular(self) -> bool:
        """Whether the slices are a volume as they are."""
        even = np.arange(len(self.distances)) * self.apart
        return bool(
            np.abs(self.shifts).max() <= _ROUNDED * self.apart and np.abs(self.distances - even).max() <= _ROUNDED * self.apart
        )

    @property
    def tilt(self) -> float:
        """Degrees between the stack and the slices' normal."""
        return float(np.degrees(np.arctan2(np.linalg.norm(self.shifts[-1]), self.distances[-1])))


def axes_of(frame: Frame) -> FloatArray:
    """r, c and n as columns, (3, 3), orthonormal although files round them."""
    rows = np.eye(3)[:2] if frame.orientation is None else frame.orientation
    r, n = rows[0] / np.linalg.norm(rows[0]), np.cross(rows[0], rows[1])
    n = n / np.linalg.norm(n)
    return np.stack([r, np.cross(n, r), n], axis=1)


def place_of(frame: Frame) -> FloatArray:
    """p, (3,) mm."""
    return np.zeros(3) if frame.position is None else frame.position


def alike(a: Frame, b: Frame) -> bool:
    """Whether two frames have one size, spacing and orientation."""
    same = a.shape == b.shape and np.allclose(a.spacing, b.spacing, rtol=1e-3)
    return same and bool(np.abs(axes_of(a) - axes_of(b)).max() < 2e-3)


def at_one_place(a: Frame, b: Frame) -> bool:
    """Whether two frames lie at one place."""
    return bool(np.abs(place_of(a) - place_of(b)).max() < 1e-3)


def stack_of(frames: Sequence[Frame], name: str) -> Stack:
    """The stack of frames that are alike and lie at different places.

    Raises
    ------
    ValueError : if slices are missing, lie in one plane, or at distances that differ much.
    """
    axes = axes_of(frames[0])
    along = np.array([place_of(frame) @ axes[:, 2] for frame in frames])
    order = np.argsort(along, kind="stable")
    chosen = tuple(frames[i] for i in order)
    if len(frames) == 1:
        return Stack(chosen, np.zeros(1), np.zeros((1, 2)), frames[0].thickness or 1.0)
    relative = np.array([place_of(frame) - place_of(chosen[0]) for frame in chosen])
    distances, shifts = relative @ axes[:, 2], relative @ axes[:, :2]
    steps = np.diff(distances)
    if steps.max() < 1e-3 or steps.min() < 1e-3 * steps.max():
        k = int(np.argmin(steps))
        raise ValueError(
            f"{name}: expected slices above each other, got {chosen[k].name} and {chosen[k + 1].name} in one plane at different "
            "places; sort them into folders of their own"
        )
    middle = float(np.median(steps))
    wide = [k for k, step in enumerate(steps) if step > (1 + _SMALL) * middle]
    narrow = [k for k, step in enumerate(steps) if step < (1 - _SMALL) * middle]
    if wide or narrow:
        where = ", ".join(
            f"{steps[k]:g} mm between {chosen[k].name} and {chosen[k + 1].name}, at {_written(chosen[k])}"
            for k in (wide or narrow)[:4]
        )
        more = f" and {len(wide or narrow) - 4} more" if len(wide or narrow) > 4 else ""
        reason = "slices are missing, or their spacing changes" if wide else "their spacing changes"
        raise ValueError(
            f"{name}: expected slices {middle:g} mm apart, got {where}{more}: {reason}; copy the series again, or keep the part "
            "that is whole in a folder of its own"
        )
    stack = Stack(chosen, distances, shifts, float(distances[-1] / (len(chosen) - 1)))
    slope = np.linalg.norm(np.diff(shifts, axis=0), axis=1).max() / stack.apart
    if slope > _STEEPEST:
        raise ValueError(
            f"{name}: expected slices above each other, got some shifted by {slope * stack.apart:g} mm within their plane where "
            f"they are {stack.apart:g} mm apart; sort them into folders of their own"
        )
    return stack


def straightened(values: npt.NDArray[Any], stack: Stack) -> tuple[npt.NDArray[Any], Stack, FloatArray]:
    """Values (columns, rows, slices[, C]) of slices that are no regular stack on a regular one.

    Returns
    -------
    Values, their stack, and the place (3,) mm of the first pixel. Outside all slices is the least value.
    """
    spacing = np.asarray(stack.frames[0].spacing)
    low = np.floor(stack.shifts.min(axis=0) / spacing + 1e-6).astype(int)
    high = np.ceil(stack.shifts.max(axis=0) / spacing - 1e-6).astype(int)
    shape = np.asarray(values.shape[:2]) + high - low
    least = values.min()
    slices = np.full((len(stack.frames), *shape, *values.shape[3:]), float(least))
    for k, shift in enumerate(stack.shifts):
        placed: npt.NDArray[Any] = values[:, :, k].astype(np.float64)
        for axis in (0, 1):
            placed = _moved(placed, axis, shift[axis] / spacing[axis] - low[axis], int(shape[axis]), float(least))
        slices[k] = placed
    even = np.arange(len(stack.distances)) * stack.apart
    below = np.clip(np.searchsorted(stack.distances, even, side="right") - 1, 0, len(even) - 2)
    part = np.clip((even - stack.distances[below]) / np.diff(stack.distances)[below], 0, 1)
    out = np.stack([(1 - t) * slices[k] + t * slices[k + 1] for k, t in zip(below, part, strict=True)], axis=2)
    if values.dtype.kind in "iu":
        out = np.rint(out)
    axes = axes_of(stack.frames[0])
    place = place_of(stack.frames[0]) + axes[:, :2] @ (low * spacing)
    regular = replace(stack, distances=even, shifts=np.zeros_like(stack.shifts))
    return out.astype(values.dtype), regular, place


def as_sitk(values: npt.NDArray[Any], axes: FloatArray, place: FloatArray, spacing: tuple[float, ...]) -> sitk.Image:
    """Values (columns, rows, slices[, C]) as a SimpleITK image."""
    colour = values.ndim == 4
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose((2, 1, 0, 3) if colour else (2, 1, 0))), isVector=colour)
    image.SetSpacing(spacing)
    image.SetOrigin(place.tolist())
    image.SetDirection(np.ravel(axes).tolist())
    return image


def _moved(values: npt.NDArray[Any], axis: int, by: float, length: int, outside: float) -> npt.NDArray[Any]:
    """Values moved by a number of pixels (at least 0) along an axis that becomes longer, linearly interpolated."""
    whole, part = int(np.floor(by + 1e-9)), by - np.floor(by + 1e-9)
    n = values.shape[axis]
    values = np.moveaxis(values, axis, 0)
    out = np.full((length, *values.shape[1:]), outside)
    out[whole : whole + n] = (1 - part) * values
    if part > 1e-9:
        # between the ends and what is outside nothing is known: the ends are kept
        out[whole] = values[0]
        out[whole + 1 : whole + n] += part * values[:-1]
        if whole + n < length:
            out[whole + n] = values[-1]
    return np.moveaxis(out, 0, axis)


def _written(frame: Frame) -> str:
    return "(" + ", ".join(f"{v:g}" for v in place_of(frame)) + ") mm"
