"""Levels of a TIFF, of which parts are read: a pyramid never has to be in memory as a whole.

tifffile says where strips and tiles lie and how they are decoded; then the file is closed, and opened again for every part that
is asked for. Tiles that were decoded last are kept, up to some megabytes.
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import tifffile

from augreg.io.files import FileWarning
from augreg.io.formats.bounded import check_memory

Rows = npt.NDArray[Any]
Key = tuple[int, int, int]

# bytes of decoded tiles that are kept
_KEPT = 1 << 26


@dataclass(frozen=True, eq=False)
class Page:
    """One plane of a level.

    Parameters
    ----------
    offsets, counts : where its segments lie in the file, by separate sample, then by row of segments
    decode : bytes and number of a segment to its values and their place
    raw : offset of values that lie in the file as they are, row by row; None where there are none
    """

    offsets: Sequence[int]
    counts: Sequence[int]
    decode: Callable[[bytes | None, int], Any]
    raw: int | None


@dataclass(frozen=True, eq=False)
class TiffLevel:
    """A level: pages of one size and kind, whose samples together are its channels.

    Parameters
    ----------
    shape : height, width
    segment : height and width of strips or tiles
    separate, samples : planes that lie apart in a page, and samples of a pixel that lie together
    dtype : of the values, in the file's byte order
    pages : one or several
    inverted : what is added to minus a value where white is zero; None where it is not
    """

    shape: tuple[int, int]
    segment: tuple[int, int]
    separate: int
    samples: int
    dtype: np.dtype
    pages: tuple[Page, ...]
    inverted: int | None

    @property
    def channels(self) -> int:
        """Of all pages."""
        return len(self.pages) * self.separate * self.samples


def level_of(path: Path, series: tifffile.TiffPageSeries, inverted: int | None) -> TiffLevel:
    """The level of a series of pages; `inverted` as in `TiffLevel`.

    Raises
    ------
    ValueError : where segments lie behind the file's end, or there are too few.
    """
    first, file_order = series.keyframe, series.keyframe.parent.byteorder
    held = path.stat().st_size
    pages, empty = [], 0
    for page in series.pages:
        if page is None:
            raise ValueError(f"{path}: expected all pages of its image, got some in files that are not there; copy them too")
        offsets, counts = page.dataoffsets, page.databytecounts
        if any(offset + count > held for offset, count in zip(offsets, counts, strict=False) if offset):
            raise ValueError(f"{path}: expected a whole file, got a truncated TIFF: pixels lie behind its end; copy it again")
        needed = 1 if first.is_contiguous else int(np.prod(first.chunked, dtype=object))
        if len(counts) != len(offsets) or len(counts) < needed:
            raise ValueError(f"{path}: expected {needed} strips or tiles in a page, got {len(counts)}; it is damaged")
        empty += sum(count == 0 or offset == 0 for offset, count in zip(offsets, counts, strict=True))
        raw = offsets[0] if first.is_memmappable else None
        pages.append(Page(offsets, counts, _decoder(page), raw))
    if empty:
        warnings.warn(f"{path}: {empty} of its strips or tiles are not there; they are read as 0", FileWarning, stacklevel=5)
    separate, _, height, width, samples = first.shaped
    segment = (first.tilelength, first.tilewidth) if first.is_tiled else (min(first.rowsperstrip, height), width)
    dtype = np.dtype(first.dtype).newbyteorder(file_order)
    return TiffLevel((height, width), segment, separate, samples, dtype, tuple(pages), inverted)


def _decoder(page: Any) -> Callable[[bytes | None, int], Any]:
    first = page.keyframe
    known = {"jpegtables": page.jpegtables, "jpegheader": first.jpegheader} if first.compression in (6, 7, 34892, 33007) else {}
    decode = first.decode
    return lambda data, number: decode(data, number, **known)


@dataclass(frozen=True, eq=False)
class TiffLevels:
    """The levels of a file, fine to coarse."""

    path: Path
    levels: tuple[TiffLevel, ...] = field(repr=False)
    _kept: OrderedDict[Key, Rows] = field(default_factory=OrderedDict, repr=False)
    _bytes: list[int] = field(default_factory=lambda: [0], repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def rows(self, number: int, y: slice, x: slice, channels: Sequence[int]) -> Rows:
        """Values (rows, columns, channels) of a part of a level that lies in it.

        Raises
        ------
        ValueError : for damaged tiles.
        """
        level = self.levels[number]
        height, width = y.stop - y.start, x.stop - x.start
        check_memory(self.path, height * width * len(channels) * level.dtype.itemsize)
        out = np.empty((height, width, len(channels)), level.dtype.newbyteorder("="))
        of_page = level.separate * level.samples
        with open(self.path, "rb") as file:
            for p in sorted({channel // of_page for channel in channels}):
                wanted = [(place, c % of_page) for place, c in enumerate(channels) if c // of_page == p]
                if level.pages[p].raw is not None:
                    self._mapped(level, p, y, x, wanted, out)
                else:
                    self._decoded(number, p, (y, x), wanted, out, file)
        if level.inverted is not None:
            np.subtract(level.inverted, out, out=out, casting="unsafe")
        return out

    def _mapped(self, level: TiffLevel, p: int, y: slice, x: slice, wanted: list[tuple[int, int]], out: Rows) -> None:
        """From values that lie in the file as they are."""
        shape = (level.separate, *level.shape, level.samples)
        values = np.memmap(self.path, level.dtype, "r", offset=level.pages[p].raw or 0, shape=shape)
        for place, channel in wanted:
            out[..., place] = values[channel // level.samples, y, x, channel % level.samples]

    def _decoded(
        self, number: int, p: int, part: tuple[slice, slice], wanted: list[tuple[int, int]], out: Rows, file: BinaryIO
    ) -> None:
        """From strips or tiles."""
        level, (y, x) = self.levels[number], part
        height, width = level.segment
        down, across = -(-level.shape[0] // height), -(-level.shape[1] // width)
        for s in sorted({channel // level.samples for _, channel in wanted}):
            inner = [(place, c % level.samples) for place, c in wanted if c // level.samples == s]
            places, samples = zip(*inner, strict=True)
            whole = list(samples) == list(range(level.samples)) and list(places) == list(range(out.shape[2]))
            for row in range(y.start // height, -(-y.stop // height)):
                for column in range(x.start // width, -(-x.stop // width)):
                    tile = self._tile((number, p, (s * down + row) * across + column), file)
                    top, left = row * height, column * width
                    ys = slice(max(y.start, top), min(y.stop, top + tile.shape[0]))
                    xs = slice(max(x.start, left), min(x.stop, left + tile.shape[1]))
                    seen = tile[ys.start - top : ys.stop - top, xs.start - left : xs.stop - left]
                    here = out[ys.start - y.start : ys.stop - y.start, xs.start - x.start : xs.stop - x.start]
                    if whole:
                        here[...] = seen
                    else:
                        here[..., list(places)] = seen[..., list(samples)]

    def _tile(self, key: Key, file: BinaryIO) -> Rows:
        """A strip or tile, (rows, columns, samples)."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        level = self.levels[key[0]]
        page, n = level.pages[key[1]], key[2]
        data = None
        if page.counts[n] and page.offsets[n]:
            file.seek(page.offsets[n])
            data = file.read(page.counts[n])
        try:
            values, _, shape = page.decode(data, n)
            # depth, rows, columns, samples
            tile = np.zeros(shape, level.dtype) if values is None else np.asarray(values).reshape(shape)
        except MemoryError:
            raise
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise ValueError(
                f"{self.path}: expected whole tiles, got a damaged one, number {n} of level {key[0]} ({reason[:120]}); "
                "copy the file again"
            ) from error
        with self._lock:
            if key not in self._kept:
                self._kept[key] = tile[0]
                self._bytes[0] += tile[0].nbytes
            while self._bytes[0] > _KEPT and len(self._kept) > 1:
                self._bytes[0] -= self._kept.popitem(last=False)[1].nbytes
        return tile[0]
