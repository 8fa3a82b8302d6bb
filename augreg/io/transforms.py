"""Transforms as ITK files, value by value.

`.tfm` and `.h5` hold a flat ITK composite: `a @ b @ c` is stored in the order a, b, c, and ITK applies the last one first. The
other suffixes hold a displacement field sampled on a grid, world vectors in mm. What is written is read back and compared before
it takes its name, and both kinds carry a checksum that ITK passes over: a comment in `.tfm`, a line behind the end of `.h5`.

ITK's parameters of a cubic B-spline are, per component d, `coefficients[..., d].ravel(order="F")`; its fixed parameters are the
control grid's size, origin, spacing and direction.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

import numpy as np
import SimpleITK as sitk

from augreg.geometry.grid import Grid
from augreg.geometry.image import Image
from augreg.geometry.transforms import Affine, BSpline, Composition, DisplacementField, Transform
from augreg.geometry.velocity import Exponential
from augreg.io.elastix import is_elastix, read_elastix
from augreg.io.fields import read_field
from augreg.io.files import atomic, existing_file
from augreg.io.hdf5 import untimed
from augreg.io.images import check_written, suffix
from augreg.io.itk import quietly, to_sitk
from augreg.io.neuro import read_freesurfer
from augreg.io.transform_child import parts_read_apart
from augreg.io.transform_parts import COMPOSITE, Part, UnknownKindError, affine_of, composed
from augreg.io.transform_text import parts_of_matlab, parts_of_text, sealed

TRANSFORM_SUFFIXES = (".tfm", ".h5")
FIELD_SUFFIXES = (".nii.gz", ".nii", ".mha", ".nrrd")
_SEAL = re.compile(rb"\naugreg crc32 ([0-9a-f]{8})\n")
# bytes that HDF5 takes beside the numbers, at most
_OVERHEAD = 1 << 16
# of a field that stands for a velocity
_NODES = 1 << 22
# HDF5 as it comes with ITK knows nothing of threads
_HDF5 = Lock()


def _after_fork() -> None:
    # a thread of the parent may have held it
    global _HDF5
    _HDF5 = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def read_transform(path: str | os.PathLike[str], *, convention: str | None = None) -> Transform:
    """A transform of a file: ITK (`.tfm`, `.h5`, also `.txt`, `.mat`, `.hdf5`, `.xfm`), elastix, FreeSurfer (`.lta`), a field.

    Reads every matrix-offset transform, translations and scales, order-3 B-splines, displacement fields and composites.

    Parameters
    ----------
    convention : of displacement fields that do not say what their vectors are: "lps" or "ras" for mm in the world, "voxel" for
        voxels along the field's own axes (`augreg.io.fields`)

    Raises
    ------
    FileNotFoundError, or ValueError for anything else: cut, damaged, several transforms side by side, unknown vectors.
    """
    found = existing_file(path)
    kind = suffix(path)
    if kind in FIELD_SUFFIXES:
        return read_field(found, convention)
    if kind == ".lta":
        return read_freesurfer(found)
    if kind not in (*TRANSFORM_SUFFIXES, ".txt", ".mat", ".hdf5", ".xfm"):
        raise ValueError(f"{found}: expected a transform, one of {' '.join(TRANSFORM_SUFFIXES + FIELD_SUFFIXES)}, got {kind!r}")
    try:
        if kind in (".h5", ".hdf5", ".xfm"):
            return composed(_parts_of_itk(found, kind))
        if kind == ".txt" and is_elastix(found.read_bytes()):
            return read_elastix(found)
        try:
            return composed(parts_of_matlab(found) if kind == ".mat" else parts_of_text(found))
        except UnknownKindError:
            return composed([Part(*part) for part in parts_read_apart(found)])
    except ValueError as error:
        raise ValueError(f"{found}: {error}") from error


def write_transform(transform: Transform, path: str | os.PathLike[str], grid: Grid | None = None) -> None:
    """Write a transform, atomically: `.tfm` and `.h5` as it is, `.nii.gz`, `.nii`, `.mha`, `.nrrd` sampled on `grid`.

    ITK has no name for the flow of a velocity: in `.tfm` and `.h5` it is a displacement field, on `grid`, where its points are
    those of the fixed image: alone or applied first. Elsewhere and without a grid it lies around its velocity, with eight nodes
    per spacing of a B-spline and four per spacing of a field, fewer where these would be more than some millions.

    Raises
    ------
    ValueError : for another suffix, or a field without a grid (unless the transform is one). OSError : for a full disk.
    """
    kind = suffix(path)
    if kind in TRANSFORM_SUFFIXES:
        *later, first = _parts(transform)
        parts = [*(_named(part, None) for part in later), _named(first, grid)]
        with atomic(path) as temporary:
            if kind == ".tfm":
                temporary.write_bytes(sealed(_text(parts)))
                back = parts_of_text(temporary)
            else:
                _write_hdf5(parts, temporary)
                back = _parts_of_itk(temporary, kind)
            _check_same(path, parts, back[1:])
    elif kind in FIELD_SUFFIXES:
        if grid is None:
            if not isinstance(transform, DisplacementField):
                raise ValueError(f"{path}: expected a grid to sample the displacement on, got none; give the fixed image's")
            grid = transform.grid
        values = transform.displacement(grid)
        with atomic(path) as temporary:
            field = to_sitk(Image(values, grid))
            quietly(sitk.WriteImage, path, "a writable file", field, str(temporary), kind != ".nii")
            check_written(Image(values, grid), path, temporary)
    else:
        raise ValueError(f"{path}: expected one of {' '.join(TRANSFORM_SUFFIXES + FIELD_SUFFIXES)}, got {kind!r}")


def _parts(transform: Transform) -> tuple[Transform, ...]:
    return transform.transforms if isinstance(transform, Composition) else (transform,)


def _named(transform: Transform, grid: Grid | None) -> Transform:
    """A part as a transform that ITK has a name for."""
    if not isinstance(transform, Exponential):
        return transform
    if grid is None:
        v = transform.velocity
        inner, most = (v.grid.padded(-1), 8) if isinstance(v, BSpline) else (v.grid, 4)
        per = max(1, min(most, int((_NODES / inner.size) ** (1 / inner.ndim))))
        grid = inner.with_shape(tuple(per * n for n in inner.shape))
    return DisplacementField(transform.displacement(grid), grid)


def _text(parts: list[Transform]) -> bytes:
    """ITK's text file of a composite."""
    ndim = parts[0].ndim
    lines = ["#Insight Transform File V1.0", "#Transform 0", f"Transform: {COMPOSITE}_double_{ndim}_{ndim}"]
    for k, part in enumerate(parts, 1):
        stated = _stated(part)
        lines += [f"#Transform {k}", f"Transform: {stated.kind}_double_{ndim}_{ndim}"]
        for name, numbers in (("Parameters", stated.parameters), ("FixedParameters", stated.fixed)):
            # repr keeps all digits: what is read is what was written
            lines.append(f"{name}: " + " ".join(repr(v).removesuffix(".0") for v in numbers.tolist()))
    return ("\n".join(lines) + "\n").encode()


