"""Valid files of every kind that augreg reads, and what can happen to a file.

A mutant is a function of the seed, its number and its valid file alone.
"""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from augreg import Affine, BSpline, Grid, Image, write_image, write_model, write_points, write_transform
from augreg.sam import AppearanceModel, LandmarkMaps, Locality, Subspace

RNG = np.random.default_rng


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Parameters
    ----------
    name : of the file; of a folder, the file in it that is changed
    reader : which reader it goes to
    told : whether the format has a checksum of all of it, so that any change must be noticed
    folder : whether what is read is the folder around it
    """

    name: str
    reader: str
    told: bool = False
    folder: bool = False


KINDS = (
    Kind("image.nii", "image"),
    Kind("image.nii.gz", "image", told=True),
    Kind("image.mha", "image"),
    Kind("image.nrrd", "image"),
    Kind("image.png", "image", told=True),
    Kind("image.jpg", "image"),
    Kind("image.bmp", "image"),
    Kind("image.tif", "image"),
    Kind("slice-2.dcm", "image", folder=True),
    Kind("transform.tfm", "transform", told=True),
    Kind("transform.h5", "transform", told=True),
    Kind("foreign.h5", "transform"),
    Kind("points.csv", "points"),
    Kind("model.npz", "model", told=True),
    Kind("weights.safetensors", "network", told=True),
    Kind("pairs-000000.tar", "shards", told=True, folder=True),
)


def write_valid(folder: Path) -> None:
    """All files of `KINDS`, each in a folder of its own that has the name of its file."""
    rng = RNG(0)
    grid = Grid((24, 20), (0.7, 1.3), (-5.0, 8.0))
    small = rng.integers(0, 256, grid.shape).astype(np.uint8)
    volume = Grid((12, 10, 8), (1.0, 1.5, 2.0), (3.0, -4.0, 5.0))
    for kind in KINDS:
        place = folder / kind.name
        place.mkdir(parents=True)
        path = place / kind.name
        if kind.name.startswith("image"):
            flat = path.suffix in (".png", ".jpg", ".bmp", ".tif")
            values = small if flat else rng.normal(size=volume.shape).astype(np.float32)
            write_image(Image(values, Grid(small.shape) if flat else volume), path)
        elif path.suffix == ".dcm":
            _write_series(place, rng)
        elif kind.name == "foreign.h5":
            theirs = sitk.AffineTransform(3)
            theirs.SetTranslation((1.0, 2.0, 3.0))
            sitk.WriteTransform(sitk.CompositeTransform([theirs, theirs]), str(path))
        elif kind.reader == "transform":
            spline = BSpline.zeros(grid, 8.0)
            bent = BSpline(np.where(spline.free[..., None], rng.normal(size=spline.coefficients.shape), 0), spline.grid)
            write_transform(Affine([[1.1, 0.1], [0.0, 0.9]], [3.0, -2.0]) @ bent, path)
        elif kind.reader == "points":
            write_points(rng.normal(size=(12, 3)) * 30, path)
        elif kind.reader == "model":
            write_model(_model(grid, rng), path)
        elif kind.reader == "network":
            _write_network(path)
        else:
            _write_shards(place, grid, rng)


def _write_series(folder: Path, rng: np.random.Generator) -> None:
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(4):
        image = sitk.GetImageFromArray(rng.integers(-1000, 1000, (1, 10, 12)).astype(np.int16))
        image.SetSpacing((0.7, 0.8, 2.5))
        image.SetOrigin((0.0, 0.0, 2.5 * k))
        tags = {"0008|0060": "CT", "0008|0018": f"1.2.3.4.{k}", "0020|000e": "1.2.3.4", "0020|000d": "1.2.3", "0020|0013": str(k)}
        for tag, text in {**tags, "0020|0032": f"0\\0\\{2.5 * k}", "0020|0037": "1\\0\\0\\0\\1\\0"}.items():
            image.SetMetaData(tag, text)
        writer.SetFileName(str(folder / f"slice-{k}.dcm"))
        writer.Execute(image)


def _model(grid: Grid, rng: np.random.Generator) -> AppearanceModel:
    points, images = 6, 4

    def subspace(size: int) -> Subspace:
        return Subspace(rng.normal(size=size), np.linalg.qr(rng.normal(size=(size, 3)))[0], np.array([3.0, 2.0, 1.0]))

    textures = rng.random((images, grid.size)).astype(np.float32)
    poses = np.zeros((images, 4))
    maps = LandmarkMaps(np.zeros(points))
    shape, appearance = subspace(2 * points), subspace(grid.size)
    return AppearanceModel(grid, shape, appearance, textures, np.ones(images), poses, "rigid", maps, (0.0, 1.0), Locality())


def _write_network(path: Path) -> None:
    import torch

    from augreg.networks import FlowNetS, write_network

    torch.manual_seed(0)
    write_network(FlowNetS(2, width=1 / 64), (1.0, 1.0), path)


def _write_shards(folder: Path, grid: Grid, rng: np.random.Generator) -> None:
    import torch

    from augreg.synthesis import Later, PairBatch, StoredPairs, write_shards

    shape = (2, 1, *grid.shape)
    images = [torch.from_numpy(rng.random(shape).astype(np.float32)) for _ in range(2)]
    flow = torch.zeros((2, 2, *grid.shape))
    mask, ones = torch.ones(shape, dtype=torch.bool), torch.ones(2, dtype=torch.float64)
    scale = torch.ones((2, 2), dtype=torch.float64)
    pairs = PairBatch(*images, flow, mask, Later.known(flow, mask), ones, 0 * ones, scale, torch.zeros(2, dtype=torch.int64))
    list(write_shards(StoredPairs(pairs, grid), folder, 2))


def mutant(content: bytes, kind: Kind, others: Mapping[str, bytes], rng: np.random.Generator, marker: Path) -> tuple[str, bytes]:
    """What was done, and the bytes; `marker` is a file that an unpickled or extracted one would make."""
    special: dict[str, Callable[[bytes, np.random.Generator, Path], bytes]] = {
        "model.npz": _npz,
        "pairs-000000.tar": _tar,
        "image.nii.gz": _bomb,
        "transform.tfm": _endless,
        "points.csv": _endless,
    }
    names = ["cut", "flip", "flips", "zeros", "swap", "giant", "insert", "append", "repeat"]
    names += ["special"] * (kind.name in special)
    name = names[rng.integers(len(names))]
    at, size = int(rng.integers(len(content))), len(content)
    length = int(rng.integers(1, max(2, size // 4)))
    data = bytearray(content)
    if name == "cut":
        return name, content[:at]
    if name in ("flip", "flips"):
        for place in [at] if name == "flip" else rng.integers(0, size, 8):
            data[place] ^= 1 << int(rng.integers(8))
    elif name == "zeros":
        data[at : at + length] = bytes(len(data[at : at + length]))
    elif name == "swap":
        other = others[list(others)[rng.integers(len(others))]]
        head = int(rng.integers(8, 600))
        return name, other[:head] + content[head:]
    elif name == "giant":
        return name, _giant(data, rng)
    elif name == "insert":
        data[at:at] = rng.bytes(length)
    elif name == "append":
        data += rng.bytes(length)
    elif name == "repeat":
        data[at:at] = data[at : at + length]
    else:
        return name, special[kind.name](content, rng, marker)
    return name, bytes(data)


def _giant(data: bytearray, rng: np.random.Generator) -> bytes:
    """A number in the first part of the file becomes huge: binary, or digits."""
    first = min(len(data), 700)
    digits = [k for k in range(first) if 48 <= data[k] <= 57]
    if digits and rng.random() < 0.5:
        at = digits[rng.integers(len(digits))]
        data[at : at + 1] = [b"99999999", b"1e300", b"-7", b"nan", b"2147483647"][rng.integers(5)]
    else:
        value = [b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\x00\x00\x80\x7f", b"\xff\x7f"][rng.integers(4)]
        at = int(rng.integers(max(1, first - 4)))
        data[at : at + len(value)] = value
    return bytes(data)


def _bomb(content: bytes, rng: np.random.Generator, _: Path) -> bytes:
    """A gzip stream whose header promises a giant, or that has one."""
    whole = bytearray(gzip.decompress(content))
    if rng.random() < 0.5:
        whole[42:50] = np.array([rng.integers(1000, 32000)] * 4, "<i2").tobytes()
        return gzip.compress(bytes(whole), 1)
    return gzip.compress(bytes(whole) + bytes(1 << 28), 1)


def _endless(content: bytes, rng: np.random.Generator, _: Path) -> bytes:
    """A line without end."""
    at = int(rng.integers(len(content)))
    return content[:at] + b"1 " * int(rng.integers(10**5, 10**7)) + content[at:]


class _Trap:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def _npz(content: bytes, rng: np.random.Generator, marker: Path) -> bytes:
    """A member becomes a pickle, a giant, or nonsense; or a bomb is added."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name, buffer = list(members)[rng.integers(len(members))], io.BytesIO()
    which = int(rng.integers(4))
    if which == 0:
        trap = np.empty(1, dtype=object)
        trap[0] = _Trap(marker)
        np.save(buffer, trap, allow_pickle=True)
        members[name] = buffer.getvalue()
    elif which == 1:
        text = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117) + b"\n"
        members[name] = b"\x93NUMPY\x01\x00v\x00" + text
    elif which == 2:
        np.save(buffer, [np.array(["a"]), np.zeros((1, 3), "u1"), np.full(3, np.nan), np.float64(3)][rng.integers(4)])
        members[name] = buffer.getvalue()
    else:
        members["more.npy"] = bytes(1 << 27)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, part in members.items():
            archive.writestr(name, part)
    return out.getvalue()


