"""PNG, JPEG, BMP, PPM and PGM: photographs and drawings, without geometry.

Values are what the file shows: palettes become colours, one bit 0 and 255; `stored` keeps the indices of a palette, which is
what a label map means. Transparency is a channel more. PNG and PPM keep 16 bits. CMYK becomes RGB,
c' = (255 - c)(255 - k) / 255. The orientation that a camera noted (EXIF, or XMP's tiff:Orientation) is applied, as every viewer
does. PNG's CRCs are checked; JPEG has none, but a stream that ends early or goes astray is noticed where libjpeg would guess.
"""

from __future__ import annotations

import re
import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin, PpmImagePlugin
from PIL import Image as Pillow

from augreg.geometry.image import Image, Labels
from augreg.io.files import FileWarning
from augreg.io.formats.bounded import check_memory, check_size, refusals
from augreg.io.placed import Placed, of_pixels

_PNG = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = 274
_JPEG_QUALITY = 95
# pixels up to which a JPEG is looked at twice for damage; it takes as long as to read it three times
_CHECKED = 40_000_000


def is_picture(head: bytes) -> bool:
    """Whether a file starts as one of these formats."""
    return head.startswith((_PNG, b"\xff\xd8\xff", b"BM")) or (
        head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace()
    )


def read_picture(path: Path, *, stored: bool = False) -> Placed:
    """Values (width, height) or (width, height, C); `stored`: indices instead of the colours of a palette.

    Raises
    ------
    ValueError : if it is truncated, damaged, or larger than memory.
    """
    content = path.read_bytes()
    with refusals(path):
        if content.startswith(_PNG):
            rows, orientation = _png(content, path, stored=stored)
        else:
            rows, orientation = _by_pillow(content, path, stored=stored)
            if content.startswith(b"\xff\xd8"):
                _check_jpeg(content, path)
        rows = turned(rows, orientation)
    return of_pixels(np.ascontiguousarray(rows.swapaxes(0, 1)), 2)


