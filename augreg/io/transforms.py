"""Transforms as ITK files, value by value.

`.tfm` and `.h5` hold a flat ITK composite: `a @ b @ c` is stored in the order a, b, c, and ITK applies the last one first. The
other suffixes hold a displacement field sampled on a grid, world vectors in mm.

ITK's parameters of a cubic B-spline are, per component d, `coefficients[..., d].ravel(order="F")`; its fixed parameters are the
control grid's size, origin, spacing and direction.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from augreg.grid import Grid
from augreg.image import Image
from augreg.io.files import atomic, existing_file
from augreg.io.images import _quietly, read_image, suffix, to_sitk
from augreg.transforms import Affine, BSpline, Composition, DisplacementField, Transform

TRANSFORM_SUFFIXES = (".tfm", ".h5")
FIELD_SUFFIXES = (".nii.gz", ".nii", ".mha", ".nrrd")


def read_transform(path: str | os.PathLike[str]) -> Transform:
    """A transform from an ITK file (`.tfm`, `.h5`, also `.txt`, `.mat`, `.hdf5`) or a displacement field.

    Reads every matrix-offset transform, translations and scales, order-3 B-splines, displacement fields and nested composites.

    Raises
    ------
    FileNotFoundError, or ValueError for anything else.
    """
    found = existing_file(path)
    kind = suffix(path)
    if kind in FIELD_SUFFIXES:
        image = read_image(found)
        if image.values.ndim == image.ndim or image.channels != image.ndim:
            # a single slice with three components was meant in 3-D
            raise ValueError(
                f"{found}: expected a displacement field with {image.ndim} components per voxel, got {image.channels}; "
                "an image is no transform"
            )
        lost = int((~np.isfinite(image.values)).any(axis=-1).sum())
        if lost:
            raise ValueError(
                f"{found}: expected finite displacements, got NaN or infinity in {lost} of {image.grid.size} voxels; "
                "register again, or replace them"
            )
        return DisplacementField(image.values.astype(np.float64), image.grid)
    if kind not in (*TRANSFORM_SUFFIXES, ".txt", ".mat", ".hdf5", ".xfm"):
        raise ValueError(f"{found}: expected a transform, one of {' '.join(TRANSFORM_SUFFIXES + FIELD_SUFFIXES)}, got {kind!r}")
    if kind not in (".h5", ".hdf5", ".mat"):
        _check_complete(found)
    return from_sitk_transform(_quietly(sitk.ReadTransform, found, "a transform", str(found)), str(found))


def write_transform(transform: Transform, path: str | os.PathLike[str], grid: Grid | None = None) -> None:
    """Write a transform, atomically: `.tfm` and `.h5` as it is, `.nii.gz`, `.nii`, `.mha`, `.nrrd` sampled on `grid`.

    Raises
    ------
    ValueError : for another suffix, or a field without a grid (unless the transform is one).
    """
    kind = suffix(path)
    if kind in TRANSFORM_SUFFIXES:
        composite = sitk.CompositeTransform(transform.ndim)
        parts = transform.transforms if isinstance(transform, Composition) else (transform,)
        for part in parts:
            composite.AddTransform(to_sitk_transform(part))
        with atomic(path) as temporary:
            _quietly(sitk.WriteTransform, path, "a writable file", composite, str(temporary))
    elif kind in FIELD_SUFFIXES:
        if grid is None:
            if not isinstance(transform, DisplacementField):
                raise ValueError(f"{path}: expected a grid to sample the displacement on, got none; give the fixed image's")
            grid = transform.grid
        field = to_sitk(Image(transform.displacement(grid), grid))
        with atomic(path) as temporary:
            _quietly(sitk.WriteImage, path, "a writable file", field, str(temporary), kind != ".nii")
    else:
        raise ValueError(f"{path}: expected one of {' '.join(TRANSFORM_SUFFIXES + FIELD_SUFFIXES)}, got {kind!r}")


def _check_complete(path: Path) -> None:
    """ITK takes a text file that ends early for one with fewer parameters."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    transforms = sum(line.startswith("Transform:") and "Composite" not in line for line in lines)
    whole = transforms == sum(line.startswith("FixedParameters:") for line in lines) and lines[-1].endswith("\n")
    if not whole:
        raise ValueError(f"{path}: expected a whole ITK transform file, got a truncated one or something else; copy it again")


def to_sitk_transform(transform: Transform) -> sitk.Transform:
    """An elementary transform as SimpleITK's."""
    ndim = transform.ndim
    if isinstance(transform, Affine):
        affine = sitk.AffineTransform(ndim)
        affine.SetMatrix(transform.matrix.ravel().tolist())
        affine.SetTranslation(transform.translation.tolist())
        return affine
    if isinstance(transform, BSpline):
        grid = transform.grid
        spline = sitk.BSplineTransform(ndim, 3)
        spline.SetFixedParameters([*map(float, grid.shape), *grid.origin, *grid.spacing, *np.ravel(grid.direction)])
        spline.SetParameters(np.concatenate([transform.coefficients[..., d].ravel(order="F") for d in range(ndim)]))
        return spline
    if isinstance(transform, DisplacementField):
        return sitk.DisplacementFieldTransform(to_sitk(Image(transform.values, transform.grid)))
    raise TypeError(f"transform: expected Affine, BSpline or DisplacementField, got {type(transform).__name__}")


def from_sitk_transform(transform: sitk.Transform, name: str = "transform") -> Transform:
    """A SimpleITK transform as ours."""
    transform = transform.Downcast() if type(transform) is sitk.Transform else transform
    ndim = transform.GetDimension()
    if ndim not in (2, 3):
        raise ValueError(f"{name}: expected a 2-D or 3-D transform, got {ndim}-D")
    if isinstance(transform, sitk.CompositeTransform):
        parts = [from_sitk_transform(transform.GetNthTransform(i), name) for i in range(transform.GetNumberOfTransforms())]
        if not parts:
            return Affine.identity(ndim)
        return Composition(tuple(parts)) if len(parts) > 1 else parts[0]
    if isinstance(transform, sitk.BSplineTransform):
        if transform.GetOrder() != 3:
            raise ValueError(f"{name}: expected a B-spline of order 3, got order {transform.GetOrder()}")
        fixed = np.array(transform.GetFixedParameters())
        shape = tuple(fixed[:ndim].astype(int))
        grid = Grid(
            shape, tuple(fixed[2 * ndim : 3 * ndim]), tuple(fixed[ndim : 2 * ndim]), fixed[3 * ndim :].reshape(ndim, ndim)
        )
        components = np.array(transform.GetParameters()).reshape(ndim, -1)
        return BSpline(np.stack([c.reshape(shape, order="F") for c in components], axis=-1), grid)
    if isinstance(transform, sitk.DisplacementFieldTransform):
        field = transform.GetDisplacementField()
        values = sitk.GetArrayFromImage(field).transpose((*range(ndim)[::-1], ndim))
        grid = Grid(values.shape[:ndim], field.GetSpacing(), field.GetOrigin(), np.reshape(field.GetDirection(), (ndim, ndim)))
        return DisplacementField(values, grid)
    if transform.IsLinear():
        # whatever its parameters mean: an affine map is known by the images of D + 1 points
        offset = np.array(transform.TransformPoint(np.zeros(ndim).tolist()))
        columns = [np.array(transform.TransformPoint(e.tolist())) - offset for e in np.eye(ndim)]
        return Affine(np.stack(columns, axis=1), offset)
    raise ValueError(f"{name}: expected a matrix, B-spline or displacement-field transform, got {transform.GetName()}")
