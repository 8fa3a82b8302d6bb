"""Images and label maps through SimpleITK.

SimpleITK's arrays have the index order z, y, x; they are transposed here once, so that everywhere else x comes first.
"""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from augreg.grid import Grid
from augreg.image import Image, Labels
from augreg.io.dicom import chosen_of, is_dicom, read_dicom
from augreg.io.files import atomic, existing_file

# their resolution tags describe prints and screens, not the world
PIXEL_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
_BYTES = {"16-bit": 2, "32-bit": 4, "64-bit": 8, "8-bit": 1}
_GEOMETRY_SUFFIXES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr")
# of images that `write_image` writes
IMAGE_SUFFIXES = (*(s for s in _GEOMETRY_SUFFIXES if s != ".mhd"), *PIXEL_SUFFIXES)


def suffix(path: str | os.PathLike[str]) -> str:
    """The lower-case suffix, `.nii.gz` as one."""
    name = Path(path).name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def read_image(path: str | os.PathLike[str]) -> Image:
    """An image of any format SimpleITK reads, or a folder with the slices of a DICOM series.

    Of a DICOM folder or file that holds more than one volume one is chosen: of several series as `FOLDER?series=UID`, of groups
    of different size or orientation in one series as `?group=K`, of several volumes at one place (time points, echoes, frames
    of a film) as `?frame=N`, or both as `?series=UID&frame=N`; K and N count from 1. Slices that are tilted against their stack
    or slightly uneven are resampled, with a `FileWarning`. Pixel types are kept; colour has shape (*shape, C); a volume of one
    slice is read as 2-D; PNG, JPEG, BMP and TIFF have spacing 1 mm, origin 0.

    Raises
    ------
    FileNotFoundError : if there is nothing at `path`.
    ValueError : if it is truncated, no image, or a folder without a series or with several.
    """
    chosen = chosen_of(path)
    if is_dicom(chosen.path):
        existing_file(chosen.path)
        image = read_dicom(chosen)
    else:
        found = existing_file(path)
        _check_complete(found)
        image = _quietly(sitk.ReadImage, found, "an image", str(found))
        if suffix(path) in (".nii", ".nii.gz") and "float" in image.GetPixelIDTypeAsString():
            read = from_sitk(image, name=str(path))
            return read.with_values(_with_not_finite(read.values, found))
    return from_sitk(image, pixels=suffix(path) in PIXEL_SUFFIXES, name=str(path))


def read_labels(path: str | os.PathLike[str]) -> Labels:
    """A label map; whole numbers stored as floating point are accepted.

    Raises
    ------
    As `read_image`, and ValueError for colour images and for values that are not whole numbers.
    """
    image = read_image(path)
    values: npt.NDArray[Any] = image.values
    if values.ndim > image.ndim:
        raise ValueError(f"{path}: expected a label map, got a colour image with {image.channels} channels")
    if values.dtype.kind == "f":
        if not (np.isfinite(values).all() and np.array_equal(values, np.rint(values)) and np.abs(values).max() < 2**31):
            raise ValueError(
                f"{path}: expected integer labels, got values that are not whole numbers; threshold or round them first"
            )
        values = values.astype(np.int32)
    return Labels(values, image.grid)


def write_image(image: Image | Labels, path: str | os.PathLike[str]) -> None:
    """Write an image or label map, atomically, in the format of the suffix and with its pixel type (bool becomes uint8).

    Raises
    ------
    ValueError : for an unknown suffix, or a format that cannot hold the pixel type. FileNotFoundError : without a folder.
    """
    kind = suffix(path)
    if kind not in (*PIXEL_SUFFIXES, *_GEOMETRY_SUFFIXES):
        raise ValueError(f"{path}: expected a suffix among {' '.join((*_GEOMETRY_SUFFIXES, *PIXEL_SUFFIXES))}, got {kind!r}")
    dtype = image.values.dtype
    if kind in PIXEL_SUFFIXES:
        if image.ndim != 2 and kind not in (".tif", ".tiff"):
            raise ValueError(f"{path}: expected a 2-D image for {kind}, got {image.ndim}-D; write .nii.gz or .mha")
        held = {".tif": "u1 u2 i2 f4", ".tiff": "u1 u2 i2 f4", ".png": "b1 u1 u2"}.get(kind, "b1 u1").split()
        if dtype.str[1:] not in [*held, "b1"]:
            raise ValueError(
                f"{path}: expected pixels that {kind} can hold, got {dtype}; write .nii.gz or .mha, or convert first"
            )
    with atomic(path) as temporary:
        if kind == ".mhd":
            raise ValueError(f"{path}: expected one file, .mhd needs two that point at each other; write .mha")
        _quietly(sitk.WriteImage, path, "a format that can hold the image", to_sitk(image), str(temporary), kind != ".nii")


