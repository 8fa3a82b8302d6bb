"""TIFF of every kind that tifffile reads: pixels of the type and with the channels that the file has.

An image has the pixel size that OME, Aperio or a pyramid notes (see `augreg.io.formats.pixel_size`), else spacing 1, as stacks.

The series of the most pixels in a plane is taken, at full resolution: thumbnails, labels, macros and pyramids beside it are not.
Its axes, as tifffile names them, are Y and X, a stack of slices (Z, or I or Q where nothing says what the pages are), and
channels (C, S), which come last. Several points of time (T), or any other axis, are refused. Palettes become colours of 16 bits
unless `stored`; where white is zero (MinIsWhite) whole numbers are inverted, as viewers do; one bit is 0 and 255; the orientation
is applied.
"""

from __future__ import annotations

import contextvars
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from augreg.geometry.image import Image, Labels
from augreg.io.files import FileWarning
from augreg.io.formats.bounded import check_memory, check_size, refusals
from augreg.io.formats.pictures import turned
from augreg.io.formats.pixel_size import noted_size
from augreg.io.placed import Placed, of_pixels

# II or MM, 42 or (BigTIFF) 43
_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JPEGS = (6, 7, 33003, 33005, 34892)
# and JPEG 2000, JPEG XR, WebP, JPEG XL by their other numbers
LOSSY = (*_JPEGS, 33004, 34712, 34927, 50001, 22610, 34933, 34934, 50002, 52546)
_SHOWN = ("MINISWHITE", "MINISBLACK", "RGB", "PALETTE", "MASK")
# how many times larger than the file its pixels may be: LZW and DEFLATE make at most some 1400 bytes of one, JPEG less
_EXPANSION = 1500
# by how much slices may be nearer or farther than pixels, unsaid
_CUBE = 0.01
_HELD = ("u1", "u2", "i2", "f4")


def is_tiff(head: bytes) -> bool:
    """Whether a file starts as TIFF does."""
    return head.startswith(_MAGICS)


def read_tiff(path: Path, *, stored: bool = False) -> Placed:
    """Values (x, y), (x, y, z), each with channels behind; `stored`: the numbers of palettes and of MinIsWhite as they are.

    Raises
    ------
    ValueError : if it is damaged, holds no image, or several that are no volume.
    """
    with refusals(path, "a TIFF image"), messages() as said, tifffile.TiffFile(path, **_flags(path)) as file:
        series = chosen_series(file, path)
        page = series.keyframe
        shown = photometric(page, path)
        if page.dtype is None or page.dtype.kind not in "biuf":
            raise ValueError(f"{path}: expected real pixels, got {page.dtype or 'none'}; convert it first")
        check_held(file, series, path)
        pixels = series.asarray()
        if pixels.shape != series.shape:
            raise ValueError(f"{path}: expected pixels of shape {series.shape}, got {pixels.shape}; the file is damaged")
        rows, depth = arranged(pixels, series.axes, path)
        rows = looks(rows, page, shown, stored=stored)
        orientation = int(page.tags.valueof("Orientation", 1) or 1)
        size = None if depth else noted_size(file, series, path)
        rows = turned(rows, orientation)
        flat = _flatness(file) if depth else 1.0
        damage = [
            text for text in said if "corrupt" in text.lower() or "truncat" in text.lower() or "missing data" in text.lower()
        ]
    if abs(flat - 1) > _CUBE:
        warnings.warn(
            f"{path}: its slices are {flat:.4g} times as far apart as its pixels, as ImageJ or OME noted; a TIFF is read with "
            "spacing 1 along all axes; convert it to .nii.gz or .mha with its voxel sizes",
            FileWarning,
            stacklevel=4,
        )
    if damage:
        warnings.warn(f"{path}: parts of it may be wrong: {damage[0][:200]}", FileWarning, stacklevel=4)
    placed = of_pixels(np.ascontiguousarray(rows.swapaxes(0, 1), dtype=rows.dtype.newbyteorder("=")), 2 + depth)
    if size is None:
        return placed
    return replace(placed, spacing=np.array(size if orientation < 5 else size[::-1]))


