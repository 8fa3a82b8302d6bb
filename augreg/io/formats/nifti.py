"""NIfTI-1, NIfTI-2 and Analyze 7.5: headers by nibabel, geometry by ITK, values read here with nothing left out.

Values are slope * stored + intercept where scl_slope is not 0 and not NaN, in float32 for whole numbers (in float64
where whole numbers result that float32 cannot hold). NaN and infinity stay.
The first index runs fastest, components slowest; those of a displacement (intent 1006) are vectors in RAS and become LPS.
"""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import nibabel
import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray
from augreg.io.files import FileWarning
from augreg.io.formats.bounded import check_size, ended, filled, is_gzip, opened, refusals, tell_surplus
from augreg.io.formats.nifti_geometry import geometry
from augreg.io.placed import Placed

SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img", ".img.gz", ".hdr.gz")
# RGB and RGBA bytes
_COLOURS = {128: 3, 2304: 4}
_DISPLACEMENT, _VECTOR = 1006, 1007
# extensions of a header are kilobytes; more is a header that lies
_FARTHEST = 1 << 28


def read_nifti(path: Path) -> Placed:
    """An image, one file or a pair; what its header leaves open is said in a `FileWarning`.

    Raises
    ------
    ValueError : if it is truncated, damaged, of a kind that is no real image, or says nothing usable about its place.
    """
    return _read(path, frames=False)[0]


def read_nifti_frames(path: Path) -> tuple[Placed, float | None]:
    """The frames of a 4-D image, values (*shape, frames) or (*shape, frames, C), and the seconds between them, if noted.

    Raises
    ------
    ValueError : as `read_nifti`.
    """
    placed, header = _read(path, frames=True)
    step = float(header["pixdim"][4]) if isinstance(header, nibabel.Nifti1Header) else 0.0
    unit = {8: 1.0, 16: 1e-3, 24: 1e-6}.get(int(header["xyzt_units"]) & 56 if "xyzt_units" in header else 8, 1.0)
    return placed, step * unit if np.isfinite(step) and step > 0 else None


def _read(path: Path, *, frames: bool) -> tuple[Placed, Any]:
    """An image, or one of three axes of space and one of time, and its header."""
    head_path, data_path = _files(path)
    with refusals(path, "a NIfTI image"):
        with opened(head_path) as stream:
            header = _header(stream, path)
        shape, channels, dtype = _layout(header, path, frames=frames)
        space = shape[:3] if frames else shape
        if isinstance(header, nibabel.Nifti1Header):
            place, said = geometry(header, space, str(path))
        else:
            place, said = _analyze(header, space)
        start = _start(header, path, single=head_path == data_path)
        stored, behind = _stored(data_path, path, start, int(np.prod(shape, dtype=object)) * channels, dtype)
        tell_surplus(path, behind, stacklevel=6)
        values = _values(stored, header, shape, channels, path)
    for sentence in said:
        warnings.warn(f"{path}: {sentence}", FileWarning, stacklevel=5)
    return Placed(values, *place), header


def _files(path: Path) -> tuple[Path, Path]:
    """Where header and values are: two files of a pair, or one."""
    name = path.name
    for head, data in ((".hdr.gz", ".img.gz"), (".hdr", ".img")):
        for own in (head, data):
            if name.lower().endswith(own):
                stem = name[: -len(own)]
                upper = name[-len(own) :].isupper()
                pair = [path.with_name(stem + (end.upper() if upper else end)) for end in (head, data)]
                # either may be compressed alone
                found = [next((p for p in (file, Path(f"{file}.gz")) if p.is_file()), None) for file in pair]
                if found[0] is None or found[1] is None:
                    missing = pair[0] if found[0] is None else pair[1]
                    raise ValueError(f"{path}: expected a pair .hdr and .img, got no {missing.name} beside it; copy both")
                return found[0], found[1]
    return path, path


def _header(stream: BinaryIO, path: Path) -> Any:
    block = stream.read(540)
    kind: Any
    for size, kind in ((348, nibabel.Nifti1Header), (540, nibabel.Nifti2Header)):
        if len(block) >= size and size in (int.from_bytes(block[:4], "little"), int.from_bytes(block[:4], "big")):
            magic = block[344:348] if size == 348 else block[4:8]
            if size == 348 and magic[:1] != b"n":
                kind = nibabel.Spm2AnalyzeHeader
            return kind.from_fileobj(BytesIO(block), check=False)
    raise ValueError(f"{path}: expected a NIfTI image, got a file without its header; is it truncated, or something else?")