def turned(rows: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Rows and columns as they are to be seen, by EXIF's orientation 1 to 8."""
    if orientation in (5, 6, 7, 8):
        rows, orientation = rows.swapaxes(0, 1), orientation - 4
    return rows[:: -1 if orientation in (3, 4) else 1, :: -1 if orientation in (2, 3) else 1]


def _png(content: bytes, path: Path, *, stored: bool) -> tuple[npt.NDArray[Any], int]:
    width, height, bits, kind = _check_png(content, path)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(kind, 1)
    # a row of bits may have unused ones; every row has a byte more for its filter
    check_size(path, height * (1 + (width * bits * channels + 7) // 8), len(content), compressed=True)
    check_memory(path, height * width * (4 if kind in (2, 3, 6) else 2) * (2 if bits == 16 else 1))
    with _header(content) as picture:
        orientation = int(picture.getexif().get(_ORIENTATION, 1))
        if stored and kind == 3:
            return np.asarray(picture), orientation
    return np.asarray(imagecodecs.png_decode(content)), orientation


def _header(content: bytes) -> Pillow.Image:
    """A picture whose pixels are not decoded yet; `Pillow.open` has a limit of its own, for the process, and not by memory."""
    plugins: dict[bytes, Any] = {
        b"\x89P": PngImagePlugin.PngImageFile,
        b"\xff\xd8": JpegImagePlugin.JpegImageFile,
        b"BM": BmpImagePlugin.BmpImageFile,
    }
    return plugins.get(content[:2], PpmImagePlugin.PpmImageFile)(BytesIO(content))


def _check_png(content: bytes, path: Path) -> tuple[int, int, int, int]:
    """Width, height, bits and colour type, of a PNG whose chunks are whole and have the CRCs that they declare."""
    at, header = len(_PNG), None
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        kind, end = content[at + 4 : at + 8], at + 8 + length
        if end + 4 > len(content):
            break
        if zlib.crc32(memoryview(content)[at + 4 : end]) != struct.unpack_from(">I", content, end)[0]:
            name = kind.decode("ascii", "replace")
            raise ValueError(f"{path}: expected a whole file, got a damaged PNG (checksum of its part {name!r}); copy it again")
        if header is None:
            if kind != b"IHDR" or length != 13:
                break
            header = struct.unpack_from(">IIBB", content, at + 8)
        if kind == b"IEND":
            return header
        at = end + 4
    raise ValueError(f"{path}: expected a whole file, got a truncated PNG; copy it again")


def _by_pillow(content: bytes, path: Path, *, stored: bool) -> tuple[npt.NDArray[Any], int]:
    with _header(content) as picture:
        width, height = picture.size
        depth = {"I": 4, "F": 4, "I;16": 2}.get(picture.mode, len(picture.getbands()))
        check_memory(path, width * height * depth)
        if picture.format == "JPEG" and "progressive" not in picture.info:
            # every block of 64 pixels has two codes of a bit at least
            check_size(path, width * height // 256, len(content), compressed=False)
        if picture.format != "JPEG" and content[:2] not in (b"P1", b"P2", b"P3"):
            _check_rows(content, path, picture)
        if picture.format == "PPM" and picture.mode == "RGB" and (deep := _deep_colours(content, path, picture)) is not None:
            return deep, 1
        orientation = int(picture.getexif().get(_ORIENTATION, 1))
        if picture.mode == "P" and not stored:
            return np.asarray(picture.convert("RGB")), orientation
        if picture.mode == "1":
            return np.asarray(picture.convert("L")), orientation
        rows = np.asarray(picture)
        if picture.mode == "CMYK":
            light = 255 - rows.astype(np.uint16)
            return (light[..., :3] * light[..., 3:] // 255).astype(np.uint8), orientation
        if picture.mode == "I" and rows.max(initial=0) < 1 << 16:
            return rows.astype(np.uint16), orientation
    return rows, orientation


def _deep_colours(content: bytes, path: Path, picture: Pillow.Image) -> npt.NDArray[np.uint16] | None:
    """Colours of more than 8 bits, scaled to 16 as Pillow scales grey; Pillow itself makes 8 of them. None for 8 bits."""
    # three numbers, with comments before each
    header = re.match(rb"(P[36])" + 3 * rb"(?:\s+(?:#[^\n]*\n\s*)*)(\d+)" + rb"\s", content)
    if header is None or int(header[4]) < 256:
        return None
    count, most = picture.width * picture.height * 3, int(header[4])
    body = content[header.end() :]
    numbers = np.array(body.split()[:count], dtype=np.int64) if header[1] == b"P3" else np.frombuffer(body[: 2 * count], ">u2")
    if len(numbers) < count or numbers.max(initial=0) > most:
        raise ValueError(f"{path}: expected {count} colours from 0 to {most}, got fewer or larger ones; copy it again")
    scaled = np.rint(numbers * (65535 / most)).astype(np.uint16)
    return scaled.reshape(picture.height, picture.width, 3)


def _check_rows(content: bytes, path: Path, picture: Pillow.Image) -> None:
    """BMP and binary PPM have as many bytes as their sizes say, unless they are run-length encoded."""
    if content.startswith(b"BM"):
        declared, offset = struct.unpack_from("<I4xI", content, 2)
        bits, packing = struct.unpack_from("<HI", content, 28) if len(content) >= 34 and content[14] >= 40 else (0, 0)
        if bits and packing in (0, 3):
            declared = max(declared, offset + (picture.width * bits + 31) // 32 * 4 * picture.height)
        if declared > len(content):
            raise ValueError(f"{path}: expected a whole file, got a truncated BMP; copy it again")


def _check_jpeg(content: bytes, path: Path) -> None:
    if b"\xff\xd9" not in content[-65536:]:
        raise ValueError(f"{path}: expected a whole file, got a truncated JPEG; copy it again")
    with _header(content) as picture:
        unchecked = picture.mode == "CMYK" or picture.width * picture.height > _CHECKED
    if unchecked or not imagecodecs.JPEGXL.available:
        return
    # lossless repacking takes no stream that does not decode exactly, where libjpeg fills in what is missing and goes on; bytes
    # that are left over before the end it keeps: then there are still enough without the last two
    end = content.rindex(b"\xff\xd9")
    shorter = content[: end - 2].removesuffix(b"\xff") + content[end:]
    if not _repacks(content) or _repacks(shorter):
        warnings.warn(
            f"{path}: its JPEG data are damaged, or of an unusual kind; parts of the picture may be wrong",
            FileWarning,
            stacklevel=5,
        )


def _repacks(content: bytes) -> bool:
    try:
        imagecodecs.jpegxl_encode_jpeg(content)
    except imagecodecs.JpegxlError:
        return False
    return True


def write_picture(image: Image | Labels, path: Path, kind: str) -> bytes:
    """The bytes of a picture file of suffix `kind`.

    Raises
    ------
    ValueError : for pixels that the format cannot hold.
    """
    values = image.values
    if values.dtype == bool:
        values = values.astype(np.uint8)
    channels = 1 if values.ndim == image.ndim else values.shape[-1]
    held = {".png": (1, 2, 3, 4), ".jpg": (1, 3), ".jpeg": (1, 3), ".bmp": (1, 3), ".ppm": (1, 3), ".pgm": (1,)}[kind]
    deep = {".png": held, ".pgm": (1,), ".ppm": (1,)}.get(kind, ())
    if channels not in held or (values.dtype.itemsize == 2 and channels not in deep):
        raise ValueError(
            f"{path}: expected pixels that {kind} can hold ({' or '.join(map(str, held))} channels), "
            f"got {channels} of {values.dtype}; write .nii.gz or .mha"
        )
    rows = values[..., 0] if values.ndim > image.ndim and channels == 1 else values
    rows = np.ascontiguousarray(rows.swapaxes(0, 1), dtype=values.dtype.newbyteorder("="))
    if kind == ".png":
        return bytes(imagecodecs.png_encode(rows))
    out = BytesIO()
    format_ = {".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".ppm": "PPM", ".pgm": "PPM"}[kind]
    Pillow.fromarray(rows).save(out, format_, **({"quality": _JPEG_QUALITY} if format_ == "JPEG" else {}))
    return out.getvalue()
