"""Slides by OpenSlide, where it is installed: MRXS and other formats that are no TIFF. Transparent pixels become white."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from augreg.io.formats.bounded import refusals
from augreg.io.formats.found import Found

# of formats that OpenSlide alone reads
_SUFFIXES = (".mrxs", ".vms", ".vmu", ".svslide", ".bif")


@dataclass(frozen=True, eq=False)
class OpenSlideLevels:
    """The levels of a file, fine to coarse.

    Parameters
    ----------
    path : the file
    factors : of the levels
    """

    path: Path
    factors: tuple[float, ...]

    def rows(self, number: int, y: slice, x: slice, channels: Sequence[int]) -> npt.NDArray[Any]:
        """Values (rows, columns, channels) of a part of a level."""
        import openslide

        corner = round(x.start * self.factors[number]), round(y.start * self.factors[number])
        with refusals(self.path, "whole tiles"), openslide.OpenSlide(str(self.path)) as slide:
            part = np.asarray(slide.read_region(corner, number, (x.stop - x.start, y.stop - y.start)))
        alpha = part[..., 3:].astype(np.uint16)
        shown = np.where(alpha == 255, part[..., :3], 255 - (alpha * (255 - part[..., :3].astype(np.uint16))) // 255)
        return np.ascontiguousarray(shown[..., list(channels)], dtype=np.uint8)


def openslide_of(path: Path) -> Found | None:
    """The slide in a file of a format that is no TIFF; None for others.

    Raises
    ------
    ValueError : for a format of OpenSlide where that is not installed.
    """
    if path.suffix.lower() not in _SUFFIXES:
        return None
    try:
        import openslide
    except ImportError as error:
        raise ValueError(
            f"{path}: expected OpenSlide, which reads {path.suffix} files, got none installed; pip install augreg[slides]"
        ) from error
    with refusals(path, "a slide that OpenSlide reads"), openslide.OpenSlide(str(path)) as slide:
        noted = [slide.properties.get(f"openslide.mpp-{axis}") for axis in "xy"]
        size = None if None in noted else (float(noted[0]) * 1e-3, float(noted[1]) * 1e-3)
        source = OpenSlideLevels(path, tuple(map(float, slide.level_downsamples)))
        return Found(source, list(slide.level_dimensions), 3, np.dtype(np.uint8), size, colour=True, lossy=True)