def _flatness(file: tifffile.TiffFile) -> float:
    """Distance of slices over size of pixels, by the notes of ImageJ or OME; 1 where nothing is noted."""
    if file.ome_metadata:
        noted = dict(re.findall(r'PhysicalSize([XZ](?:Unit)?)="([^"]*)"', file.ome_metadata))
        if {"X", "Z"} <= set(noted) and noted.get("XUnit") == noted.get("ZUnit"):
            return _ratio(noted["Z"], noted["X"])
    elif file.imagej_metadata and "spacing" in file.imagej_metadata:
        # pixels for one unit of length
        count, length = file.pages.first.tags.valueof("XResolution", (1, 1))
        return _ratio(float(file.imagej_metadata["spacing"]) * count, length)
    return 1.0


def _ratio(a: Any, b: Any) -> float:
    """a / b of what others noted; 1 for what is none."""
    try:
        ratio = abs(float(a) / float(b))
    except (TypeError, ValueError, ArithmeticError):
        return 1.0
    return ratio if 0 < ratio < float("inf") else 1.0


def _flags(path: Path) -> dict[str, Any]:
    """tifffile takes every `.ndpi` for NDPI, whose first offset has 64 bits; where it leads nowhere, the file is another TIFF."""
    if path.suffix.lower() != ".ndpi":
        return {}
    with open(path, "rb") as file:
        head = file.read(12)
    return {} if int.from_bytes(head[4:12], "little") < path.stat().st_size else {"is_ndpi": False}


def chosen_series(file: tifffile.TiffFile, path: Path) -> tifffile.TiffPageSeries:
    """The series of the most pixels in a plane."""
    every = [one for one in file.series if "Y" in one.axes and "X" in one.axes]
    if not every:
        raise ValueError(f"{path}: expected an image, got a TIFF without one")
    areas = [one.sizes["height"] * one.sizes["width"] if "height" in one.sizes else _area(one) for one in every]
    chosen = every[areas.index(max(areas))]
    # reduced images are marked as such, or those of a slide's label; equals are images in their own right
    others = [one for one, area in zip(every, areas, strict=True) if one is not chosen and not _reduced(one)]
    if others and not file.is_svs:
        shapes = ", ".join(f"{_text(one)}" for one in every)
        warnings.warn(
            f"{path}: holds {len(every)} images ({shapes}), no volume; the largest is read, the first of its size: "
            f"{_text(chosen)}",
            FileWarning,
            stacklevel=5,
        )
    return chosen


def _area(series: tifffile.TiffPageSeries) -> int:
    shape = dict(zip(series.axes, series.shape, strict=True))
    return int(shape["Y"] * shape["X"])


def _reduced(series: tifffile.TiffPageSeries) -> bool:
    return bool(series.keyframe.is_reduced)


def _text(series: tifffile.TiffPageSeries) -> str:
    return " x ".join(f"{letter}{size}" for letter, size in zip(series.axes, series.shape, strict=True)) + f" {series.dtype}"


def photometric(page: Any, path: Path) -> str:
    """The photometric interpretation, where pixels can be read as they are shown."""
    name = getattr(page.photometric, "name", str(page.photometric))
    if name == "YCBCR" and page.compression in _JPEGS:
        return "RGB"
    if name not in _SHOWN:
        raise ValueError(f"{path}: expected grey, RGB or palette colours, got {name}; convert it to RGB first")
    return name


def check_held(file: tifffile.TiffFile, series: tifffile.TiffPageSeries, path: Path) -> None:
    """Sizes that the file can hold, and strips and tiles that lie in it."""
    declared = int(np.prod(series.shape, dtype=object)) * series.dtype.itemsize
    held, first = file.filehandle.size, series.keyframe
    packed = first.compression != 1
    pages = [page for page in series.pages if page is not None]
    if len(pages) < len(series.pages):
        raise ValueError(f"{path}: expected all pages of its image, got some in files that are not there; copy them too")
    if series.dataoffset is not None:
        # one block for all pages, of which only the first is described
        check_size(path, series.dataoffset + declared, held, compressed=False)
    empty = 0
    for page in pages:
        counts, offsets = page.databytecounts, page.dataoffsets
        empty += sum(count == 0 or offset == 0 for offset, count in zip(offsets, counts, strict=False))
        if any(offset + count > held for offset, count in zip(offsets, counts, strict=False) if offset):
            raise ValueError(f"{path}: expected a whole file, got a truncated TIFF: pixels lie behind its end; copy it again")
        if len(counts) != len(offsets) or len(counts) < _segments(first):
            raise ValueError(f"{path}: expected {_segments(first)} strips or tiles in a page, got {len(counts)}; it is damaged")
    bits = max(1, int(first.bitspersample))
    least = declared * bits // (8 * series.dtype.itemsize)
    if not empty and least > held * (_EXPANSION if packed else 1):
        raise ValueError(f"{path}: expected a whole file, got a truncated TIFF that declares {declared} bytes; copy it again")
    check_memory(path, declared)
    if empty:
        warnings.warn(f"{path}: {empty} of its strips or tiles are not there; they are read as 0", FileWarning, stacklevel=5)


