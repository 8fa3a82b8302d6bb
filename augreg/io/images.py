"""Images and label maps: which reader takes a file, and what is written.

NIfTI, MetaImage and NRRD go by their suffixes; what any other file is, its first bytes say: the same pixels have the same
geometry under every name. Formats without a world, which are PNG, JPEG, BMP, PPM, PGM and TIFF, have spacing 1, origin 0 and no
direction, but for TIFF of microscopes, which may note how large a pixel is. Slides of any size are in `augreg.io.slides`.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from augreg.geometry.image import Image, Labels
from augreg.io.dicom import chosen_of, is_dicom, read_dicom
from augreg.io.files import atomic, existing_file
from augreg.io.formats import metaimage, nifti, nrrd
from augreg.io.formats.foreign import read_foreign
from augreg.io.formats.metaimage import read_metaimage
from augreg.io.formats.nifti import read_nifti
from augreg.io.formats.nrrd import read_nrrd
from augreg.io.formats.pictures import is_picture, read_picture, write_picture
from augreg.io.formats.tiff import is_tiff, read_tiff, write_tiff
from augreg.io.itk import placed_of, quietly, to_sitk
from augreg.io.placed import Placed, Plane, image_of, plane_of
from augreg.io.slides import slide_at
from augreg.io.views import View, view_of

__all__ = [
    "IMAGE_SUFFIXES",
    "read_image",
    "read_labels",
    "read_plane",
    "suffix",
    "write_image",
]

PIXEL_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
_GEOMETRY_SUFFIXES = (".nii", ".nii.gz", ".mha", ".nrrd")
# of images that `write_image` writes
IMAGE_SUFFIXES = (*_GEOMETRY_SUFFIXES, *PIXEL_SUFFIXES)
_OWN = ("?plane=own", "&plane=own")


def suffix(path: str | os.PathLike[str]) -> str:
    """The lower-case suffix, `.nii.gz` as one."""
    name = Path(path).name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def read_image(path: str | os.PathLike[str]) -> Image:
    """An image file, or a folder with the slices of a DICOM series.

    Of a DICOM folder or file that holds more than one volume one is chosen: of several series as `FOLDER?series=UID`, of groups
    of different size or orientation in one series as `?group=K`, of several volumes at one place (time points, echoes, frames
    of a film) as `?frame=N`, or both as `?series=UID&frame=N`; K and N count from 1. Slices that are tilted against their stack
    or slightly uneven are resampled, with a `FileWarning`. Pixel types are kept; colour has shape (*shape, C); PNG, JPEG, BMP,
    PPM and TIFF have spacing 1 mm, origin 0, and are turned as the camera noted. A TIFF in which OME, Aperio or a pyramid notes
    the size of a pixel has that spacing. Of a pyramid the finest level is read, as `FILE?level=K` level K; `?channel=N` and
    `?pixel=MM` as in `read_slide`, which reads slides that are too large for this.

    A volume of one axial slice, shape (nx, ny, 1), is read as 2-D: its x and y are kept. One slice of another orientation has no
    place in a 2-D world and is refused; `FILE?plane=own` reads it in the plane's own axes, spacing as in the file, and
    `read_plane` gives the way between the two. Volumes that are one voxel thin along another axis stay 3-D; `?plane=own` makes
    them 2-D too.

    What the file leaves open, or gets wrong, and how it was read, is said in a `FileWarning`.

    Raises
    ------
    FileNotFoundError : if there is nothing at `path`.
    ValueError : if it is truncated, damaged, no image, or a folder without a series or with several.
    """
    name, own = _parted(path)
    return image_of(_placed(name), name, own=own)


def read_labels(path: str | os.PathLike[str]) -> Labels:
    """A label map; whole numbers stored as floating point are accepted, and of a palette the indices are the labels.

    Raises
    ------
    As `read_image`, and ValueError for colour images and for values that are not whole numbers.
    """
    name, own = _parted(path)
    image = image_of(_placed(name, stored=True), name, own=own)
    values: npt.NDArray[Any] = image.values
    if values.ndim > image.ndim:
        raise ValueError(
            f"{path}: expected a label map, got a colour image with {image.channels} channels; write one of "
            "whole numbers, 0 where there is nothing, as by np.array(PIL.Image.open(name).convert('L')) > 0 for one structure"
        )
    if values.dtype.kind == "f":
        largest = float(np.abs(values).max())
        # what a float64 counts to without gaps; NaN is not below it
        if not (largest <= 2**53 and np.array_equal(values, np.rint(values))):
            raise ValueError(
                f"{path}: expected integer labels, got values that are not whole numbers; threshold or round them first"
            )
        values = values.astype(np.int32 if largest < 2**31 else np.int64)
    return Labels(values, image.grid)


def read_plane(path: str | os.PathLike[str]) -> Plane:
    """The plane of a volume of one slice: `points_3d` and `points_2d` go between the world and the image that is read of it.

    That is the image of `read_image(FILE)` where the slice is axial, else, and always with `FILE?plane=own`, the one of
    `read_image("FILE?plane=own")`.

    Raises
    ------
    As `read_image`, and ValueError where there is not one slice.
    """
    name, own = _parted(path)
    return plane_of(_placed(name), name, own=own)


def _parted(path: str | os.PathLike[str]) -> tuple[str, bool]:
    """A name, and whether its plane's own axes are asked for."""
    name = os.fspath(path)
    for ending in _OWN:
        if name.endswith(ending) and not os.path.lexists(name):
            return name.removesuffix(ending), True
    return name, False


