"""Segmentations: label maps whose values are the segments' numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from augreg.io.dicom_frames import Frame, read_tags, text
from augreg.io.dicom_pixels import stored_frames
from augreg.io.dicom_stack import as_sitk, axes_of, place_of


def segment_volume(frames: Sequence[Frame], segment: int | None, name: str) -> sitk.Image:
    """All segments of a file as one label map, or one of them by its number. Slices that no segment touches are not stored.

    Raises
    ------
    ValueError : for segments that overlap, shares of pixels, places between slices.
    """
    path = frames[0].path
    dataset = read_tags(path, pixels=True)
    assert dataset is not None
    kind = text(dataset, "SegmentationType")
    if kind == "FRACTIONAL":
        raise ValueError(f"{name}: expected a segmentation with labels, got shares of pixels (FRACTIONAL); threshold it first")
    numbers = [int(frame.marks.get("ReferencedSegmentNumber", "1")) for frame in frames]
    if segment is not None and kind != "LABELMAP":
        kept = [k for k, number in enumerate(numbers) if number == segment]
        if not kept:
            raise ValueError(f"{name}: expected one of the segments {', '.join(map(str, sorted(set(numbers))))}, got {segment}")
        frames, numbers = [frames[k] for k in kept], [numbers[k] for k in kept]
    axes = axes_of(frames[0])
    along = np.array([place_of(frame) @ axes[:, 2] for frame in frames])
    steps = np.diff(np.unique(np.round(along, 3)))
    apart = float(steps.min()) if len(steps) else frames[0].thickness or 1.0
    index = (along - along.min()) / apart
    aside = np.array([(place_of(frame) - place_of(frames[0])) @ axes[:, :2] for frame in frames])
    if np.abs(index - np.rint(index)).max() > 0.02 or np.abs(aside).max() > 0.01 * apart or index.max() > 10**4:
        raise ValueError(f"{name}: expected slices at multiples of {apart:g} mm above each other, got others; resample it first")
    stored = stored_frames(dataset, [frame.number for frame in frames], str(path))
    held: npt.DTypeLike = np.uint8 if max(numbers) < 256 and stored[0].dtype.itemsize == 1 else np.uint16
    values: npt.NDArray[Any] = np.zeros((*frames[0].shape, int(np.rint(index.max())) + 1), dtype=held)
    for frame_values, number, k in zip(stored, numbers, np.rint(index).astype(int), strict=True):
        plane = values[:, :, k]
        inside = frame_values.T != 0
        label = frame_values.T.astype(held)[inside] if kind == "LABELMAP" else number
        if (plane[inside] != 0).any():
            others = sorted(set(numbers))
            raise ValueError(
                f"{name}: expected segments that do not overlap, got overlapping ones; choose one of {others} "
                f"with '{name}?frame=N'"
            )
        plane[inside] = label
    first = frames[int(np.argmin(along))]
    return as_sitk(values, axes, place_of(first), (*first.spacing, apart))
