"""MetaImage (.mha, .mhd): the header is read here, its geometry by ITK, the values here, with zlib's checksum.

`Key = Value` lines up to `ElementDataFile`, which is LOCAL (the pixels follow), a file, LIST (a file name per line, one slice or
more each), or a pattern `name%03d.raw first last step`. ITK gets a header of the lines it needs for the geometry, and no pixels.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from augreg.io.formats.bounded import check_size, filled, inflated, refusals, tell_surplus
from augreg.io.formats.detached import beside, parts_of
from augreg.io.itk import header_reader, placed_of_header, quietly
from augreg.io.placed import Placed

SUFFIXES = (".mha", ".mhd")
_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_NUMBERS = (
    "Offset",
    "Position",
    "Origin",
    "TransformMatrix",
    "Rotation",
    "Orientation",
    "CenterOfRotation",
    "ElementSpacing",
    "ElementSize",
)
# a header is a page of text
_HEADER = 1 << 20


def read_metaimage(path: Path) -> Placed:
    """An image with its geometry, LPS.

    Raises
    ------
    ValueError : if it is truncated, damaged, or declares what is not there.
    """
    with refusals(path, "a MetaImage"):
        fields, start = _fields(path)
        shape = tuple(int(n) for n in fields.get("DimSize", "").split())
        if not shape or len(shape) != int(fields.get("NDims", "-1")) or min(shape) < 1 or len(shape) > 5:
            raise ValueError(f"{path}: expected NDims and as many sizes of at least 1 in DimSize, got {fields.get('DimSize')!r}")
        channels = int(fields.get("ElementNumberOfChannels", "1"))
        kind = _TYPES.get(fields.get("ElementType", "").removesuffix("_ARRAY"))
        if kind is None or not 1 <= channels <= 1 << 16:
            raise ValueError(
                f"{path}: expected an ElementType of numbers (MET_SHORT, MET_FLOAT ...) and its number of channels, "
                f"got {fields.get('ElementType')} and {channels}"
            )
        swapped = _true(fields, "BinaryDataByteOrderMSB") or _true(fields, "ElementByteOrderMSB")
        place = _geometry(fields, len(shape), path)
        values = _values(
            path, fields, start, int(np.prod(shape, dtype=object)) * channels, np.dtype((">" if swapped else "<") + kind)
        )
        values = np.moveaxis(values.reshape(channels, *shape, order="F"), 0, -1)
        values = np.ascontiguousarray(values[..., 0] if channels == 1 else values, dtype=values.dtype.newbyteorder("="))
    return Placed(values, *place)


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """The header's lines, and where it ends."""
    with open(path, "rb") as file:
        block = file.read(_HEADER)
    fields: dict[str, str] = {}
    at = 0
    while "ElementDataFile" not in fields:
        end = block.find(b"\n", at)
        line = block[at : len(block) if end < 0 else end].decode("utf-8", "surrogateescape")
        key, sign, value = line.partition("=" if "=" in line else ":")
        if not sign or len(key) > 80:
            if line.strip() == "" and end >= 0:
                at = end + 1
                continue
            raise ValueError(f"{path}: expected lines 'Key = Value' up to ElementDataFile, got a file without; is it truncated?")
        fields[key.strip()] = value.strip()
        at = len(block) if end < 0 else end + 1
    return fields, at


def _true(fields: dict[str, str], key: str) -> bool:
    return fields.get(key, "").lower() in ("true", "t", "1", "yes")


def _geometry(fields: dict[str, str], ndim: int, path: Path) -> tuple[Any, Any, Any]:
    """ITK's reading of the header's geometry."""
    lines = ["ObjectType = Image", f"NDims = {ndim}", "DimSize = " + " ".join(["1"] * ndim)]
    for key in _NUMBERS:
        if key in fields:
            numbers = [float(word) for word in fields[key].split()]
            if len(numbers) not in (ndim, ndim * ndim) or not np.isfinite(numbers).all():
                raise ValueError(
                    f"{path}: expected {ndim} finite numbers, or {ndim} x {ndim}, in {key}, got {fields[key][:60]!r}"
                )
            lines.append(f"{key} = {fields[key]}")
    with tempfile.TemporaryDirectory() as folder:
        header = Path(folder) / "header.mhd"
        header.write_text("\n".join([*lines, "ElementType = MET_UCHAR", "ElementDataFile = none.raw\n"]), encoding="utf-8")
        reader = header_reader("MetaImageIO")
        reader.SetFileName(str(header))
        quietly(reader.ReadImageInformation, path, "a MetaImage")
    return placed_of_header(reader)


def _values(path: Path, fields: dict[str, str], start: int, count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    where = fields["ElementDataFile"]
    if not _true(fields, "BinaryData") and "BinaryData" in fields:
        file, start = (path, start) if where.upper() == "LOCAL" else (beside(path, where), 0)
        check_size(path, 2 * count - 1, file.stat().st_size - start, compressed=False)
        text = file.read_bytes()[start:].split(maxsplit=count)
        if len(text) < count:
            raise ValueError(f"{path}: expected {count} numbers, got {len(text)}; is it truncated?")
        return np.array(text[:count]).astype(np.float64 if dtype.kind == "f" else np.int64).astype(dtype)
    skip = int(float(fields.get("HeaderSize", "0")))
    parts = [(path, start)] if where.upper() == "LOCAL" else parts_of(path, where, start)
    if count % len(parts):
        raise ValueError(f"{path}: expected files that share {count} numbers, got {len(parts)} of them")
    read = [_part(path, file, at, skip, count // len(parts), dtype, fields) for file, at in parts]
    return read[0] if len(read) == 1 else np.concatenate(read)


def _part(
    path: Path, file: Path, start: int, skip: int, count: int, dtype: np.dtype[Any], fields: dict[str, str]
) -> npt.NDArray[Any]:
    held, size = file.stat().st_size, count * dtype.itemsize
    if _true(fields, "CompressedData"):
        held = min(held - start, int(float(fields.get("CompressedDataSize", "0"))) or held)
        check_size(path, size, held, compressed=True)
        with open(file, "rb") as stream:
            stream.seek(start)
            return inflated(stream, path, dtype, count, held)
    # -1: whatever comes before the pixels, they are the end of the file
    start = held - size if skip == -1 else start + skip
    check_size(path, max(start, 0) + size, held, compressed=False)
    tell_surplus(path, held - start - size, stacklevel=7)
    with open(file, "rb") as stream:
        stream.seek(start)
        return filled(stream, path, dtype, count)