def _placed(name: str, *, stored: bool = False) -> Placed:
    """Values and place, by the reader of what the file is; `stored`: the indices of palettes."""
    view = view_of(name)
    if os.fspath(view.path) != name:
        return _viewed(view, name, stored=stored)
    chosen = chosen_of(name)
    found = existing_file(chosen.path)
    lower = found.name.lower()
    # a name that promises a place in the world is taken by its word
    for suffixes, read in ((nifti.SUFFIXES, read_nifti), (metaimage.SUFFIXES, read_metaimage), (nrrd.SUFFIXES, read_nrrd)):
        if found.is_file() and lower.endswith(suffixes):
            return read(found)
    if is_dicom(found):
        return placed_of(read_dicom(chosen), name)
    with open(found, "rb") as file:
        head = file.read(132)
    if is_tiff(head):
        return read_tiff(found, stored=stored)
    if is_picture(head):
        return read_picture(found, stored=stored)
    if head.startswith(b"NRRD000"):
        return read_nrrd(found)
    if lower.endswith(PIXEL_SUFFIXES):
        raise ValueError(f"{found}: expected an image, got a file that is none: its first bytes are of no format known here")
    return read_foreign(found)


def _viewed(view: View, name: str, *, stored: bool) -> Placed:
    """What is asked of a slide; a channel or the size of a pixel, of other files too."""
    slide = slide_at(name)
    if slide is not None:
        image = slide.level(slide.asked or 0)
        return Placed(image.values, np.array(image.grid.spacing), np.array(image.grid.origin), image.grid.axes)
    placed = _placed(os.fspath(view.path), stored=stored)
    if view.level:
        raise ValueError(f"{view.path}: expected level 0, of an image that has no others, got {view.level}")
    if view.channel is not None:
        held = placed.values.shape[len(placed.spacing) :]
        if not view.channel.isdecimal() or int(view.channel) >= (held or (1,))[0]:
            raise ValueError(f"{view.path}: expected a channel from 0 to {(held or (1,))[0] - 1}, got {view.channel!r}")
        placed = replace(placed, values=placed.values[..., int(view.channel)] if held else placed.values)
    if view.pixel is not None:
        placed = replace(placed, spacing=np.full(len(placed.spacing), view.pixel))
    return placed


