"""Where a NIfTI file lies: its two geometries, judged before ITK reads them.

A header may place voxel (i, j, k), in RAS, by

    sform   x = S (i, j, k, 1),                                    if sform_code > 0,
    qform   x = R(quaternion) diag(pixdim) (i, j, k) + qoffset,    if qform_code > 0.

ITK takes pixdim for the spacing always, and S only where it agrees with the qform or is alone. What it takes is right where the
two agree. Here a header is settled before: pixdim is what the columns of S say where pixdim cannot be or nothing else needs it,
and whatever is settled, or disagrees by more than a twentieth of a voxel at a corner, is said in a sentence. ITK then reads a
copy of the header, 352 bytes, and nothing else of the file.
"""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import nibabel
import numpy as np

from augreg.geometry.grid import FloatArray
from augreg.io.itk import header_reader, quietly

# share of a voxel by which two geometries may differ unsaid
_AGREE = 0.05
_QUATERNION = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
# xyzt_units: metre, millimetre, micrometre
_UNITS = {1: 1e3, 2: 1.0, 3: 1e-3}

Geometry = tuple[FloatArray, FloatArray, FloatArray]


def geometry(header: nibabel.Nifti1Header, shape: tuple[int, ...], name: str) -> tuple[Geometry, list[str]]:
    """Spacing, origin, direction of all axes of `shape` (LPS, mm), and what had to be settled.

    Raises
    ------
    ValueError : if no geometry can be had: voxel sizes that are none, a sform that is sheared or flat and nothing else.
    """
    header, said = _settled(header, shape, name)
    spacing, origin, direction = _by_itk(header, shape, name)
    unit = _UNITS.get(int(header["xyzt_units"]) & 7, 1.0)
    axes = min(3, len(shape))
    ours = np.eye(4)
    ours[:axes, :axes], ours[:axes, 3] = direction[:axes, :axes] * spacing[:axes], origin[:axes]
    apart = {}
    for kind, matrix in (("sform", _sform(header)), ("qform", _qform(header))):
        if matrix is not None and int(header[f"{kind}_code"]) > 0:
            apart[kind] = _apart(ours, _scaled(_LPS @ matrix, unit), shape)
    limit = _AGREE * float(spacing[:axes].min())
    worst = max(apart, key=lambda kind: apart[kind], default=None)
    if worst is not None and apart[worst] > limit:
        if len(apart) == 2:
            taken = "qform" if worst == "sform" else "sform"
            said.append(
                f"its sform and qform disagree by {apart[worst]:.3g} mm at the far corner; the {taken} is taken, as ITK does; "
                "if the other is meant, make both equal"
            )
        else:
            said.append(
                f"its {worst} is no rigid placement: {apart[worst]:.3g} mm at the far corner are lost; resample the image"
            )
    return (spacing, origin, direction), said