def _stated(transform: Transform) -> Part:
    theirs = to_sitk_transform(transform)
    parameters, fixed = (np.array(v, dtype=np.float64) for v in (theirs.GetParameters(), theirs.GetFixedParameters()))
    return Part(type(theirs).__name__, transform.ndim, parameters, fixed)


def _write_hdf5(parts: list[Transform], temporary: Path) -> None:
    composite = sitk.CompositeTransform(parts[0].ndim)
    for part in parts:
        composite.AddTransform(to_sitk_transform(part))
    # HDF5 ends the process where the disk is full: take the room first
    size = 8 * sum(len(stated.parameters) for stated in map(_stated, parts)) + _OVERHEAD
    with open(temporary, "wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
    with _HDF5:
        quietly(sitk.WriteTransform, temporary, "a writable file", composite, str(temporary))
    content = untimed(temporary.read_bytes())
    temporary.write_bytes(content + b"\naugreg crc32 %08x\n" % zlib.crc32(content))


def _parts_of_itk(path: Path, kind: str) -> list[Part]:
    """Parts of a file that ITK reads, the composite first: here, where a checksum says that it is whole, else apart."""
    content = path.read_bytes()
    seal = _SEAL.search(content)
    if seal is not None:
        if seal.end() != len(content) or int(seal[1], 16) != zlib.crc32(content[: seal.start()]):
            raise ValueError("expected the transform as it was written, got one that was changed since; copy it again")
        with _HDF5:
            whole = quietly(sitk.ReadTransform, path, "a transform", str(path))
        composite = sitk.CompositeTransform(whole)
        parts = [_part_of(composite.GetNthTransform(i)) for i in range(composite.GetNumberOfTransforms())]
    else:
        if kind != ".xfm" and len(content) > _end_of_hdf5(content):
            raise ValueError(
                "expected nothing behind the end of the file as HDF5 states it, got more: it was changed; copy it again"
            )
        parts = [Part(*part) for part in parts_read_apart(path)][1:]
    stated = content.count(b"TransformType")
    if kind != ".xfm" and stated and stated != len(parts) + (b"CompositeTransform" in content):
        raise ValueError(
            f"expected one transform or a composite, got {stated} transforms side by side; which one is meant cannot be known: "
            "write a file for each, or a composite"
        )
    return [Part(COMPOSITE, parts[0].ndim if parts else 0, np.empty(0), np.empty(0)), *parts]


def _end_of_hdf5(content: bytes) -> int:
    """Bytes that a file of HDF5 says it has, in a superblock of version 0, 2 or 3 with addresses of 8 bytes; else all.

    Behind them lies our checksum, even where that was wiped out.
    """
    at = {0: 40, 2: 28, 3: 28}.get(content[8] if len(content) > 48 and content.startswith(b"\x89HDF\r\n\x1a\n") else -1)
    size = None if at is None else content[13 if content[8] == 0 else 9]
    return len(content) if at is None or size != 8 else int.from_bytes(content[at : at + 8], "little")


def _part_of(transform: sitk.Transform) -> Part:
    numbers = (np.array(v, dtype=np.float64) for v in (transform.GetParameters(), transform.GetFixedParameters()))
    return Part(transform.GetName(), transform.GetDimension(), *numbers)


def _check_same(path: str | os.PathLike[str], parts: list[Transform], back: list[Part]) -> None:
    for part, read in zip(parts, back, strict=True):
        stated = _stated(part)
        if not (np.array_equal(stated.parameters, read.parameters) and np.array_equal(stated.fixed, read.fixed)):
            raise OSError(f"{path}: expected the transform in the file as it was written, got other numbers; is the disk full?")


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
    if transform.GetDimension() not in (2, 3):
        raise ValueError(f"{name}: expected a 2-D or 3-D transform, got {transform.GetDimension()}-D")
    try:
        return composed(list(_parts_of_sitk(transform)))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _parts_of_sitk(transform: sitk.Transform) -> Iterator[Part]:
    """The composite, if it is one, and what it holds, flat."""
    ndim = transform.GetDimension()
    if transform.GetName() == COMPOSITE:
        yield Part(COMPOSITE, ndim, np.empty(0), np.empty(0))
        composite = sitk.CompositeTransform(transform)
        for i in range(composite.GetNumberOfTransforms()):
            yield from (part for part in _parts_of_sitk(composite.GetNthTransform(i)) if part.kind != COMPOSITE)
        return
    if transform.GetName() in ("BSplineTransform", "DisplacementFieldTransform"):
        if transform.GetName() == "BSplineTransform" and (order := sitk.BSplineTransform(transform).GetOrder()) != 3:
            raise ValueError(f"expected a B-spline of order 3, got order {order}")
        yield _part_of(transform)
    elif transform.IsLinear():
        affine = affine_of(transform)
        yield Part("AffineTransform", ndim, np.concatenate([affine.matrix.ravel(), affine.translation]), np.zeros(ndim))
    else:
        raise ValueError(f"expected a matrix, B-spline or displacement-field transform, got {transform.GetName()}")