def write_image(image: Image | Labels, path: str | os.PathLike[str]) -> None:
    """Write an image or label map, atomically, in the format of the suffix and with its pixel type (bool becomes uint8).

    What was written is read back before it takes the place of an older file: a disk that is full must not cost it.

    Raises
    ------
    ValueError : for an unknown suffix, or a format that cannot hold the pixels. FileNotFoundError : without a folder.
    OSError : if the file does not hold what was written, as on a full disk.
    """
    kind = suffix(path)
    if kind in (".mhd", ".nhdr"):
        one = {".mhd": ".mha", ".nhdr": ".nrrd"}[kind]
        raise ValueError(f"{path}: expected one file, {kind} needs two that point at each other; write {one}")
    if kind not in IMAGE_SUFFIXES:
        raise ValueError(f"{path}: expected a suffix among {' '.join(IMAGE_SUFFIXES)}, got {kind!r}")
    if kind in PIXEL_SUFFIXES:
        _check_pixels(image, path, kind)
    with atomic(path) as temporary:
        if kind in (".tif", ".tiff"):
            write_tiff(image, Path(path), temporary)
        elif kind in PIXEL_SUFFIXES:
            temporary.write_bytes(write_picture(image, Path(path), kind))
        else:
            _write_by_itk(image, path, temporary, compress=kind != ".nii")
        if kind not in (".jpg", ".jpeg"):
            check_written(image, path, temporary)


def _check_pixels(image: Image | Labels, path: str | os.PathLike[str], kind: str) -> None:
    dtype = image.values.dtype
    if image.ndim != 2 and kind not in (".tif", ".tiff"):
        raise ValueError(f"{path}: expected a 2-D image for {kind}, got {image.ndim}-D; write .nii.gz or .mha")
    if isinstance(image, Labels) and kind in (".jpg", ".jpeg"):
        raise ValueError(
            f"{path}: expected a format that keeps labels as they are, got JPEG, which changes them; write .png or .nii.gz"
        )
    held = {".tif": "u1 u2 i2 f4", ".tiff": "u1 u2 i2 f4", ".png": "u1 u2", ".pgm": "u1 u2"}.get(kind, "u1").split()
    if dtype.str[1:] not in [*held, "b1"]:
        raise ValueError(f"{path}: expected pixels that {kind} can hold, got {dtype}; write .nii.gz or .mha, or convert first")


def _write_by_itk(image: Image | Labels, path: str | os.PathLike[str], temporary: Path, *, compress: bool) -> None:
    # ITK knows suffixes in lower case only
    own = temporary.with_name(temporary.name.lower())
    try:
        quietly(sitk.WriteImage, path, "a format that can hold the image", to_sitk(image), str(own), compress)
        os.replace(own, temporary)
    except ValueError as error:
        if "UTF-8" in str(error) or "Unknown" in str(error):
            raise
        raise OSError(f"{path}: expected a place to write to, got an error while writing; is the disk full? ({error})") from error
    finally:
        if own != temporary:
            own.unlink(missing_ok=True)


def check_written(image: Image | Labels, path: str | os.PathLike[str], temporary: Path) -> None:
    """Compare a file with what was to be in it; ITK says nothing of a disk that is full.

    Raises
    ------
    OSError : if it is not that.
    """
    try:
        values = _placed(str(temporary), stored=True).values
    except (ValueError, FileNotFoundError) as error:
        raise OSError(f"{path}: expected a whole file, wrote a part of it; is the disk full? Nothing was replaced") from error
    ours = image.values.astype(np.float32) if image.values.dtype == np.float16 else image.values
    if not np.array_equal(values.ravel(), ours.ravel(), equal_nan=ours.dtype.kind == "f"):
        raise OSError(f"{path}: expected to read what was written, got other values; is the disk full? Nothing was replaced")