def _layout(header: Any, path: Path, *, frames: bool = False) -> tuple[tuple[int, ...], int, np.dtype[Any]]:
    """Shape of the axes of space and time, number of components, type of the stored numbers."""
    dim = [int(n) for n in header["dim"]]
    if not 1 <= dim[0] <= 7 or min(dim[1 : dim[0] + 1]) < 1:
        raise ValueError(f"{path}: expected at least one voxel along 1 to 7 axes, got {dim[1 : max(1, min(dim[0], 7)) + 1]}")
    shape = dim[1 : dim[0] + 1]
    code = int(header["datatype"])
    channels = _COLOURS.get(code, 1)
    vectors = code not in _COLOURS and "intent_code" in header and int(header["intent_code"]) in (_DISPLACEMENT, _VECTOR)
    if len(shape) == 5 and vectors:
        channels, shape = shape[4], shape[:4]
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if frames:
        if len(shape) != 4:
            raise ValueError(f"{path}: expected a series: three axes of space, one of time; got {len(shape)}-D {tuple(shape)}")
    elif len(shape) > 3:
        raise ValueError(
            f"{path}: expected a 2-D or 3-D image, got {len(shape)}-D {tuple(shape)}; take one frame, or `augreg series` for all"
        )
    if len(shape) < 2:
        raise ValueError(f"{path}: expected a 2-D or 3-D image, got {len(shape)}-D")
    if code in _COLOURS:
        return tuple(shape), channels, np.dtype(np.uint8)
    try:
        dtype = header.get_data_dtype()
    except (nibabel.spatialimages.HeaderDataError, KeyError) as error:
        raise ValueError(
            f"{path}: expected a type of numbers that NIfTI knows, got code {code}; the header is damaged"
        ) from error
    if dtype.kind == "c":
        raise ValueError(f"{path}: expected real pixels, got complex ones; take their magnitude first")
    if dtype.kind not in "iuf" or dtype.itemsize > 8 or dtype.itemsize == 0:
        raise ValueError(f"{path}: expected whole numbers or floats of up to 64 bits, got {dtype}; convert it first")
    return tuple(shape), channels, dtype


def _start(header: Any, path: Path, *, single: bool) -> int:
    """Where the pixels begin, bytes."""
    start = float(header["vox_offset"])
    least = len(header.binaryblock) if single else 0
    if single and start == 0:
        start = least + 4.0
    if not (np.isfinite(start) and least <= start <= _FARTHEST):
        raise ValueError(f"{path}: expected pixels behind the header, from byte {least + 4 * single}, got vox_offset {start:g}")
    return int(start)


def _stored(data: Path, path: Path, start: int, count: int, dtype: np.dtype[Any]) -> tuple[npt.NDArray[Any], int]:
    """The numbers of a file, and how many bytes are behind them."""
    held, packed = data.stat().st_size, is_gzip(data)
    declared = count * dtype.itemsize
    check_size(path, declared if packed else declared + start, held, compressed=packed)
    with opened(data) as stream:
        left = start
        while left and (part := len(stream.read(min(left, 1 << 20)))):
            left -= part
        stored = filled(stream, path, dtype, count)
        return stored, ended(stream, path) if packed else held - start - declared


def _values(stored: npt.NDArray[Any], header: Any, shape: tuple[int, ...], channels: int, path: Path) -> npt.NDArray[Any]:
    colour = int(header["datatype"]) in _COLOURS
    # colour bytes run fastest, components of vectors slowest
    if colour:
        values = np.moveaxis(stored.reshape(channels, *shape, order="F"), 0, -1)
    else:
        values = stored.reshape(*shape, channels, order="F")
    values = np.ascontiguousarray(values[..., 0] if channels == 1 else values, dtype=stored.dtype.newbyteorder("="))
    if colour:
        return values
    values = _scaled(values, header, path)
    if channels > 1 and int(header["intent_code"]) == _DISPLACEMENT:
        values[..., :2] *= -1
    return values


def _scaled(values: npt.NDArray[Any], header: Any, path: Path) -> npt.NDArray[Any]:
    try:
        slope, inter = header.get_slope_inter()
    except nibabel.spatialimages.HeaderDataError as error:
        raise ValueError(f"{path}: expected a finite scl_inter beside its scl_slope, got {float(header['scl_inter'])}") from error
    if slope is None or (slope == 1 and inter in (None, 0)):
        return values
    wide = values.astype(np.float64) * float(slope) + float(inter or 0)
    with np.errstate(over="ignore"):
        scaled = wide.astype(values.dtype if values.dtype.kind == "f" else np.float32)
    if values.dtype.kind in "iu" and not np.array_equal(scaled, wide) and np.array_equal(wide, np.rint(wide)):
        # float32 counts to 2^24 only: labels and counters beyond must stay what they are
        return wide
    if not np.isfinite(scaled).all() and np.isfinite(values).all():
        raise ValueError(f"{path}: expected scaled values that float32 can hold, got scl_slope {slope:g} and scl_inter {inter:g}")
    return scaled


def _analyze(header: Any, shape: tuple[int, ...]) -> tuple[tuple[FloatArray, FloatArray, FloatArray], list[str]]:
    """Analyze 7.5 has voxel sizes only: ITK's place for it."""
    ndim = len(shape)
    spacing = np.array(header["pixdim"][1 : ndim + 1], dtype=float)
    said = "Analyze 7.5 does not say where it lies, nor which side is left; voxel sizes alone place it, at origin 0"
    return (spacing, np.zeros(ndim), np.eye(ndim)), [said]
