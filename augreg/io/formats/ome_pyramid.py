"""A pyramid as OME-TIFF, written from top to bottom in little memory.

Every level is made of the one before while that is written, by means of 2 x 2 pixels, of label maps by every other pixel; it
waits in a file without a name for its turn, since TIFF wants one level after the other. Levels are in SubIFDs, as OME asks for;
the size of a pixel is in OME-XML and, for others, in the resolution tags.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import tifffile

Rows = npt.NDArray[Any]
Compression = Literal["jpeg", "deflate", "none"]

TILE = 512
# longest side of the coarsest level, at most
_COARSEST = 1024
_JPEG = 90
# bytes from which on offsets need 64 bits; deflate may make a file larger
_LARGE = 1 << 31


@dataclass(frozen=True)
class Pixels:
    """What is written.

    Parameters
    ----------
    shape : height, width
    planes : that lie apart: channels that are no colour
    samples : of a pixel, that lie together: 3 of a colour, else 1
    dtype : of the values
    size : sides of a pixel along x and y, mm; None where it is not known
    names : of the channels
    compression : jpeg changes values a little, and holds 8 bits only
    labels : coarser levels take values as they are
    """

    shape: tuple[int, int]
    planes: int
    samples: int
    dtype: np.dtype
    size: tuple[float, float] | None
    names: tuple[str, ...] = ()
    compression: Compression = "deflate"
    labels: bool = False

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Height and width of all levels."""
        shapes = [self.shape]
        while max(shapes[-1]) > _COARSEST and min(shapes[-1]) > 1:
            shapes.append((shapes[-1][0] // 2, shapes[-1][1] // 2))
        return shapes


def write_pyramid(temporary: Path, pixels: Pixels, bands: Callable[[int], Iterator[Rows]], halve: Callable[[Rows], Rows]) -> None:
    """Write all levels.

    Parameters
    ----------
    temporary : the file
    pixels : what is written
    bands : of a plane, its values (TILE rows, of the last band fewer; columns; samples) from top to bottom
    halve : values of a coarser level, (rows // 2, columns // 2, samples)
    """
    shapes = pixels.shapes
    options = _options(pixels)
    with (
        ExitStack() as stack,
        tifffile.TiffWriter(temporary, ome=True, bigtiff=_declared(pixels) > _LARGE) as writer,
    ):
        # each level waits in a file of its own
        waiting = [stack.enter_context(tempfile.TemporaryFile(dir=temporary.parent)) for _ in shapes[1:]]
        for k, shape in enumerate(shapes):
            coarser = waiting[k] if k + 1 < len(shapes) else None
            finer = bands if k == 0 else _read(waiting[k - 1], shape, pixels)
            tiles = (tile for plane in range(pixels.planes) for tile in _tiles(finer(plane), coarser, halve))
            first = {"subifds": len(shapes) - 1, "metadata": _notes(pixels)} if k == 0 else {"subfiletype": 1, "metadata": None}
            # resolution tags are of the level that they stand in
            writer.write(tiles, shape=_full(shape, pixels), dtype=pixels.dtype, **_resolution(pixels, 2**k), **first, **options)
            if k:
                waiting[k - 1].close()


def _tiles(bands: Iterator[Rows], coarser: BinaryIO | None, halve: Callable[[Rows], Rows]) -> Iterator[Rows]:
    """Tiles of bands, from left to right; what the coarser level has is put aside."""
    for band in bands:
        if coarser is not None and len(band) > 1:
            coarser.write(np.ascontiguousarray(halve(band)).data)
        for left in range(0, band.shape[1], TILE):
            part = band[:, left : left + TILE]
            tile = part
            if part.shape[:2] != (TILE, TILE):
                tile = np.zeros((TILE, TILE, part.shape[2]), part.dtype)
                tile[: part.shape[0], : part.shape[1]] = part
            yield np.ascontiguousarray(tile if tile.shape[2] > 1 else tile[..., 0])


def _read(waiting: BinaryIO, shape: tuple[int, int], pixels: Pixels) -> Callable[[int], Iterator[Rows]]:
    """The bands of a level that waits."""
    height, width = shape
    row = width * pixels.samples * pixels.dtype.itemsize

    def bands(plane: int) -> Iterator[Rows]:
        for top in range(0, height, TILE):
            count = min(TILE, height - top)
            waiting.seek((plane * height + top) * row)
            yield np.frombuffer(waiting.read(count * row), pixels.dtype).reshape(count, width, pixels.samples)

    return bands


def _full(shape: tuple[int, int], pixels: Pixels) -> tuple[int, ...]:
    if pixels.samples > 1:
        return (*shape, pixels.samples)
    return shape if pixels.planes == 1 else (pixels.planes, *shape)


def _declared(pixels: Pixels) -> int:
    height, width = pixels.shape
    return height * width * pixels.planes * pixels.samples * pixels.dtype.itemsize * 4 // 3


def _options(pixels: Pixels) -> dict[str, Any]:
    options: dict[str, Any] = {"tile": (TILE, TILE), "photometric": "rgb" if pixels.samples == 3 else "minisblack"}
    if pixels.compression == "jpeg":
        options |= {"compression": "jpeg", "compressionargs": {"level": _JPEG}}
    elif pixels.compression == "deflate":
        # the least effort: it takes a fifth of the time for a tenth more bytes
        options |= {"compression": "zlib", "compressionargs": {"level": 1}, "predictor": pixels.dtype.kind in "iu"}
    return options


def _notes(pixels: Pixels) -> dict[str, Any]:
    """What OME-XML says."""
    axes = "YXS" if pixels.samples > 1 else "YX" if pixels.planes == 1 else "CYX"
    notes: dict[str, Any] = {"axes": axes}
    if pixels.size is not None:
        for axis, side in zip("XY", pixels.size, strict=True):
            notes |= {f"PhysicalSize{axis}": side * 1e3, f"PhysicalSize{axis}Unit": "µm"}
    if pixels.names and pixels.planes > 1:
        notes["Channel"] = {"Name": list(pixels.names)}
    return notes


def _resolution(pixels: Pixels, factor: int) -> dict[str, Any]:
    """Pixels of a centimetre."""
    if pixels.size is None:
        return {}
    counts: Sequence[float] = [10 / (side * factor) for side in pixels.size]
    return {"resolution": tuple(counts), "resolutionunit": "CENTIMETER"}
