"""Arrays with a JSON description as one `.npz`, without pickles.

What an archive declares is checked before memory is taken for it: sizes of members against the file's own length (deflate makes
at most 1032 of one byte) and against the memory that is left, and each array's shape against its member's size. Members that
nobody asks for are not read. zip keeps a checksum of every member, which is checked as it is read.
"""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from augreg.io.files import atomic, existing_file

_DESCRIPTION = "description.json"
_DEFLATE = 1032
_LONGEST_DESCRIPTION = 1 << 26
# whatever zip, zlib and numpy raise at damaged files
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    AttributeError,
    TypeError,
    RuntimeError,
    OverflowError,
    MemoryError,
    IndexError,
    SyntaxError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, npt.NDArray[Any]], description: Mapping[str, Any]) -> None:
    """Arrays and a JSON description as one compressed `.npz`, without pickles; the description must have a `kind`."""
    with atomic(path) as temporary, open(temporary, "wb") as file:
        text = np.array(json.dumps({"kind": description["kind"], **description}))
        np.savez_compressed(file, allow_pickle=False, **{_DESCRIPTION: text}, **arrays)


def read_arrays(
    path: str | os.PathLike[str], kind: str, names: Container[str] | None = None
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """What `write_arrays` wrote: arrays by name, and the description. Nothing is unpickled.

    Parameters
    ----------
    names : names of the arrays to read, those that the file holds; by default all

    Raises
    ------
    FileNotFoundError : if there is no file. ValueError : if it is truncated, damaged, foreign, of another kind, or larger
        than the memory that is left.
    """
    found = existing_file(path)
    try:
        with zipfile.ZipFile(found) as archive:
            members = _members(archive, found.stat().st_size)
            description = _description(archive, members)
            if isinstance(description, dict) and description.get("kind") == kind:
                wanted = {name: info for name, info in members.items() if names is None or name in names}
                _check_memory(sum(info.file_size for info in wanted.values()))
                arrays = {name: _array(archive, info) for name, info in wanted.items()}
                return arrays, description
    except _DAMAGE as error:
        said = " ".join(str(error).split())[:100] or type(error).__name__
        raise ValueError(
            f"{found}: expected an augreg {kind} file (.npz), got something else or a truncated file ({said})"
        ) from error
    raise ValueError(f"{found}: expected an augreg {kind} file, got one that holds something else")


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """Members by the names of their arrays, checked as far as that is possible without reading them."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name} is encrypted or compressed in another way")
        if name in members:
            raise ValueError(f"{name} is there twice")
        if info.compress_size > size or info.file_size > _DEFLATE * info.compress_size + 64:
            raise ValueError(f"{name} declares {info.file_size} bytes in {info.compress_size} of a file of {size}")
        members[name] = info
    return members


def _description(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]) -> Any:
    info = members.pop(_DESCRIPTION)
    if info.file_size > _LONGEST_DESCRIPTION:
        raise ValueError(f"a description of {info.file_size} bytes")
    try:
        return json.loads(str(_array(archive, info)))
    except RecursionError as error:
        raise ValueError("a description of too many levels") from error


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> npt.NDArray[Any]:
    # the checksum is compared at the end
    content = archive.read(info)
    if len(content) != info.file_size:
        raise ValueError(f"{info.filename} was cut")
    return array_of(content)


def array_of(content: bytes) -> npt.NDArray[Any]:
    """The array of a `.npy` file's bytes, which must be as many as its header says.

    Raises
    ------
    ValueError : for other bytes, and for objects, which are not unpickled.
    """
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"a version of {version}")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file, max_header_size=1 << 16)
    except (SyntaxError, TypeError, KeyError, RecursionError, MemoryError, EOFError, OverflowError) as error:
        raise ValueError(f"expected an array, got other bytes ({type(error).__name__})") from error
    if dtype.hasobject:
        raise ValueError("expected numbers, got objects, which are not unpickled")
    # exact integers: giants must not overflow
    count = 1
    for n in shape:
        count *= n
    if min(shape, default=0) < 0 or file.tell() + count * dtype.itemsize != len(content):
        raise ValueError(f"expected an array as its header says, got {shape} {dtype} in {len(content)} bytes")
    if not count or not dtype.itemsize:
        return np.empty(shape, dtype)
    return np.frombuffer(content, dtype, count, file.tell()).reshape(shape, order="F" if fortran else "C").copy(order="K")


def _check_memory(size: int) -> None:
    left = _memory_left()
    if left is not None and size > left:
        raise ValueError(f"{size} bytes of arrays where {left} bytes of memory are left")


def _memory_left() -> int | None:
    """Bytes that a process may still take, where the system says so."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    except (OSError, ValueError, StopIteration):
        return None
