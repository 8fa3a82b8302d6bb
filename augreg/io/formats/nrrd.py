"""NRRD (.nrrd, .nhdr): the header is read here, its geometry by ITK, the values here, with gzip's checksum.

`field: value` lines up to an empty one; the first axis runs fastest. An axis of colours or components, which has no space
direction, may be any one; ITK gets a header with that axis left out, and no pixels.
"""

from __future__ import annotations

import bz2
import gzip
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from augreg.io.files import FileWarning
from augreg.io.formats.bounded import check_memory, check_size, ended, filled, refusals, tell_surplus
from augreg.io.formats.detached import parts_of
from augreg.io.itk import header_reader, placed_of_header, quietly
from augreg.io.placed import Placed

SUFFIXES = (".nrrd", ".nhdr")
_TYPES = {
    "i1": "signed char|int8|int8_t",
    "u1": "uchar|unsigned char|uint8|uint8_t",
    "i2": "short|short int|signed short|signed short int|int16|int16_t",
    "u2": "ushort|unsigned short|unsigned short int|uint16|uint16_t",
    "i4": "int|signed int|int32|int32_t",
    "u4": "uint|unsigned int|uint32|uint32_t",
    "i8": "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t",
    "u8": "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t",
    "f4": "float",
    "f8": "double",
}
_OF_TYPE = {name: kind for kind, names in _TYPES.items() for name in names.split("|")}
_SYNONYMS = {
    "datafile": "data file",
    "lineskip": "line skip",
    "byteskip": "byte skip",
    "centerings": "centers",
    "axismins": "axis mins",
    "axismaxs": "axis maxs",
}
# units of length other than mm, as programs write them
_LENGTHS = ("m", "cm", "dm", "um", "µm", "μm", "nm", "in", "micron", "microns", "meter", "metre", "micrometer", "micrometre")
_WORLDS = ("domain", "space", "time")
_HEADER = 1 << 20


def read_nrrd(path: Path) -> Placed:
    """An image with its geometry, LPS; components last.

    Raises
    ------
    ValueError : if it is truncated, damaged, or declares what is not there.
    """
    with refusals(path, "an NRRD image"):
        fields, start = _fields(path)
        sizes = [int(n) for n in fields.get("sizes", "").split()]
        if not sizes or len(sizes) != int(fields.get("dimension", "-1")) or min(sizes) < 1 or len(sizes) > 6:
            raise ValueError(f"{path}: expected a dimension and as many sizes of at least 1, got {fields.get('sizes')!r}")
        kind = _OF_TYPE.get(fields.get("type", "").lower())
        if kind is None:
            raise ValueError(f"{path}: expected a type of numbers, got {fields.get('type')!r}; convert it first")
        order = fields.get("endian", "little").lower()
        if order not in ("little", "big"):
            raise ValueError(f"{path}: expected endian little or big, got {order!r}")
        axis = _components(fields, sizes, path)
        place = _geometry(fields, sizes, axis, path)
        dtype = np.dtype(("<" if order == "little" else ">") + kind)
        values = _values(path, fields, start, int(np.prod(sizes, dtype=object)), dtype).reshape(sizes, order="F")
        if axis is not None:
            values = np.moveaxis(values, axis, -1)
            values = values[..., 0] if values.shape[-1] == 1 else values
        values = np.ascontiguousarray(values, dtype=dtype.newbyteorder("="))
    return Placed(values, *place)


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """The header's fields by lower-case name, and where it ends."""
    with open(path, "rb") as file:
        block = file.read(_HEADER)
    if not re.match(rb"NRRD000[1-5]\r?\n", block):
        raise ValueError(f"{path}: expected an NRRD image, got a file without its first line 'NRRD000x'")
    fields: dict[str, str] = {}
    at = block.index(b"\n") + 1
    while at < len(block):
        end = block.find(b"\n", at)
        line = block[at : len(block) if end < 0 else end].decode("utf-8", "surrogateescape").rstrip("\r")
        at = len(block) if end < 0 else end + 1
        if line == "":
            return fields, at
        if line.startswith("#") or ":=" in line:
            continue
        key, sign, value = line.partition(": ")
        if not sign:
            raise ValueError(f"{path}: expected lines 'field: value' up to an empty one, got {line[:40]!r}")
        key = key.strip().lower()
        key = _SYNONYMS.get(key, key)
        fields[key] = value.strip()
        if key == "data file" and value.strip().upper().startswith("LIST"):
            return fields, at
    if "data file" not in fields:
        raise ValueError(f"{path}: expected an empty line behind the header, got none; is it truncated?")
    return fields, at


def _vectors(text: str) -> list[str]:
    return re.findall(r"none|\([^()]*\)", text)


def _components(fields: dict[str, str], sizes: list[int], path: Path) -> int | None:
    """The axis that is none of space or time."""
    kinds = fields.get("kinds", "").lower().split()
    vectors = _vectors(fields.get("space directions", ""))
    for name, entries in (("kinds", kinds), ("space directions", vectors)):
        if entries and len(entries) != len(sizes):
            raise ValueError(f"{path}: expected {len(sizes)} entries in {name}, one per axis, got {len(entries)}")
    found = [
        axis
        for axis in range(len(sizes))
        if (vectors and vectors[axis] == "none") or (kinds and kinds[axis] not in (*_WORLDS, "none", "???"))
    ]
    if "time" in kinds and sizes[kinds.index("time")] > 1:
        raise ValueError(f"{path}: expected one point of time, got {sizes[kinds.index('time')]}; take one of them")
    if len(found) > 1:
        raise ValueError(f"{path}: expected at most one axis of components, got {len(found)}; extract one of them first")
    if found and kinds and ("masked" in kinds[found[0]] or "matrix" in kinds[found[0]]):
        raise ValueError(f"{path}: expected numbers, colours or vectors, got {kinds[found[0]]}; take its trace, say, first")
    return found[0] if found else None


