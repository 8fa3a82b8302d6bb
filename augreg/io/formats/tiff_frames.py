"""The frames of a TIFF with many pages: points of time where the file says so, else its pages."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import tifffile

from augreg.io.files import FileWarning
from augreg.io.formats.bounded import refusals
from augreg.io.formats.pixel_size import noted_size
from augreg.io.formats.tiff import arranged, check_held, chosen_series, looks, messages, photometric
from augreg.io.placed import Placed


def read_tiff_frames(path: Path) -> Placed:
    """Values (x, y, frames), (x, y, z, frames), each with channels behind.

    Raises
    ------
    ValueError : if it is damaged, or has one page.
    """
    with refusals(path, "a TIFF image"), messages() as said, tifffile.TiffFile(path) as file:
        series = chosen_series(file, path)
        page = series.keyframe
        shown = photometric(page, path)
        sizes = dict(zip(series.axes, series.shape, strict=True))
        long = [letter for letter in series.axes if letter in "TZIQ" and sizes[letter] > 1]
        time = "T" if "T" in long else long[0] if len(long) == 1 else None
        if time is None:
            got = ", ".join(f"{letter} {sizes[letter]}" for letter in series.axes)
            raise ValueError(f"{path}: expected a series: pages of time (T), or one kind of pages, got axes {got}")
        check_held(file, series, path)
        axis = series.axes.index(time)
        pixels = np.moveaxis(series.asarray(), axis, 0)
        axes = series.axes[:axis] + series.axes[axis + 1 :]
        frames = [looks(arranged(frame, axes, path)[0], page, shown, stored=False) for frame in pixels]
        depth = arranged(pixels[0], axes, path)[1]
        size = None if depth else noted_size(file, series, path)
        damage = [text for text in said if "corrupt" in text.lower() or "truncat" in text.lower()]
    if damage:
        warnings.warn(f"{path}: parts of it may be wrong: {damage[0][:200]}", FileWarning, stacklevel=4)
    values = np.stack([frame.swapaxes(0, 1) for frame in frames], axis=2 + depth)
    spacing = np.array(size) if size is not None else np.ones(2 + depth)
    return Placed(
        np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("=")), spacing, np.zeros(2 + depth), np.eye(2 + depth)
    )
