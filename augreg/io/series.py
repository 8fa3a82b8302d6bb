"""Series of frames on one grid: 4-D NIfTI and TIFF of many pages, read and written."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import tifffile

from augreg.geometry.grid import Grid
from augreg.geometry.image import Image
from augreg.io.files import atomic, existing_file
from augreg.io.formats import nifti
from augreg.io.formats.nifti import read_nifti_frames
from augreg.io.formats.tiff import is_tiff
from augreg.io.formats.tiff_frames import read_tiff_frames
from augreg.io.placed import image_of

# world of NIfTI is RAS
_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SERIES_SUFFIXES = (".nii.gz", ".nii", ".tif", ".tiff")


@dataclass(frozen=True, eq=False)
class Series:
    """Frames on one grid, one after the other in time.

    Parameters
    ----------
    values : (T, *shape) or (T, *shape, C)
    grid : of every frame
    step : seconds between frames; None where it is not known

    Raises
    ------
    ValueError : for shapes that disagree, and for less than two frames.
    """

    values: npt.NDArray[Any]
    grid: Grid
    step: float | None = None

    def __post_init__(self) -> None:
        ndim = self.grid.ndim
        if self.values.shape[1 : 1 + ndim] != self.grid.shape or self.values.ndim > ndim + 2:
            raise ValueError(f"values: expected frames of shape {self.grid.shape}, got {self.values.shape[1:]}")
        if len(self.values) < 2:
            raise ValueError(f"values: expected a series of at least two frames, got {len(self.values)}")

    def __len__(self) -> int:
        return len(self.values)

    def frame(self, number: int) -> Image:
        """A frame, from 0."""
        return Image(np.ascontiguousarray(self.values[number]), self.grid)


def read_series(path: str | os.PathLike[str]) -> Series:
    """The frames of a 4-D NIfTI file (2-D where all have one slice) or of a TIFF with many pages.

    Raises
    ------
    FileNotFoundError : if there is nothing. ValueError : for another file, a truncated one, or one frame.
    """
    found = existing_file(path)
    step = None
    if found.name.lower().endswith(nifti.SUFFIXES):
        placed, step = read_nifti_frames(found)
    else:
        with open(found, "rb") as file:
            head = file.read(8)
        if not is_tiff(head):
            raise ValueError(f"{found}: expected a series, 4-D NIfTI or a TIFF with many pages, got another file")
        placed = read_tiff_frames(found)
    ndim = len(placed.spacing)
    values = np.moveaxis(placed.values, ndim, 0)
    # one frame tells what grid all of them have
    first = image_of(replace(placed, values=values[0]), os.fspath(path))
    if first.ndim < ndim:
        values = values[:, :, :, 0]
    return Series(values, first.grid, step)


def write_series(series: Series, path: str | os.PathLike[str]) -> None:
    """Write 4-D NIfTI, or a TIFF with a page a frame, by the suffix; atomically, with the type of the values.

    Raises
    ------
    ValueError : for another suffix, and for what the format cannot hold.
    """
    name = Path(path).name.lower()
    if not name.endswith(SERIES_SUFFIXES):
        raise ValueError(f"{path}: expected a suffix among {' '.join(SERIES_SUFFIXES)}, got {Path(path).suffix!r}")
    colour = series.values.ndim > 1 + series.grid.ndim
    with atomic(path) as temporary:
        if name.endswith((".tif", ".tiff")):
            _write_tiff(series, temporary)
            return
        if colour:
            raise ValueError(f"{path}: expected one channel for a series of NIfTI, got {series.values.shape[-1]}; write .tif")
        nibabel.save(_nifti(series), temporary)


def _write_tiff(series: Series, temporary: Path) -> None:
    ndim = series.grid.ndim
    colour = series.values.ndim > 1 + ndim
    pages = series.values.transpose(0, *range(ndim, 0, -1), *((ndim + 1,) if colour else ()))
    axes = "T" + "ZYX"[3 - ndim :] + ("S" if colour else "")
    notes: dict[str, Any] = {"axes": axes}
    if series.grid.spacing != (1.0,) * ndim:
        for axis, side in zip("XYZ", series.grid.spacing, strict=False):
            notes |= {f"PhysicalSize{axis}": side * 1e3, f"PhysicalSize{axis}Unit": "µm"}
    shown = "rgb" if colour and pages.shape[-1] == 3 else "minisblack"
    tifffile.imwrite(temporary, np.ascontiguousarray(pages), ome=True, photometric=shown, compression="zlib", metadata=notes)


def _nifti(series: Series) -> nibabel.Nifti1Image:
    ndim, grid = series.grid.ndim, series.grid
    values = np.moveaxis(series.values, 0, ndim)
    values = values.astype(np.uint8) if values.dtype == bool else values
    affine = np.eye(4)
    affine[:ndim, :ndim], affine[:ndim, 3] = grid.index_to_world, grid.origin
    if ndim == 2:
        values = values[:, :, None]
    image = nibabel.Nifti1Image(values, _RAS @ affine, dtype=values.dtype)
    image.header.set_zooms((*(*grid.spacing, 1.0)[:3], series.step or 1.0))
    image.header.set_xyzt_units("mm", "sec")
    return image
