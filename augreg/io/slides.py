"""Slides: 2-D images of any size, of which levels and parts are read when somebody asks for them.

A slide is a pyramid (OME-TIFF, SVS and other tiled TIFF, by tifffile; what else OpenSlide knows, where it is installed), an image
whose header notes the size of a pixel, or one that is too large to be read as a whole. With factors f_k of its levels,

    spacing_k = f_k s,     origin_k = (f_k - 1) s / 2,     s the pixel of the finest level, mm; 1 where none is noted,

so all levels cover one area of one world: what is found on one holds on all of them.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image as Pillow

from augreg.geometry.grid import Grid
from augreg.geometry.image import Image
from augreg.io.files import FileWarning, existing_file
from augreg.io.formats.bounded import refusals
from augreg.io.formats.found import Found, Source
from augreg.io.formats.openslide_levels import openslide_of
from augreg.io.formats.pixel_size import channel_names, checked_size, noted_size
from augreg.io.formats.tiff import LOSSY, chosen_series, is_tiff, messages, photometric
from augreg.io.formats.tiff_levels import TiffLevels, level_of
from augreg.io.views import View, view_of

# longest side of what is registered: more is halved; the default plan has its finest level there
OVERVIEW = 2048
# pixels from which on an image without levels is read in parts
_LARGE = 1 << 25
# rows that are read at a time
_BAND = 512


@dataclass(frozen=True, eq=False)
class Slide:
    """A slide, made by `read_slide`; pixels are read when they are asked for.

    Parameters
    ----------
    name : of the file
    grids : of the levels, fine to coarse, mm
    noted : whether the size of a pixel is known; where not, spacing is 1 and points count pixels
    channels : numbers of those that are looked at, in the file
    colour : whether they are one colour, red, green and blue
    dtype : of the values
    asked : the level to look at; None for what registration needs
    source : reads parts
    names : of the channels, where there are some
    lossy : whether the file holds its values as JPEG or the like do
    """

    name: str
    grids: tuple[Grid, ...]
    noted: bool
    channels: tuple[int, ...]
    colour: bool
    dtype: np.dtype
    asked: int | None
    source: Source = field(repr=False)
    names: tuple[str, ...] = ()
    lossy: bool = False

    @property
    def grid(self) -> Grid:
        """Of the finest level."""
        return self.grids[0]

    @property
    def overview_grid(self) -> Grid:
        """Of `overview()`."""
        number, factor = self._chosen()
        return _shrunk(self.grids[number], factor)

    def overview(self) -> Image:
        """The image that registration needs: the level asked for, else at most `OVERVIEW` pixels along the longest side.

        Half of these are enough for the default plan: the coarsest level that has them is read, and averaged where it is larger.
        """
        number, factor = self._chosen()
        if factor > 4 and self.asked is None:
            shape = " x ".join(map(str, self.grids[number].shape))
            warnings.warn(
                f"{self.name}: has no level near the size that registration needs: all of {shape} pixels were read; "
                "a pyramid is read faster",
                FileWarning,
                stacklevel=2,
            )
        return self.small()

    def small(self) -> Image:
        """`overview`, without a word about files that have no level near it."""
        return self.level(*self._chosen())

    def level(self, number: int, factor: int = 1) -> Image:
        """A level, 0 the finest, of which each `factor` x `factor` pixels are averaged; read in bands."""
        grid = self.grids[number]
        if factor == 1:
            return self.part(number, (0, 0), grid.shape)
        small = _shrunk(grid, factor)
        width, height = small.shape
        out = np.empty((height, width, len(self.channels)), self.dtype)
        step = max(1, _BAND // factor)
        for start in range(0, height, step):
            stop = min(height, start + step)
            rows = self.source.rows(number, slice(start * factor, stop * factor), slice(0, width * factor), self.channels)
            out[start:stop] = shrunk(rows, factor)
        return Image(_columns(out), small)

    def part(self, number: int, first: Sequence[int], shape: Sequence[int]) -> Image:
        """So many pixels of a level, x and y, from a first one on."""
        grid = self.grids[number]
        (left, top), (width, height) = first, shape
        rows = self.source.rows(number, slice(top, top + height), slice(left, left + width), self.channels)
        return Image(_columns(rows), part_of(grid, first, shape))

    def with_channels(self, channels: tuple[int, ...]) -> Slide:
        """Other channels of the same slide."""
        return replace(self, channels=channels, colour=False)

    def _chosen(self) -> tuple[int, int]:
        """A level, and by how much it is shrunk."""
        if self.asked is not None:
            return self.asked, 1
        longest = [max(grid.shape) for grid in self.grids]
        number = max((k for k, side in enumerate(longest) if side >= OVERVIEW // 2), default=0)
        factor = 1
        while longest[number] // factor >= OVERVIEW:
            factor *= 2
        return number, factor


def read_slide(path: str | os.PathLike[str]) -> Slide:
    """A slide, of which nothing but headers is read yet.

    `FILE?level=K` looks at level K (0 the finest) instead of the one that registration needs, `?channel=N` or `?channel=NAME` at
    one channel, `?pixel=MM` says how large a pixel of the finest level is; several as `?level=1&channel=DAPI`.

    Raises
    ------
    FileNotFoundError : if there is nothing. ValueError : if it is no slide, truncated, or notes an impossible size of a pixel.
    """
    found = _slide(path)
    if found is None:
        raise ValueError(f"{path}: expected a slide (a pyramid, or an image that notes its pixel size), got another image")
    return found


def slide_at(path: str | os.PathLike[str]) -> Slide | None:
    """The slide of a file; None where it is none, or nothing at all: others read that, or say why not."""
    view = view_of(path)
    if not view.path.is_file() or view.path.stat().st_size == 0:
        return None
    return _slide(path)


def _slide(path: str | os.PathLike[str]) -> Slide | None:
    view = view_of(path)
    found = existing_file(view.path)
    if not found.is_file():
        return None
    with open(found, "rb") as file:
        head = file.read(132)
    if not is_tiff(head):
        other = openslide_of(found)
        return None if other is None else _placed(view, other)
    return _of_tiff(view)


def _of_tiff(view: View) -> Slide | None:
    path = view.path
    with refusals(path, "a TIFF image"), messages(), tifffile.TiffFile(path) as file:
        series = chosen_series(file, path)
        page = series.keyframe
        sizes = {letter: size for letter, size in zip(series.axes, series.shape, strict=True) if size > 1}
        shown = photometric(page, path)
        kind = "" if page.dtype is None else page.dtype.kind
        plain = kind in ("u", "i", "f") and int(page.tags.valueof("Orientation", 1) or 1) == 1
        if set(sizes) - set("YXCS") or shown not in ("RGB", "MINISBLACK", "MINISWHITE") or not plain:
            return None
        size = (view.pixel,) * 2 if view.pixel else noted_size(file, series, path)
        if len(series.levels) == 1 and size is None and page.imagewidth * page.imagelength < _LARGE:
            return None
        white = shown == "MINISWHITE" and kind == "u"
        inverted = (1 << int(page.bitspersample)) - 1 if white else None
        levels = tuple(level_of(path, level, inverted) for level in series.levels)
        names = channel_names(file.ome_metadata)
        colour = shown == "RGB" and page.samplesperpixel == 3
        lossy = int(page.compression) in LOSSY
    kinds = {(level.channels, level.dtype) for level in levels}
    if len(kinds) > 1:
        raise ValueError(f"{path}: expected levels of one kind, got {len(kinds)} kinds of pixels; read one as a file of its own")
    shapes = [level.shape[::-1] for level in levels]
    dtype = levels[0].dtype.newbyteorder("=")
    found = Found(TiffLevels(path, levels), shapes, levels[0].channels, dtype, size, names, colour, lossy)
    return _placed(view, found)


def _placed(view: View, found: Found) -> Slide:
    """What is asked of what was found."""
    name, size, shapes = os.fspath(view.path), found.size, found.shapes
    if view.pixel is not None:
        size = (view.pixel, view.pixel)
    if size is not None:
        size = checked_size(size, name)
    if view.level is not None and view.level >= len(shapes):
        raise ValueError(f"{name}: expected a level from 0 (the finest) to {len(shapes) - 1}, got {view.level}")
    grids = [Grid(shapes[0], size or (1.0, 1.0))]
    grids += [_coarser(grids[0], shape) for shape in shapes[1:]]
    chosen, names = tuple(range(found.channels)), tuple(found.names)
    if view.channel is not None:
        chosen = (_channel(name, view.channel, found.channels, names),)
        names = tuple(names[c] for c in chosen if c < len(names))
    colour = found.colour and len(chosen) == 3
    return Slide(name, tuple(grids), size is not None, chosen, colour, found.dtype, view.level, found.source, names, found.lossy)


def _channel(name: str, asked: str, channels: int, names: Sequence[str]) -> int:
    """The number of a channel."""
    if asked in names:
        return list(names).index(asked)
    if asked.isdecimal() and int(asked) < channels:
        return int(asked)
    known = f" or one of {', '.join(filter(None, names))}" if any(names) else ""
    raise ValueError(f"{name}: expected a channel from 0 to {channels - 1}{known}, got {asked!r}")


def _coarser(grid: Grid, shape: tuple[int, int]) -> Grid:
    """The grid of a level: of whole blocks where the sizes allow it, else of the same area."""
    factors = [n / m for n, m in zip(grid.shape, shape, strict=True)]
    whole = max(1, round(max(factors)))
    if all(abs(n / whole - m) < 1 for n, m in zip(grid.shape, shape, strict=True)):
        return replace(_shrunk(grid, whole), shape=shape)
    return grid.with_shape(shape)


def _shrunk(grid: Grid, factor: int) -> Grid:
    """The grid of whole blocks."""
    shape = tuple(max(1, n // factor) for n in grid.shape)
    spacing = tuple(s * factor for s in grid.spacing)
    return Grid(shape, spacing, tuple(grid.points_at([(factor - 1) / 2] * 2)), grid.direction)


def part_of(grid: Grid, first: Sequence[int], shape: Sequence[int]) -> Grid:
    """So many points of a grid from a first one on."""
    return Grid(tuple(shape), grid.spacing, tuple(grid.points_at(first)), grid.direction)


def shrunk(rows: npt.NDArray[Any], factor: int) -> npt.NDArray[Any]:
    """Means of whole blocks of values (rows, columns, channels), in their type."""
    height, width, channels = rows.shape[0] // factor, rows.shape[1] // factor, rows.shape[2]
    rows = np.ascontiguousarray(rows[: height * factor, : width * factor])
    if rows.dtype == np.uint8 and channels in (1, 3):
        picture = Pillow.fromarray(rows if channels == 3 else rows[..., 0])
        return np.asarray(picture.reduce(factor)).reshape(height, width, channels)
    sums = rows.reshape(height, factor, width, factor, channels).mean(axis=(1, 3), dtype=np.float64)
    return (np.rint(sums) if rows.dtype.kind in "iu" else sums).astype(rows.dtype)


def _columns(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Rows as an image keeps them: x first, and no axis for one channel."""
    values = np.ascontiguousarray(rows.swapaxes(0, 1))
    return values[..., 0] if values.shape[2] == 1 else values