def _tar(content: bytes, rng: np.random.Generator, marker: Path) -> bytes:
    """An entry is named after a place elsewhere, becomes a link, or a pickle."""
    out, which = io.BytesIO(), int(rng.integers(4))
    with tarfile.open(fileobj=io.BytesIO(content)) as tar, tarfile.open(fileobj=out, mode="w") as new:
        members = tar.getmembers()
        chosen = int(rng.integers(len(members)))
        for k, entry in enumerate(members):
            file = tar.extractfile(entry)
            data = b"" if file is None else file.read()
            if k == chosen and which == 0:
                entry.name = f"../../{marker.name}" if rng.random() < 0.5 else str(marker)
            elif k == chosen and which == 1:
                entry.type, entry.linkname, entry.size, data = tarfile.SYMTYPE, str(marker), 0, b""
            elif k == chosen and which == 2:
                trap, buffer = np.empty(1, dtype=object), io.BytesIO()
                trap[0] = _Trap(marker)
                np.save(buffer, trap, allow_pickle=True)
                data = buffer.getvalue()
                entry.size = len(data)
            elif k == chosen:
                data = json.dumps("[" * 9999).encode()
                entry.size = len(data)
            new.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def placed(valid: Path, kind: Kind, content: bytes, folder: Path) -> Path:
    """A mutant where a reader finds it, with the files that belong to it: the path to read."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(valid / kind.name, folder)
    (folder / kind.name).write_bytes(content)
    return folder if kind.folder else folder / kind.name
