"""Displacement fields as images: whose vectors they hold, and in which axes.

    convention   u in world LPS mm is
    "lps"        v                                ITK, ANTs: NIfTI with intent 1007 and a fifth axis; .mha, .nrrd
    "ras"        (-v_x, -v_y, v_z)                NIfTI with intent 1006, as its standard says
    "voxel"      direction @ (spacing * v)        voxelmorph and other networks: along the index axes of the field's own grid

NIfTI files without an intent code say neither the axes nor the unit: they are read only with a convention. FSL's own warps have
axes of their own; convert them first, as with `wb_command -convert-warpfield`.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.transforms import DisplacementField
from augreg.io.files import FileWarning
from augreg.io.formats.nifti_geometry import geometry
from augreg.io.images import read_image, suffix

CONVENTIONS = ("lps", "ras", "voxel")
_DISPLACEMENT, _VECTOR = 1006, 1007


def read_field(path: Path, convention: str | None = None) -> DisplacementField:
    """A displacement field; `convention` counts more than what the file says, with a warning.

    Raises
    ------
    ValueError : for images that are no fields, NaN, fields that do not say what they hold.
    """
    if convention not in (None, *CONVENTIONS):
        raise ValueError(f"convention: expected one of {', '.join(CONVENTIONS)}, got {convention!r}")
    raw = _nifti(path) if suffix(path) in (".nii", ".nii.gz") else None
    if raw is not None:
        values, grid, said = raw
    else:
        image = read_image(path)
        values, grid, said = np.asarray(image.values, dtype=np.float64), image.grid, "lps"
        if values.ndim == grid.ndim:
            values = values[..., None]
    values = _of_plane(path, values, grid)
    if values.shape[-1] != grid.ndim:
        raise ValueError(
            f"{path}: expected a displacement field with {grid.ndim} components per voxel, got {values.shape[-1]}; "
            "an image is no transform"
        )
    lost = int((~np.isfinite(values)).any(axis=-1).sum())
    if lost:
        raise ValueError(
            f"{path}: expected finite displacements, got NaN or infinity in {lost} of {grid.size} voxels; "
            "register again, or replace them"
        )
    if said is None and convention is None:
        raise ValueError(
            f"{path}: expected a displacement field that says what its vectors are, got a NIfTI file without intent code: mm "
            "along the axes of LPS (ITK, ANTs) or RAS, or voxels (voxelmorph)? say it with --convention lps, ras or voxel "
            "(read_transform(..., convention=))"
        )
    if said is not None and convention not in (None, said):
        warnings.warn(
            f"{path}: read as {convention}, as it was asked for, although such a file holds {said}", FileWarning, stacklevel=3
        )
    return DisplacementField(_in_world(values, grid, convention or said or "lps"), grid)


def _in_world(values: FloatArray, grid: Grid, convention: str) -> FloatArray:
    if convention == "voxel":
        return values @ grid.index_to_world.T
    return values * np.array([-1.0, -1.0, 1.0])[: grid.ndim] if convention == "ras" else values


def _of_plane(path: Path, values: FloatArray, grid: Grid) -> FloatArray:
    """Two components of a plane's three, where the third is 0."""
    if grid.ndim != 2 or values.shape[-1] != 3:
        return values
    if np.any(values[..., 2] != 0):
        raise ValueError(
            f"{path}: expected displacements within the plane of a field of one slice, got some of up to "
            f"{np.abs(values[..., 2]).max():g} out of it; a plane is registered in 2-D, a volume needs more slices"
        )
    return values[..., :2]


def _nifti(path: Path) -> tuple[FloatArray, Grid, str | None] | None:
    """Vectors, grid and convention of a NIfTI file whose vectors ITK does not read as such; None for those that it does.

    Its intent is read with nibabel; the geometry is that of an image of its three first axes.
    """
    try:
        header = nibabel.Nifti1Image.from_filename(path, mmap=False)
    except Exception:
        # whatever nibabel raises: the image's reader says what is wrong
        return None
    shape, intent = header.shape, int(header.header["intent_code"])
    last = shape[-1] if len(shape) in (4, 5) else 0
    if last not in (2, 3) or (len(shape) == 5 and shape[3] != 1):
        return None
    if len(shape) == 5 and intent == _VECTOR:
        return None
    said = {_DISPLACEMENT: "ras", _VECTOR: "lps"}.get(intent)
    _check_size(path, header)
    try:
        stored: Any = np.asarray(header.dataobj, dtype=np.float64)
    except Exception as error:
        raise ValueError(
            f"{path}: expected a whole displacement field, got one that was cut or changed; copy it again"
        ) from error
    values = stored.reshape(*shape[:3], last)
    (spacing, origin, direction), settled = geometry(header.header, shape[:3], str(path))
    for sentence in settled:
        warnings.warn(f"{path}: {sentence}", FileWarning, stacklevel=4)
    ndim = 2 if shape[2] == 1 else 3
    if ndim == 2:
        values = values[:, :, 0]
        if np.abs(direction[2, :2]).max() > 1e-3:
            raise ValueError(f"{path}: expected an axial field of one slice, got one in another plane; give it as a volume")
    try:
        grid = Grid(shape[:ndim], tuple(spacing[:ndim]), tuple(origin[:ndim]), direction[:ndim, :ndim])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return values, grid, said


def _check_size(path: Path, image: Any) -> None:
    """A header that promises more than a compressed file can hold costs memory before it fails."""
    promised = int(np.prod(image.shape, dtype=object)) * image.get_data_dtype().itemsize
    most = path.stat().st_size * (1032 if suffix(path) == ".nii.gz" else 1)
    if promised > most:
        raise ValueError(f"{path}: expected {promised} bytes of displacements, got a file of {path.stat().st_size}: it was cut")