def _settled(header: nibabel.Nifti1Header, shape: tuple[int, ...], name: str) -> tuple[nibabel.Nifti1Header, list[str]]:
    """A header whose geometries with a code are valid, and whose pixdim is what is meant."""
    header, said = header.copy(), []
    axes = min(3, len(shape))
    pixdim = np.array(header["pixdim"], dtype=float)
    sizes = np.isfinite(pixdim[1 : axes + 1]) & (pixdim[1 : axes + 1] > 0)
    sform, scode, qcode = _sform(header), int(header["sform_code"]), int(header["qform_code"])
    norms = np.ones(3)
    flat = ""
    if scode > 0:
        norms = np.linalg.norm(sform[:3, :3], axis=0)
        if not np.isfinite(sform).all():
            flat = "numbers that are not finite"
        elif not (norms[:axes] > 0).all():
            flat = "a column of zeros"
        elif axes == 3 and abs(np.linalg.det(sform[:3, :3] / norms)) < 1e-3:
            flat = "columns in one plane"
    quaternion = [float(header[key]) for key in _QUATERNION]
    if qcode > 0 and not (np.isfinite(quaternion).all() and sum(q * q for q in quaternion[:3]) < 1.01):
        qcode = 0
        said.append("its qform is none (a quaternion that cannot be)")
    good = scode > 0 and not flat
    if flat:
        if qcode == 0 or not sizes.all():
            raise ValueError(f"{name}: expected a sform that places every axis, got {flat}; mend the header, or set its qform")
        scode = 0
        said.append(f"its sform has {flat}; the qform is taken")
    if not sizes.all():
        got = ", ".join(f"{v:g}" for v in pixdim[1 : axes + 1])
        if not good:
            sides = ", ".join(["1.5"] * axes)
            raise ValueError(
                f"{name}: expected voxel sizes above 0 mm, got {got}; mend pixdim in the header, as by nibabel's "
                f"image.header.set_zooms(({sides})) and image.to_filename({Path(name).name!r})"
            )
        qcode = 0
        pixdim[1 : axes + 1] = norms[:axes]
        said.append(f"its voxel sizes (pixdim) are {got}; they are taken from the sform: {_listed(norms[:axes])}")
    elif (
        good
        and qcode == 0
        and (np.abs(norms - pixdim[1:4])[:axes] * (np.array(shape[:axes]) - 1)).max() > _AGREE * norms[:axes].min()
    ):
        said.append(
            f"its voxel sizes (pixdim) are {_listed(pixdim[1 : axes + 1])}, by its sform {_listed(norms[:axes])}; "
            "the sform is taken"
        )
        pixdim[1 : axes + 1] = norms[:axes]
    # what no axis needs must not trouble ITK
    pixdim[axes + 1 :] = np.where(np.isfinite(pixdim[axes + 1 :]) & (pixdim[axes + 1 :] > 0), pixdim[axes + 1 :], 1.0)
    pixdim[0] = -1.0 if pixdim[0] == -1 else 1.0
    if scode <= 0 and qcode <= 0:
        said.append(
            "it does not say where it lies (sform_code and qform_code are 0); voxel sizes alone place it, at ITK's origin"
        )
    header["pixdim"] = pixdim
    header["sform_code"], header["qform_code"] = scode, qcode
    return header, said


def _by_itk(header: nibabel.Nifti1Header, shape: tuple[int, ...], name: str) -> Geometry:
    """ITK's reading of a header, from a file that has nothing else."""
    copy = nibabel.Nifti1Header()
    for key in ("pixdim", "qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "xyzt_units", *_QUATERNION):
        copy[key] = header[key]
    # no vectors, no frames: these axes are the image's own; how long they are places nothing
    sizes = [min(n, 32767) for n in shape]
    copy["dim"] = [len(shape), *sizes, *([1] * (7 - len(shape)))]
    copy["datatype"], copy["bitpix"], copy["magic"], copy["vox_offset"] = 2, 8, b"n+1", 352
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "header.nii"
        path.write_bytes(copy.binaryblock + bytes(4))
        reader = header_reader("NiftiImageIO")
        reader.SetFileName(str(path))
        try:
            quietly(reader.ReadImageInformation, name, "a NIfTI image")
        except ValueError as error:
            if "orthonormal" not in str(error):
                raise
            raise ValueError(
                f"{name}: expected perpendicular axes, got a sheared sform (a tilted gantry, or an affine registration in it) "
                "and no qform; resample the image to a grid without shear first"
            ) from error
    ndim = len(shape)
    got = reader.GetDimension()
    spacing, origin, direction = np.ones(ndim), np.zeros(ndim), np.eye(ndim)
    spacing[:got], origin[:got] = reader.GetSpacing()[:ndim], reader.GetOrigin()[:ndim]
    direction[:got, :got] = np.reshape(reader.GetDirection(), (got, got))[:ndim, :ndim]
    return spacing, origin, direction


def _sform(header: nibabel.Nifti1Header) -> FloatArray:
    return np.vstack([header["srow_x"], header["srow_y"], header["srow_z"], [0, 0, 0, 1]]).astype(float)


def _qform(header: nibabel.Nifti1Header) -> FloatArray | None:
    return None if int(header["qform_code"]) <= 0 else np.asarray(header.get_qform(coded=False), dtype=float)


def _scaled(matrix: FloatArray, unit: float) -> FloatArray:
    return np.diag([unit, unit, unit, 1.0]) @ matrix


def _apart(a: FloatArray, b: FloatArray, shape: tuple[int, ...]) -> float:
    """The largest distance of the corners under two maps of indices, mm."""
    axes = min(3, len(shape))
    corners = np.array([(*c, *([0.0] * (3 - axes)), 1.0) for c in itertools.product(*[(0.0, n - 1.0) for n in shape[:axes]])])
    off = corners @ (a - b).T
    return float(np.linalg.norm(off[:, :axes], axis=1).max())


def _listed(values: FloatArray) -> str:
    return " x ".join(f"{v:.4g}" for v in values)
