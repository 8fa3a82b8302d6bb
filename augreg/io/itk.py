"""SimpleITK: its images as ours and ours as its, and calls into it.

SimpleITK's arrays have the index order z, y, x; they are transposed here once, so that everywhere else x comes first.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import SimpleITK as sitk

from augreg.geometry.grid import FloatArray
from augreg.geometry.image import Image, Labels
from augreg.io.placed import Placed

_LOCK = threading.Lock()
_CALLS: list[bool] = []


def placed_of(image: sitk.Image, name: str = "image") -> Placed:
    """Values and place of a SimpleITK image.

    Raises
    ------
    ValueError : for complex pixels.
    """
    if "complex" in image.GetPixelIDTypeAsString():
        raise ValueError(f"{name}: expected real pixels, got complex ones; take their magnitude first")
    ndim = image.GetDimension()
    channels = image.GetNumberOfComponentsPerPixel()
    axes = tuple(range(ndim))[::-1] + ((ndim,) if channels > 1 else ())
    values = np.ascontiguousarray(sitk.GetArrayFromImage(image).transpose(axes))
    direction = np.array(image.GetDirection()).reshape(ndim, ndim)
    return Placed(values, np.array(image.GetSpacing()), np.array(image.GetOrigin()), direction)


def to_sitk(image: Image | Labels) -> sitk.Image:
    """Ours as a SimpleITK image; bool becomes uint8, float16 float32, and the byte order the machine's."""
    values, ndim = image.values, image.ndim
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    channels = values.ndim > ndim
    axes = tuple(range(ndim))[::-1] + ((ndim,) if channels else ())
    out = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose(axes)), isVector=channels)
    out.SetSpacing(image.grid.spacing)
    out.SetOrigin(image.grid.origin)
    out.SetDirection(np.ravel(image.grid.direction).tolist())
    return out


def quietly(call, path, expected, *arguments) -> Any:  # type: ignore[no-untyped-def]  # as many signatures as SimpleITK has
    """Call into ITK without its warnings; its errors become one line, and so do names that it cannot take."""
    try:
        for argument in arguments:
            if isinstance(argument, str):
                # ITK ends the process on a name that is not UTF-8
                argument.encode()
        with _without_warnings():
            return call(*arguments)
    except UnicodeEncodeError as error:
        raise ValueError(f"{path}: expected a file name in UTF-8, got one that is not; rename the file") from error
    except MemoryError as error:
        raise ValueError(f"{path}: expected {expected} that fits in memory, got a larger one; make it smaller first") from error
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        reason = lines[-1]
        if "std::bad_alloc" in reason or "Failed to allocate memory" in str(error):
            reason = "it needs more memory than there is"
        raise ValueError(f"{path}: expected {expected}, got a file that cannot be read or written as one ({reason})") from error


@contextmanager
def _without_warnings() -> Iterator[None]:
    """ITK's global flag off while any thread is in here, and afterwards as it was before the first."""
    with _LOCK:
        _CALLS.append(sitk.ProcessObject.GetGlobalWarningDisplay())
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        before = _CALLS[0]
    try:
        yield
    finally:
        with _LOCK:
            _CALLS.pop()
            if _CALLS:
                _CALLS[0] = before
            else:
                sitk.ProcessObject.SetGlobalWarningDisplay(before)


def header_reader(kind: str) -> sitk.ImageFileReader:
    """A reader of one kind of file. Left to choose, it asks HDF5 too, which must not be in two threads at once."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO(kind)
    return reader


def placed_of_header(reader: sitk.ImageFileReader) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Spacing, origin and direction of a reader that has read the information of a file."""
    ndim = reader.GetDimension()
    direction = np.array(reader.GetDirection()).reshape(ndim, ndim)
    return np.array(reader.GetSpacing()), np.array(reader.GetOrigin()), direction