def from_sitk(image: sitk.Image, *, pixels: bool = False, name: str = "image") -> Image:
    """A SimpleITK image as ours; `pixels` drops the geometry."""
    if "complex" in image.GetPixelIDTypeAsString():
        raise ValueError(f"{name}: expected real pixels, got complex ones; take their magnitude first")
    ndim = image.GetDimension()
    channels = image.GetNumberOfComponentsPerPixel()
    values = sitk.GetArrayFromImage(image)
    axes = tuple(range(ndim))[::-1] + ((ndim,) if channels > 1 else ())
    values = np.ascontiguousarray(values.transpose(axes))
    spacing, origin = np.array(image.GetSpacing()), np.array(image.GetOrigin())
    direction = np.array(image.GetDirection()).reshape(ndim, ndim)
    while ndim > 2 and values.shape[ndim - 1] == 1:
        # one slice of a volume is an image: the plane's own axes, as far as they lie in the first world axes
        values = values[(slice(None),) * (ndim - 1) + (0,)]
        ndim -= 1
        spacing, origin, direction = spacing[:ndim], origin[:ndim], direction[:ndim, :ndim]
        if not np.allclose(direction.T @ direction, np.eye(ndim), atol=1e-4):
            direction = np.eye(ndim)
    if ndim > 3:
        raise ValueError(f"{name}: expected a 2-D or 3-D image, got {ndim}-D; extract one frame first")
    if pixels:
        return Image(values, Grid(values.shape[:ndim]))
    # files keep directions in few digits; the nearest orthonormal matrix is what was meant
    u, _, vt = np.linalg.svd(direction)
    if np.allclose(direction, u @ vt, atol=1e-3) and not np.allclose(direction.T @ direction, np.eye(ndim), atol=1e-6):
        direction = u @ vt
    try:
        grid = Grid(values.shape[:ndim], tuple(spacing), tuple(origin), direction)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return Image(values, grid)


def to_sitk(image: Image | Labels) -> sitk.Image:
    """Ours as a SimpleITK image."""
    values, ndim = image.values, image.ndim
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    channels = values.ndim > ndim
    axes = tuple(range(ndim))[::-1] + ((ndim,) if channels else ())
    out = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose(axes)), isVector=channels)
    out.SetSpacing(image.grid.spacing)
    out.SetOrigin(image.grid.origin)
    out.SetDirection(np.ravel(image.grid.direction).tolist())
    return out


def _check_complete(path: Path) -> None:
    """Truncated files that ITK's readers would fill with zeros, or read on past their end."""
    kind = suffix(path)
    if kind == ".nii.gz":
        # ITK ignores a missing end; zlib knows whether the stream was finished
        stream = zlib.decompressobj(wbits=31)
        with open(path, "rb") as file:
            if file.peek(2)[:2] != b"\x1f\x8b":
                return
            try:
                while chunk := file.read(1 << 20):
                    stream.decompress(chunk)
                    if stream.eof:
                        return
            except zlib.error:
                pass
        raise ValueError(f"{path}: expected a whole file, got a truncated or damaged gzip stream; copy it again")
    if kind == ".nii":
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        _quietly(reader.ReadImageInformation, path, "an image")
        pixels = np.prod(reader.GetSize(), dtype=np.int64) * reader.GetNumberOfComponents()
        kind_of_pixel = sitk.GetPixelIDValueAsString(reader.GetPixelID())
        size = next((size for name, size in _BYTES.items() if name in kind_of_pixel), 1)
        if path.stat().st_size < 348 + pixels * size:
            raise ValueError(f"{path}: expected a whole file, got a truncated NIfTI; copy it again")
    if kind in (".jpg", ".jpeg"):
        content = path.read_bytes()
        if content.startswith(b"\xff\xd8") and b"\xff\xd9" not in content[-64:]:
            raise ValueError(f"{path}: expected a whole file, got a truncated JPEG; copy it again")
    if kind == ".png" and (content := path.read_bytes()).startswith(b"\x89PNG") and b"IEND" not in content[-64:]:
        raise ValueError(f"{path}: expected a whole file, got a truncated PNG; copy it again")
    if kind == ".bmp":
        head = path.read_bytes()[:6]
        if head[:2] == b"BM" and int.from_bytes(head[2:6], "little") > path.stat().st_size:
            raise ValueError(f"{path}: expected a whole file, got a truncated BMP; copy it again")


def _with_not_finite(values: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    """Values (*shape) or (*shape, C) of a NIfTI file with the NaN and infinite ones, which ITK's reader makes 0."""
    with gzip.open(path) if suffix(path) == ".nii.gz" else open(path, "rb") as file:
        content = file.read()
    order = next((order for order in "<>" if content[:4] == np.array(348, f"{order}i4").tobytes()), None)
    if order is None:
        return values
    kind = {16: "f4", 64: "f8"}.get(int(np.frombuffer(content, f"{order}i2", 1, 70)[0]))
    start = int(np.frombuffer(content, f"{order}f4", 1, 108)[0])
    if kind is None or len(content) < start + values.size * int(kind[1]):
        return values
    # the first index runs fastest, components slowest
    stored = np.frombuffer(content, order + kind, values.size, start).reshape(values.shape, order="F")
    finite = np.isfinite(stored)
    return values if finite.all() else np.where(finite, values, stored).astype(values.dtype)


def _quietly(call, path, expected, *arguments):  # type: ignore[no-untyped-def]  # as many signatures as SimpleITK has
    """Call into ITK without its messages on stderr; its errors become one line."""
    previous = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    # libraries below ITK (png, tiff, gdcm) write to the file descriptor itself
    saved, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        return call(*arguments)
    except RuntimeError as error:
        reason = [line.strip() for line in str(error).splitlines() if line.strip()][-1]
        raise ValueError(f"{path}: expected {expected}, got a file that cannot be read or written as one ({reason})") from error
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)
        sitk.ProcessObject.SetGlobalWarningDisplay(previous)