def _geometry(fields: dict[str, str], sizes: list[int], axis: int | None, path: Path) -> tuple[Any, Any, Any]:
    """ITK's reading of the geometry of all axes but the one of components."""
    kept = [a for a in range(len(sizes)) if a != axis]
    lines = ["NRRD0005", "type: uchar", f"dimension: {len(kept)}", "sizes: " + " ".join(str(sizes[a]) for a in kept)]
    for key in ("space", "space dimension", "space origin"):
        if key in fields:
            _check_numbers(fields[key] if key == "space origin" else "", key, path)
            lines.append(f"{key}: {fields[key]}")
    for key, split in (("space directions", _vectors), ("spacings", str.split), ("axis mins", str.split), ("centers", str.split)):
        if key in fields:
            entries = split(fields[key])
            if len(entries) != len(sizes):
                raise ValueError(f"{path}: expected {len(sizes)} entries in {key}, got {fields[key][:60]!r}")
            if key != "centers":
                _check_numbers(" ".join(entries[a] for a in kept), key, path)
            lines.append(f"{key}: " + " ".join(entries[a] for a in kept))
    _tell_units(fields, path)
    with tempfile.TemporaryDirectory() as folder:
        header = Path(folder) / "header.nrrd"
        header.write_text("\n".join([*lines, "encoding: raw", "", ""]), encoding="utf-8", errors="surrogateescape")
        reader = header_reader("NrrdImageIO")
        reader.SetFileName(str(header))
        quietly(reader.ReadImageInformation, path, "an NRRD image")
    return placed_of_header(reader)


def _tell_units(fields: dict[str, str], path: Path) -> None:
    """ITK takes every length for millimetres."""
    given = [unit for key in ("space units", "units") for unit in re.findall(r'"([^"]*)"', fields.get(key, ""))]
    other = sorted({unit for unit in given if unit.strip().lower() in _LENGTHS})
    if other:
        warnings.warn(
            f"{path}: its header gives lengths in {', '.join(other)}; they are read as mm, as ITK does, without conversion",
            FileWarning,
            stacklevel=6,
        )


def _check_numbers(text: str, key: str, path: Path) -> None:
    """NaN stands for what is not known in spacings and axis mins of other axes, but places nothing."""
    numbers = [float(word) for word in re.split(r"[\s(),]+", text) if word and word != "none"]
    if key != "axis mins" and not np.isfinite(numbers).all():
        raise ValueError(f"{path}: expected finite numbers in {key}, got {text[:60]!r}")


def _values(path: Path, fields: dict[str, str], start: int, count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    where = fields.get("data file")
    parts = [(path, start)] if where is None else parts_of(path, where, start)
    if count % len(parts):
        raise ValueError(f"{path}: expected files that share {count} numbers, got {len(parts)} of them")
    read = [_part(path, file, at, count // len(parts), dtype, fields) for file, at in parts]
    return read[0] if len(read) == 1 else np.concatenate(read)


def _part(path: Path, file: Path, start: int, count: int, dtype: np.dtype[Any], fields: dict[str, str]) -> npt.NDArray[Any]:
    encoding = fields.get("encoding", "raw").lower()
    lines, skip = int(fields.get("line skip", "0")), int(fields.get("byte skip", "0"))
    size, held = count * dtype.itemsize, file.stat().st_size
    with open(file, "rb") as stream:
        stream.seek(start)
        for _ in range(lines):
            if not stream.readline(_HEADER):
                break
        left = held - stream.tell()
        if encoding == "raw":
            skip = left - size if skip == -1 else skip
            check_size(path, max(skip, 0) + size, left, compressed=False)
            tell_surplus(path, left - max(skip, 0) - size, stacklevel=7)
            stream.seek(skip, 1)
            return filled(stream, path, dtype, count)
        if encoding in ("gz", "gzip"):
            check_size(path, size, left, compressed=True)
            with gzip.GzipFile(fileobj=stream) as unpacked:
                return _whole(unpacked, path, dtype, count, skip)  # type: ignore[arg-type]
        if encoding in ("bz2", "bzip2"):
            check_memory(path, size)
            with bz2.BZ2File(stream) as other:
                return _whole(other, path, dtype, count, skip)  # type: ignore[arg-type]
        if encoding in ("txt", "text", "ascii"):
            check_size(path, 2 * count - 1, left, compressed=False)
            words = re.split(rb"[\s,]+", stream.read().strip(), maxsplit=count)[:count]
            if len(words) < count:
                raise ValueError(f"{path}: expected {count} numbers, got {len(words)}; is it truncated?")
            return np.array(words).astype(np.float64 if dtype.kind == "f" else np.int64).astype(dtype)
        if encoding == "hex":
            check_size(path, 2 * size, left, compressed=False)
            return np.frombuffer(bytes.fromhex("".join(stream.read().decode("ascii").split()))[:size], dtype, count)
    raise ValueError(f"{path}: expected the encoding raw, gzip, bzip2, ascii or hex, got {encoding!r}")


def _whole(stream: BinaryIO, path: Path, dtype: np.dtype[Any], count: int, skip: int) -> npt.NDArray[Any]:
    if skip > 0:
        stream.read(min(skip, 1 << 28))
    values = filled(stream, path, dtype, count)
    tell_surplus(path, ended(stream, path), stacklevel=8)
    return values
