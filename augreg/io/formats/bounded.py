"""Payloads of image files, read in bounded memory and time, with their checksums looked at.

A header declares how many bytes follow. Before an array of that size is made it must fit in the machine's memory and be possible:
DEFLATE makes at most 1032 bytes of one. gzip's CRC-32 and zlib's Adler-32 are checked to the end of the stream.
"""

from __future__ import annotations

import gzip
import os
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from augreg.io.files import FileWarning

# the most that DEFLATE can make of one byte
_DEFLATE = 1032
# what may follow the pixels of a compressed file; it is read only to reach the checksum
_SURPLUS = 1 << 26
_CHUNK = 1 << 20


def check_size(name: str | os.PathLike[str], declared: int, held: int, *, compressed: bool) -> None:
    """Refuse a declared number of bytes that `held` bytes of a file cannot hold, or that memory cannot.

    Raises
    ------
    ValueError : in one line.
    """
    if declared > held * (_DEFLATE if compressed else 1):
        raise ValueError(
            f"{name}: expected a whole file, got a truncated one: its header declares {declared} bytes of pixels, "
            f"{held}{' compressed' if compressed else ''} bytes are there; copy it again"
        )
    check_memory(name, declared)


def check_memory(name: str | os.PathLike[str], declared: int) -> None:
    """Refuse more bytes than the machine has memory.

    Raises
    ------
    ValueError : in one line.
    """
    memory = _memory()
    if declared > memory:
        raise ValueError(
            f"{name}: expected an image that fits in memory ({memory / 1e9:.1f} GB), got one that declares "
            f"{declared / 1e9:.1f} GB; crop it or make it smaller first, if the header is right"
        )


def _memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 1 << 40


@contextmanager
def refusals(name: str | os.PathLike[str], expected: str = "an image") -> Iterator[None]:
    """Whatever a decoder raises on bad bytes becomes a ValueError of one line; a missing file stays one."""
    try:
        yield
    except MemoryError as error:
        raise ValueError(
            f"{name}: expected an image that fits in memory, got a larger one; crop it or make it smaller"
        ) from error
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except Exception as error:
        # a line of our own names its file and goes on as it is
        if isinstance(error, ValueError) and str(error).startswith(f"{name}: "):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise ValueError(f"{name}: expected {expected}, got a damaged file or something else ({reason[:200]})") from error


def is_gzip(path: Path) -> bool:
    """Whether a file starts as gzip does."""
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, through gzip where it is compressed."""
    with open(path, "rb") as file:
        if file.read(2) == b"\x1f\x8b":
            file.seek(0)
            with gzip.GzipFile(fileobj=file) as stream:
                yield stream  # type: ignore[misc]  # it reads bytes
        else:
            file.seek(0)
            yield file


def filled(stream: BinaryIO, name: str | os.PathLike[str], dtype: npt.DTypeLike, count: int) -> npt.NDArray[Any]:
    """`count` numbers from a stream.

    Raises
    ------
    ValueError : where it ends before.
    """
    out = np.empty(count, dtype=dtype)
    view, got = out.view(np.uint8).data, 0
    while got < len(view):
        part = stream.readinto(view[got : got + _CHUNK])  # type: ignore[attr-defined]
        if not part:
            raise ValueError(
                f"{name}: expected a whole file, got a truncated one: {len(view)} bytes of pixels are declared, "
                f"{got} are there; copy it again"
            )
        got += part
    return out


def ended(stream: BinaryIO, name: str | os.PathLike[str]) -> int:
    """Read on to the end, where the checksum is; returns how much was left.

    Raises
    ------
    ValueError : if far more follows than anybody appends.
    """
    left = 0
    while part := len(stream.read(_CHUNK)):
        left += part
        if left > _SURPLUS:
            raise ValueError(
                f"{name}: expected the pixels that the header declares, got more than {_SURPLUS >> 20} MiB behind them; "
                "the header is wrong"
            )
    return left


def tell_surplus(name: str | os.PathLike[str], surplus: int, *, stacklevel: int) -> None:
    """Warn of bytes behind the pixels: a header that declares too little leaves out a part of the image."""
    if surplus > 0:
        warnings.warn(
            f"{name}: {surplus} bytes behind its pixels are not looked at; is the size in its header right?",
            FileWarning,
            stacklevel=stacklevel + 1,
        )


def inflated(file: BinaryIO, name: str | os.PathLike[str], dtype: npt.DTypeLike, count: int, held: int) -> npt.NDArray[Any]:
    """`count` numbers from a zlib or gzip stream of at most `held` bytes, to its end and its checksum.

    Raises
    ------
    ValueError : if it is damaged, or of another length.
    """
    out = np.empty(count, dtype=dtype)
    view, got = out.view(np.uint8).data, 0
    stream = zlib.decompressobj(wbits=47)
    try:
        while not stream.eof and (chunk := file.read(min(_CHUNK, held))):
            held -= len(chunk)
            while chunk and not stream.eof:
                part = stream.decompress(chunk, _CHUNK)
                if got + len(part) > len(view):
                    raise ValueError(f"{name}: expected {len(view)} bytes of pixels, got more in its compressed data")
                view[got : got + len(part)] = part
                got += len(part)
                chunk = stream.unconsumed_tail
        # what zlib still holds back
        while not stream.eof and (part := stream.decompress(stream.unconsumed_tail, _CHUNK)):
            if got + len(part) > len(view):
                raise ValueError(f"{name}: expected {len(view)} bytes of pixels, got more in its compressed data")
            view[got : got + len(part)] = part
            got += len(part)
    except zlib.error as error:
        raise ValueError(f"{name}: expected a whole file, got damaged compressed pixels ({error}); copy it again") from error
    if not stream.eof or got < len(view):
        raise ValueError(
            f"{name}: expected {len(view)} bytes of compressed pixels, got {got}: truncated or damaged; copy it again"
        )
    return out
