"""What several commands ask of their input."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING
from urllib.parse import quote

import augreg as ar

if TYPE_CHECKING:
    import numpy.typing as npt

    from augreg.geometry.grid import FloatArray


# how many times as large as the other no image of the same thing is
_LARGER = 20


def transform_of(options: argparse.Namespace, path: str) -> ar.Transform:
    """The transform of a file, read as `--convention` says."""
    return ar.read_transform(path, convention=options.convention)


def labels_of(path: str | None) -> ar.Labels | None:
    """The label map of an option that may not be given."""
    return ar.read_labels(path) if path else None


def image_of(path: str, channel: str | None = None) -> tuple[ar.Image, ar.io.Slide | None]:
    """An image as it is registered; of a slide what registration needs, and the slide."""
    path = of_channel(path, channel)
    slide = ar.io.slide_at(path)
    return (ar.read_image(path), None) if slide is None else (slide.overview(), slide)


def measured_slide(path: str | None) -> ar.io.Slide | None:
    """The slide of a file, if it is one that is measured in mm."""
    slide = None if path is None else ar.io.slide_at(path)
    return slide if slide is not None and slide.noted else None


def outlined(path: str | None) -> bool:
    """Whether a file of points is QuPath's, which count pixels of the finest level."""
    return path is not None and path.lower().endswith(".geojson")


def points_of(path: str | None, slide: ar.io.Slide | None) -> FloatArray | None:
    """Landmarks of an option that may not be given; those of QuPath are brought from pixels of a slide in mm to its world."""
    if path is None:
        return None
    points = ar.read_points(path)
    return slide.grid.points_at(points) if slide is not None and slide.noted and outlined(path) else points


def of_channel(path: str, channel: str | None) -> str:
    """A name that asks for a channel, unless it does already."""
    if channel is None or "channel=" in path.rpartition("?")[2]:
        return path
    return f"{path}{'&' if '?' in path else '?'}channel={quote(channel)}"


def grid_of(path: str) -> ar.Grid:
    """The grid of an image as it is registered."""
    slide = ar.io.slide_at(path)
    return ar.read_image(path).grid if slide is None else slide.overview_grid


def reference_of(options: argparse.Namespace) -> ar.Grid | None:
    """The grid of `-r`, which may not be given."""
    return grid_of(options.reference) if options.reference else None


def check_units(fixed: ar.io.Slide | None, moving: ar.io.Slide | None, grids: tuple[ar.Grid, ar.Grid]) -> None:
    """Refuse a slide in mm beside an image that counts in pixels: nothing says how much larger one is than the other."""
    sides = [float(grid.sides.max()) for grid in grids]
    known = [slide is not None and slide.noted for slide in (fixed, moving)]
    counted = [
        # four pixels of 0.25 mm averaged are no pixel that is not known
        grid.spacing == (1.0,) * grid.ndim if slide is None else not slide.noted
        for grid, slide in zip(grids, (fixed, moving), strict=True)
    ]
    names = ("FIXED", "MOVING")
    for one, other in ((0, 1), (1, 0)):
        if known[one] and counted[other] and sides[other] > _LARGER * sides[one]:
            slide = (fixed, moving)[one]
            assert slide is not None
            raise ValueError(
                f"{names[one]}: notes a pixel of {slide.grid.spacing[0]:g} mm, {names[other]} none: how they compare is not "
                f"known; name the other as '{names[other]}?pixel=MM', or count both in pixels with '?pixel=1'"
            )


def check_sizes(fixed: ar.io.Slide | None, moving: ar.io.Slide | None) -> None:
    """Refuse two slides in mm of which one is many times as large as the other: what is noted is wrong, or a part of the other
    is meant, which is not found without a start.
    """
    if fixed is None or moving is None or not (fixed.noted and moving.noted):
        return
    sides = [float(slide.grid.sides.max()) for slide in (fixed, moving)]
    if max(sides) > _LARGER * min(sides):
        raise ValueError(
            f"FIXED, MOVING: expected sizes that can be of one thing, got {sides[0]:.4g} and {sides[1]:.4g} mm, of pixels of "
            f"{fixed.grid.spacing[0]:g} and {moving.grid.spacing[0]:g} mm; one is wrong: name its size as 'FILE?pixel=MM', or "
            "count both in pixels with '?pixel=1'; where one shows a part of the other, say where by --initial"
        )


def units_of(fixed: ar.io.Slide | None, moving: ar.io.Slide | None, grids: tuple[ar.Grid, ar.Grid]) -> str | None:
    """In what the transform and points are, where there is a slide: mm or pixels, and at which level it was registered."""
    if fixed is None and moving is None:
        return None
    told = []
    for slide, grid in zip((fixed, moving), grids, strict=True):
        if slide is None:
            told.append(f"{grid.spacing[0]:g}")
        else:
            told.append(
                f"{slide.grid.spacing[0]:g}, registered at {grid.spacing[0]:g}"
                if slide.noted
                else f"1 (no size is noted), registered at {grid.spacing[0]:g}"
            )
    counted = any(slide is not None and slide.noted for slide in (fixed, moving))
    unit = "mm" if counted else "pixels of the finest level"
    return f"{unit}; a pixel of fixed {told[0]}, of moving {told[1]}"


def check_dimension(transform: ar.Transform, grid: ar.Grid) -> None:
    """Refuse a transform of another dimension than the image's."""
    if transform.ndim != grid.ndim:
        raise ValueError(f"transform: expected a {grid.ndim}-D one, as the image, got {transform.ndim}-D")


def check_both_or_none(options: argparse.Namespace, name: str) -> None:
    """Refuse labels or points of one image alone."""
    if (getattr(options, f"fixed_{name}") is None) != (getattr(options, f"moving_{name}") is None):
        raise ValueError(f"--fixed-{name}, --moving-{name}: expected both or none, got one of them")


def fill_of(given: float | None, moving: ar.Image | ar.Labels | ar.io.Slide) -> npt.ArrayLike:
    """What stands outside the moving image: the value that is given, which its pixels must be able to hold, or its background."""
    import numpy as np

    from augreg.geometry.resampling import background

    if given is None:
        if isinstance(moving, ar.Labels):
            return 0.0
        return background(moving.small() if isinstance(moving, ar.io.Slide) else moving)
    kind = moving.dtype if isinstance(moving, ar.io.Slide) else moving.values.dtype
    if kind.kind in "biu":
        low, high = (0, 1) if kind.kind == "b" else (np.iinfo(str(kind)).min, np.iinfo(str(kind)).max)
        if not math.isfinite(given):
            raise ValueError(f"--fill: expected a finite number for {kind} pixels, got {given}")
        if not low <= given <= high:
            raise ValueError(f"--fill: expected {low} to {high}, what {kind} pixels hold, got {given:g}")
    return given
