"""ITK's text files (.tfm, .txt) and Matlab files (.mat) of transforms, read without ITK.

ITK takes a text file that ends early for one with fewer numbers, believes whatever sizes it states, and reads lines without end.
Text that augreg writes says in a comment how it ended, so that a changed file is told:

    #augreg crc32 1a2b3c4d      of the text without this line
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import numpy as np

from augreg.geometry.grid import FloatArray
from augreg.io.transform_parts import COMPOSITE, Part, kind_of

_SEAL = re.compile(rb"#augreg crc32 ([0-9a-f]{8})\n")
_HEADER = b"#Insight Transform File V1."


def sealed(content: bytes) -> bytes:
    """The text of a file with the line that lets a reader know it whole, after the first."""
    first, _, rest = content.partition(b"\n")
    return first + b"\n" + f"#augreg crc32 {zlib.crc32(content):08x}\n".encode() + rest


def parts_of_text(path: Path) -> list[Part]:
    """The transforms of a text file.

    Raises
    ------
    ValueError : if it is cut, damaged or something else.
    """
    content = path.read_bytes()
    if not content.lstrip().startswith(_HEADER):
        raise ValueError("expected a whole ITK transform file, got a truncated one or something else; copy it again")
    seal = _SEAL.search(content)
    if seal is not None and int(seal[1], 16) != zlib.crc32(content[: seal.start()] + content[seal.end() :]):
        raise ValueError(
            "expected the transform as it was written, got one that was cut or changed since; copy it again (if you changed it "
            "on purpose, delete its line '#augreg crc32')"
        )
    if not content.endswith(b"\n"):
        raise ValueError("expected a whole ITK transform file, got a truncated one: its last line has no end; copy it again")
    parts: list[Part] = []
    kind: tuple[str, int] | None = None
    numbers: dict[str, FloatArray] = {}
    for line in content.split(b"\n"):
        name, mark, value = line.partition(b":")
        key = name.strip().decode("latin-1")
        if not line.strip() or line.lstrip().startswith(b"#"):
            continue
        if not mark or key not in ("Transform", "Parameters", "FixedParameters"):
            raise ValueError(f"expected lines of an ITK transform file, got {line[:40].decode('latin-1')!r}")
        if key == "Transform":
            _check_ended(kind, numbers)
            kind, numbers = kind_of(value.strip().decode("latin-1")), {}
            if kind[0] == COMPOSITE:
                if parts:
                    raise ValueError("expected one composite, got a composite after other transforms; write a file for each")
                parts.append(Part(*kind, np.empty(0), np.empty(0)))
                kind = None
            continue
        if kind is None or key in numbers:
            raise ValueError(f"expected a line Transform before {key}, got none")
        numbers[key] = _numbers(key, value)
        if len(numbers) == 2:
            parts.append(Part(*kind, numbers["Parameters"], numbers["FixedParameters"]))
            kind, numbers = None, {}
    _check_ended(kind, numbers)
    return parts


def _check_ended(kind: tuple[str, int] | None, numbers: dict[str, FloatArray]) -> None:
    if kind is not None:
        missing = [name for name in ("Parameters", "FixedParameters") if name not in numbers]
        raise ValueError(f"expected {' and '.join(missing)} of the {kind[0]}, got none: the file was cut; copy it again")


def _numbers(key: str, value: bytes) -> FloatArray:
    try:
        return np.array([float(word) for word in value.split()], dtype=np.float64)
    except ValueError:
        raise ValueError(f"expected numbers after {key}, got something else; copy the file again") from None


def parts_of_matlab(path: Path) -> list[Part]:
    """The transforms of a Matlab file of version 4, as ANTs writes them: a matrix of parameters and one named `fixed` for each.

    Raises
    ------
    ValueError : if it is cut, damaged or something else.
    """
    content, at = path.read_bytes(), 0
    if re.fullmatch(rb"(\s*[-+.eE0-9]+){16}\s*", content):
        raise ValueError(
            "expected transforms in a Matlab file of version 4, got a 4 x 4 matrix as text: FSL's is in its own axes of the two "
            "images; say which they are by augreg transform convert T -r FIXED --moving MOVING (augreg.io.read_fsl)"
        )
    found: list[tuple[str, FloatArray]] = []
    while at < len(content):
        head = np.frombuffer(content[at : at + 20], "<i4") if len(content) - at >= 20 else np.zeros(5, "<i4")
        kind, rows, columns, imaginary, length = (int(v) for v in head)
        number = {0: "<f8", 10: "<f4", 1000: ">f8", 1010: ">f4"}.get(kind)
        if number is None or min(rows, columns) < 0 or imaginary != 0 or not 0 < length < 256:
            raise ValueError("expected transforms in a Matlab file of version 4, got something else or a file that was cut")
        size = rows * columns * np.dtype(number).itemsize
        name = content[at + 20 : at + 20 + length].rstrip(b"\0").decode("latin-1")
        at += 20 + length
        if len(content) < at + size:
            raise ValueError(f"expected {size} bytes of {name[:40]!r}, got {len(content) - at}: the file was cut; copy it again")
        found.append((name, np.frombuffer(content, number, rows * columns, at).astype(np.float64)))
        at += size
    parts = []
    for k in range(0, len(found), 2):
        if k + 1 == len(found) or found[k + 1][0] != "fixed":
            raise ValueError("expected fixed parameters after each transform, got none: the file was cut; copy it again")
        parts.append(Part(*kind_of(found[k][0]), found[k][1], found[k + 1][1]))
    return parts
