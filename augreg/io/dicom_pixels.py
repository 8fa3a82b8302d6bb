"""Pixels of DICOM files: unpacked, decompressed and rescaled as GDCM does, by numpy and imagecodecs.

    value = slope * stored + intercept

in the smallest type that holds what the stored bits can be, no smaller than the stored one; in float64 where slope or intercept
is no whole number. Colours are red, green, blue, whatever the file keeps; palettes are looked up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

from augreg.io.dicom_frames import numbers, text

Array = npt.NDArray[Any]

_JPEG = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 53, 55))
_LOSSLESS = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (57, 70))
_LS = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (80, 81))
_2000 = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 201, 202, 203))
_RLE = "1.2.840.10008.1.2.5"
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2", "")
_BIG_ENDIAN = "1.2.840.10008.1.2.2"


def stored_frames(dataset: Dataset, wanted: Sequence[int], name: str) -> list[Array]:
    """Some frames of a file, (rows, columns) or (rows, columns, 3), before they are rescaled.

    Raises
    ------
    ValueError : where pixels are missing, cut, damaged or of a kind that is not known.
    """
    try:
        return list(_coloured(dataset, _frames(dataset, wanted)))
    except (
        ValueError,
        RuntimeError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        OverflowError,
        OSError,
        MemoryError,
    ) as error:
        said = " ".join(str(error).split())[:120] or type(error).__name__
        raise ValueError(f"{name}: expected a DICOM picture, got one that cannot be read ({said})") from error


def value_type(dataset: Dataset, scales: Sequence[tuple[float, float]]) -> np.dtype[Any]:
    """The type that holds all values under all those slopes and intercepts."""
    held = _stored_type(dataset)
    if held.kind == "f" or all(scale == (1.0, 0.0) for scale in scales):
        return held.newbyteorder("=")
    if any(value != int(value) for scale in scales for value in scale):
        return np.dtype(np.float64)
    bits = _bits(dataset)
    ends = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if held.kind == "i" else (0, 2**bits - 1)
    values = [slope * end + intercept for slope, intercept in scales for end in ends]
    kinds = "u1 u2 u4 u8" if min(values) >= 0 else "i1 i2 i4 i8"
    for kind in map(np.dtype, kinds.split()):
        if np.iinfo(kind).min <= min(values) and max(values) <= np.iinfo(kind).max and kind.itemsize >= held.itemsize:
            return kind
    return np.dtype(np.float64)


def rescaled(stored: Array, scale: tuple[float, float], kind: np.dtype[Any]) -> Array:
    """slope * stored + intercept."""
    if scale == (1.0, 0.0) or stored.ndim == 3:
        return stored.astype(kind, copy=False) if stored.ndim == 2 else stored
    return (scale[0] * stored.astype(np.float64) + scale[1]).astype(kind)


def _frames(dataset: Dataset, wanted: Sequence[int]) -> Iterator[Array]:
    syntax = text(getattr(dataset, "file_meta", Dataset()), "TransferSyntaxUID")
    rows, columns, samples, count = (
        int(_number(dataset, name, 1)) for name in ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames")
    )
    if samples not in (1, 3):
        raise ValueError(f"{samples} samples per pixel")
    content = next((dataset[n].value for n in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if n in dataset), None)
    if not content:
        raise ValueError("no pixels in it")
    kind = _stored_type(dataset)
    shape = (rows, columns) if samples == 1 else (rows, columns, samples)
    if syntax in _NATIVE:
        big = syntax == _BIG_ENDIAN
        swapped = big and "PixelData" in dataset and dataset["PixelData"].VR == "OW"
        yield from _native(dataset, content, wanted, shape, kind.newbyteorder(">" if big else "<"), swapped)
        return
    # no more than one frame's worth of memory is taken before its size is known to be right
    held = list(generate_frames(content, number_of_frames=count))
    for number in wanted:
        if (size := _declared(held[number])) not in (None, shape[:2]):
            raise ValueError(f"a compressed picture of {size} pixels where the tags say {shape[:2]}")
        array = _decoded(syntax, held[number], shape, kind, text(dataset, "PhotometricInterpretation"))
        if array.shape != shape:
            raise ValueError(f"a picture of {array.shape} pixels where the tags say {shape}")
        yield _sign_extended(dataset, array.astype(kind, copy=False))


def _native(
    dataset: Dataset, content: bytes, wanted: Sequence[int], shape: tuple[int, ...], kind: np.dtype[Any], swapped: bool
) -> Iterator[Array]:
    size = int(np.prod(shape, dtype=object))
    photometric = text(dataset, "PhotometricInterpretation")
    last = max(wanted) + 1
    if int(_number(dataset, "BitsAllocated", 16)) == 1:
        if 8 * len(content) < last * size:
            raise ValueError(f"{len(content)} bytes of pixels where the tags say {-(-last * size // 8)}: cut")
        for number in wanted:
            first, end = number * size, (number + 1) * size
            bits = np.unpackbits(np.frombuffer(content, "u1")[first // 8 : -(-end // 8)], bitorder="little")
            yield bits[first % 8 :][:size].reshape(shape)
        return
    half = photometric in ("YBR_FULL_422", "YBR_PARTIAL_422")
    bytes_each = size * kind.itemsize * 2 // 3 if half else size * kind.itemsize
    if len(content) < last * bytes_each:
        raise ValueError(f"{len(content)} bytes of pixels where the tags say {last * bytes_each}: cut")
    if kind.itemsize == 1 and swapped:
        # bytes that were written as words
        content = np.frombuffer(content[: len(content) // 2 * 2], "<u2").byteswap().tobytes()
    for number in wanted:
        raw = np.frombuffer(content, kind, bytes_each // kind.itemsize, number * bytes_each)
        raw = raw.astype(kind.newbyteorder("="))
        if half:
            # two pixels share their colour: y y b r
            four = raw.reshape(shape[0], shape[1] // 2, 4)
            brightness = four[..., :2].reshape(shape[:2])
            yield np.stack([brightness, *(np.repeat(four[..., i], 2, axis=1) for i in (2, 3))], axis=-1)
        elif len(shape) == 3 and _number(dataset, "PlanarConfiguration", 0) == 1:
            yield np.moveaxis(raw.reshape(shape[2], *shape[:2]), 0, -1)
        else:
            yield _sign_extended(dataset, raw.reshape(shape))


def _declared(content: bytes) -> tuple[int, int] | None:
    """Rows and columns that a compressed frame says it has: a giant is refused before memory is taken for it."""
    if (at := content.find(b"\xff\x4f\xff\x51", 0, 256)) >= 0:  # JPEG 2000
        x, y, left, top = (int(v) for v in np.frombuffer(content[at + 8 : at + 24], ">u4"))
        return y - top, x - left
    at = 2
    while content[:2] == b"\xff\xd8" and at + 9 < len(content) and content[at] == 0xFF:
        if content[at + 1] in (0xC0, 0xC1, 0xC2, 0xC3, 0xF7):
            return int.from_bytes(content[at + 5 : at + 7], "big"), int.from_bytes(content[at + 7 : at + 9], "big")
        at += 1 if content[at + 1] == 0xFF else 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return None


def _decoded(syntax: str, content: bytes, shape: tuple[int, ...], kind: np.dtype[Any], photometric: str) -> Array:
    if syntax == _RLE:
        return _run_lengths(content, shape, kind)
    if syntax in _JPEG:
        # without a mark of Adobe's the file's own word counts, which libjpeg does not know
        marked = b"\xff\xee\x00\x0eAdobe" in content[:2048]
        colours = "RGB" if photometric == "RGB" and not marked else None
        return np.asarray(imagecodecs.jpeg_decode(content, shape=(shape[0], shape[1]), colorspace=colours, outcolorspace=colours))
    if syntax in _LOSSLESS:
        return np.asarray(imagecodecs.ljpeg_decode(content))
    if syntax in _LS:
        return np.asarray(imagecodecs.jpegls_decode(content))
    if syntax in _2000:
        return np.asarray(imagecodecs.jpeg2k_decode(content))
    raise ValueError(f"a compression that is not known, {syntax}; decompress it first, as with gdcmconv --raw")


def _run_lengths(content: bytes, shape: tuple[int, ...], kind: np.dtype[Any]) -> Array:
    """A frame of run lengths, DICOM PS3.5 G: for every colour a segment for every byte, the highest first."""
    header = np.frombuffer(content, "<u4", 16).astype(int)
    count, pixels = int(header[0]), int(np.prod(shape[:2]))
    colours = shape[2] if len(shape) == 3 else 1
    if count != colours * kind.itemsize:
        raise ValueError(f"{count} segments of run lengths where the tags say {colours * kind.itemsize}")
    ends = [*header[2 : count + 1], len(content)]
    planes = []
    for begin, end in zip(header[1 : count + 1], ends, strict=True):
        plane = np.frombuffer(imagecodecs.packbits_decode(content[begin:end]), "u1")
        if len(plane) < pixels:
            raise ValueError(f"{len(plane)} pixels where the tags say {pixels}")
        planes.append(plane[:pixels])
    whole = np.stack(planes, axis=-1).reshape(pixels, colours, kind.itemsize).view(kind.newbyteorder(">"))
    return whole.astype(kind).reshape(shape)


def _coloured(dataset: Dataset, frames: Iterator[Array]) -> Iterator[Array]:
    photometric = text(dataset, "PhotometricInterpretation")
    syntax = text(getattr(dataset, "file_meta", Dataset()), "TransferSyntaxUID")
    for frame in frames:
        if photometric == "PALETTE COLOR":
            yield _looked_up(dataset, frame)
        elif frame.ndim == 3 and photometric.startswith("YBR_FULL") and syntax not in (*_JPEG, *_2000):
            yield _rgb(frame)
        elif photometric == "MONOCHROME1" and frame.dtype.kind in "iu":
            # white is least: what ITK reads is turned round
            bits = int(_number(dataset, "BitsStored", 8 * frame.dtype.itemsize))
            top = 2**bits - 1 if frame.dtype.kind == "u" else -1
            yield (top - frame.astype(np.int64)).astype(frame.dtype)
        else:
            yield np.ascontiguousarray(frame)


def _rgb(frame: Array) -> Array:
    """ITU-R BT.601 with full range, DICOM PS3.3 C.7.6.3.1.2."""
    middle = 2 ** (8 * frame.dtype.itemsize - 1)
    y, b, r = (frame[..., i].astype(np.float64) - (middle if i else 0) for i in range(3))
    values = np.stack([y + 1.402 * r, y - 0.344136 * b - 0.714136 * r, y + 1.772 * b], axis=-1)
    return np.clip(np.rint(values), 0, 2 * middle - 1).astype(frame.dtype)


def _looked_up(dataset: Dataset, frame: Array) -> Array:
    """Colours of a palette; 16-bit ones whose bytes are 8-bit colours become 8-bit."""
    tables = []
    for colour in ("Red", "Green", "Blue"):
        about = numbers(dataset, f"{colour}PaletteColorLookupTableDescriptor", 3)
        item = dataset.get(f"{colour}PaletteColorLookupTableData")
        if about is None or not isinstance(item, bytes):
            raise ValueError("a palette without its colours")
        entries, first, bits = int(about[0]) or 2**16, int(about[1]), int(about[2])
        kind = "<u2" if bits == 16 or len(item) >= 2 * entries else "u1"
        table = np.frombuffer(item, kind)[:entries]
        if len(table) < entries:
            raise ValueError(f"a palette of {len(table)} colours where the tags say {entries}")
        tables.append(table[np.clip(frame.astype(np.int64) - first, 0, entries - 1)])
    colours = np.stack(tables, axis=-1)
    return (colours >> 8).astype(np.uint8) if colours.dtype.itemsize == 2 and colours.max() > 255 else colours.astype(np.uint8)


def _sign_extended(dataset: Dataset, array: Array) -> Array:
    """Bits above the stored ones say nothing: overlays once lay there."""
    bits, held = int(_number(dataset, "BitsStored", 8 * array.dtype.itemsize)), 8 * array.dtype.itemsize
    if array.dtype.kind not in "iu" or not 0 < bits < held:
        return array
    shift = held - bits
    return (array << shift) >> shift


def _bits(dataset: Dataset) -> int:
    """BitsStored; of JPEG 2000 what the stream itself says, as GDCM does."""
    bits = int(_number(dataset, "BitsStored", _number(dataset, "BitsAllocated", 16)))
    if text(getattr(dataset, "file_meta", Dataset()), "TransferSyntaxUID") in _2000:
        at = dataset.PixelData.find(b"\xff\x4f\xff\x51")
        bits = (dataset.PixelData[at + 42] & 0x7F) + 1 if at >= 0 and len(dataset.PixelData) > at + 42 else bits
    return bits


def _stored_type(dataset: Dataset) -> np.dtype[Any]:
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        return np.dtype("f4" if "FloatPixelData" in dataset else "f8")
    bits = int(_number(dataset, "BitsAllocated", 16))
    if bits == 1:
        return np.dtype("u1")
    if bits not in (8, 16, 32, 64):
        raise ValueError(f"expected 1, 8, 16, 32 or 64 bits per pixel, got {bits}")
    return np.dtype(f"{'i' if _number(dataset, 'PixelRepresentation', 0) == 1 else 'u'}{bits // 8}")


def _number(dataset: Dataset, keyword: str, default: float) -> float:
    values = numbers(dataset, keyword, 1)
    return default if values is None else float(values[0])