def _segments(page: Any) -> int:
    """The least number of strips or tiles of a page."""
    return 1 if page.is_contiguous else int(np.prod(page.chunked, dtype=object))


def arranged(pixels: npt.NDArray[Any], axes: str, path: Path) -> tuple[npt.NDArray[Any], int]:
    """Pixels in the order y, x, [z,] [c], and 1 if there is z."""
    letters = [letter for letter, size in zip(axes, pixels.shape, strict=True) if size > 1 or letter in "YX"]
    pixels = pixels.reshape([size for letter, size in zip(axes, pixels.shape, strict=True) if size > 1 or letter in "YX"])
    stacks = [letter for letter in letters if letter in "ZIQ"]
    channels = [letter for letter in letters if letter in "CS"]
    others = [letter for letter in letters if letter not in "YXZIQCS"]
    if others or len(stacks) > 1:
        got = ", ".join(f"{letter} {size}" for letter, size in zip(letters, pixels.shape, strict=True))
        raise ValueError(
            f"{path}: expected an image or one stack of slices, got axes {got}; extract one point of time, say, first"
        )
    order = [letters.index(letter) for letter in ("Y", "X", *stacks, *channels)]
    pixels = pixels.transpose(order)
    if channels:
        pixels = pixels.reshape(*pixels.shape[: 2 + len(stacks)], -1)
    return pixels, len(stacks)


def looks(rows: npt.NDArray[Any], page: Any, shown: str, *, stored: bool) -> npt.NDArray[Any]:
    """Values as they are shown; `stored`: as they are in the file."""
    if shown == "PALETTE" and not stored and page.colormap is not None:
        # three columns of 16 bits
        return np.moveaxis(np.asarray(page.colormap)[:, rows.astype(np.intp)], 0, -1)
    if stored:
        return rows.astype(np.uint8) if rows.dtype == bool else rows
    if rows.dtype == bool:
        return np.where(rows == (shown != "MINISWHITE"), np.uint8(255), np.uint8(0))
    if shown == "MINISWHITE" and rows.dtype.kind == "u":
        return ((1 << int(page.bitspersample)) - 1 - rows.astype(np.int64)).astype(rows.dtype)
    return rows


class _Collector(logging.Handler):
    """tifffile's complaints, for the file that is being read in this thread."""

    def emit(self, record: logging.LogRecord) -> None:
        told = _READING.get()
        if told is not None:
            told.append(" ".join(record.getMessage().split()))


_READING: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("messages of tifffile", default=None)
logging.getLogger("tifffile").addHandler(_Collector())


@contextmanager
def messages() -> Iterator[list[str]]:
    """What tifffile complains of in this thread, instead of its log."""
    told: list[str] = []
    token = _READING.set(told)
    try:
        yield told
    finally:
        _READING.reset(token)


def write_tiff(image: Image | Labels, path: Path, temporary: Path) -> None:
    """One page, or one page a slice; channels in each.

    Raises
    ------
    ValueError : for a type that readers of TIFF do not agree on.
    """
    values = image.values.astype(np.uint8) if image.values.dtype == bool else image.values
    if values.dtype.str[1:] not in _HELD:
        raise ValueError(
            f"{path}: expected pixels that TIFF can hold, got {values.dtype}; write .nii.gz or .mha, or convert first"
        )
    colour = values.ndim > image.ndim
    axes = (*range(image.ndim)[::-1], *((image.ndim,) if colour else ()))
    pages = np.ascontiguousarray(values.transpose(axes), dtype=values.dtype.newbyteorder("="))
    shown = "rgb" if colour and values.shape[-1] in (3, 4) else "minisblack"
    extra: dict[str, Any] = {"planarconfig": "contig"} if colour else {}
    if colour and values.shape[-1] == 4:
        extra["extrasamples"] = "unassalpha"
    tifffile.imwrite(temporary, pages, photometric=shown, compression="zlib", metadata=None, **extra)
